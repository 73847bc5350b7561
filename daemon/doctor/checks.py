"""Looks at everything that can be in a daemon's way and tells what it finds. Changes nothing anywhere.

Each check is small and stands by itself: one that cannot be made, or fails, keeps no other from being made. What is
said, and what to do about it, is in `about_notion` and `about_host`.
"""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from sqlalchemy import Connection

from daemon import revalidate
from daemon.app import open_kv
from daemon.assets.files import local_folder, open_store
from daemon.assets.store import StoreError
from daemon.clock import Clock
from daemon.config import NAMES, Settings, SourceSetting
from daemon.doctor import about_host, about_notion, about_rules, about_webhooks
from daemon.doctor.about_webhooks import WebhookFacts
from daemon.doctor.findings import Finding, check_failed, not_checked
from daemon.kv.base import KV, KVError
from daemon.kv.embedded import EmbeddedKV
from daemon.kv.token import known_token
from daemon.ledger import handshakes, links, meta
from daemon.ledger.ledger import Ledger, LedgerError
from daemon.ledger.meta import Fact
from daemon.notion.api import Answer, NotionApi
from daemon.notion.errors import NotionError, NotionNotFound, NotionUnavailable, NotionValidation
from daemon.notion.limiter import Lane
from daemon.notion.retry import RetryPolicy
from daemon.notion.schema import columns_of
from daemon.site.rules import Rule
from daemon.sync.lease import TAKE_OVER_AFTER_HEARTBEATS
from daemon.web.server import listener

NOTION_SECONDS = 15.0
HEALTH_SECONDS = 3.0
_NO_SUCH_THING = (NotionNotFound, NotionValidation)
_NOTION = {"NOTION_TOKEN", "NOTION_API_KEY", "NOTION_BASE_URL", "NOTION_VERSION"}
_LEDGER = {"LEDGER_DATABASE_URL", "DATA_DIR"}
_PORT = {"HOST", "PORT"}
_FILES = {name for name in NAMES if name.startswith(("ASSETS", "S3_"))} | {
    "BLOB_READ_WRITE_TOKEN",
    "PUBLIC_URL",
}
_STORE = {
    "KV_REST_API_URL",
    "KV_REST_API_TOKEN",
    "UPSTASH_REDIS_REST_URL",
    "UPSTASH_REDIS_REST_TOKEN",
    "KV_URL",
    "REDIS_URL",
    "EMBEDDED_KV",
    "EMBEDDED_KV_TOKEN",
}


