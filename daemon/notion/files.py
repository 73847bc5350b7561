"""The files that Notion hosts, wherever an object shows one: found, and given another address.

A hosted file is `{"type": "file", "file": {"url", "expiry_time"}}`, or a custom emoji. Its address is signed anew at
every read and dies after an hour; what stays is the block, property, cover or icon that holds it, and the path of its
address. Pure; nothing passed in is touched.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from daemon.notion.values import instant

JsonObject = dict[str, Any]

MARKS = (b'"type":"file"', b'"custom_emoji"')
"""Without one of these in its text an object shows no hosted file, which is quicker found out than by walking."""


@dataclass(frozen=True, slots=True)
class HostedFile:
    """A file at one place of one page. `holder`: `block:ID`, or `page:ID:` and `cover`, `icon` or a property's id.

    `kind`: the type of the block whose file it is, else `cover`, `icon`, `emoji` or `property`.
    `expires_at`: when the address dies, unix seconds on Notion's clock (None: never).
    """

    holder: str
    kind: str
    url: str
    expires_at: float | None

    @property
    def path(self) -> str:
        """What stays of its address."""
        return urlsplit(self.url).path

    @property
    def id(self) -> str:
        """The same for as long as the same file is in the same place."""
        return hashlib.sha256(f"{self.holder}\n{self.path}".encode()).hexdigest()[:32]


Resolve = Callable[[HostedFile], str | None]
"""The address to show in place of a file's own."""


def file_name(path: str) -> str:
    """The name that a file was uploaded with, from the path of its address."""
    return unquote(PurePosixPath(path).name)


def plain(url: str) -> str:
    """An address in characters that any program takes: what is not ASCII is percent-encoded."""
    return quote(url, safe="%/:=&?~#+!$,;'@()*[]")


def hosted_files(page: Mapping[str, Any], blocks: Iterable[JsonObject]) -> list[HostedFile]:
    """Every hosted file that a page shows, copies of synced blocks included, each once."""
    found = {file.id: file for file in files_of_page(page)}
    for block in _walk(blocks):
        found.update((file.id, file) for file in files_of_block(block))
    return list(found.values())


def files_of_page(page: Mapping[str, Any]) -> list[HostedFile]:
    """Those of a page object: cover, icon and properties."""
    found: list[HostedFile] = []
    relinked_page(page, _noting(found))
    return found


def files_of_block(block: JsonObject) -> list[HostedFile]:
    """Those of one block, without what lies under it."""
    found: list[HostedFile] = []
    relinked_block(block, _noting(found))
    return found


def relinked_page(page: Mapping[str, Any], resolve: Resolve) -> JsonObject:
    """The page object with other addresses for its hosted files."""
    shown = dict(page)
    for part in ("cover", "icon"):
        if page.get(part):
            shown[part] = _relinked(page[part], f"page:{page['id']}:{part}", part, resolve)
    properties = page.get("properties")
    if isinstance(properties, dict):
        shown["properties"] = {
            name: _relinked(prop, f"page:{page['id']}:{_id_of(prop)}", "property", resolve)
            for name, prop in properties.items()
        }
    return shown


def relinked_block(block: JsonObject, resolve: Resolve) -> JsonObject:
    """The block, without what lies under it, with other addresses for its hosted files; itself if it has none."""
    kind = block.get("type")
    body = block.get(kind) if isinstance(kind, str) else None
    if not isinstance(body, dict):
        return block
    holder = f"block:{block.get('id')}"
    shown = _relinked_fields(body, holder, kind or "", resolve)
    if body.get("type") == "file":
        shown = _with_address(shown, "file", holder, kind or "", resolve)
    return block if shown is body else {**block, str(kind): shown}


def _relinked(value: Any, holder: str, kind: str, resolve: Resolve) -> Any:
    if isinstance(value, list):
        items = [_relinked(item, holder, kind, resolve) for item in value]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else items
    if not isinstance(value, dict):
        return value
    if value.get("type") == "file":
        return _with_address(value, "file", holder, kind, resolve)
    if value.get("type") == "custom_emoji":
        return _with_address(value, "custom_emoji", holder, kind, resolve)
    return _relinked_fields(value, holder, kind, resolve)


def _relinked_fields(fields: JsonObject, holder: str, kind: str, resolve: Resolve) -> JsonObject:
    changed: JsonObject = {}
    for name, item in fields.items():
        if isinstance(item, dict | list):
            inner = _INNER.get(name, kind)
            shown = _relinked(item, holder, inner, resolve)
            if shown is not item:
                changed[name] = shown
    return {**fields, **changed} if changed else fields


_INNER = {"icon": "icon", "rich_text": "emoji", "caption": "emoji", "cells": "emoji"}


def _with_address(value: JsonObject, form: str, holder: str, kind: str, resolve: Resolve) -> JsonObject:
    told = value.get(form)
    if not isinstance(told, dict) or not isinstance(told.get("url"), str):
        return value
    url, expiry = told["url"], told.get("expiry_time")
    if not url.startswith(("https://", "http://")):
        return value
    shown = resolve(HostedFile(holder, kind, url, _moment(expiry)))
    if shown == url:
        return value
    kept = {name: item for name, item in told.items() if name != "expiry_time"}
    return {**value, form: {**kept, "url": shown}}


def _noting(found: list[HostedFile]) -> Resolve:
    def note(file: HostedFile) -> str:
        found.append(file)
        return file.url

    return note


def _moment(expiry: Any) -> float | None:
    try:
        return instant(expiry).timestamp() if isinstance(expiry, str) else None
    except ValueError:
        return None


def _id_of(prop: Any) -> str:
    return str(prop.get("id", "")) if isinstance(prop, dict) else ""


def _walk(blocks: Iterable[JsonObject]) -> Iterator[JsonObject]:
    pending: list[Sequence[JsonObject]] = [list(blocks)]
    while pending:
        for block in pending.pop():
            yield block
            if block.get("__children"):
                pending.append(block["__children"])
