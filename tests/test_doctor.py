"""What `doctor` finds, each cause made real: the words that name it, and the next step."""

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from daemon.clock import DrivenClock
from daemon.config import examine_settings
from daemon.demo import Sandbox
from daemon.demo import blocks as b
from daemon.doctor import Doctor, Finding, Level, about_host, conclusion, exit_code
from daemon.kv.base import OWNER_KEY, Owner
from daemon.kv.embedded import EmbeddedKV
from daemon.kv.token import TOKEN_FILE
from daemon.ledger import ledger as ledger_module
from daemon.ledger import meta
from daemon.ledger.ledger import Ledger
from daemon.ledger.meta import Fact
from daemon.ledger.tables import Link
from tests.support.notion_stub import NotionStub, Reply, Request, error
from tests.support.process import Result, command, running
from tests.support.redis_server import RedisServer
from tests.support.upstash_server import QUOTA_MESSAGE, Fault, UpstashServer
from tests.support.web import a_daemon

pytest_plugins = ["tests.support.kv_fixtures", "tests.support.sandbox_fixtures"]

SECRET = "correct-horse-battery-staple"
KV_TOKEN = "a-token-for-the-embedded-store"
UNKNOWN = "0123456789abcdef0123456789abcdef"


@dataclass
class Site:
    """A small workspace that is served, and settings that point a healthy daemon at it."""

    sandbox: Sandbox
    clock: DrivenClock
    settings: dict[str, str]
    home: str
    database: str
    data_source: str
    row: str

    async def examine(self, **changed: str) -> list[Finding]:
        """Everything that is found, with some settings changed."""
        return await examine({**self.settings, **changed}, self.clock)

    async def look(self, about: str, **changed: str) -> Finding:
        """The only finding about something."""
        return only(await self.examine(**changed), about)


@pytest.fixture
def site(sandbox: Sandbox, clock: DrivenClock, base_url: str, tmp_path: Path) -> Site:
    """A page with a database of one row, and no daemon that ever ran."""
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Website")
    database, source = workspace.create_database(home, "Pages", {"slug": "rich_text"})
    row = workspace.add_row(source, "Hello", {"slug": "hello"}, blocks=[b.paragraph("first")])
    settings = {
        "NOTION_TOKEN": "ntn_sandbox",
        "NOTION_BASE_URL": base_url,
        "NOTION_PAGES_DB": database,
        "EMBEDDED_KV": "1",
        "EMBEDDED_KV_TOKEN": KV_TOKEN,
        "CRON_SECRET": SECRET,
        "DATA_DIR": str(tmp_path / "data"),
        "HOST": "127.0.0.1",
        "PORT": "0",
        "PUBLIC_URL": "http://127.0.0.1:8080",
    }
    return Site(sandbox, clock, settings, home, database, source, row)


async def examine(settings: Mapping[str, str], clock: DrivenClock) -> list[Finding]:
    """Everything that is found with these settings."""
    known, problems = examine_settings(settings)
    return [finding async for finding in Doctor(known, problems, clock).findings()]


def only(findings: list[Finding], about: str) -> Finding:
    """The only finding about something; one that is no more than a fact counts when there is no other."""
    found = [finding for finding in findings if finding.about == about]
    found = [finding for finding in found if finding.level is not Level.OK] or found
    assert len(found) == 1, findings
    return found[0]


def put(file: Path, text: str | None) -> None:
    """Write a file, or take it away."""
    file.unlink() if text is None else file.write_text(text)


def entries(folder: Path) -> list[str]:
    """What is in a folder."""
    return [entry.name for entry in folder.iterdir()]


def told(finding: Finding, level: Level, *words: str) -> None:
    """The finding is of this level, says these words, and ends its sentences."""
    text = f"{finding.what} {finding.todo}"
    assert finding.level is level, finding
    assert [word for word in words if word not in text] == [], text
    assert finding.what.endswith((".", ":")), finding
    assert finding.todo.endswith(".") or (level is Level.OK and not finding.todo), finding


# Everything ---------------------------------------------------------------------------------------------------


async def test_all_is_well(site: Site, tmp_path: Path) -> None:
    """With everything in order nothing else is said, exit code 0, and nothing at all is made or changed.

    Fails when the embedded store is opened although it is not there.
    """
    found = await site.examine()
    assert {finding.level for finding in found} == {Level.OK}, found
    assert exit_code(found, []) == 0 and conclusion(found) == "Everything is in order."
    assert entries(tmp_path) == []
    assert {request.method for request in site.sandbox.requests if "query" not in request.path} == {"GET"}