class Doctor:
    """One examination. `problems`: what is wrong with the settings; what they leave possible is checked."""

    def __init__(self, settings: Settings, problems: Sequence[str], clock: Clock) -> None:
        self._settings = settings
        self._problems = problems
        self._wrong = about_host.named_in(problems)
        self._clock = clock
        self._ledger_id: str | None = None
        self._webhooks = WebhookFacts()
        self._told: dict[str, Any] | None = None

    async def findings(self) -> AsyncIterator[Finding]:
        """Everything that is found, in the order in which it is best mended."""
        checks = {
            "settings": self._check_settings,
            "Notion": self._check_notion,
            "ledger": self._check_ledger,
            "store": self._check_store,
            "webhooks": self._check_webhooks,
            "site": self._check_site,
            "files": self._check_files,
            "port": self._check_port,
        }
        for about, check in checks.items():
            try:
                found = await check()
            except Exception as error:  # a sick machine is the very place where this is run
                found = [check_failed(about, error)]
            for finding in found:
                yield finding

    async def _check_settings(self) -> list[Finding]:
        return about_host.of_settings(self._settings, self._problems)

    # Notion ----------------------------------------------------------------------------------------------------

    async def _check_notion(self) -> list[Finding]:
        if self._wrong & _NOTION:
            return [not_checked("Notion")]
        settings = self._settings
        api = NotionApi(
            token=settings.notion_token.get_secret_value(),
            base_url=settings.notion_base_url,
            version=settings.notion_version,
            requests_per_minute=settings.notion_requests_per_minute,
            clock=self._clock,
            deadline_seconds=NOTION_SECONDS,
            policy=RetryPolicy(attempts=1),  # whoever asks how things stand does not want to wait
        )
        try:
            return await self._ask_notion(api)
        finally:
            await api.close()

    async def _ask_notion(self, api: NotionApi) -> list[Finding]:
        try:
            me = (await api.me()).body
        except NotionError as error:
            silent = isinstance(error, NotionUnavailable) and error.status is None
            unresolved = silent and await _unresolved(self._settings.notion_base_url)
            return [about_notion.notion_refuses(error, self._settings, unresolved=unresolved)]
        found = [about_notion.token_works(me), about_notion.clock(api.clock_offset_seconds)]
        for source in self._settings.sources:
            found.append(await _check_source(api, source, str(me.get("name"))))
            rule = self._settings.publish_rules.get(source.name)
            found += [] if rule is None else await _check_rule(api, source, rule)
        return found

    # Ledger ----------------------------------------------------------------------------------------------------

    async def _check_ledger(self) -> list[Finding]:
        if self._wrong & _LEDGER:
            return [not_checked("ledger")]
        url = self._settings.ledger_database_url.get_secret_value()
        if url.startswith("sqlite"):
            file = Path(url.removeprefix("sqlite:///").partition("?")[0])
            reason = _refusal(file.parent)
            if reason is not None:
                return [about_host.folder_refuses("ledger", file.parent, reason)]
            if not _is_there(file):
                self._ledger_id = ""
                return [about_host.ledger_absent(file)]
        try:
            ledger = Ledger(url)
        except LedgerError as error:
            return [about_host.ledger_refuses(error)]
        try:
            if await ledger.is_behind():
                return [about_host.ledger_behind()]
            self._ledger_id = await ledger.call(meta.get, Fact.LEDGER_ID) or ""
            self._webhooks = await ledger.call(_webhook_facts)
            self._told = await ledger.call(revalidate.shown)
            held = await ledger.call(links.held_links)
            return [about_host.ledger_works(), *([about_host.removals_held(len(held))] if held else [])]
        except LedgerError as error:
            return [about_host.ledger_refuses(error)]
        finally:
            await ledger.close()

    # Store -----------------------------------------------------------------------------------------------------

    async def _check_store(self) -> list[Finding]:
        settings = self._settings
        if self._wrong & _STORE or (settings.embedded_kv and "DATA_DIR" in self._wrong):
            return [not_checked("store")]
        try:
            kv = open_kv(settings)
        except KVError as error:
            return [about_host.store_refuses(settings.kv, error)]
        try:
            if isinstance(kv, EmbeddedKV):
                return await self._ask_embedded(kv)
            return await self._ask_store(kv)
        finally:
            await kv.close()

    async def _ask_embedded(self, kv: EmbeddedKV) -> list[Finding]:
        folder = self._settings.data_dir
        reason = _refusal(folder)
        if reason is not None:
            return [about_host.folder_refuses("store", folder, reason)]
        found = await self._ask_store(kv) if _is_there(kv.path) else [about_host.store_absent(kv.path)]
        return [*found, about_host.embedded_token(self._settings, known_token(self._settings))]

    async def _ask_store(self, kv: KV) -> list[Finding]:
        try:
            await kv.ping()
            await kv.check_writable()
            owner = await kv.read_owner()
        except KVError as error:
            return [about_host.store_refuses(self._settings.kv, error)]
        patience_seconds = TAKE_OVER_AFTER_HEARTBEATS * self._settings.heartbeat_seconds
        now = self._clock.now().timestamp()
        return [
            about_host.store_works(self._settings.kv),
            about_host.owner(owner, self._ledger_id, now=now, take_over_after_seconds=patience_seconds),
        ]

    # Webhooks --------------------------------------------------------------------------------------------------

    async def _check_webhooks(self) -> list[Finding]:
        """From what the ledger said when it was looked at."""
        now = self._clock.now().timestamp()
        return about_webhooks.findings(self._settings, self._webhooks, now)

    # Site ------------------------------------------------------------------------------------------------------

    async def _check_site(self) -> list[Finding]:
        if self._settings.revalidate_url is None or self._told is None:
            return []
        return [about_host.site_told(self._told, now=self._clock.now().timestamp())]

    # Files -----------------------------------------------------------------------------------------------------

    async def _check_files(self) -> list[Finding]:
        setting = self._settings.assets
        if setting.mode == "off":
            return [about_host.files_off()]
        if self._wrong & _FILES:
            return [not_checked("files")]
        if setting.mode == "proxy":
            return [about_host.files_led(self._settings)]
        if setting.store == "local":
            folder = local_folder(self._settings.data_dir)
            reason = _refusal(folder)
            if reason is not None:
                return [about_host.folder_refuses("files", folder, reason)]
        store = open_store(self._settings)
        try:
            await store.check()
        except StoreError as error:
            return [about_host.files_refused(error)]
        finally:
            await store.close()
        return [about_host.files_kept(self._settings)]

    # Port ------------------------------------------------------------------------------------------------------

    async def _check_port(self) -> list[Finding]:
        if self._wrong & _PORT:
            return [not_checked("port")]
        host, port = self._settings.host, self._settings.port
        try:
            with listener(host, port):
                return [about_host.port_free(host, port)]
        except OSError as error:
            reason = error.__cause__ if isinstance(error.__cause__, OSError) else error
            return [about_host.port_refused(host, port, reason, await _health(host, port))]


