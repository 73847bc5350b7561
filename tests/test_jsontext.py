"""JSON text, canonical form and hash: every value survives, only what people change is a change."""

import copy
import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import jsontext

SIGNED = "https://files.example/abc/photo.png?X-Amz-Date=20260105T090000Z&X-Amz-Expires=3600&X-Amz-Signature="

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def hosted(signature: str, expiry: str = "2026-01-05T10:00:00.000Z") -> dict[str, Any]:
    """A file that Notion hosts, as one read gives it."""
    return {"type": "file", "file": {"url": SIGNED + signature, "expiry_time": expiry}}


def external(url: str) -> dict[str, Any]:
    """A file that is somewhere else."""
    return {"type": "external", "external": {"url": url}}


def same(one: Any, other: Any) -> bool:
    """Whether two values have the same hash."""
    return jsontext.content_hash(one) == jsontext.content_hash(other)


@given(JSON_VALUES)
def test_any_json_value_survives_and_can_be_encoded(value: Any) -> None:
    """Whatever JSON can say comes back equal, from text that UTF-8 can encode (huge integers as numbers)."""
    text = jsontext.dumps(value)
    assert text.encode() and jsontext.loads(text) == _as_read(value)
    assert jsontext.unpack(jsontext.pack(value)) == _as_read(value)
    assert same(value, jsontext.loads(text))


