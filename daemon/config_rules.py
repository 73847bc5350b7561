"""The rules of single settings, and the small objects they make. Each reads, checks, notes what is wrong."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from daemon.cron import CronError, parse_cron
from daemon.env import Reader, SecretStr, hint, parsed_url
from daemon.notion.ids import id_from_reference, names_only_a_view

RESERVED_SOURCE_NAMES = frozenset(
    {"page", "pages", "post", "posts", "db", "sync", "all", "children", "trigger", "worker", "jobs"}
)
OLDEST_NOTION_VERSION = date(2025, 9, 3)
SHORTEST_GOOD_SECRET = 16
FIRST_SYNC = "so every deploy would be a first sync"
ON_NOTION = " (smaller values only where NOTION_BASE_URL is not Notion's)"

KvKind = Literal["upstash", "redis", "embedded", "none"]
_UPSTASH_PAIRS = (
    ("KV_REST_API_URL", "KV_REST_API_TOKEN"),
    ("UPSTASH_REDIS_REST_URL", "UPSTASH_REDIS_REST_TOKEN"),
)
_REDIS_NAMES = ("KV_URL", "REDIS_URL")
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)
_POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")
_UNUSABLE_LEDGER = "sqlite:///ledger.db"
_SOURCE_NAME = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_PATH_TEMPLATE = re.compile(r"/([^{}\s]|\{slug\})*")


@dataclass(frozen=True)
class SourceSetting:
    """One thing in Notion to keep in step. `ref`: its id, dashed, lower case; Notion will tell what it is."""

    name: str
    ref: str


@dataclass(frozen=True)
class KvSetting:
    """Where the keys go. `url` may hold a password; `origin` names the settings it came from."""

    kind: KvKind
    url: str = field(default="", repr=False)
    token: SecretStr | None = None
    origin: str = ""


def is_notion(base_url: str) -> bool:
    """Whether an API address is Notion's own."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    return any(host == own or host.endswith("." + own) for own in ("notion.com", "notion.so"))


def base_url(reader: Reader) -> str:
    """The API's address. The client adds `/v1` itself, so one that is there already goes."""
    found = reader.url("NOTION_BASE_URL") or "https://api.notion.com"
    address = found.removesuffix("/v1").rstrip("/")
    if is_notion(address) and not address.startswith("https://"):
        reader.problem("NOTION_BASE_URL", "would send the token over plain http", "begin it with https://")
    return address


def notion_token(reader: Reader, *, needed: bool) -> SecretStr:
    """The integration's secret, under either of its names; empty when it is neither set nor needed."""
    for name in ("NOTION_TOKEN", "NOTION_API_KEY"):
        found = reader.token(name)
        if found is not None:
            return found
    if needed:
        right = "put the secret of a Notion integration here (notion.so/profile/integrations)"
        reader.problem("NOTION_TOKEN", "is not set, nor is NOTION_API_KEY", right)
    return SecretStr("")


def notion_version(reader: Reader) -> str:
    """The API version to ask for: a date, not older than data sources."""
    text = reader.text("NOTION_VERSION", "2026-03-11")
    try:
        known = bool(re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII))
        version = date.fromisoformat(text) if known else date.min
    except ValueError:
        version = date.min
    if version < OLDEST_NOTION_VERSION:
        right = f"write an API version of {OLDEST_NOTION_VERSION} or later, such as 2026-03-11"
        reader.problem("NOTION_VERSION", "is no date, or an API version without data sources", right)
    return text


def notion_time(reader: Reader, name: str, default: float, *, ours: bool, zero: bool = True) -> float:
    """A time that Notion's own habits bound from below; elsewhere it may be as small as wanted."""
    if ours:
        return reader.seconds(name, default, low=0, zero=zero)
    return reader.seconds(name, default, low=default, why=ON_NOTION)


def sources(reader: Reader, *, needed: bool) -> tuple[SourceSetting, ...]:
    """The sources in the order of their settings: pages, posts, then the further ones."""
    before = len(reader.problems)
    found = [
        _source(reader, variable, variable, name, reader.text(variable))
        for name, variable in (("pages", "NOTION_PAGES_DB"), ("posts", "NOTION_POSTS_DB"))
        if reader.text(variable)
    ]
    found += _further_sources(reader)
    valid = tuple(source for source in found if source is not None)
    if needed and not valid and len(reader.problems) == before:
        right = "give the id or address of a database, data source or page in at least one of them"
        reader.problem("NOTION_PAGES_DB", "is not set, nor NOTION_POSTS_DB, nor NOTION_SOURCES", right)
    names_by_ref: dict[str, list[str]] = {}
    for source in valid:
        names_by_ref.setdefault(source.ref, []).append(source.name)
    for names in names_by_ref.values():
        if len(names) > 1:
            variable = {"posts": "NOTION_POSTS_DB"}.get(names[-1], "NOTION_SOURCES")
            reader.warn(variable, f"the sources {', '.join(names)} are one and the same in Notion")
    return valid