def test_the_worst_decides() -> None:
    """Notes alone are 0, a problem is 1, settings that `run` would refuse are 2; the last line counts both."""
    note, problem = Finding(Level.NOTE, "x", "x."), Finding(Level.PROBLEM, "x", "x.")
    assert [exit_code([note], []), exit_code([note, problem], []), exit_code([], ["X: y; z"])] == [0, 1, 2]
    assert conclusion([note, problem, problem]) == "2 problems, 1 note."


async def test_a_check_that_fails_itself_keeps_no_other_from_being_made(site: Site, tmp_path: Path) -> None:
    """A file that nobody expected is a finding, and what comes after it is looked at.

    Fails when an error of one check is let through.
    """
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / TOKEN_FILE).write_bytes("kein Schlüssel".encode())
    found = await site.examine(EMBEDDED_KV_TOKEN="")
    told(only(found, "store"), Level.PROBLEM, "failed itself", "report")
    told(only(found, "port"), Level.OK)


# Settings -----------------------------------------------------------------------------------------------------


async def test_each_wrong_setting_is_said_and_the_rest_is_checked(site: Site) -> None:
    """Wrong settings of several parts: one finding each, and the parts they leave possible are looked at."""
    found = await site.examine(POLL_INTERVAL_SECONDS="soon", FULL_SYNC_CRON="daily", NOTION_POSTS_DB="posts")
    said = [finding for finding in found if finding.level is Level.PROBLEM]
    assert [finding.what.split()[0] for finding in said] == [
        "NOTION_POSTS_DB",
        "POLL_INTERVAL_SECONDS",
        "FULL_SYNC_CRON",
    ]
    assert all(finding.todo for finding in said)
    for about in ("Notion", "source pages", "ledger", "store", "port"):
        told(only(found, about), Level.OK)


async def test_what_wrong_settings_make_impossible_is_named(site: Site) -> None:
    """Without a token, a store, a data folder and a port nothing is guessed: each part says that it was not checked."""
    wrong = {"NOTION_TOKEN": "", "EMBEDDED_KV": "perhaps", "DATA_DIR": __file__, "PORT": "eighty"}
    found = await site.examine(**wrong)
    for about in ("Notion", "ledger", "store", "port"):
        told(only(found, about), Level.NOTE, "Not checked", "settings")
    assert site.sandbox.requests == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"KV_REST_API_URL": "redis://h:6379", "KV_REST_API_TOKEN": "t"}, ("redis://", "https://", "KV_URL")),
        ({"KV_URL": "https://h.upstash.io"}, ("http(s)", "KV_REST_API_URL")),
        ({"KV_REST_API_URL": "https://h.upstash.io"}, ("KV_REST_API_TOKEN", "is not set although")),
        ({"KV_URL": "redis://[h"}, ("KV_URL", "redis://user:password@host")),
    ],
)
async def test_mixed_up_stores(site: Site, settings: dict[str, str], words: tuple[str, ...]) -> None:
    """An address of the wrong kind, or half a pair, says where it belongs."""
    found = await site.examine(EMBEDDED_KV="", EMBEDDED_KV_TOKEN="", **settings)
    told(only(found, "settings"), Level.PROBLEM, *words)
    told(only(found, "store"), Level.NOTE, "Not checked")


async def test_a_link_that_only_names_a_view(site: Site) -> None:
    """`?v=` and nothing before it: the settings say that it is a view's id."""
    link = f"https://www.notion.so/me?v={UNKNOWN}"
    for name, value in {"NOTION_PAGES_DB": link, "NOTION_SOURCES": f"docs={link}"}.items():
        found = await site.examine(**{name: value})
        told(only(found, "settings"), Level.PROBLEM, name, "no Notion id", "?v= is a view's", "copy the link")
    plain = await site.examine(NOTION_PAGES_DB="https://www.notion.so/me")
    assert "view" not in only(plain, "settings").todo


async def test_cron_secret(site: Site) -> None:
    """None, or a short one, is a note with a way to make a good one."""
    told(await site.look("settings", CRON_SECRET=""), Level.NOTE, "CRON_SECRET is not set", "503", "openssl")
    told(await site.look("settings", CRON_SECRET="short"), Level.NOTE, "CRON_SECRET", "shorter", "openssl")
    keys = {"QSTASH_CURRENT_SIGNING_KEY": "sig_one", "QSTASH_NEXT_SIGNING_KEY": "sig_two"}
    found = await site.examine(**keys, PUBLIC_URL="")
    told(
        next(one for one in found if "signed" in one.what),
        Level.NOTE,
        "PUBLIC_URL is not set",
        "QStash calls",
    )


async def test_railway_without_a_volume(site: Site) -> None:
    """The ledger would not survive a deploy."""
    finding = await site.look("settings", RAILWAY_ENVIRONMENT="production")
    told(finding, Level.NOTE, "not on a volume", "every deploy would be a first sync", "Attach a volume")