def _webhook_facts(db: Connection) -> WebhookFacts:
    return WebhookFacts(handshakes.kept(db), meta.get(db, Fact.WEBHOOK_EVENT_AT))


async def _check_source(api: NotionApi, source: SourceSetting, integration: str) -> Finding:
    """What a source's id names, and whether its content can be read: a handful of requests."""
    try:
        for ask in (api.database, api.data_source):
            thing = await _told(ask(source.ref, Lane.FEED))
            if thing is not None:
                return await _look_at_rows(api, source, thing)
        page = await _told(api.page(source.ref, Lane.FEED))
        if page is not None:
            return await _look_at_page(api, source, page)
        return await _look_for_what_it_is(api, source, integration)
    except NotionError as error:
        return about_notion.source_fails(source, error)


async def _check_rule(api: NotionApi, source: SourceSetting, rule: Rule) -> list[Finding]:
    """Whether the source's rows have what `PUBLISH_FILTER` and `PUBLISH_AT` ask for."""
    try:
        database = await _told(api.database(source.ref, Lane.FEED))
        parts = [source.ref] if database is None else [part["id"] for part in database["data_sources"]]
        told = [await _told(api.data_source(part, Lane.FEED)) for part in parts]
    except NotionError:
        return []  # it is said of the source itself
    return about_rules.rule_fits(source, rule, [columns_of(one) for one in told if one is not None])


async def _look_at_rows(api: NotionApi, source: SourceSetting, thing: dict[str, Any]) -> Finding:
    if thing.get("in_trash"):
        return about_notion.in_trash(source, thing)
    if thing.get("object") == "database":
        ids = [part["id"] for part in thing.get("data_sources") or []]
    else:
        ids = [thing["id"]]
    if not ids:
        return about_notion.linked_view(source, about_notion.title_of(thing))
    rows = [row for each in ids for row in await _first_results(api.query(each, Lane.FEED))]
    return about_notion.rows_seen(source, thing, rows)


async def _look_at_page(api: NotionApi, source: SourceSetting, page: dict[str, Any]) -> Finding:
    if page.get("in_trash"):
        return about_notion.in_trash(source, page)
    blocks = await _first_results(api.children(source.ref, Lane.FEED))
    return about_notion.page_seen(source, page, blocks)


async def _look_for_what_it_is(api: NotionApi, source: SourceSetting, integration: str) -> Finding:
    """An id that names neither database nor data source nor page: perhaps a block or a view."""
    block = await _told(api.block(source.ref, Lane.FEED))
    if block is not None:
        return about_notion.block_seen(source, block)
    view = await _told(api.view(source.ref, Lane.FEED))
    if view is not None:
        return about_notion.view_seen(source, view)
    anything = await _first_results(api.search_pages(Lane.FEED))
    return about_notion.not_found(source, integration, sees_anything=bool(anything))


async def _told(asked: Awaitable[Answer]) -> dict[str, Any] | None:
    """The object, None when Notion knows none of that kind under the id."""
    try:
        return (await asked).body
    except _NO_SUCH_THING:
        return None


async def _first_results(listing: AsyncIterator[Answer]) -> list[dict[str, Any]]:
    async for answer in listing:
        results: list[dict[str, Any]] = answer.body["results"]
        return results
    return []


async def _unresolved(url: str) -> bool:
    """Whether DNS does not know the name in an address."""
    try:
        await asyncio.get_running_loop().getaddrinfo(urlsplit(url).hostname, None)
    except socket.gaierror:
        return True
    return False


def _refusal(folder: Path) -> str | None:
    """Why nothing can be written into a folder, or into the nearest one above it while it does not exist."""
    try:
        above = (folder, *folder.absolute().parents)
        with tempfile.TemporaryFile(dir=next(each for each in above if each.exists())) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _is_there(file: Path) -> bool:
    return file.exists()


async def _health(host: str, port: int) -> dict[str, Any] | None:
    """What a daemon that serves there says of itself; None when it is none of ours."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    address = f"[{reachable}]" if ":" in reachable else reachable
    try:
        async with httpx.AsyncClient(timeout=HEALTH_SECONDS, trust_env=False) as http:
            answer = (await http.get(f"http://{address}:{port}/health")).json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    ours = isinstance(answer, dict) and {"ok", "state", "version", "pollSeconds"} <= answer.keys()
    return answer if ours else None