def _further_sources(reader: Reader) -> list[SourceSetting | None]:
    found: list[SourceSetting | None] = []
    seen: set[str] = set()
    entries = [entry.strip() for entry in reader.text("NOTION_SOURCES").split(",")]
    for number, entry in enumerate((entry for entry in entries if entry), start=1):
        name, equals, reference = (part.strip() for part in entry.partition("="))
        where = f"entry {number}"
        if not equals or not _SOURCE_NAME.fullmatch(name):
            right = f"write name=<id>, the name of letters a-z, digits and '-'{hint(entry)}"
            reader.problem("NOTION_SOURCES", f"{where} does not begin with a usable name", right)
        elif name in RESERVED_SOURCE_NAMES:
            reader.problem("NOTION_SOURCES", f"{where} is called '{name}'", "choose a name that is not taken")
        elif name in seen:
            reader.problem("NOTION_SOURCES", f"{where} has the name of an earlier one", "use each name once")
        else:
            seen.add(name)
            found.append(_source(reader, "NOTION_SOURCES", where, name, reference))
    return found


def _source(reader: Reader, variable: str, where: str, name: str, reference: str) -> SourceSetting | None:
    ref = id_from_reference(reference)
    if ref is not None:
        return SourceSetting(name, ref)
    wrong = "holds no Notion id" if where == variable else f"{where} holds no Notion id"
    why = " (the id after ?v= is a view's: copy the link of the database itself)"
    meant = why if names_only_a_view(reference) else hint(reference)
    right = f"give 32 hex digits, dashed or not, or the address of the database or page{meant}"
    reader.problem(variable, wrong, right)
    return None


# --- the KV ---


def kv(reader: Reader, *, needed: bool) -> KvSetting:
    """The KV to write to: an embedded one if asked for, else the first that is named completely."""
    if reader.flag("EMBEDDED_KV"):
        others = [name for name in (*chain(*_UPSTASH_PAIRS), *_REDIS_NAMES) if name in reader.values]
        if others:
            reader.warn("EMBEDDED_KV", f"is on, so {', '.join(others)} are not used")
        return KvSetting("embedded", origin="EMBEDDED_KV")
    for pair in _UPSTASH_PAIRS:
        if any(name in reader.values for name in pair):
            return _upstash(reader, *pair)
    for name in _REDIS_NAMES:
        if name in reader.values:
            return _redis(reader, name)
    if needed:
        right = "set both, or UPSTASH_REDIS_REST_URL and …_TOKEN, or KV_URL, or REDIS_URL, or EMBEDDED_KV=1"
        reader.problem("KV_REST_API_URL, KV_REST_API_TOKEN", "are not set, nor is any other KV", right)
    return KvSetting("none", origin="nothing set")


def _upstash(reader: Reader, url_name: str, token_name: str) -> KvSetting:
    for present, missing in ((url_name, token_name), (token_name, url_name)):
        if missing not in reader.values:
            right = f"set it too, or remove {present} if another KV is meant"
            reader.problem(missing, f"is not set although {present} is", right)
    if reader.text(url_name).startswith(("redis://", "rediss://")):
        right = "put the https:// address of the REST API here, or move this one to KV_URL"
        reader.problem(url_name, "is a redis:// address", right)
        return KvSetting("upstash")
    url, token = reader.url(url_name), reader.token(token_name)
    return KvSetting("upstash", url or "", token, f"{url_name}, {token_name}")


def _redis(reader: Reader, name: str) -> KvSetting:
    text = reader.text(name)
    if parsed_url(text, ("http", "https")):
        right = "write redis://… or rediss://…; an Upstash REST address belongs in KV_REST_API_URL"
        reader.problem(name, "is an http(s) address", right)
    elif not parsed_url(text, ("redis", "rediss")):
        right = "write redis://user:password@host:6379, or rediss:// for TLS, special characters as %XX"
        reader.problem(name, "is not a Redis address", right)
    return KvSetting("redis", text, None, name)


# --- files and addresses ---


def data_dir(reader: Reader) -> Path:
    """The folder for files: the setting, else the platform's volume, else `data`. It need not exist yet."""
    text = reader.text("DATA_DIR") or reader.text("RAILWAY_VOLUME_MOUNT_PATH", "data")
    try:
        folder = Path(text).expanduser()
        usable = folder.is_dir() or not folder.exists()
    except (OSError, RuntimeError):
        folder, usable = Path(text), False
    if not usable:
        right = "name a folder that this user may write to (it is made when it is missing)"
        reader.problem("DATA_DIR", "is not a folder, or may not be looked at", right)
    return folder