# Notion -------------------------------------------------------------------------------------------------------


async def test_bad_token(site: Site) -> None:
    """A token that Notion does not know: where to get another; no source is asked for in vain."""
    found = await site.examine(NOTION_TOKEN="ntn_other")
    told(only(found, "Notion"), Level.PROBLEM, "does not know the token", "NOTION_TOKEN", "integrations")
    assert len(site.sandbox.requests) == 1
    assert "ntn_other" not in str(found)


async def test_good_token(site: Site) -> None:
    """It says whose token it is."""
    told(await site.look("Notion"), Level.OK, "token works", 'integration "Sandbox"')


def closed_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_notion_refuses_connections(site: Site) -> None:
    """Nothing listens there: which setting, and on Notion's own address what to look at instead."""
    address = f"http://127.0.0.1:{closed_port()}"
    told(
        await site.look("Notion", NOTION_BASE_URL=address),
        Level.PROBLEM,
        "cannot be reached",
        "NOTION_BASE_URL",
        address,
    )


async def test_notion_is_unknown_to_dns(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not resolve is said to be one: a wrong setting, or with Notion's own name the network."""
    told(
        await site.look("Notion", NOTION_BASE_URL="http://notion.invalid"),
        Level.PROBLEM,
        "notion.invalid",
        "DNS",
        "NOTION_BASE_URL",
    )

    def no_dns(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_dns)
    settings = {name: value for name, value in site.settings.items() if name != "NOTION_BASE_URL"}
    told(
        only(await examine(settings, site.clock), "Notion"),
        Level.PROBLEM,
        "api.notion.com",
        "DNS",
        "network",
    )


async def test_something_else_answers(site: Site) -> None:
    """A web page where the API should be."""
    async with NotionStub(site.clock).serving() as stub:
        stub.script = lambda _: Reply(404, "<html>nothing here</html>")
        finding = await site.look("Notion", NOTION_BASE_URL=stub.url)
    told(finding, Level.PROBLEM, "is not Notion's API (HTTP 404)", "NOTION_BASE_URL", "proxy")


async def test_notion_wants_fewer_requests(site: Site) -> None:
    """Refused for now: when to try again, and who else may use up the budget. It does not wait.

    Fails with the daemon's own patience.
    """
    site.sandbox.faults.add(429, retry_after=240)
    before = site.clock.monotonic()
    told(await site.look("Notion"), Level.PROBLEM, "no more requests", "429", "in 4 minutes", "budget")
    assert site.clock.monotonic() == before


async def test_notion_is_ill(site: Site) -> None:
    """An outage is told in Notion's words."""
    site.sandbox.faults.add(503)
    told(await site.look("Notion"), Level.PROBLEM, "no proper answer", "503", "NOTION_BASE_URL")


async def test_version_that_notion_does_not_know(site: Site) -> None:
    """A date without an API version behind it."""
    told(
        await site.look("Notion", NOTION_VERSION="2025-12-24"), Level.PROBLEM, "NOTION_VERSION", "2026-03-11"
    )


@pytest.mark.parametrize(
    ("ahead_seconds", "words"), [(600, "10 minutes behind"), (-7300, "2 hours ahead of")]
)
async def test_clock(site: Site, ahead_seconds: float, words: str) -> None:
    """Minutes between our clock and the `Date` of Notion's answers are a note; seconds are none."""
    site.sandbox.habits.clock_skew_seconds = ahead_seconds
    told(await site.look("clock"), Level.NOTE, words, "Notion's", "NTP")
    site.sandbox.habits.clock_skew_seconds = 60
    told(await site.look("clock"), Level.OK)


# Sources ------------------------------------------------------------------------------------------------------


async def test_what_a_source_is(site: Site) -> None:
    """A database, a data source and a page are told apart, by name."""
    told(await site.look("source pages"), Level.OK, 'database "Pages" with 1 row')
    told(
        await site.look("source pages", NOTION_PAGES_DB=site.data_source),
        Level.OK,
        'data source "Pages" with 1 row',
    )
    told(
        await site.look("source docs", NOTION_SOURCES=f"docs={site.home}"),
        Level.OK,
        'page "Website"',
        "everything under it",
    )


async def test_not_shared(site: Site) -> None:
    """Not shared while other things are: share it, or look at the id. Nothing shared at all says so."""
    site.sandbox.workspace.unshare(site.database)
    words = ("shows nothing", site.database, "Connections", 'add "Sandbox"')
    told(await site.look("source pages"), Level.PROBLEM, *words, "NOTION_PAGES_DB", "?v= is a view's")
    site.sandbox.workspace.unshare(site.home)
    told(await site.look("source pages"), Level.PROBLEM, *words, "Nothing at all is shared")


async def test_one_bad_source_does_not_hide_the_others(site: Site) -> None:
    """Each source has its own finding, named by its setting."""
    found = await site.examine(NOTION_POSTS_DB=UNKNOWN, NOTION_SOURCES=f"docs={UNKNOWN[::-1]}")
    told(only(found, "source pages"), Level.OK)
    told(only(found, "source posts"), Level.PROBLEM, "NOTION_POSTS_DB")
    told(only(found, "source docs"), Level.PROBLEM, "NOTION_SOURCES")


async def test_id_of_a_block(site: Site) -> None:
    """The id after # in a link: what it is, and the page it stands on."""
    block = site.sandbox.workspace.children(site.row)[0]
    told(
        await site.look("source pages", NOTION_PAGES_DB=block),
        Level.PROBLEM,
        "id of a block (paragraph)",
        f"such as {site.row}",
        "after # a block's",
    )


async def test_id_of_a_linked_view(site: Site) -> None:
    """A database block that the API does not serve: the original is to be named."""
    linked = site.sandbox.workspace.create_linked_database(site.home, "Only the best")
    told(
        await site.look("source pages", NOTION_PAGES_DB=linked),
        Level.PROBLEM,
        'linked view ("Only the best")',
        "does not serve",
        "Open the original database",
        "share it",
    )


async def test_a_database_without_data_sources(site: Site) -> None:
    """The other way in which Notion shows a linked view: a database that names nothing to query."""
    shown = {"object": "database", "id": site.database, "title": [{"plain_text": "Best"}], "data_sources": []}
    async with stubbed(site, {f"databases/{site.database}": Reply(200, shown)}) as settings:
        told(await site.look("source pages", **settings), Level.PROBLEM, 'linked view ("Best")', "original")


async def test_id_of_a_view(site: Site) -> None:
    """The bare id after `?v=`: whose view it is."""
    view = {"object": "view", "id": UNKNOWN, "name": "By date", "parent": {"database_id": site.database}}
    async with stubbed(site, {f"views/{UNKNOWN[:8]}": Reply(200, view)}) as settings:
        finding = await site.look("source pages", **{**settings, "NOTION_PAGES_DB": UNKNOWN})
    told(
        finding,
        Level.PROBLEM,
        'id of a view ("By date")',
        f"NOTION_PAGES_DB to the database's id, {site.database}",
        "before the ?",
    )


@contextlib.asynccontextmanager
async def stubbed(site: Site, answers: Mapping[str, Reply]) -> AsyncIterator[dict[str, str]]:
    """A Notion that knows the token and these paths, and nothing else."""
    me = {"object": "user", "id": "u", "name": "Sandbox", "type": "bot", "bot": {}}

    def answer(request: Request) -> Reply:
        known = {"users/me": Reply(200, me), **answers}
        found = [reply for path, reply in known.items() if request.path.startswith(f"/v1/{path}")]
        return found[0] if found else error(404, "object_not_found")

    async with NotionStub(site.clock).serving() as stub:
        stub.script = answer
        yield {"NOTION_BASE_URL": stub.url}


async def test_a_page_where_its_database_may_be_meant(site: Site) -> None:
    """The page around the database: both ids are valid, so it says what is read and which id would be the other."""
    told(
        await site.look("source pages", NOTION_PAGES_DB=site.home),
        Level.NOTE,
        'page "Website", not a database',
        'the database "Pages" on it',
        site.database,
    )


async def test_a_row_where_its_database_may_be_meant(site: Site) -> None:
    """The link of one row."""
    told(
        await site.look("source pages", NOTION_PAGES_DB=site.row),
        Level.NOTE,
        "single row of a database",
        f"set NOTION_PAGES_DB to {site.database}",
    )


async def test_a_database_where_a_page_may_be_meant(site: Site) -> None:
    """A database without rows is not what anybody wants to publish."""
    empty, _ = site.sandbox.workspace.create_database(site.home, "Imprint", {})
    told(
        await site.look("source imprint", NOTION_SOURCES=f"imprint={empty}"),
        Level.NOTE,
        'database "Imprint", but no row',
        "if a page is meant",
    )


async def test_in_the_trash(site: Site) -> None:
    """A database or page that was thrown away."""
    site.sandbox.workspace.trash(site.row)
    told(
        await site.look("source pages", NOTION_PAGES_DB=site.row),
        Level.PROBLEM,
        '"Hello" is in Notion\'s trash',
        "Restore",
    )
    site.sandbox.workspace.trash(site.database)
    told(
        await site.look("source pages"),
        Level.PROBLEM,
        '"Pages" is in Notion\'s trash',
        "change NOTION_PAGES_DB",
    )


@pytest.mark.parametrize("path", ["databases/", "/query"])
async def test_integration_may_not_read(site: Site, path: str) -> None:
    """Without the capability Notion answers 403, at once or at the rows."""
    site.sandbox.faults.add(403, path=path)
    told(await site.look("source pages"), Level.PROBLEM, "may not read content", "capability", "Capabilities")


async def test_rows_without_content(site: Site) -> None:
    """Without the capability rows may also come as ids and nothing else."""
    site.sandbox.habits.partial_objects = 1.0
    told(await site.look("source pages"), Level.PROBLEM, "without their content", "capability")


# Ledger -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def ledger(tmp_path: Path) -> Path:
    """A ledger in the data folder, as a daemon leaves it."""
    file = tmp_path / "data" / "ledger.db"
    made = Ledger(f"sqlite:///{file}")
    await made.open()
    await made.call(meta.put, Fact.LEDGER_ID, "l-1")
    await made.close()
    return file


def run_sql(file: Path, statement: str) -> None:
    """Change the ledger behind everybody's back."""
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)


