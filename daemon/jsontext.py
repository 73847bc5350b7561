"""JSON as text: one encoder for all that is stored or sent, and the hash that tells a change from noise.

orjson does the work. What it refuses although it is JSON (lone surrogates, integers beyond 64 bits, very
deep nesting) goes through the standard library with ASCII escapes, so that the text can always be encoded
as UTF-8.
"""

import hashlib
import json
import zlib
from typing import Any

import orjson

CANONICAL_VERSION = 1
"""Part of every hash. Raise it when `canonical` or `strip_noise` changes, and every hash is another one."""

_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1


def dumps(value: Any) -> str:
    """Compact JSON text that UTF-8 can always encode: a lone surrogate stays an escape.

    Raises `TypeError` for a value that is not JSON.
    """
    return _encode(value).decode()


def loads(text: str | bytes) -> Any:
    """The value of a JSON text. Raises `json.JSONDecodeError` (a `ValueError`) when it is none."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text, parse_constant=_refuse_constant)


def pack(value: Any) -> bytes:
    """`value` as compressed JSON, for storing. `unpack` gives it back."""
    return packed(encode(value))


def encode(value: Any) -> bytes:
    """`value` as compact JSON."""
    return _encode(value)


def packed(encoded: bytes) -> bytes:
    """What `pack` makes of a value, from its JSON."""
    return zlib.compress(encoded, level=1)


def unpack(data: bytes) -> Any:
    """What `pack` was given. Raises `zlib.error` or `json.JSONDecodeError` for anything else."""
    return loads(zlib.decompress(data))


def canonical(value: Any) -> bytes:
    """One byte string for all ways to write a value: keys sorted, integers beyond 64 bits as floats."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        value = _as_doubles(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def content_hash(value: Any) -> str:
    """SHA-256 (hex) of what `value` says: key order, signed URLs and the other vendor noise do not count."""
    data = canonical(value)
    if _may_hold_noise(data):
        data = canonical(_strip(value))
    return hashlib.sha256(b"%d\n%b" % (CANONICAL_VERSION, data)).hexdigest()


# What follows decides what is noise.

_NOISE_MARKS = (
    b'"request_id"',
    b'"expiry_time"',
    b'"custom_emoji"',
    b'"child_',  # page or database
    b"ignature=",
)
"""Without one of these in its text a value has no noise in it, which is quicker found out than by walking."""

_AS_WRITTEN = frozenset({"external", "link", "href", "plain_text", "content", "annotations"})
"""What the writer typed: Notion signs nothing in there, so a signature in it is content."""

_POINTER_NOISE = ("last_edited_time", "last_edited_by", "has_children")
"""Fields of a `child_page` or `child_database` that tell of the other object's body, not of this page."""

_SIGNATURE_FAMILIES = (
    frozenset({"x-amz-signature"}),
    frozenset({"x-goog-signature"}),
    frozenset({"signature", "expires"}),
    frozenset({"signature", "expirationtimestamp"}),
    frozenset({"signature", "key-pair-id"}),
)
_SIGNATURE_PREFIXES = ("x-amz-", "x-goog-")
_SIGNATURE_NAMES = frozenset({"signature", "expires", "expirationtimestamp", "key-pair-id", "policy"})


def strip_noise(value: Any) -> Any:
    """`value` without what changes by itself; `value` itself when there is nothing of that kind in it.

    Dropped: `request_id`; the query and the `expiry_time` of files that Notion hosts; the query of custom
    emoji; the signature parameters (only these) of any other signed URL; of pointers to other pages and
    databases what moves with the other's body. Kept: what is inside `external` files and links, and the
    names of properties. The input is not touched.
    """
    return _strip(value) if _may_hold_noise(canonical(value)) else value


def _may_hold_noise(data: bytes) -> bool:
    return any(mark in data for mark in _NOISE_MARKS)


def _strip(value: Any) -> Any:
    if isinstance(value, dict):
        return _strip_object(value)
    if isinstance(value, list):
        return _strip_list(value)
    if isinstance(value, str) and "ignature=" in value:
        return _unsigned(value)
    return value


def _strip_list(items: list[Any]) -> list[Any]:
    cleaned: list[Any] | None = None
    for position, item in enumerate(items):
        clean = _strip(item)
        if clean is not item:
            if cleaned is None:
                cleaned = items.copy()
            cleaned[position] = clean
    return items if cleaned is None else cleaned


def _strip_object(fields: dict[str, Any]) -> dict[str, Any]:
    cleaned: dict[str, Any] | None = None
    for key, item in fields.items():
        if key in _AS_WRITTEN or not isinstance(item, dict | list | str):
            continue
        if key == "properties" and isinstance(item, dict):
            clean = _strip_properties(item)
        elif key == "custom_emoji" and isinstance(item, dict):
            clean = _without_query(item)
        else:
            clean = _strip(item)
        if clean is not item:
            if cleaned is None:
                cleaned = fields.copy()
            cleaned[key] = clean
    return _drop_fields(fields if cleaned is None else cleaned)


def _strip_properties(properties: dict[str, Any]) -> dict[str, Any]:
    """The keys here are names that people gave: `request_id` or `link` mean nothing special."""
    cleaned = {name: _strip(item) for name, item in properties.items()}
    same = all(cleaned[name] is item for name, item in properties.items())
    return properties if same else cleaned


def _drop_fields(fields: dict[str, Any]) -> dict[str, Any]:
    noisy: tuple[str, ...] = ()
    if "request_id" in fields:
        noisy += ("request_id",)
    if "expiry_time" in fields and isinstance(fields.get("url"), str):
        noisy += ("expiry_time",)
        fields = _without_query(fields)
    if fields.get("type") in ("child_page", "child_database"):
        noisy += _POINTER_NOISE
    if not noisy:
        return fields
    return {key: item for key, item in fields.items() if key not in noisy}


def _without_query(fields: dict[str, Any]) -> dict[str, Any]:
    url = fields.get("url")
    return {**fields, "url": url.partition("?")[0]} if isinstance(url, str) and "?" in url else fields


def _unsigned(text: str) -> str:
    """A signed URL without the parameters that sign it; any other text as it is."""
    if not text.startswith(("https://", "http://")):
        return text
    address, _, query = text.partition("?")
    parameters = [(pair.partition("=")[0].lower(), pair) for pair in query.split("&")]
    names = {name for name, _ in parameters}
    if not any(family <= names for family in _SIGNATURE_FAMILIES):
        return text
    kept = "&".join(pair for name, pair in parameters if not _signs(name))
    return f"{address}?{kept}" if kept else address


def _signs(name: str) -> bool:
    return name in _SIGNATURE_NAMES or name.startswith(_SIGNATURE_PREFIXES)


def _encode(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def _as_doubles(value: Any) -> Any:
    """Integers beyond 64 bits as the floats that they are read back as: both have one canonical form."""
    if isinstance(value, dict):
        return {key: _as_doubles(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_doubles(item) for item in value]
    if isinstance(value, int) and not _INT_MIN <= value <= _INT_MAX and abs(value) < 10**308:
        return float(value)
    return value


def _refuse_constant(name: str) -> Any:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)