def _as_read(value: Any) -> Any:
    """Integers beyond 64 bits may come back as floats, which is all that a reader in a browser sees too."""
    if isinstance(value, dict):
        return {key: _as_read(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_read(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return pytest.approx(value)
    return value


def test_a_lone_surrogate_stays_an_escape() -> None:
    """Half an emoji in a title is stored as the escape that a browser reads back as the same half."""
    text = jsontext.dumps({"title": "half \ud83d", "한": "국"})
    assert "\\ud83d" in text
    assert json.loads(text) == jsontext.loads(text) == {"title": "half \ud83d", "한": "국"}


def test_text_is_compact_and_readable() -> None:
    """No spaces between tokens, and no escapes where none are needed."""
    assert jsontext.dumps({"a": [1, None], "b": "हिन्दी"}) == '{"a":[1,null],"b":"हिन्दी"}'
    assert jsontext.loads(b'{"a": 1.5}') == {"a": 1.5}


@pytest.mark.parametrize("text", ["", "{", '{"a": NaN}', "[Infinity]", "nul"])
def test_what_is_no_json_is_refused(text: str) -> None:
    """Broken text is an error, never a guess."""
    with pytest.raises(json.JSONDecodeError):
        jsontext.loads(text)


def test_packing_makes_blocks_small() -> None:
    """Stored pages take a fraction of their text."""
    value = [{"type": "paragraph", "text": f"sentence number {number}"} for number in range(200)]
    assert len(jsontext.pack(value)) * 4 < len(jsontext.dumps(value))


def test_depth_beyond_the_fast_encoder_still_works() -> None:
    """300 levels of nesting are written, hashed and read."""
    value: list[Any] = []
    for _ in range(300):
        value = [value]
    assert jsontext.loads(jsontext.dumps(value)) == value
    assert same(value, copy.deepcopy(value))


def test_canonical_form_ignores_the_order_of_keys_only() -> None:
    """Keys in another order are the same value, items in another order are not."""
    assert jsontext.canonical({"b": 1, "a": 2}) == b'{"a":2,"b":1}'
    assert same({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1})
    assert not same([1, 2], [2, 1])
    assert jsontext.canonical({"b": "\ud800", "a": 1}) == b'{"a":1,"b":"\\ud800"}'


def test_the_hash_carries_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another canonical form means other hashes, so a new rule is never mistaken for the old one."""
    before = jsontext.content_hash([1])
    monkeypatch.setattr(jsontext, "CANONICAL_VERSION", jsontext.CANONICAL_VERSION + 1)
    assert jsontext.content_hash([1]) != before
    assert len(before) == 64


def test_a_new_signature_is_no_change() -> None:
    """Hosted files get a new address at every read: only its path is content."""
    assert same([hosted("aaa")], [hosted("bbb", "2026-01-05T11:00:00.000Z")])
    other = {"type": "file", "file": {"url": SIGNED.replace("photo", "other"), "expiry_time": "x"}}
    assert not same([hosted("aaa")], [other])


def test_the_whole_query_of_a_hosted_file_is_noise() -> None:
    """Whatever scheme of signing is used: `expiry_time` says that the address is not for keeping."""
    one = {"file": {"url": "https://files.example/a.png?token=1", "expiry_time": "1"}}
    two = {"file": {"url": "https://files.example/a.png?token=2", "expiry_time": "2"}}
    assert same(one, two)


def test_a_signed_address_outside_its_file_object_is_no_change() -> None:
    """Covers and icons in the site's own values are plain addresses: their signature is noise too."""
    assert same({"cover": SIGNED + "aaa"}, {"cover": SIGNED + "bbb"})
    assert same({"u": "https://f.example/a?id=1&Signature=x&Expires=1"}, {"u": "https://f.example/a?id=1"})
    assert not same({"u": SIGNED + "aaa&v=1"}, {"u": SIGNED + "aaa&v=2"})


def test_what_the_writer_typed_counts_whole() -> None:
    """An external address, a link and a text are content with their query, signed or not."""
    assert not same(external("https://a.example/x?v=1"), external("https://a.example/x?v=2"))
    assert not same(external(SIGNED + "aaa"), external(SIGNED + "bbb"))
    assert not same({"href": SIGNED + "aaa"}, {"href": SIGNED + "bbb"})
    assert not same(
        {"embed": {"url": "https://a.example/?signature=1"}}, {"embed": {"url": "https://a.example/"}}
    )
    assert not same({"content": "see " + SIGNED + "a"}, {"content": "see " + SIGNED + "b"})


def test_custom_emoji_count_without_their_query() -> None:
    """A custom emoji's address says nothing of expiry, and its query is Notion's."""

    def icon(url: str) -> dict[str, Any]:
        return {"type": "custom_emoji", "custom_emoji": {"id": "e", "name": "bolt", "url": url}}

    assert same(icon("https://e.example/1.png?t=1"), icon("https://e.example/1.png?t=2"))
    assert not same(icon("https://e.example/1.png"), icon("https://e.example/2.png"))


def test_request_ids_are_noise_wherever_they_stand() -> None:
    """Every answer has another request id."""
    assert same(
        {"object": "page", "request_id": "1", "x": [{"request_id": "2"}]}, {"object": "page", "x": [{}]}
    )


def test_properties_may_have_any_name() -> None:
    """A property called `request_id` or `link` is the writer's own: only signatures in it are noise."""
    assert not same({"properties": {"request_id": "1"}}, {"properties": {"request_id": "2"}})
    assert same(
        {"properties": {"link": {"files": [hosted("a")]}}}, {"properties": {"link": {"files": [hosted("b")]}}}
    )


@pytest.mark.parametrize("kind", ["child_page", "child_database"])
def test_pointers_do_not_move_with_the_other_body(kind: str) -> None:
    """An edit inside a child page is not a change of the page that points to it; a new title is."""
    pointer = {"type": kind, "id": "1", kind: {"title": "A"}, "last_edited_time": "t1", "has_children": False}
    moved = pointer | {"last_edited_time": "t2", "last_edited_by": {"id": "u"}, "has_children": True}
    assert same([pointer], [moved])
    assert not same([pointer], [moved | {kind: {"title": "B"}}])
    assert not same([pointer | {"type": "paragraph"}], [moved | {"type": "paragraph"}])


def test_stripping_touches_nothing_it_was_given() -> None:
    """The input stays as it was, and comes back itself when there is no noise in it."""
    noisy = {"request_id": "r", "a": [hosted("x")], "properties": {"f": hosted("y")}, "b": [{"c": 1}]}
    before = copy.deepcopy(noisy)
    stripped = jsontext.strip_noise(noisy)
    assert noisy == before and stripped["b"] is noisy["b"]
    assert jsontext.strip_noise(stripped) is stripped
    assert stripped["properties"] == {
        "f": {"type": "file", "file": {"url": "https://files.example/abc/photo.png"}}
    }


def test_hashing_is_cheap() -> None:
    """A page of 20 blocks takes well under a millisecond (the bound leaves room for slow machines)."""
    text = {"type": "text", "text": {"content": "words " * 20, "link": None}, "annotations": {"bold": False}}
    page = [
        {"object": "block", "type": "paragraph", "paragraph": {"rich_text": [text] * 4}} for _ in range(20)
    ]
    best = math.inf
    for _ in range(20):
        started = time.perf_counter()
        jsontext.content_hash([*page, hosted("a")])
        best = min(best, time.perf_counter() - started)
    assert best < 0.005