def check_volume(reader: Reader, folder: Path) -> None:
    """On Railway only a volume survives a deploy."""
    volume = reader.text("RAILWAY_VOLUME_MOUNT_PATH")
    if not (reader.text("RAILWAY_ENVIRONMENT") or reader.text("RAILWAY_PROJECT_ID")):
        return
    if not volume:
        reader.warn("DATA_DIR", f"is not on a volume, {FIRST_SYNC}; attach a volume in Railway")
    elif not folder.absolute().is_relative_to(Path(volume).absolute()):
        reader.warn("DATA_DIR", f"is outside the volume, {FIRST_SYNC}; leave it unset")


def ledger_url(reader: Reader, folder: Path) -> str:
    """The ledger's address as SQLAlchemy wants it: the setting, else an SQLite file in the data folder."""
    text = reader.text("LEDGER_DATABASE_URL")
    if not text:
        return f"sqlite:///{folder / 'ledger.db'}"
    scheme, _, rest = text.partition("://")
    if scheme in _POSTGRES and parsed_url(text, _POSTGRES) and rest.partition("/")[2]:
        return f"postgresql+psycopg://{rest}"
    if scheme == "sqlite" and rest.startswith("/") and rest not in ("/", "/:memory:"):
        return text
    right = "write sqlite:///path/to/ledger.db, or postgresql://user:password@host/database (signs as %XX)"
    reader.problem("LEDGER_DATABASE_URL", "is neither an SQLite file nor a PostgreSQL database", right)
    return _UNUSABLE_LEDGER


def host(reader: Reader) -> str:
    """What to listen on: an address, or a name, of this machine."""
    text = reader.text("HOST", "0.0.0.0")
    try:
        if not _HOST_NAME.fullmatch(text) or text.replace(".", "").isdigit():
            ip_address(text)
    except ValueError:
        right = "write an address of this machine alone, such as 0.0.0.0 (all) or 127.0.0.1 (only itself)"
        reader.problem("HOST", "is not an address", right)
        return "0.0.0.0"
    return text


def secret_url(reader: Reader, name: str) -> SecretStr | None:
    """An address that may itself be a secret, as chat systems hand them out; kept to the letter."""
    return SecretStr(reader.text(name)) if reader.url(name, plain=False) else None


def public_url(reader: Reader) -> str | None:
    """How the outside reaches the daemon: the setting, else the domain that the platform tells."""
    domain = reader.text("RAILWAY_PUBLIC_DOMAIN")
    return reader.url("PUBLIC_URL", f"https://{domain}" if domain else None)


def revalidate_paths(reader: Reader, sources: Collection[SourceSetting]) -> Mapping[str, str]:
    """Source name → path on the site, with `{slug}` where the slug goes."""
    paths: dict[str, str] = {}
    known = {"pages", "posts", *(source.name for source in sources)}
    entries = reader.text("REVALIDATE_PATHS", "pages=/{slug},posts=/blog/{slug}").split(",")
    for number, entry in enumerate((entry for entry in entries if entry.strip()), start=1):
        name, _, template = (part.strip() for part in entry.partition("="))
        if name not in known or name in paths:
            right = f"write source=/path/{{slug}} once for any of {', '.join(sorted(known))}"
            reader.problem("REVALIDATE_PATHS", f"entry {number} names no source, or one named before", right)
        elif not _PATH_TEMPLATE.fullmatch(template):
            right = "write a path that begins with / and has no other braces than {slug}"
            reader.problem("REVALIDATE_PATHS", f"entry {number} has no usable path", right)
        paths[name] = template
    return MappingProxyType(paths)


# --- the rest ---


def cron(reader: Reader) -> str | None:
    """The cron expression of the full verification, if there is one."""
    text = reader.text("FULL_SYNC_CRON")
    if not text:
        return None
    try:
        parse_cron(text)
    except CronError as error:
        right = "write five fields in UTC, such as '30 3 * * 0' for Sundays at 03:30"
        reader.problem("FULL_SYNC_CRON", f"cannot be followed: {error}", right)
    return text


def check_secrets(reader: Reader) -> None:
    """What works but protects little."""
    for name in ("CRON_SECRET", "EMBEDDED_KV_TOKEN", "REVALIDATE_SECRET"):
        if 0 < len(reader.text(name)) < SHORTEST_GOOD_SECRET:
            reader.warn(name, f"is shorter than {SHORTEST_GOOD_SECRET} characters and may be guessed")
    qstash = ("QSTASH_CURRENT_SIGNING_KEY", "QSTASH_NEXT_SIGNING_KEY")
    missing = [name for name in qstash if name not in reader.values]
    if len(missing) == 1:
        reader.warn(missing[0], "is not set although the other key is: calls signed with it are refused")
    if "REVALIDATE_SECRET" in reader.values and "REVALIDATE_URL" not in reader.values:
        reader.warn("REVALIDATE_SECRET", "is set without REVALIDATE_URL, so the site is told nothing")
    if "REVALIDATE_URL" in reader.values and "REVALIDATE_SECRET" not in reader.values:
        reader.warn("REVALIDATE_SECRET", "is not set, so the calls to REVALIDATE_URL are not signed")
