"""Pure: which file is which, which address a bundle holds for it, and what a file may be served as."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from daemon.assets.remote import pathname
from daemon.assets.store import Place
from daemon.notion.files import file_name, files_of_block, files_of_page, hosted_files, plain, relinked_block
from daemon.site.files import FileFacts, FileLinks
from daemon.site.media import disposition, elsewhere, is_passive, media_type

HOST = "https://prod-files-secure.s3.us-west-2.amazonaws.com"
SIGNED = "?X-Amz-Date=20260105T090000Z&X-Amz-Signature="
OWN = "https://sync.example.com"


def hosted(path: str, signature: str = "a", **more: Any) -> dict[str, Any]:
    """A hosted file as Notion shows it."""
    told = {"url": f"{HOST}{path}{SIGNED}{signature}", "expiry_time": "2026-01-05T10:00:00.000Z"}
    return {"type": "file", "file": told, **more}


def block(kind: str, body: dict[str, Any], block_id: str = "b1") -> dict[str, Any]:
    """A block."""
    return {"object": "block", "id": block_id, "type": kind, kind: body}


def test_a_file_is_its_place_and_its_path() -> None:
    """Signatures and hosts do not count; another path, block or property is another file."""
    first = files_of_block(block("image", hosted("/s/1/a.png", caption=[])))[0]
    again = files_of_block(block("image", hosted("/s/1/a.png", "b", caption=[])))[0]
    moved = files_of_block(block("image", {"type": "file", "file": {"url": "https://x.example/s/1/a.png"}}))[
        0
    ]
    assert first.id == again.id == moved.id and first.kind == "image"
    assert first.id != files_of_block(block("image", hosted("/s/2/a.png")))[0].id
    assert first.id != files_of_block(block("image", hosted("/s/1/a.png"), "b2"))[0].id
    assert first.expires_at == 1_767_607_200.0 and moved.expires_at is None


def test_places_of_a_page() -> None:
    """Cover, icon, files properties, files in rollups; what is external, or only named like a file, is none."""
    rollup = {
        "type": "rollup",
        "rollup": {"type": "array", "array": [{"type": "files", "files": [hosted("/r.pdf")]}]},
    }
    page = {
        "id": "p1",
        "cover": hosted("/c.png"),
        "icon": {"type": "custom_emoji", "custom_emoji": {"id": "e", "url": f"{HOST}/e.png"}},
        "properties": {
            "file": {"id": "f%3A", "type": "files", "files": [hosted("/1.pdf", name="1"), hosted("/2.pdf")]},
            "type": {"id": "t", "type": "rich_text", "rich_text": []},
            "Sum": {"id": "r", **rollup},
            "Link": {
                "id": "l",
                "type": "files",
                "files": [{"type": "external", "external": {"url": "https://x/y"}}],
            },
        },
    }
    before = copy.deepcopy(page)
    found = {(file.holder, file.kind, file.path) for file in files_of_page(page)}
    assert found == {
        ("page:p1:cover", "cover", "/c.png"),
        ("page:p1:icon", "icon", "/e.png"),
        ("page:p1:f%3A", "property", "/1.pdf"),
        ("page:p1:f%3A", "property", "/2.pdf"),
        ("page:p1:r", "property", "/r.pdf"),
    }
    assert page == before


def test_relinking_touches_nothing_else() -> None:
    """A block without files is the very same object; one with files a copy whose expiry is gone."""
    words = block("paragraph", {"rich_text": [{"type": "text", "text": {"content": "type: file"}}]})
    assert relinked_block(words, lambda _: "x") is words
    given = block("file", {"caption": [], "name": "a.zip", **hosted("/a.zip")})
    before = copy.deepcopy(given)
    shown = relinked_block(given, lambda file: f"{OWN}/assets/{file.id}")
    assert given == before and set(shown["file"]["file"]) == {"url"}
    assert shown["file"]["name"] == "a.zip" and relinked_block(given, lambda file: file.url) is given
    assert relinked_block(given, lambda _: None)["file"]["file"] == {"url": None}


def test_copies_of_synced_blocks_are_looked_into() -> None:
    """At any depth, each file once however often it stands there."""
    inner = block("image", hosted("/s/a.png"), "deep")
    tree = block("toggle", {"rich_text": []}, "t") | {"__children": [inner]}
    assert [file.holder for file in hosted_files({"id": "p"}, [tree, inner])] == ["block:deep"]


FACTS = FileFacts("ab" * 16, "block:b", "image", "/s/photo.PNG", f"{HOST}/s/photo.PNG{SIGNED}a", 1.0, 100.0)
COPIED = replace(FACTS, copied=True, settled=True, width=4, height=3)
IN_BUCKET = replace(COPIED, copy_url="https://files.example.com/x.png")
FAILING = replace(FACTS, settled=True, failing=True)
PREVIOUS = replace(IN_BUCKET, id="cd" * 16, copy_url="https://files.example.com/old.png")
ADDRESS = f"{OWN}/assets/{'ab' * 16}.png"


@pytest.mark.parametrize(
    ("file", "previous", "public_url", "shown"),
    [
        (FACTS, None, OWN, ADDRESS),
        (COPIED, None, OWN, ADDRESS),
        (IN_BUCKET, PREVIOUS, OWN, "https://files.example.com/x.png"),
        (replace(IN_BUCKET, passive=False), None, OWN, ADDRESS),
        (replace(IN_BUCKET, passive=False), None, None, "https://files.example.com/x.png"),
        (FACTS, PREVIOUS, OWN, ADDRESS),
        (FAILING, PREVIOUS, OWN, "https://files.example.com/old.png"),
        (FAILING, None, OWN, ADDRESS),
        (replace(FAILING, failing=False), PREVIOUS, OWN, ADDRESS),
        (FACTS, PREVIOUS, None, "https://files.example.com/old.png"),
        (FAILING, None, None, None),
        (replace(FACTS, expires_at=None, url=f"{HOST}/emoji.png"), None, None, f"{HOST}/emoji.png"),
    ],
)
def test_which_address_a_bundle_holds(
    file: FileFacts, previous: FileFacts | None, public_url: str | None, shown: str | None
) -> None:
    """The copy; while it fails the previous one; the daemon's; none. Never a signed one."""
    assert FileLinks("mirror", public_url).shown(file, previous).url == shown


