"""The sample studio's blog: what its posts say, and what is in their columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from daemon.demo import blocks as b
from daemon.demo.wire import Json

SITE = "https://papermoon.example"
IMAGES = f"{SITE}/images"

POSTS_SCHEMA: dict[str, str | Json] = {
    "Title": "title",
    "slug": "rich_text",
    "excerpt": "rich_text",
    "tags": {"multi_select": {"options": ["studio", "type", "print", "web", "travel", "money"]}},
    "visibility": {"select": {"options": ["public", "private"]}},
    "Status": {"status": {"options": ["Draft", "In review", "Published"]}},
    "Date": "date",
    "Author": "people",
    "Attachments": "files",
    "Words": {"number": {"format": "number_with_commas"}},
    "Featured": "checkbox",
    "Source": "url",
    "Reply to": "email",
    "Call us": "phone_number",
    "Number": {"unique_id": {"prefix": "POST"}},
    "Minutes": {"formula": {"expression": 'round(prop("Words") / 220)'}},
    "Created": "created_time",
    "Created by": "created_by",
    "Edited": "last_edited_time",
    "Edited by": "last_edited_by",
}
"""The posts' columns, save the relation and the rollup, which need the database to exist."""


@dataclass(frozen=True)
class Post:
    """A post as it is written into the database; `related` names earlier ones by their `name`."""

    name: str
    title: str
    slug: str | None
    written: datetime
    edited: datetime
    excerpt: str
    tags: Sequence[str]
    body: Callable[[], list[Json]]
    icon: str | Json | None = None
    cover: str | Json | None = None
    related: Sequence[str] = ()
    words: int = 400
    columns: tuple[tuple[str, Any], ...] = ()


def utc(year: int, month: int, day: int, hour: int = 9, minute: int = 0) -> datetime:
    """A moment of the sample's history."""
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def _hello() -> list[Json]:
    return [
        b.paragraph(
            [
                b.text("This is the first post of a studio that has "),
                b.text("two desks", bold=True),
                b.text(", one kettle and a printing press that came with the house. "),
                b.text("We plan to write when we have learnt something", italic=True),
                b.text(", which rules out Mondays."),
            ]
        ),
        b.quote("Start before the shelf is straight."),
        b.paragraph("The shelf is still not straight."),
    ]


def _press() -> list[Json]:
    return [
        b.paragraph("The press weighs 900 kilograms. The stairs have eleven steps. You see the problem."),
        b.heading(2, "What we tried"),
        b.numbered("Asking four friends."),
        b.numbered("Asking four friends and promising them dinner."),
        b.numbered("A crane.", [b.bulleted("It cost less than the dinner.")]),
        b.image(f"{IMAGES}/press-in-the-air.jpg", caption="Seven minutes over the neighbour's tulips."),
        b.callout("The neighbour's tulips are fine. We brought cake anyway.", emoji="🌷"),
        b.divider(),
        b.paragraph("It has been in the cellar since, and prints everything you hold when you visit us."),
    ]


def _spring() -> list[Json]:
    return [
        b.paragraph("Short notes from a short season."),
        b.to_do("Repaint the sign", checked=True),
        b.to_do("Oil the press", checked=True),
        b.to_do("Answer the e-mail about the wedding cards"),
        b.heading(2, "Seen and liked"),
        b.bookmark(f"{SITE}/links/street-signs", caption="Street signs, sorted by mood"),
        b.paragraph("The first swallow arrived on the 9th and did not care for our new font."),
    ]


def _typography() -> list[Json]:
    return [
        b.paragraph("You do not have to love type to use it well. You have to be polite to your reader."),
        b.heading(2, "Three habits", [b.paragraph("Unfold this only if you have a minute.")]),
        b.bulleted("Fewer sizes than you think. Two is a family, five is a crowd."),
        b.bulleted([b.text("Lines of "), b.text("60 to 70", code=True), b.text(" characters.")]),
        b.bulleted("Space is cheaper than decoration."),
        b.equation(r"\text{line height} \approx 1.2 + \frac{\text{line length}}{300}"),
        b.paragraph(
            [b.text("Where "), b.inline_equation("1.2"), b.text(" is a starting point and not a law.")]
        ),
    ]


