"""The sample studio's style guide: one page on which every type of block is found."""

from daemon.demo import blocks as b
from daemon.demo.sample_posts import IMAGES, SITE
from daemon.demo.wire import Json


def style_guide(home_page: str, posts_database: str, author: str, emoji: Json) -> list[Json]:
    """Every type of block at least once, for whoever builds the site that shows them.

    `emoji`: a custom emoji, as icons and mentions hold it.
    """
    return [
        b.paragraph("Every kind of block we use. If it looks right here, it looks right everywhere."),
        b.table_of_contents(),
        b.breadcrumb(),
        *_headings(),
        *_text(home_page, posts_database, author, emoji),
        b.divider(),
        *_lists(),
        *_media(),
        *_layout(),
        b.link_to_page(home_page),
        b.link_to_database(posts_database),
        b.block("template", {"rich_text": b.rich("Add a new proof")}, [b.to_do("Proof read by a stranger")]),
        b.unsupported("button"),
    ]


def _headings() -> list[Json]:
    return [
        b.heading(1, "Heading, first size"),
        b.heading(2, "Heading, second size"),
        b.heading(3, "Heading, third size"),
        b.heading(4, "Heading, fourth size"),
        b.heading(3, "A heading that unfolds", [b.paragraph("Found it.")]),
    ]


def _text(home_page: str, posts_database: str, author: str, emoji: Json) -> list[Json]:
    return [
        b.paragraph(
            [
                b.text("Bold", bold=True),
                b.text(", italic", italic=True),
                b.text(", struck", strikethrough=True),
                b.text(", underlined", underline=True),
                b.text(", code", code=True),
                b.text(", red", color="red"),
                b.text(", linked", link=f"{SITE}/"),
                b.text(", mentioning "),
                b.mention_page(home_page),
                b.text(", "),
                b.mention_database(posts_database),
                b.text(", "),
                b.mention_user(author),
                b.text(" on "),
                b.mention_date("2025-10-01", "2025-10-03"),
                b.text(", with "),
                {"type": "mention", "mention": emoji},
                b.text(" and "),
                b.inline_equation("e^{i\\pi} + 1 = 0"),
            ]
        ),
        b.paragraph("A paragraph with one inside", [b.paragraph("which is this one.")], color="gray"),
        b.paragraph("한국어, हिन्दी, العربية, עברית, Größe, 👩‍🎨🖨️ — all of them are text."),
        b.paragraph(),
    ]


def _lists() -> list[Json]:
    return [
        b.bulleted("One", [b.bulleted("One, inside", [b.bulleted("One, inside that")])]),
        b.numbered("First", [b.numbered("First, inside")]),
        b.to_do("Open"),
        b.to_do("Done", checked=True),
        b.toggle("Unfold me", [b.paragraph("There was nothing to see.")]),
        b.quote("Quoted"),
        b.callout("Called out", emoji="📣"),
        b.code("<p>Coded</p>", "html", caption="Captioned"),
        b.equation("a^2 + b^2 = c^2"),
    ]


def _media() -> list[Json]:
    return [
        b.image(f"{IMAGES}/specimen.png", caption="An image that lies elsewhere"),
        b.image(hosted="specimen.png", caption="An image that Notion keeps"),
        b.video(f"{SITE}/films/specimen.mp4"),
        b.audio(f"{SITE}/sounds/specimen.mp3"),
        b.file(hosted="specimen.zip"),
        b.pdf(hosted="specimen.pdf"),
        b.bookmark(f"{SITE}/links/specimen", caption="A bookmark"),
        b.embed(f"{SITE}/demos/specimen"),
        b.link_preview(f"{SITE}/code/specimen"),
    ]


def _layout() -> list[Json]:
    return [
        b.columns([b.paragraph("Left")], [b.paragraph("Right")]),
        b.columns([b.paragraph("Two thirds")], [b.paragraph("One third")], ratios=[0.67, 0.33]),
        b.table([["Head", "Head"], ["Cell", [b.text("Cell", bold=True)]]], row_header=True),
        b.block(
            "tab",
            {},
            [
                b.block(
                    "paragraph",
                    {"rich_text": b.rich("First"), "icon": b.emoji_icon("🥇")},
                    [b.paragraph("In the first tab")],
                ),
                b.paragraph("Second", [b.paragraph("In the second tab")]),
            ],
        ),
    ]