def test_how_long_a_page_waits() -> None:
    """For new files only, ten seconds where the daemon can be reached, else a minute; of proxied ones for images."""
    mirror, alone, proxy = FileLinks("mirror", OWN), FileLinks("mirror", None), FileLinks("proxy", OWN)
    assert mirror.holds_back([COPIED, FACTS], 109.0) and not mirror.holds_back([FACTS], 110.0)
    assert alone.holds_back([FACTS], 159.0) and not alone.holds_back([FACTS], 160.0)
    assert not mirror.holds_back([COPIED, FAILING], 100.0) and not FileLinks().holds_back([FACTS], 100.0)
    assert proxy.holds_back([FACTS], 105.0) and not proxy.holds_back([replace(FACTS, kind="video")], 105.0)


@pytest.mark.parametrize(
    ("told", "name", "kind"),
    [
        ("image/png", "a", "image/png"),
        ("IMAGE/PNG; x=y", "a", "image/png"),
        ("", "a.webp", "image/webp"),
        ("binary/octet-stream", "film.mp4", "video/mp4"),
        ("application/octet-stream", "page.html", "application/octet-stream"),
        ("text/html", "a.png", "application/octet-stream"),
        ("image/svg+xml", "a.svg", "image/svg+xml"),
        ("application/xhtml+xml", "a.png", "application/octet-stream"),
        ("nonsense", "a.png", "application/octet-stream"),
    ],
)
def test_types(told: str, name: str, kind: str) -> None:
    """What the host says, if it is on the list; the name decides only where the host says nothing."""
    assert media_type(told, name) == kind
    assert elsewhere(kind) == (kind if is_passive(kind) else "application/octet-stream")


def test_names() -> None:
    """Readable names survive; nothing in them ends a header or leaves a folder."""
    assert file_name("/s/1/A%20b%C3%A9.png") == "A bé.png"
    told = disposition('../..\\x"\r\nSet-Cookie: a=b\0é.png', "image/png")
    assert (
        told.isascii()
        and told.isprintable()
        and told.startswith('inline; filename="')
        and told.count('"') == 2
    )
    assert disposition("", "text/html").startswith('attachment; filename="file"')
    assert plain("https://a.example/é?X=%2F+") == "https://a.example/%C3%A9?X=%2F+"


def test_the_layout_in_vercel_blob() -> None:
    """Blocks, covers and properties of a page, each under its digest; nothing in an id leaves the folder."""
    digest, path = "d" * 64, "/s/1/Photo.JPG"
    assert pathname(Place("p", "block:b", path), digest) == f"notion-pages/p/blocks/b-{'d' * 16}.jpg"
    assert pathname(Place("p", "page:p:cover", path), digest) == f"notion-pages/p/cover-{'d' * 16}.jpg"
    odd = pathname(Place("p", "page:p:..%2F/x", "/s/no-extension"), digest)
    assert odd == f"notion-pages/p/properties/.._252F_2Fx-{'d' * 16}"