async def test_ledger_states(site: Site, ledger: Path) -> None:
    """Of this version; older: it will be upgraded, and not now; newer: never touched.

    Fails when the ledger is opened as the daemon opens it.
    """
    told(await site.look("ledger"), Level.OK, "read and written")
    run_sql(ledger, "DELETE FROM alembic_version")
    told(await site.look("ledger"), Level.NOTE, "older version", "db upgrade")
    run_sql(ledger, "INSERT INTO alembic_version VALUES ('9999')")
    told(await site.look("ledger"), Level.PROBLEM, "newer version", "Start that version")
    put(ledger, None)
    told(await site.look("ledger"), Level.OK, "none yet", str(ledger))
    assert ledger.name not in entries(ledger.parent)


async def test_ledger_held_by_another_process(
    site: Site, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the file for good."""
    monkeypatch.setattr(ledger_module, "BUSY_TIMEOUT_MS", 20)
    with contextlib.closing(sqlite3.connect(ledger, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told(await site.look("ledger"), Level.PROBLEM, "locked", "Another process holds the file")
        other.execute("ROLLBACK")
    told(await site.look("ledger"), Level.OK)


async def test_ledger_that_is_none(site: Site, ledger: Path) -> None:
    """Some other file where the ledger should be."""
    put(ledger, "somebody's notes " * 100)
    told(await site.look("ledger"), Level.PROBLEM, "not a database", "LEDGER_DATABASE_URL")


async def test_ledger_folder_in_which_nothing_can_be_made(site: Site, tmp_path: Path) -> None:
    """A file stands where a folder is needed."""
    (tmp_path / "file").write_text("in the way")
    address = f"sqlite:///{tmp_path / 'file' / 'sub' / 'ledger.db'}"
    told(
        await site.look("ledger", LEDGER_DATABASE_URL=address), Level.PROBLEM, "cannot be written", "DATA_DIR"
    )


@contextlib.contextmanager
def folder_of_somebody_else() -> Iterator[Path]:
    """A folder that this process may read but not write, for as long as the block runs, also as root."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65_534)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


async def test_ledger_folder_not_writable(site: Site) -> None:
    """A folder without the right to write, present or one level above; it names the way out on Railway too."""
    with folder_of_somebody_else() as folder:
        for place in (folder, folder / "data"):
            found = await site.examine(DATA_DIR=str(place))
            told(only(found, "ledger"), Level.PROBLEM, str(place), "Permission denied", "RAILWAY_RUN_UID=0")
            told(only(found, "store"), Level.PROBLEM, "cannot be written", "DATA_DIR")


async def test_ledger_without_its_driver(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL needs a package."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    finding = await site.look("ledger", LEDGER_DATABASE_URL="postgresql://u:geheim@h/db")
    told(finding, Level.PROBLEM, "psycopg", "not installed", "LEDGER_DATABASE_URL")
    assert "geheim" not in str(finding)


# Store --------------------------------------------------------------------------------------------------------


def upstash(server: UpstashServer, token: str) -> dict[str, str]:
    """Settings for the Upstash protocol."""
    return {
        "EMBEDDED_KV": "",
        "EMBEDDED_KV_TOKEN": "",
        "KV_REST_API_URL": server.url,
        "KV_REST_API_TOKEN": token,
    }


def redis(port: int, login: str = "") -> dict[str, str]:
    """Settings for a plain Redis."""
    return {
        "EMBEDDED_KV": "",
        "EMBEDDED_KV_TOKEN": "",
        "KV_URL": f"redis://{login}127.0.0.1:{port}/0",
    }


async def test_upstash_works(site: Site, upstash_server: UpstashServer, redis_server: RedisServer) -> None:
    """A store that may be written, and is not."""
    found = await site.examine(**upstash(upstash_server, upstash_server.token))
    told(only(found, "store"), Level.OK, "Upstash REST", "KV_REST_API_URL", "read and written")
    told(only(found, "owner"), Level.OK, "Nobody has written")
    assert redis_server.admin.dbsize() == 0


async def test_upstash_token_wrong(site: Site, upstash_server: UpstashServer) -> None:
    """A token the service does not know."""
    finding = await site.look("store", **upstash(upstash_server, "AX_wrong_token"))
    told(finding, Level.PROBLEM, "refuses the token", "WRONGPASS", "KV_REST_API_TOKEN", "console")
    assert "AX_wrong_token" not in str(finding)


async def test_upstash_token_read_only(site: Site, upstash_server: UpstashServer) -> None:
    """The read-only token passes every reading test: fails without the writing test."""
    finding = await site.look("store", **upstash(upstash_server, upstash_server.read_only_token))
    told(finding, Level.PROBLEM, "read but not written", "NOPERM", "standard token", "not its read-only one")


async def test_upstash_quota(site: Site, upstash_server: UpstashServer) -> None:
    """The month's requests are used up."""
    upstash_server.fault = Fault.error(QUOTA_MESSAGE)
    finding = await site.look("store", **upstash(upstash_server, upstash_server.token))
    told(finding, Level.PROBLEM, "quota or memory is used up", "limit exceeded", "Raise the store's plan")


async def test_upstash_address_of_something_else(site: Site, upstash_server: UpstashServer) -> None:
    """A web page instead of the protocol."""
    upstash_server.fault = Fault.html(404)
    finding = await site.look("store", **upstash(upstash_server, upstash_server.token))
    told(finding, Level.PROBLEM, "HTTP 404", "KV_REST_API_URL")


async def test_redis_password_wrong(site: Site, redis_server: RedisServer) -> None:
    """A password the server does not know, which is not repeated."""
    redis_server.admin.config_set("requirepass", "right")
    try:
        finding = await site.look("store", **redis(redis_server.port, ":wrong-secret@"))
    finally:
        redis_server.admin.config_set("requirepass", "")
    told(finding, Level.PROBLEM, "refuses the token or password", "KV_URL")
    assert "wrong-secret" not in str(finding)


@pytest.mark.parametrize("rights", ["+@read +ping", "+@read +ping +eval", "+@read +ping +eval +set"])
async def test_redis_user_read_only(site: Site, redis_server: RedisServer, rights: str) -> None:
    """A user who may not run scripts, set or delete: fails when the writing test leaves one of them out."""
    acl = redis_server.admin.execute_command
    acl("ACL", "SETUSER", "reader", "reset", "on", ">right", "~*", *rights.split())
    try:
        finding = await site.look("store", **redis(redis_server.port, "reader:right@"))
    finally:
        acl("ACL", "DELUSER", "reader")
    told(finding, Level.PROBLEM, "read but not written", "EVAL, GET, SET and DEL")


async def test_redis_replica(site: Site, redis_server: RedisServer) -> None:
    """A replica takes no writes."""
    redis_server.admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        finding = await site.look("store", **redis(redis_server.port))
    finally:
        redis_server.admin.execute_command("REPLICAOF", "NO", "ONE")
    told(finding, Level.PROBLEM, "read but not written", "read only replica", "primary")


async def test_redis_full(site: Site, redis_server: RedisServer) -> None:
    """No memory left: fails when the writing test only deletes."""
    redis_server.admin.config_set("maxmemory", "1")
    finding = await site.look("store", **redis(redis_server.port))
    told(finding, Level.PROBLEM, "quota or memory is used up", "maxmemory", "free space")


async def test_redis_away(site: Site) -> None:
    """Nothing listens there."""
    finding = await site.look("store", **redis(closed_port()))
    told(finding, Level.PROBLEM, "cannot be reached", "KV_URL")


async def test_writing_test_leaves_the_site_alone(site: Site, redis_server: RedisServer) -> None:
    """With a prefix and keys in the store, an examination changes none of them."""
    redis_server.admin.set("site:page:a", "1")
    await site.look("store", KV_KEY_PREFIX="site:", **redis(redis_server.port))
    assert redis_server.admin.keys() == [b"site:page:a"] and redis_server.admin.get("site:page:a") == b"1"


async def test_embedded_token(site: Site, tmp_path: Path) -> None:
    """The token in the data folder is shown, with the address; one from the settings is not; a missing one not made."""
    finding = await site.look("/kv", EMBEDDED_KV_TOKEN="", PORT="8123", PUBLIC_URL="")
    told(finding, Level.NOTE, "http://localhost:8123/kv", "first start makes", "EMBEDDED_KV_TOKEN")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / TOKEN_FILE).write_text("made-by-the-daemon\n")
    public = {"PUBLIC_URL": "https://daemon.example.com"}
    shown = await site.look("/kv", EMBEDDED_KV_TOKEN="", **public)
    assert (shown.shown, shown.what) == (
        "made-by-the-daemon",
        "Sites read it at https://daemon.example.com/kv with this token:",
    )
    assert KV_TOKEN not in str(await site.examine())


async def test_embedded_store_is_examined(site: Site, tmp_path: Path) -> None:
    """The file of the embedded store, once it is there: damaged, and good again."""
    file = tmp_path / "data" / "kv.db"
    file.parent.mkdir()
    file.write_text("somebody's notes " * 100)
    told(await site.look("store"), Level.PROBLEM, "not a database", "republish")
    file.unlink()
    kv = EmbeddedKV(file)
    await kv.ping()
    await kv.close()
    assert "read and written" in str(await site.examine())


def owned(site: Site, *, age_seconds: float, ledger_id: str = "l-1", released: bool = False) -> str:
    """A record of who writes to the store."""
    heartbeat = (site.clock.now() - timedelta(seconds=age_seconds)).timestamp()
    return Owner(7, "d-42", ledger_id, "c-1", heartbeat, released).to_json()


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("record", "level", "words"),
    [
        ({"age_seconds": 42}, Level.OK, ("Daemon d-42 writes", "42 s ago")),
        (
            {"age_seconds": 42, "ledger_id": "l-2"},
            Level.NOTE,
            ("another ledger", "takes over", "KV_KEY_PREFIX"),
        ),
        ({"age_seconds": 7200}, Level.NOTE, ("d-42", "gone silent", "2 hours ago", "start one")),
        ({"age_seconds": 7200, "released": True}, Level.OK, ("No daemon runs", "2 hours ago")),
        ({"age_seconds": 7200, "ledger_id": "l-2"}, Level.NOTE, ("another ledger", "rewrites every key")),
    ],
)
async def test_owner(
    site: Site,
    redis_server: RedisServer,
    record: dict[str, Any],
    level: Level,
    words: tuple[str, ...],
) -> None:
    """Whether a daemon lives, by its id and heartbeat, and whether it is ours."""
    redis_server.admin.set(OWNER_KEY, owned(site, **record))
    told(await site.look("owner", **redis(redis_server.port)), level, *words)


