"""Short ways to write blocks and rich text in Notion's form: `toggle("More", [paragraph("text")])`."""

from collections.abc import Sequence

from daemon.demo.wire import Json

RichText = str | Sequence[Json]


def text(content: str, *, link: str | None = None, color: str = "default", **marks: bool) -> Json:
    """A run of text; `marks` are bold, italic, strikethrough, underline, code."""
    return {
        "type": "text",
        "text": {"content": content, "link": {"url": link} if link else None},
        "annotations": {**marks, "color": color},
    }


def mention_page(page_id: str) -> Json:
    """A mention of a page; it reads back with that page's present title."""
    return {"type": "mention", "mention": {"type": "page", "page": {"id": page_id}}}


def mention_database(database_id: str) -> Json:
    """A mention of a database; it reads back with its present title."""
    return {"type": "mention", "mention": {"type": "database", "database": {"id": database_id}}}


def mention_user(user_id: str) -> Json:
    """A mention of a person."""
    return {"type": "mention", "mention": {"type": "user", "user": {"object": "user", "id": user_id}}}


def mention_date(start: str, end: str | None = None) -> Json:
    """A mention of a date or, with an end, of a span."""
    date = {"start": start, "end": end, "time_zone": None}
    return {"type": "mention", "mention": {"type": "date", "date": date}}


def inline_equation(expression: str) -> Json:
    """A formula within a line of text."""
    return {"type": "equation", "equation": {"expression": expression}}


def rich(content: RichText) -> list[Json]:
    """A list of rich text from a plain string or from items."""
    if isinstance(content, str):
        return [text(content)] if content else []
    return list(content)


def block(kind: str, content: Json | None = None, children: Sequence[Json] = ()) -> Json:
    """A block of any type."""
    body = dict(content or {})
    if children:
        body["children"] = list(children)
    return {"object": "block", "type": kind, kind: body}


def paragraph(content: RichText = "", children: Sequence[Json] = (), *, color: str = "default") -> Json:
    """A paragraph, empty by default."""
    return block("paragraph", {"rich_text": rich(content), "color": color}, children)


def heading(level: int, content: RichText, children: Sequence[Json] = ()) -> Json:
    """A heading of level 1 to 4; one with children is a toggle heading."""
    return block(f"heading_{level}", {"rich_text": rich(content), "is_toggleable": bool(children)}, children)


def toggle(content: RichText, children: Sequence[Json] = ()) -> Json:
    """A toggle list item: its children unfold below it."""
    return block("toggle", {"rich_text": rich(content)}, children)


def bulleted(content: RichText, children: Sequence[Json] = ()) -> Json:
    """An item of a bulleted list."""
    return block("bulleted_list_item", {"rich_text": rich(content)}, children)


def numbered(content: RichText, children: Sequence[Json] = ()) -> Json:
    """An item of a numbered list."""
    return block("numbered_list_item", {"rich_text": rich(content)}, children)


def to_do(content: RichText, children: Sequence[Json] = (), *, checked: bool = False) -> Json:
    """An item with a checkbox."""
    return block("to_do", {"rich_text": rich(content), "checked": checked}, children)


def quote(content: RichText, children: Sequence[Json] = ()) -> Json:
    """A quotation."""
    return block("quote", {"rich_text": rich(content)}, children)


def callout(
    content: RichText, children: Sequence[Json] = (), *, emoji: str = "💡", color: str = "default"
) -> Json:
    """A framed text with an emoji."""
    icon = {"type": "emoji", "emoji": emoji}
    return block("callout", {"rich_text": rich(content), "icon": icon, "color": color}, children)


def code(content: str, language: str = "plain text", *, caption: RichText = "") -> Json:
    """A piece of code; `language` in Notion's words (`"plain text"`, `"python"`)."""
    return block("code", {"rich_text": rich(content), "caption": rich(caption), "language": language})


def divider() -> Json:
    """A horizontal line."""
    return block("divider")


def breadcrumb() -> Json:
    """The path to the page."""
    return block("breadcrumb")


def table_of_contents() -> Json:
    """A list of the page's headings."""
    return block("table_of_contents")


def equation(expression: str) -> Json:
    """A formula on its own."""
    return block("equation", {"expression": expression})


