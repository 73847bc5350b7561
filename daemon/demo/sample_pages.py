"""The sample studio's pages: what stands in them, apart from the pages and databases inside them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from daemon.demo import blocks as b
from daemon.demo.sample_posts import IMAGES, SITE, utc
from daemon.demo.wire import Json

PAGES_SCHEMA: dict[str, str | Json] = {
    "Name": "title",
    "slug": "rich_text",
    "excerpt": "rich_text",
    "tags": {"multi_select": {"options": ["main", "clients", "course", "internal"]}},
    "visibility": {"select": {"options": ["public", "private"]}},
    "password": "rich_text",
    "fullWidth": "checkbox",
    "Order": "number",
    "Owner": "people",
    "Preview image": "files",
    "Edited": "last_edited_time",
}


@dataclass(frozen=True)
class SitePage:
    """A row of the pages database; `name` is what the builder calls it."""

    name: str
    title: str
    slug: str | None
    created: datetime
    excerpt: str
    tags: tuple[str, ...]
    body: Callable[[], list[Json]]
    icon: str | Json | None = None
    cover: str | Json | None = None
    columns: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Lesson:
    """A page below the course; `inside` is the block that is made to hold it (columns: the last one does)."""

    name: str
    title: str
    icon: str
    body: Callable[[], list[Json]]
    inside: Json | None = None
    lessons: tuple["Lesson", ...] = ()


def opening_hours() -> list[Json]:
    """The children of the synced block that several pages show."""
    return [
        b.paragraph([b.text("Open ", bold=True), b.text("Tuesday to Friday, 10 to 18")]),
        b.paragraph("Mondays are for the press. It does not take calls."),
    ]


def holiday_hours() -> list[Json]:
    """The children of a synced block on a page that is not shared with the integration."""
    return [b.paragraph("Closed from Christmas until the first working Tuesday in January.")]


def _home() -> list[Json]:
    return [
        b.heading(1, "We set words in type, on paper and on screens."),
        b.paragraph(
            [
                b.text("Papermoon is a small studio in Berlin with "),
                b.text("a printing press in the cellar", bold=True, color="orange"),
                b.text(". We make "),
                b.text("websites that last", link=f"{SITE}/work"),
                b.text(", and cards, posters and the occasional book."),
            ]
        ),
        b.image(f"{IMAGES}/studio.jpg", caption="The studio, on one of its tidy days"),
        b.columns(
            [b.heading(3, "On screens"), b.paragraph("Small sites, written before they are drawn.")],
            [b.heading(3, "On paper"), b.paragraph("Letterpress, 500 sheets an hour, no two alike.")],
            [b.heading(3, "In class"), b.paragraph("A course for people who have never touched a letter.")],
        ),
        b.divider(),
        b.heading(2, "From the blog"),
    ]


def _about() -> list[Json]:
    return [
        b.table_of_contents(),
        b.heading(2, "How it began"),
        b.paragraph("With a house, a cellar, and a sentence in the contract: “including press”."),
        b.heading(2, "What we believe"),
        b.quote(
            "A page is finished when there is nothing left to explain.",
            [b.paragraph("— the note above the kettle")],
        ),
        b.toggle(
            "Our longest argument",
            [
                b.paragraph("One space after a full stop. It took a year."),
                b.toggle("The other side", [b.paragraph("Two. (This toggle is kept for fairness.)")]),
            ],
        ),
        b.heading(2, "The team"),
    ]


def _services() -> list[Json]:
    return [
        b.paragraph("Three things, done slowly enough to be done once."),
        b.tabs(
            Websites=[
                b.paragraph("From the first sentence to the last redirect."),
                b.bulleted("€ 2,100 and up"),
            ],
            Print=[b.paragraph("Cards, posters, small books."), b.bulleted("from 50 sheets")],
            Courses=[b.paragraph("Evenings and weekends, ten people at most.")],
        ),
        b.heading(
            2,
            "What happens when",
            [b.numbered("We listen."), b.numbered("We write."), b.numbered("We draw.")],
        ),
        b.table(
            [
                ["Paper", "Weight", "Good for"],
                ["Cotton", "600 g", "cards that should be kept"],
                ["Recycled grey", "300 g", "posters, envelopes"],
                ["Newsprint", "52 g", "trying things"],
            ]
        ),
        b.callout(
            [
                b.text("Not sure? "),
                b.text("Write to us", link="mailto:hello@papermoon.example"),
                b.text(" anyway."),
            ],
            [b.paragraph("We answer within two days, or say why not.")],
            emoji="✉️",
            color="blue_background",
        ),
    ]


def _work() -> list[Json]:
    return [
        b.paragraph("A few things we are still proud of."),
        b.embed(f"{SITE}/demos/press-counter", caption="Sheets printed so far"),
    ]


def _contact() -> list[Json]:
    return [
        b.paragraph(
            "Ring the upper bell. The lower one is the neighbour's, and he has tulips to look after."
        ),
        b.bulleted("hello@papermoon.example"),
        b.bulleted("+49 30 5550 1900"),
    ]


def _jobs() -> list[Json]:
    return [b.paragraph("We grow like moss: slowly, and where it is nice.")]


def _clients() -> list[Json]:
    return [
        b.paragraph("Drafts, invoices and the good biscuits."),
        b.file(f"{SITE}/files/style-sheet.pdf", name="Style sheet.pdf", caption="How to mark up a proof"),
        b.to_do("Send the second proof"),
        b.to_do("Approve the first proof", [b.paragraph("By e-mail is fine.")], checked=True),
    ]


def _imprint() -> list[Json]:
    return [
        b.heading(2, "Angaben gemäß § 5 DDG"),
        b.paragraph("Papermoon Studio GbR, Köster & Müller-Öztürk, Größenwahnstraße 7, 10999 Berlin"),
        b.paragraph("Umsatzsteuer-ID: DE 000 000 000 (dies ist ein Beispiel)"),
    ]


def _course() -> list[Json]:
    return [
        b.callout("Three weeks, six evenings. Bring an apron, we have the rest.", emoji="🧤"),
        b.breadcrumb(),
        b.heading(2, "The weeks"),
    ]


def _week_one() -> list[Json]:
    return [
        b.paragraph("Letters are heavier than they look, and stand on their heads."),
        b.to_do("Find the lower case (it is the lower case)"),
        b.to_do("Find the e. There are never enough."),
    ]


def _lesson() -> list[Json]:
    return [
        b.paragraph(
            "Hold it in the left hand, thumb on the last letter. Left-handers: same, with complaints."
        ),
        b.video(f"{SITE}/films/composing-stick.mp4", caption="Forty seconds, no talking"),
        b.equation(r"12\,\text{pt} = 1\,\text{pica} \approx 4.217\,\text{mm}"),
    ]


def _exercise() -> list[Json]:
    return [
        b.numbered("Set your name in 24 point."),
        b.numbered("Set it again, without the typo."),
        b.paragraph("Compare the two. Keep the first one."),
    ]


def _week_two() -> list[Json]:
    return [
        b.paragraph("Ink is a liquid that would like to be everywhere."),
        b.toggle("If it is on your sleeve already", [b.paragraph("Cold water, patience, a darker shirt.")]),
    ]


def _week_three() -> list[Json]:
    return [b.paragraph("Fifty sheets each. The first ten are for learning, the last ten for giving away.")]


def _make_ready() -> list[Json]:
    return [
        b.paragraph("Where the print is faint, add tissue paper under the sheet. Repeat until happy."),
        b.audio(f"{SITE}/sounds/press-running.mp3", caption="This is what evenly sounds like"),
    ]


PAGES: tuple[SitePage, ...] = (
    SitePage(
        "contact", "Contact", "contact", utc(2024, 2, 12), "Ring the upper bell.", ("main",), _contact,
        icon="☎️", columns=(("Order", 6),),
    ),
    SitePage(
        "home", "Papermoon Studio 🌙", "/", utc(2024, 2, 13), "Words in type, on paper and on screens.", ("main",),
        _home, icon="🌙", cover=f"{IMAGES}/covers/home.jpg", columns=(("fullWidth", True), ("Order", 1)),
    ),
    SitePage(
        "about", "About us", "about", utc(2024, 2, 14), "A house, a cellar, a sentence in a contract.",
        ("main",), _about, icon="👋", cover={"type": "file", "file": {"name": "team.jpg"}},
        columns=(("Order", 2),),
    ),
    SitePage(
        "services", "Services & prices", "services", utc(2024, 2, 20), "Three things, done slowly.", ("main",),
        _services, icon={"type": "icon", "icon": {"name": "gear", "color": "gray"}},
        columns=(("Order", 3), ("Preview image", [{"name": "services.png", "url": f"{IMAGES}/services.png"}])),
    ),
    SitePage(
        "work", "Our work", "work", utc(2024, 5, 6), "A few things we are still proud of.", ("main",), _work,
        icon={"type": "external", "external": {"url": f"{IMAGES}/icons/work.svg"}}, columns=(("Order", 4),),
    ),
    SitePage(
        "course", "Letterpress for beginners", "course", utc(2025, 2, 10), "Three weeks, six evenings.",
        ("main", "course"), _course, icon="🧑‍🎓", cover=f"{IMAGES}/covers/course.jpg", columns=(("Order", 5),),
    ),
    SitePage(
        "jobs", "Working here", "jobs", utc(2025, 3, 17), "We grow like moss.", ("main",), _jobs, icon="🌿",
    ),
    SitePage(
        "clients", "For clients", "clients/lounge", utc(2025, 5, 5), "Drafts, invoices, biscuits.",
        ("clients",), _clients, icon="🍪", columns=(("visibility", "private"), ("password", "tulips-1907")),
    ),
    SitePage(
        "imprint", "Impressum und Anschrift, größtenteils", None, utc(2024, 2, 15), "Wer wir sind, amtlich.",
        ("internal",), _imprint,
    ),
)  # fmt: skip
"""In the order in which they are made: what is shown elsewhere first."""

COURSE: tuple[Lesson, ...] = (
    Lesson(
        "week_one", "Week 1: Setting type", "🔡", _week_one, b.toggle("The first week", [b.paragraph("Small steps.")]),
        (
            Lesson(
                "lesson", "The composing stick", "🥢", _lesson,
                b.columns([b.paragraph("Read this twice, then put it away:")], [b.paragraph("The lesson")]),
                (Lesson("exercise", "Exercise: your name in 24 point", "✍️", _exercise),),
            ),
        ),
    ),
    Lesson(
        "week_two", "Week 2: Ink and paper", "🫗", _week_two,
        lessons=(Lesson("make_ready", "Make-ready, or the art of adding tissue", "🧻", _make_ready),),
    ),
    Lesson(
        "week_three", "Week 3: Printing day 🎉", "🖨️", _week_three,
        b.columns([b.paragraph("The day we make noise:")], [b.paragraph("All of it")], ratios=[0.4, 0.6]),
    ),
)  # fmt: skip
"""The course: its pages three levels deep, one in a toggle, two in columns."""