def _seoul() -> list[Json]:
    return [
        b.paragraph("하늘이 서울에서 보낸 일주일, 간판 이백 개, 그리고 국수 열네 그릇."),
        b.paragraph("Haneul spent a week in Seoul: two hundred shop signs and fourteen bowls of noodles."),
        b.columns(
            [b.image(hosted="euljiro-signs.jpg", caption="을지로, half past six")],
            [b.paragraph("Hangul sits in squares, so a sign can run down a wall without turning its head.")],
            ratios=[0.6, 0.4],
        ),
        b.video("https://videos.example/seoul-night-walk", caption="Eleven seconds of neon"),
        b.audio(hosted="market-morning.m4a", caption="광장시장, early"),
    ]


def _devanagari() -> list[Json]:
    return [
        b.paragraph("मीरा कहती है: हर अक्षर एक छत के नीचे रहता है।"),
        b.paragraph("Mira says: every letter lives under one roof. The roof is called shirorekha."),
        b.table(
            [
                ["Letter", "Sound", "Looks to us like"],
                ["न", "na", "a door handle"],
                ["म", "ma", "a chair, seen from above"],
                ["स्ते", "ste", "two people sharing an umbrella"],
            ]
        ),
        b.toggle("What we got wrong at first", [b.paragraph("We cut the roof between the letters. Twice.")]),
    ]


def _right_to_left() -> list[Json]:
    return [
        b.paragraph("تبدأ الصفحة من اليمين، ومعها كل ما كنا نعرفه عن الهوامش."),
        b.paragraph("עמוד שמתחיל מימין מבקש מהמעצב לשכוח את מה שהרגיל."),
        b.paragraph("A page that starts at the right asks its designer to unlearn the left."),
        b.code(
            ".note { padding-inline-start: 1rem; } /* not padding-left, and you are half way there */",
            "css",
            caption="The whole trick, in one line",
        ),
        b.embed(f"{SITE}/demos/mirrored-grid", caption="The same grid, both ways"),
    ]


def _umlauts() -> list[Json]:
    return [
        b.paragraph("Ä, Ö und Ü sind keine Verzierung. Wer „schon“ setzt und „schön“ meint, meint anderes."),
        b.paragraph("Two dots change the word. Ask Jürgen, who has been filed under four different letters."),
        b.quote("Fräulein, übermütig, größer: drei Wörter, sieben Gründe für gute Akzente."),
    ]


def _prices() -> list[Json]:
    return [
        b.paragraph("People ask what a website costs. The honest answer has a table in it."),
        b.table(
            [
                ["What", "Days", "From"],
                ["One page, well set", "3", "€ 2,100"],
                ["A small site", "12", "€ 8,400"],
                ["A site that teaches, sells or argues", "30", "€ 21,000"],
            ],
            row_header=True,
        ),
        b.paragraph("Printing is extra, because paper is."),
        b.file(hosted="price-list.xlsx", caption="The same, with small print"),
        b.pdf(f"{SITE}/files/terms.pdf", caption="Our terms, two pages"),
    ]


def _small_websites() -> list[Json]:
    return [
        b.paragraph("Nine launches, one relaunch, and a page that consists of a phone number."),
        b.heading(2, "What they have in common"),
        b.bulleted(
            "Words first, in one place.", [b.bulleted("That place is the editor you are looking at.")]
        ),
        b.bulleted("Pages that are ready before anybody asks for them."),
        b.bulleted("Nobody has to press a button called “deploy”."),
        b.link_preview(f"{SITE}/code/small-websites"),
    ]


def _ink() -> list[Json]:
    return [
        b.paragraph("Grey is not a colour, it is a negotiation."),
        b.numbered("Start from white, never from black."),
        b.numbered("A touch of blue for paper that is warm."),
        b.numbered("A touch of red for days that are not."),
        b.code('mix = {"white": 12, "blue": 1, "umber": 0.5}\nprint(sum(mix.values()), "spoons")', "python"),
        b.image(hosted="grey-wedges.png", caption="Nineteen greys; we use three"),
    ]


def _winter() -> list[Json]:
    return [
        b.paragraph("Two evenings, ten people, one press. You go home with a card and black thumbs."),
        b.callout("Not announced yet: please do not share this page.", emoji="🤫", color="yellow_background"),
        b.to_do("Confirm the caterer"),
        b.to_do("Find ten aprons"),
    ]