async def test_owner_without_our_ledger(site: Site, ledger: Path, redis_server: RedisServer) -> None:
    """A ledger that is not there is another one; of one that cannot be read nothing is said."""
    redis_server.admin.set(OWNER_KEY, owned(site, age_seconds=42))
    put(ledger, "no ledger")
    told(await site.look("owner", **redis(redis_server.port)), Level.OK, "d-42 writes")
    put(ledger, None)
    told(await site.look("owner", **redis(redis_server.port)), Level.NOTE, "another ledger")


# Port ---------------------------------------------------------------------------------------------------------


async def test_port_free_or_taken(site: Site) -> None:
    """Taken by a stranger, whether it speaks HTTP or nothing at all; free again."""
    port = closed_port()
    told(await site.look("port", PORT=str(port)), Level.OK, f"Port {port} on 127.0.0.1 is free")
    async with NotionStub(site.clock).serving() as stranger:
        stranger.script = lambda _: Reply(200, {"ok": True})
        taken = stranger.url.rpartition(":")[2]
        for host in ("127.0.0.1", "0.0.0.0"):
            finding = await site.look("port", PORT=taken, HOST=host)
            told(finding, Level.PROBLEM, f"Port {taken}", "taken by another program", "Set PORT")


async def test_port_of_our_own_daemon(site: Site, tmp_path: Path) -> None:
    """A daemon that already runs there is no problem; one that is not well is told with its reason."""
    async with a_daemon(tmp_path / "other") as daemon:
        port = daemon.url.rpartition(":")[2]
        daemon.app.vitals.became_ready.set()
        told(await site.look("port", PORT=port), Level.OK, "A daemon", "already runs", "running")
        daemon.clock.advance(1000)
        told(await site.look("port", PORT=port), Level.NOTE, "failing", "nothing was done for too long")


