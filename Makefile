# Everything a person or a machine does with this project. Needs make and any Python from 3.11 on; uv is used when there.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCKS := requirements.txt requirements-dev.txt
ARGS ?=

# The first interpreter that starts and is new enough; a name on the PATH alone proves nothing (pyenv's shims).
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
FIND_PYTHON = for python in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	if "$$python" -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then command -v "$$python"; break; fi; done

export UV_PYTHON_DOWNLOADS := never
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install demo run test soak check bench lock

help:
	@echo "make demo     the whole daemon against a sample workspace, no account needed"
	@echo "make run      the daemon, with the settings of the environment or .env"
	@echo "make test     all tests (ARGS='-k name' for some)"
	@echo "make soak     200 lives at random with real processes that are killed (ARGS='--seeds 20')"
	@echo "make check    linters and types"
	@echo "make bench    the figures"
	@echo "make install  .venv from the pinned requirements (all of the above do it when needed)"
	@echo "make lock     pin the requirements anew (needs uv)"

install: $(STAMP)

# An environment that works is kept and brought to the pinned state, anything else is made anew.
$(STAMP): $(LOCKS)
	@set -e; \
	if ! $(BIN)/python -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then \
		python=$$($(FIND_PYTHON)); \
		if [ -z "$$python" ]; then \
			echo "No Python 3.11 or newer found. Install one, or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; \
			exit 1; \
		fi; \
		echo "Making $(VENV) with $$python"; \
		if command -v uv >/dev/null 2>&1; then \
			uv venv --quiet --clear --python "$$python" $(VENV); \
		elif ! "$$python" -m venv --clear $(VENV); then \
			echo "Python's venv module does not work. Install it (Debian: apt-get install python3-venv) or uv." >&2; \
			exit 1; \
		fi; \
	fi
	@set -e; echo "Installing the pinned requirements"; \
	if command -v uv >/dev/null 2>&1; then \
		uv pip sync --quiet --require-hashes --python $(BIN)/python requirements-dev.txt; \
		uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .; \
	else \
		$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
		$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.txt; \
		$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .; \
	fi
	@touch $@

demo: install
	$(BIN)/python -m daemon demo $(ARGS)

run: install
	$(BIN)/python -m daemon run $(ARGS)

test: install
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadgroup $(ARGS)

soak: install
	$(BIN)/python -m tests.soak $(ARGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python -m bench $(ARGS)

COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

lock:
	$(COMPILE) pyproject.toml --output-file requirements.txt
	$(COMPILE) pyproject.toml --extra dev --constraint requirements.txt --output-file requirements-dev.txt
