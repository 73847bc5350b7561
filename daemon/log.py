"""Logging: structlog and the standard library through one handler, as JSON lines or for a terminal.

Everything a record carries is made plain, then redacted, and only then written: registered secrets wherever
they stand, and whatever looks like one. Tracebacks never show local variables.
"""

import json
import logging
import math
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, TextIO
from urllib.parse import quote, quote_plus

import structlog
from structlog.processors import ExceptionRenderer, JSONRenderer, StackInfoRenderer, TimeStamper
from structlog.stdlib import ProcessorFormatter
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor

REDACTED: Final = "[redacted]"
SHORTEST_SECRET = 4
"""Shorter texts are not hidden: they would blot out half of every line and protect nothing."""

SHORTEST_ANYWHERE = 8
"""Shorter ones are hidden where they stand alone."""

QUIET_LOGGERS = ("alembic", "apscheduler", "httpcore", "httpx", "notion_client", "sqlalchemy", "uvicorn")
"""Libraries that are heard from warning upwards. httpx would log every address with its query at info."""


def _encoded(secret: str) -> str:
    """A pattern for `secret` in which each character may be percent-encoded, also more than once."""
    parts = []
    for character in secret:
        octets = character.encode("utf-8", "surrogatepass")
        forms = [re.escape(character), "".join(f"%(?:25)*(?i:{octet:02x})" for octet in octets)]
        parts.append(f"(?:{'|'.join([*forms, *(['[+]'] if character == ' ' else [])])})")
    return "".join(parts)


_SECRET_WORD = r"(?:secret|token|password|passwd|authorization|api[_-]?key|signing[_-]?key)"
_SECRET_NAME = rf"[\w-]*{_SECRET_WORD}"
_SECRET_KEY = re.compile(_SECRET_NAME, re.IGNORECASE)
_LOOKS_SECRET: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    # Authorization: Bearer abc
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{4,}", re.IGNORECASE), rf"\1 {REDACTED}"),
    # scheme://user:password@host, but not the word itself, with which messages show how to write one
    (re.compile(r"(?<=://)([^/\s:@]*):(?!password@)[^/\s@]+@"), rf"\1:{REDACTED}@"),
    # ?secret=abc, x_token=abc; what stands before the word is not looked at, a long text would take forever
    (re.compile(rf"({_SECRET_WORD})=(?!\[redacted)[^\s&\"'<>,;)]+", re.IGNORECASE), rf"\1={REDACTED}"),
    # X-Amz-Signature=abc: who has the whole address has the file
    (re.compile(r"(signature)=(?!\[redacted)[^\s&\"'<>,;)]+", re.IGNORECASE), rf"\1={REDACTED}"),
    # "token": "abc", 'Authorization': 'abc'
    (re.compile(rf"""(["']{_SECRET_NAME}["']\s*:\s*)(["']).*?\2""", re.IGNORECASE), rf"\1\2{REDACTED}\2"),
    # Notion's own secrets, whatever stands before them
    (re.compile(r"\b(ntn|secret)_[A-Za-z0-9]{8,}"), rf"\1_{REDACTED}"),
)


_SECRET_WORDS = (
    *("secret", "token", "password", "passwd", "authorization"),
    *("apikey", "api_key", "api-key", "signing_key", "signing-key"),
)
_ENCODED_NAME = "|".join(
    _encoded(form) for word in _SECRET_WORDS for form in (word, word.upper(), word.title())
)
_ENCODED_PAIR = re.compile(rf"({_ENCODED_NAME})(=|%(?:25)*3[dD])(?!\[redacted)[^\s&\"'<>,;)]+")
"""name=value of which the name, or the sign, or both are percent-encoded, also more than once."""


