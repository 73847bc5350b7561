"""What is said of the token, of Notion's clock and of each source. Pure: facts in, findings out."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from daemon.config import Settings, SourceSetting
from daemon.doctor.findings import Finding, Level, count, sentence, span
from daemon.notion.errors import (
    NotionError,
    NotionForbidden,
    NotionUnauthorized,
    NotionUnavailable,
    NotionValidation,
)
from daemon.notion.values import is_full_page, page_title, plain_text
from daemon.status import CLOCK_OFF_SECONDS

THE_LINK = (
    "In a link, the id of the database or page stands before the ?; the one after ?v= is a view's, "
    "the one after # a block's."
)


def token_works(me: Mapping[str, Any]) -> Finding:
    """`me`: the integration's own user."""
    workspace = (me.get("bot") or {}).get("workspace_name")
    where = f' in the workspace "{workspace}"' if workspace else ""
    return Finding(Level.OK, "Notion", f'The token works: integration "{me.get("name")}"{where}.')


def notion_refuses(error: NotionError, settings: Settings, *, unresolved: bool) -> Finding:
    """Why nothing can be read at all. `unresolved`: the name in the address is not known to this machine."""
    base_url = settings.notion_base_url
    if isinstance(error, NotionUnauthorized):
        what = "Notion does not know the token in NOTION_TOKEN (or NOTION_API_KEY)."
        todo = (
            "Copy the integration's secret again from https://www.notion.so/profile/integrations: it begins with "
            "ntn_ (older ones with secret_), and a renewed one replaces the one before."
        )
    elif unresolved:
        what = f"Notion cannot be reached: the name {urlsplit(base_url).hostname} is unknown to DNS here."
        todo = "Check this machine's network and DNS." if settings.is_notion else "Check NOTION_BASE_URL."
    elif isinstance(error, NotionUnavailable):
        what, todo = _unavailable(error, settings)
    elif isinstance(error, NotionValidation) and "version" in error.message.lower():
        what, todo = error.message, "Leave NOTION_VERSION unset, or set it to a version that Notion names."
    else:
        what, todo = error.message, error.hint
    return Finding(Level.PROBLEM, "Notion", sentence(what), todo)


def _unavailable(error: NotionUnavailable, settings: Settings) -> tuple[str, str]:
    if error.is_refusal:
        wait = f"in {span(error.retry_after_seconds)}" if error.retry_after_seconds else "in a minute"
        todo = f"Run doctor again {wait}; whatever else uses this token shares its budget, a daemon too."
        return f"Notion takes no more requests for now ({error.status}).", todo
    if error.status is not None and error.code is None:
        what = f"What answers at {settings.notion_base_url} is not Notion's API (HTTP {error.status})."
        return what, "Check NOTION_BASE_URL, and whether a proxy or firewall stands in between."
    if settings.is_notion:
        todo = "Check this machine's network, firewall and proxy, and https://www.notion-status.com."
    else:
        todo = f"Check NOTION_BASE_URL, and that something runs at {settings.notion_base_url}."
    said = "cannot be reached" if error.status is None else "gives no proper answer"
    return f"Notion {said}: {error.message}", todo


def clock(notion_ahead_seconds: float) -> Finding:
    """How this machine's clock compares with the `Date` of Notion's answers."""
    if abs(notion_ahead_seconds) <= CLOCK_OFF_SECONDS:
        return Finding(Level.OK, "clock", "This machine's clock agrees with Notion's.")
    way = "behind" if notion_ahead_seconds > 0 else "ahead of"
    what = f"This machine's clock is {span(abs(notion_ahead_seconds))} {way} Notion's."
    return Finding(Level.NOTE, "clock", what, "Set it right (NTP): heartbeats and ages are judged by it.")


# Sources ------------------------------------------------------------------------------------------------------


def setting_of(source: SourceSetting) -> str:
    """The setting that names a source."""
    return {"pages": "NOTION_PAGES_DB", "posts": "NOTION_POSTS_DB"}.get(source.name, "NOTION_SOURCES")


def title_of(thing: Mapping[str, Any]) -> str:
    """The title of a page, database or data source as plain text."""
    return page_title(thing) if is_full_page(thing) else plain_text(thing.get("title"))


