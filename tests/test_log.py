"""The log: one form for everybody, no line lost to odd characters, and no secret in any of them."""

import io
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import structlog

from daemon.log import REDACTED, forget_secrets, redact, register_secret, register_secrets, setup_logging

SECRET = 'p4ss"w\\rd é/+ open'


class Output(io.TextIOWrapper):
    """A stream with an encoding, that may be a terminal, and whose text can be looked at."""

    def __init__(self, encoding: str = "utf-8", *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        """Everything written so far."""
        raw = self.buffer
        assert isinstance(raw, io.BytesIO)
        return raw.getvalue().decode(self.encoding)

    def records(self) -> list[dict[str, Any]]:
        """Everything written so far, as JSON lines."""
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Whatever a test sets up is undone: handlers, levels, structlog's configuration, known secrets."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers = [handler for handler in root.handlers if handler in handlers]
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    forget_secrets()


def raise_with(text: str) -> None:
    """Fail with `text` in the message and in a local variable."""
    local_variable = f"local {text}"
    raise ValueError(f"message {text} {len(local_variable)}")


def test_json_line_has_its_parts() -> None:
    """A line is one JSON object: sentence, level, logger, UTC time, and what was given with it."""
    out = Output()
    setup_logging("info", "auto", stream=out)
    structlog.get_logger("daemon.sync").info("Cycle done", action="cycle", pages=3, title="제목 😀")
    (record,) = out.records()
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "event": "Cycle done",
        "level": "info",
        "logger": "daemon.sync",
        "action": "cycle",
        "pages": 3,
        "title": "제목 😀",
    }
    assert "제목" in out.text()


@pytest.mark.parametrize(
    ("log_format", "terminal", "is_json"),
    [
        ("auto", False, True),
        ("auto", True, False),
        ("json", True, True),
        ("console", False, False),
    ],
)
def test_form_follows_the_setting(log_format: str, terminal: bool, is_json: bool) -> None:
    """`auto` is JSON unless a person looks at a terminal; the others are as they say."""
    out = Output(terminal=terminal)
    setup_logging("info", log_format, stream=out)
    structlog.get_logger("x").info("hello")
    assert out.text().startswith("{") is is_json
    assert ("\x1b[" in out.text()) is (terminal and not is_json)


def test_level_is_respected_and_set_up_again() -> None:
    """Only the chosen level and above is written; a second setup replaces the first."""
    first, second = Output(), Output()
    setup_logging("debug", "json", stream=first)
    setup_logging("warning", "json", stream=second)
    log = structlog.get_logger("x")
    log.info("quiet")
    log.warning("loud")
    assert first.text() == "" and [record["event"] for record in second.records()] == ["loud"]


def test_standard_output_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stream, platforms find the lines where they look for them."""
    setup_logging("info", "json")
    structlog.get_logger("x").info("hello")
    assert json.loads(capsys.readouterr().out)["event"] == "hello"


def test_libraries_share_the_form_and_stay_quiet() -> None:
    """Libraries' records have the same form and context, and are heard from warning upwards only."""
    out = Output()
    logging.getLogger("notion_client").addHandler(logging.StreamHandler(sys.stderr))
    setup_logging("debug", "json", stream=out)
    structlog.contextvars.bind_contextvars(cycle=7)
    for name in ("httpx", "httpcore", "apscheduler", "uvicorn", "sqlalchemy", "alembic", "notion_client"):
        logging.getLogger(name).info("GET /?page=%s", 1)
        logging.getLogger(name).warning("%s is slow", name)
    events = [(record["event"], record["cycle"]) for record in out.records()]
    assert events == [(f"{name} is slow", 7) for name in ("httpx", "httpcore", "apscheduler", "uvicorn")] + [
        (f"{name} is slow", 7) for name in ("sqlalchemy", "alembic", "notion_client")
    ]
    assert logging.getLogger("notion_client").handlers == []


