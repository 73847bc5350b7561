# The requirements are built apart, so that neither pip's cache nor a compiler ends up in the image.
FROM python:3.12-slim AS requirements
COPY requirements.txt /
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --requirement /requirements.txt

FROM python:3.12-slim
# Files live in ./data, here /data: mount a volume there. (On Railway its own path is found without a setting.)
RUN useradd --uid 10001 --create-home daemon \
    && mkdir /data /app \
    && chown daemon:daemon /data \
    && ln -s /data /app/data
COPY --from=requirements /venv /venv
COPY LICENSE /app/
COPY migrations /app/migrations
COPY daemon /app/daemon
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER daemon
EXPOSE 8080
STOPSIGNAL SIGTERM
# Only whether it serves: a container that is restarted because Notion is away would lose time and gain nothing.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + (os.environ.get('PORT') or '8080') + '/health?live=1', timeout=4)"]
ENTRYPOINT ["python", "-m", "daemon"]
CMD ["run"]