def rows_seen(source: SourceSetting, thing: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Finding:
    """A database or data source, and up to a hundred of its rows."""
    title = title_of(thing)
    kind = "database" if thing.get("object") == "database" else "data source"
    if not rows:
        what = f'It is the {kind} "{title}", but no row of it can be seen.'
        todo = (
            "If it is not empty, share the database itself with the integration; "
            "if a page is meant, copy the link of that page."
        )
        return _about(Level.NOTE, source, what, todo)
    if not any(is_full_page(row) or row.get("object") == "data_source" for row in rows):
        return may_not_read(source, f'The rows of the {kind} "{title}" come without their content')
    many = "100 rows or more" if len(rows) >= 100 else count(len(rows), "row")
    return _about(Level.OK, source, f'It is the {kind} "{title}" with {many}.')


def page_seen(source: SourceSetting, page: Mapping[str, Any], blocks: Sequence[Mapping[str, Any]]) -> Finding:
    """A page, and the first blocks on it. Where a database is usual, a page may be a mistake."""
    title, setting = title_of(page), setting_of(source)
    parent = page.get("parent") or {}
    home = parent.get("database_id") or parent.get("data_source_id")
    inside = [block for block in blocks if block.get("type") == "child_database"]
    if source.name in ("pages", "posts") and home:
        what = f'It is the page "{title}", a single row of a database: only it and what is under it is read.'
        return _about(Level.NOTE, source, what, f"If the whole database is meant, set {setting} to {home}.")
    if source.name in ("pages", "posts") and inside:
        name = (inside[0].get("child_database") or {}).get("title")
        what = f'It is the page "{title}", not a database: the page itself and everything under it is read.'
        todo = f'If the database "{name}" on it is meant, set {setting} to {inside[0].get("id")}.'
        return _about(Level.NOTE, source, what, todo)
    return _about(Level.OK, source, f'It is the page "{title}": it and everything under it is read.')


def in_trash(source: SourceSetting, thing: Mapping[str, Any]) -> Finding:
    """Something of the right kind that was thrown away."""
    todo = f"Restore it there, or change {setting_of(source)}; its keys are kept meanwhile."
    return _about(Level.PROBLEM, source, f'"{title_of(thing)}" is in Notion\'s trash.', todo)


def linked_view(source: SourceSetting, title: str) -> Finding:
    """A database that shows another one's rows, or whose own data is out of reach."""
    what = f'{source.ref} is a linked view ("{title}"): it shows another database, and Notion\'s API does not serve it.'
    todo = (
        f"Open the original database, copy that one's link into {setting_of(source)}, "
        "and share it with the integration (••• menu, Connections)."
    )
    return _about(Level.PROBLEM, source, what, todo)


def block_seen(source: SourceSetting, block: Mapping[str, Any]) -> Finding:
    """A block where a database or page is meant."""
    kind = block.get("type")
    if kind == "child_database":
        return linked_view(source, (block.get("child_database") or {}).get("title") or "")
    what = f"{source.ref} is the id of a block ({kind}), not of a database or page."
    page = (block.get("parent") or {}).get("page_id")
    todo = f"Set {setting_of(source)} to the database or page itself" + (
        f", such as {page}, on which the block stands." if page else "."
    )
    return _about(Level.PROBLEM, source, what, f"{todo} {THE_LINK}")


def view_seen(source: SourceSetting, view: Mapping[str, Any]) -> Finding:
    """A view (`?v=`) where a database is meant."""
    database = (view.get("parent") or {}).get("database_id")
    what = f'{source.ref} is the id of a view ("{view.get("name")}"), not of a database.'
    todo = f"Set {setting_of(source)} to the database's id" + (f", {database}." if database else ".")
    return _about(Level.PROBLEM, source, what, f"{todo} {THE_LINK}")


def not_found(source: SourceSetting, integration: str, *, sees_anything: bool) -> Finding:
    """Nothing is shown under this id: never was, or not shared; Notion does not tell which."""
    what = f'Notion shows nothing with the id {source.ref} to the integration "{integration}".'
    share = f'open the database or page in Notion, ••• menu, Connections, and add "{integration}"'
    if not sees_anything:
        todo = f"Nothing at all is shared with it yet: {share}. What is under it comes along."
    else:
        todo = f"Share it: {share}. If it is shared, check the id in {setting_of(source)}. {THE_LINK}"
    return _about(Level.PROBLEM, source, what, todo)


def may_not_read(source: SourceSetting, what: str) -> Finding:
    """The integration lacks a capability."""
    return _about(Level.PROBLEM, source, sentence(what), NotionForbidden.hint)


def source_fails(source: SourceSetting, error: NotionError) -> Finding:
    """Any other refusal."""
    if isinstance(error, NotionForbidden):
        return may_not_read(source, "The integration may not read content (403)")
    return _about(Level.PROBLEM, source, sentence(error.message), error.hint)


def _about(level: Level, source: SourceSetting, what: str, todo: str = "") -> Finding:
    return Finding(level, f"source {source.name}", what, todo)