async def test_host_of_another_machine(site: Site) -> None:
    """An address that this machine does not have, and a name that nobody has."""
    for host in ("192.0.2.1", "nowhere.invalid"):
        told(await site.look("port", HOST=host), Level.PROBLEM, f"HOST {host}", "Leave HOST unset")


def test_port_for_root_only() -> None:
    """A low port that this user may not have."""
    finding = about_host.port_refused("0.0.0.0", 80, PermissionError(errno.EACCES, "Permission denied"), None)
    told(finding, Level.PROBLEM, "Port 80 may not be used", "from 1024 on")


# As a process -------------------------------------------------------------------------------------------------


async def doctor(folder: Path, settings: Mapping[str, str]) -> Result:
    """Run the command in an empty folder."""
    (folder / "cwd").mkdir(exist_ok=True)
    return await command(folder / "cwd", settings, "doctor")


@pytest.fixture
async def live_site(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """Settings of a small workspace that is served in real time."""
    sandbox = Sandbox()
    home = sandbox.workspace.create_page(None, "Website")
    database, source = sandbox.workspace.create_database(home, f"[bold]Págs[/bold] 한국어 {SECRET}", {})
    sandbox.workspace.add_row(source, "Hello")
    async with sandbox.serve() as url:
        yield {
            "NOTION_TOKEN": "ntn_sandbox",
            "NOTION_BASE_URL": url,
            "NOTION_PAGES_DB": database,
            "EMBEDDED_KV": "1",
            "CRON_SECRET": SECRET,
            "DATA_DIR": str(tmp_path / "data"),
        }


async def test_beside_a_running_daemon(live_site: dict[str, str], tmp_path: Path) -> None:
    """Exit code 0, plain text, the daemon named by port and heartbeat, the token shown, no other secret anywhere.

    Fails when findings are printed without being redacted.
    """
    port = closed_port()
    async with running(tmp_path, live_site, port) as daemon:
        await daemon.until("/ready")
        shown = {**live_site, "PORT": str(port), "HOST": "127.0.0.1"}
        result = await doctor(tmp_path, shown)
        assert await daemon.end() == 0
    assert result.code == 0, result.out + result.err
    token = (tmp_path / "data" / TOKEN_FILE).read_text().strip()
    for words in (
        "✓ ok",
        'database "[bold]Págs[/bold] 한국어 [redacted]" with 1 row',
        f"already runs on port {port}",
        "writes to the store (last heartbeat",
        token,
    ):
        assert words in result.out
    assert "\x1b" not in result.out and result.err == ""
    assert SECRET not in result.out and "ntn_sandbox" not in result.out


async def test_exit_codes_of_the_command(live_site: dict[str, str], tmp_path: Path) -> None:
    """A problem is 1; wrong settings are 2, each on its own line, and the rest is still looked at."""
    notion = live_site["NOTION_BASE_URL"]
    bad_token = {"NOTION_TOKEN": "ntn_private_value", "NOTION_BASE_URL": notion, "PORT": "0"}
    failing, wrong = await asyncio.gather(
        doctor(tmp_path, {**live_site, **bad_token, "PYTHONIOENCODING": "ascii"}),
        doctor(tmp_path, {**bad_token, "KV_URL": "redis://:geheim@[h"}),
    )
    assert failing.code == 1, failing.out + failing.err
    assert "- problem" in failing.out and "1 problem, 2 notes." in failing.out
    assert wrong.code == 2, wrong.out + wrong.err
    said = [line.split()[3] for line in wrong.out.splitlines() if line.startswith("✗ problem")]
    assert said == ["KV_URL", "NOTION_PAGES_DB", "Notion"]
    assert "redis://user:password@host" in wrong.out and "PORT is 0" in wrong.out
    for result in (failing, wrong):
        assert "ntn_private_value" not in result.out + result.err and "geheim" not in result.out + result.err
        assert "Traceback" not in result.err
    assert entries(tmp_path / "cwd") == []


# --- files ---


async def test_files(site: Site, tmp_path: Path) -> None:
    """Where copies go, that they are off, that the folder refuses, that a bucket is not there."""
    told(await site.look("files"), Level.OK, "a folder of this daemon")
    told(await site.look("files", ASSETS="proxy"), Level.OK, "http://127.0.0.1:8080/assets")
    told(await site.look("files", PUBLIC_URL=""), Level.NOTE, "die after an hour", "PUBLIC_URL")
    bucket = {
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{closed_port()}",
        "S3_BUCKET": "site",
        "S3_ACCESS_KEY_ID": "key",
        "S3_SECRET_ACCESS_KEY": "s3-secret",
    }
    found = await site.look("files", **bucket)
    told(found, Level.PROBLEM, "does not answer", "S3_ENDPOINT_URL")
    assert "s3-secret" not in repr(found)
    assert (await site.look("files", S3_BUCKET="site")).what == "Not checked."
    assert entries(tmp_path) == []


async def test_removals_that_are_held(site: Site, tmp_path: Path) -> None:
    """Whoever asks what is in the way hears that something waits for a person. Fails when it is left out."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'data' / 'ledger.db'}")
    await ledger.open()
    waiting = {"parent_id": site.data_source, "child_id": site.row, "kind": "row", "missing": "trashed"}

    def hold(db: Connection) -> None:
        db.execute(insert(Link).values(**waiting, held=True))

    await ledger.call(hold)
    await ledger.close()
    told(await site.look("removals"), Level.NOTE, "1 removals are held", "confirm-removals")