def bookmark(url: str, *, caption: RichText = "") -> Json:
    """A link shown as a card."""
    return block("bookmark", {"url": url, "caption": rich(caption)})


def embed(url: str, *, caption: RichText = "") -> Json:
    """Another site's content in a frame."""
    return block("embed", {"url": url, "caption": rich(caption)})


def link_preview(url: str) -> Json:
    """A link with a preview; the API shows these but does not take them."""
    return block("link_preview", {"url": url})


def link_to_page(page_id: str) -> Json:
    """A pointer to a page."""
    return block("link_to_page", {"type": "page_id", "page_id": page_id})


def link_to_database(database_id: str) -> Json:
    """A pointer to a database."""
    return block("link_to_page", {"type": "database_id", "database_id": database_id})


def columns(*contents: Sequence[Json], ratios: Sequence[float] = ()) -> Json:
    """A column list with one column per sequence of blocks; `ratios` are their widths, all or none."""
    parts = [
        block("column", {"width_ratio": ratios[i]} if ratios else {}, part) for i, part in enumerate(contents)
    ]
    return block("column_list", {}, parts)


def table(
    rows: Sequence[Sequence[RichText]], *, column_header: bool = True, row_header: bool = False
) -> Json:
    """A simple table, one inner list a row."""
    lines = [block("table_row", {"cells": [rich(cell) for cell in row]}) for row in rows]
    width = len(rows[0]) if rows else 1
    shape = {"table_width": width, "has_column_header": column_header, "has_row_header": row_header}
    return block("table", shape, lines)


def tabs(**contents: Sequence[Json]) -> Json:
    """A tab block: one labelled tab per argument."""
    return block("tab", {}, [paragraph(label, parts) for label, parts in contents.items()])


def synced_original(children: Sequence[Json]) -> Json:
    """A synced block of which copies can be shown elsewhere."""
    return block("synced_block", {"synced_from": None}, children)


def synced_copy(original_id: str) -> Json:
    """A place that shows the children of a synced original."""
    return block("synced_block", {"synced_from": {"type": "block_id", "block_id": original_id}})


def unsupported(block_type: str = "button") -> Json:
    """A block that the API does not show, as the editor's newest inventions are not."""
    return block("unsupported", {"block_type": block_type})


def _media(kind: str, url: str | None, hosted: bool | str, caption: RichText) -> Json:
    """`url` for an external file; `hosted` True or a file name for one that Notion keeps."""
    content: Json = {"caption": rich(caption)}
    if hosted or url is None:
        name = hosted if isinstance(hosted, str) else f"{kind}.bin"
        return block(kind, {**content, "type": "file", "file": {"name": name}})
    return block(kind, {**content, "type": "external", "external": {"url": url}})


def image(url: str | None = None, *, hosted: bool | str = False, caption: RichText = "") -> Json:
    """A picture, external by `url` or kept by Notion."""
    return _media("image", url, hosted, caption)


def video(url: str | None = None, *, hosted: bool | str = False, caption: RichText = "") -> Json:
    """A film, external by `url` or kept by Notion."""
    return _media("video", url, hosted, caption)


def audio(url: str | None = None, *, hosted: bool | str = False, caption: RichText = "") -> Json:
    """A sound, external by `url` or kept by Notion."""
    return _media("audio", url, hosted, caption)


def pdf(url: str | None = None, *, hosted: bool | str = False, caption: RichText = "") -> Json:
    """A PDF, external by `url` or kept by Notion."""
    return _media("pdf", url, hosted, caption)


def file(
    url: str | None = None, *, hosted: bool | str = False, name: str = "", caption: RichText = ""
) -> Json:
    """A file to download, external by `url` or kept by Notion; named after its address by default."""
    made = _media("file", url, hosted, caption)
    made["file"]["name"] = (
        name or (url or "").rsplit("/", 1)[-1] or (hosted if isinstance(hosted, str) else "file.bin")
    )
    return made


def emoji_icon(emoji: str) -> Json:
    """An icon that is an emoji."""
    return {"type": "emoji", "emoji": emoji}


def external_file(url: str) -> Json:
    """An icon or cover that lies elsewhere."""
    return {"type": "external", "external": {"url": url}}


def hosted_file(name: str) -> Json:
    """An icon or cover that Notion keeps: it reads back with a signed URL."""
    return {"type": "file", "file": {"name": name}}