class _Registry:
    """The known secrets, and patterns that find any of them in the forms in which texts carry them.

    `encoded`: percent-encoded anyhow, once or more often, in whole or in part; looked for only where a text has a `%`.
    """

    def __init__(self) -> None:
        self._forms: dict[str, frozenset[str]] = {}
        self.pattern: re.Pattern[str] | None = None
        self.encoded: re.Pattern[str] | None = None

    def add(self, secret: str) -> None:
        if len(secret) < SHORTEST_SECRET:
            return
        raw = secret.encode("utf-8", "backslashreplace")
        escaped = {quote(raw, safe=""), quote_plus(raw), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
        self._forms[secret] = frozenset({secret, repr(raw)[2:-1], *escaped})
        self._compile()

    def drop(self, secret: str) -> None:
        if self._forms.pop(secret, None) is not None:
            self._compile()

    def clear(self) -> None:
        self._forms = {}
        self._compile()

    def _compile(self) -> None:
        forms = frozenset().union(*self._forms.values())
        self.pattern = _any_of(map(_as_it_stands, sorted(forms, key=len, reverse=True)))
        self.encoded = _any_of(map(_encoded, sorted(self._forms, key=len, reverse=True)))


def _as_it_stands(form: str) -> str:
    """A pattern for one form. A short one has to stand alone: hidden within a longer word, the rest would tell it."""
    pattern = re.escape(form)
    return rf"(?<![a-zA-Z0-9]){pattern}(?![a-zA-Z0-9])" if len(form) < SHORTEST_ANYWHERE else pattern


def _any_of(patterns: Iterable[str]) -> re.Pattern[str] | None:
    found = "|".join(patterns)
    return re.compile(found) if found else None


_registry = _Registry()


def register_secret(secret: str) -> None:
    """Never write `secret` to the log from now on, in any form. Texts under four characters are ignored."""
    _registry.add(secret)


def register_secrets(secrets: Iterable[str]) -> None:
    """`register_secret` for several."""
    for secret in secrets:
        _registry.add(secret)


def forget_secret(secret: str) -> None:
    """Something that strangers may have sent by the dozen is a secret no more: the list would grow without end."""
    _registry.drop(secret)


def forget_secrets() -> None:
    """Forget what was registered (between tests)."""
    _registry.clear()


def redact(text: str) -> str:
    """`text` without the registered secrets and without what looks like one."""
    if "%" in text and _registry.encoded is not None:
        text = _registry.encoded.sub(REDACTED, text)
    if _registry.pattern is not None:
        text = _registry.pattern.sub(REDACTED, text)
    if "%" in text:
        text = _ENCODED_PAIR.sub(rf"\1\2{REDACTED}", text)
    for pattern, replacement in _LOOKS_SECRET:
        text = pattern.sub(replacement, text)
    return text


def redact_event(_logger: object, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: every value becomes plain (text, number, list, mapping) and free of secrets."""
    return {key: _plain(key, value) for key, value in event.items()}


def setup_logging(level: str, log_format: str, *, stream: TextIO | None = None) -> None:
    """Log to `stream` (standard output) from `level` on, as `json`, `console` or `auto`.

    `auto` is JSON unless the stream is a terminal. May be called again; the last call counts.
    """
    out = stream or sys.stdout
    as_json = log_format == "json" or (log_format == "auto" and not out.isatty())
    prepare: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        TimeStamper(fmt="iso", utc=True),
        StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *prepare,
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = _Handler(out)
    render = _json_processors(handler.is_utf8) if as_json else _console_processors(colors=out.isatty())
    handler.setFormatter(ProcessorFormatter(foreign_pre_chain=prepare, processors=render))
    _install(handler, level.upper())


def _json_processors(utf8: bool) -> list[Processor]:
    return [
        ProcessorFormatter.remove_processors_meta,
        ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
        redact_event,
        JSONRenderer(ensure_ascii=not utf8),
    ]


def _console_processors(*, colors: bool) -> list[Processor]:
    return [
        ProcessorFormatter.remove_processors_meta,
        ExceptionRenderer(),
        redact_event,
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
    ]


def _install(handler: logging.Handler, level: str) -> None:
    """Make `handler` the only one of ours, and lead every library through it."""
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if not isinstance(other, _Handler)]
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(True)
    for name in QUIET_LOGGERS:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(max(logging.WARNING, root.level))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes whatever there is to write: what the stream's encoding cannot hold is written as an escape."""

    def __init__(self, stream: TextIO) -> None:
        self._is_stderr = stream is sys.stderr
        super().__init__(stream)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self.is_utf8 = self._encoding.lower().replace("-", "") == "utf8"

    @property
    def stream(self) -> TextIO:
        """Standard error is whatever it is now: a progress bar puts itself in between, so that lines come above it."""
        return sys.stderr if self._is_stderr else self._given

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        self._given = stream

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).encode(self._encoding, "backslashreplace").decode(self._encoding)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name the library calls
        """Say that a line was lost, and why: the library's own report would print the record unredacted."""
        error = sys.exc_info()[1]
        with suppress(OSError, ValueError):
            lost = f"A log line of {record.name} was lost: {type(error).__name__}: {error}"
            sys.stderr.write(redact(lost) + "\n")


def _plain(key: str, value: Any) -> Any:
    """`value` as text, number, list or mapping, redacted; a text under a secret's name is hidden whole."""
    if isinstance(value, str):
        return REDACTED if _SECRET_KEY.fullmatch(key) and value else redact(value)
    if isinstance(value, bytes):
        return redact(value.decode("utf-8", "backslashreplace"))
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {redact(str(name)): _plain(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(key, inner) for inner in value]
    return redact(_shown(value))


def _shown(value: object) -> str:
    """An object as text; one whose own text fails is named by its type, so that a line is never lost."""
    try:
        return str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