POSTS: tuple[Post, ...] = (
    Post(
        "hello", "Hello, moon 🌙", "hello-moon", utc(2024, 3, 4), utc(2024, 3, 4, 10, 12),
        "A studio opens, the kettle is on.", ["studio"], _hello,
        icon="🌙", cover=f"{IMAGES}/covers/hello-moon.jpg", words=180,
    ),
    Post(
        "press", "The press in the cellar", "the-press-in-the-cellar",
        utc(2024, 4, 22), utc(2024, 4, 24, 16, 40),
        "Nine hundred kilograms, eleven steps, one crane.", ["studio", "print"], _press,
        icon="⚙️", cover=f"{IMAGES}/covers/press.jpg", related=["hello"], words=650,
        columns=(("Featured", True), ("Call us", "+49 30 5550 1900")),
    ),
    Post(
        "typography", "Typography for shy people", "typography-for-shy-people",
        utc(2024, 7, 1), utc(2025, 2, 3, 11, 5),
        "Three habits that make any page kinder.", ["type"], _typography,
        icon="🔤", cover={"type": "file", "file": {"name": "typography.jpg"}}, related=["press"], words=900,
        columns=(("Source", f"{SITE}/talks/shy-type"), ("Reply to", "type@papermoon.example")),
    ),
    Post(
        "umlauts", "Über Umlaute", "ueber-umlaute", utc(2024, 9, 16), utc(2024, 9, 17, 8, 30),
        "Zwei Punkte, die den Unterschied machen.", ["type"], _umlauts,
        icon="🇩🇪", related=["typography"], words=320,
    ),
    Post(
        "seoul", "서울 스케치북: a week of signs", "seoul-sketchbook", utc(2024, 11, 11), utc(2024, 11, 20, 13, 0),
        "간판과 국수의 일주일. A week of neon, noodles and squares.", ["type", "travel"], _seoul,
        icon="🏮", cover=f"{IMAGES}/covers/seoul.jpg", related=["typography", "umlauts"], words=740,
        columns=(("Attachments", [{"name": "signs.zip", "hosted": True}]), ("Featured", True)),
    ),
    Post(
        "devanagari", "नमस्ते: learning Devanagari, slowly", None, utc(2025, 1, 20), utc(2025, 1, 27, 9, 45),
        "Every letter lives under one roof.", ["type", "travel"], _devanagari,
        icon="🪔", cover=f"{IMAGES}/covers/devanagari.jpg", related=["seoul", "typography"], words=810,
    ),
    Post(
        "right-to-left", "من اليمين إلى اليسار: designing from right to left", "right-to-left",
        utc(2025, 3, 3), utc(2025, 3, 3, 18, 20),
        "What a mirrored page taught us about margins. עברית inclusive.", ["type", "web"], _right_to_left,
        icon="🪞", related=["devanagari"], words=560,
        columns=(("Attachments", [{"name": "Slides", "url": f"{SITE}/files/rtl.pdf"}]),),
    ),
    Post(
        "spring", "Spring notes", "spring-notes", utc(2025, 4, 14), utc(2025, 4, 28, 15, 10),
        "Short notes from a short season.", ["studio"], _spring,
        icon="🌱", cover={"type": "file", "file": {"name": "spring.jpg"}}, related=["hello"], words=240,
    ),
    Post(
        "prices", "What we charge, and why", "what-we-charge", utc(2025, 6, 2), utc(2025, 8, 19, 12, 0),
        "The honest answer has a table in it.", ["money", "studio"], _prices,
        icon={"type": "icon", "icon": {"name": "receipt", "color": "green"}}, words=1_150,
        related=["press", "typography"], columns=(("Reply to", "hello@papermoon.example"),),
    ),
    Post(
        "small-websites", "A year of small websites", "a-year-of-small-websites",
        utc(2025, 9, 8), utc(2025, 9, 30, 10, 25),
        "Nine launches, one relaunch, one phone number.", ["web", "studio"], _small_websites,
        icon="🕸️", cover=f"{IMAGES}/covers/small-websites.jpg", related=["prices", "right-to-left"], words=980,
        columns=(("Featured", True), ("Source", f"{SITE}/work")),
    ),
    Post(
        "ink", "Ink, or how to mix a grey", "how-to-mix-a-grey", utc(2025, 11, 3), utc(2025, 11, 17, 17, 35),
        "Grey is not a colour, it is a negotiation.", ["print"], _ink,
        icon="🎨", cover=f"{IMAGES}/covers/ink.jpg", related=["press"], words=520,
    ),
    Post(
        "winter", "Winter workshop ❄️ (draft)", "winter-workshop", utc(2025, 12, 1), utc(2025, 12, 12, 16, 55),
        "Two evenings, ten people, one press.", ["studio", "print"], _winter,
        icon="❄️", words=150, columns=(("visibility", "private"), ("Status", "Draft")),
    ),
)  # fmt: skip
"""In the order in which they were written."""