def test_warnings_are_lines_too() -> None:
    """What Python warns of appears in the log's form."""
    out = Output()
    setup_logging("info", "json", stream=out)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old ways", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    (record,) = out.records()
    assert "old ways" in record["event"] and record["level"] == "warning"


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_no_character_loses_a_line(
    log_format: str, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lone surrogates, emoji and every script are written on any stream, as escapes where it must be."""
    out = Output(encoding)
    setup_logging("info", log_format, stream=out)
    structlog.get_logger("x").info("title \ud800 세상 😀", value="\udfff é", **{"키": 1})
    assert out.text().count("\n") == 1 and "title" in out.text()
    if log_format == "json":
        (record,) = out.records()
        assert (record["event"], record["value"], record["키"]) == ("title \ud800 세상 😀", "\udfff é", 1)
    assert capsys.readouterr().err == ""


def test_anything_can_be_a_value() -> None:
    """What JSON does not know becomes text, even an object that cannot be shown."""

    class Sulking:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    out = Output()
    logging.getLogger().handlers.clear()  # pytest's own would fail on such an object
    setup_logging("info", "json", stream=out)
    values = {"nan": float("nan"), "raw": b"ab", "many": {1}, "pair": (1, None), "odd": Sulking(), 5: 1.5}
    structlog.get_logger("x").info("hello", values=values, failed=ValueError("boom"))
    (record,) = out.records()
    assert record["values"] == {
        "nan": "nan",
        "raw": "ab",
        "many": [1],
        "pair": [1, None],
        "odd": "<Sulking>",
        "5": 1.5,
    }
    assert record["failed"] == "boom"


def nested(log: Any) -> None:
    """Write the secret in a value, in a list in a mapping, in a key, in bytes."""
    log.warning("nested", a=f"x{SECRET}y", b={"list": [SECRET, {SECRET: 1}]}, c=SECRET.encode())


def in_event(log: Any) -> None:
    """Write the secret in the sentence and in its arguments."""
    log.warning(f"token is {SECRET}")
    log.warning("token is %s", SECRET)


def in_exception(log: Any) -> None:
    """Write the secret in the text of an exception, its cause, its notes and a local variable."""
    try:
        try:
            raise_with(SECRET)
        except ValueError as error:
            error.add_note(f"note {SECRET}")
            raise RuntimeError(f"outer {SECRET}") from error
    except RuntimeError:
        log.exception("failed")


def in_context(log: Any) -> None:
    """Write the secret through the context that every line carries."""
    structlog.contextvars.bind_contextvars(request={"path": f"/?x={SECRET}"})
    log.warning("hello")


def in_foreign_record(log: Any) -> None:
    """Write the secret through the standard library, with an exception."""
    try:
        raise_with(SECRET)
    except ValueError:
        logging.getLogger("some.library").exception("failed for %s", SECRET)


@pytest.mark.parametrize("write", [nested, in_event, in_exception, in_context, in_foreign_record])
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_registered_secret_is_never_written(log_format: str, write: Callable[[Any], None]) -> None:
    """Wherever a known secret stands in a record, and however it is escaped there, it is replaced."""
    out = Output()
    setup_logging("info", log_format, stream=out)
    register_secret(SECRET)
    write(structlog.get_logger("x"))
    text = out.text()
    assert REDACTED in text
    for part in ("p4ss", "w\\rd", "rd é"):
        assert part not in text


@pytest.mark.parametrize("name", ["uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"])
def test_the_servers_own_loggers_are_redacted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address as the access log writes it, an exception with it. Fails when a logger has a handler of its own."""
    out = Output()
    own = logging.getLogger("uvicorn")
    own.addHandler(logging.StreamHandler(out))
    setup_logging("debug", "json", stream=out)
    register_secret(SECRET)
    monkeypatch.setattr(
        logging.getLogger(name), "propagate", True
    )  # a server that ran turns its access log off
    library, address = logging.getLogger(name), f"/status?%73ecret=wrong-one&x={quote(SECRET)}"
    library.error('%s - "%s %s HTTP/%s" %d', "127.0.0.1:9", "GET", address, "1.1", 200)
    try:
        raise_with(f"/?secret=wrong-one {SECRET}")
    except ValueError:
        library.exception("Exception in ASGI application\n")
    first, second = out.records()
    assert first["event"].startswith('127.0.0.1:9 - "GET /status?%73ecret=[redacted]') and second["exception"]
    for part in ("p4ss", "wrong-one", "w\\rd"):
        assert part not in out.text()


def test_tracebacks_show_no_local_variables() -> None:
    """Even a secret that nobody registered stays out of tracebacks when it is only in a local variable."""
    for log_format in ("json", "console"):
        out = Output()
        setup_logging("info", log_format, stream=out)
        try:
            local = "unknown-" + "treasure"
            raise_with(str(len(local)))
        except ValueError:
            structlog.get_logger("x").exception("failed")
        assert "raise_with" in out.text() and "unknown-treasure" not in out.text()


@pytest.mark.parametrize(
    "text",
    [
        "GET /api/sync?secret=TREASURE&force=1",
        "GET /api/sync?force=1&%73ecre%74=TREASURE",
        "GET /?next=%2Fapi%2Fsync%3Fforce%3D1%26secret%3DTREASURE",
        "GET /?next=%252Fsync%253Fsecret%253DTREASURE",
        "/x?_token=TREASURE",
        "KV_REST_API_TOKEN=TREASURE",
        "headers: Authorization: Bearer TREASURE-abc",
        "{'authorization': 'TREASURE', 'x': 1}",
        '{"verification_token": "TREASURE"}',
        "redis://default:TREASURE@host:6379/0",
        "postgresql+psycopg://user:TREASURE@host/db",
        "ntn_TREASUREabc123 was refused",
        "secret_TREASUREabc123",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    """Tokens in queries, headers, bodies and addresses are hidden without being registered."""
    assert "TREASURE" not in redact(text) and REDACTED in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "page 01234567-89ab-cdef-0123-456789abcdef has no slug",
        "https://www.notion.so/team/Secrets-of-good-bread",
        "the token is refused: create a new secret",
        "redis://host:6379/0",
        "write redis://user:password@host:6379",
        "a secret_garden",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """Words about secrets, ids and addresses without passwords stay readable."""
    assert redact(text) == text


def test_text_under_a_secret_name_is_hidden() -> None:
    """A value is hidden when its name says what it is; numbers under such a name are not."""
    out = Output()
    setup_logging("info", "json", stream=out)
    headers = {"Authorization": "abc", "X-Sync-Secret": "def", "Accept": "*/*"}
    structlog.get_logger("x").info("hello", headers=headers, cron_secret="ghi", fencing_token=17)
    (record,) = out.records()
    assert record["headers"] == {"Authorization": REDACTED, "X-Sync-Secret": REDACTED, "Accept": "*/*"}
    assert (record["cron_secret"], record["fencing_token"]) == (REDACTED, 17)


def test_secrets_are_found_in_the_forms_they_take() -> None:
    """Percent-encoded, JSON-escaped and repr'ed secrets are hidden; the longest match wins."""
    register_secrets([SECRET, "open", "ab"])
    encoded = "p4ss%22w%5Crd%20%C3%A9%2F%2B%20open"
    oddly = "".join(f"%{octet:02x}" for octet in SECRET.encode())
    in_part = 'p4%73s"w%5crd+é%2f%2B%20%6fpen'
    twice = encoded.replace("%", "%25")
    forms = (SECRET, repr(SECRET), repr(SECRET.encode()), json.dumps(SECRET), encoded, oddly, in_part, twice)
    for form in forms:
        assert redact(form).strip("'\"b") == REDACTED, form
        assert "p4ss" not in redact(form) and "open" not in redact(form)
    assert redact("cab") == "cab", "two characters are no secret"


def test_a_line_that_cannot_be_written_tells_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """On a full disk or a closed pipe one short line says so, without the record and its exception."""

    class Broken(Output):
        def write(self, text: str) -> int:
            raise BrokenPipeError("pipe")

    setup_logging("info", "json", stream=Broken())
    register_secret(SECRET)
    in_exception(structlog.get_logger("x"))
    assert capsys.readouterr().err == "A log line of x was lost: BrokenPipeError: pipe\n"


def test_module_keeps_no_secret_after_forgetting() -> None:
    """Forgetting works, so that one test's secret is not another's riddle."""
    register_secret("treasure")
    forget_secrets()
    assert redact("treasure") == "treasure"


def test_the_signature_of_an_address_is_hidden() -> None:
    """Who has a signed address has the file. Fails when signatures are left in the text."""
    text = redact("no answer from https://files.example/a.png?X-Amz-Date=1&X-Amz-Signature=deadbeef&x=1")
    assert text == f"no answer from https://files.example/a.png?X-Amz-Date=1&X-Amz-Signature={REDACTED}&x=1"


@pytest.mark.parametrize("piece", ["a-", "%25", '"a', "token", "://a:", "bearer ", "'token':"])
def test_a_long_text_is_redacted_in_a_moment(piece: str) -> None:
    """What strangers send ends in the log, and redacting it holds everything else up.

    Fails (with a minute) when a pattern looks for the beginning of a name in front of every piece.
    """
    began = time.perf_counter()
    redact(piece * (40_000 // len(piece)))
    assert time.perf_counter() - began < 5


def test_a_short_secret_is_hidden_where_it_stands_alone() -> None:
    """Within a longer word the rest would tell it: `[redacted]er than 16`. Fails when it is hidden there, too."""
    register_secret("short")
    assert redact("is shorter than 16") == "is shorter than 16"
    assert redact("it is short, x-sync-secret: short") == f"it is {REDACTED}, x-sync-secret: {REDACTED}"
    register_secret("longer-one")
    assert redact("xlonger-onex") == f"x{REDACTED}x"


def test_lines_for_standard_error_go_where_that_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A progress bar takes its place while it is shown. Fails when the log writes through the bar."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    setup_logging("info", "json", stream=sys.stderr)
    bar = io.StringIO()
    with monkeypatch.context() as shown:
        shown.setattr(sys, "stderr", bar)
        structlog.get_logger("t").info("meanwhile")
    structlog.get_logger("t").info("afterwards")
    assert "meanwhile" in bar.getvalue() and "afterwards" not in bar.getvalue()
