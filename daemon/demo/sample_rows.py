"""The rows of the databases inside the sample studio's pages: its team, its open jobs, its projects."""

from dataclasses import dataclass

from daemon.demo import blocks as b
from daemon.demo.sample_posts import IMAGES
from daemon.demo.wire import Json

ROW_SCHEMA: dict[str, str | Json] = {
    "Name": "title",
    "slug": "rich_text",
    "excerpt": "rich_text",
    "tags": "multi_select",
}
"""The columns of the databases inside pages."""


@dataclass(frozen=True)
class Row:
    """A row of a database inside a page."""

    title: str
    slug: str | None
    excerpt: str
    tags: tuple[str, ...]
    body: tuple[Json, ...]
    cover: str | Json | None = None
    icon: str | None = None


TEAM: tuple[Row, ...] = (
    Row(
        "Jürgen Köster", "juergen", "Sets type, files himself under K.", ("type",),
        (b.paragraph("Jürgen talks to the press. It listens."),), cover=f"{IMAGES}/team/juergen.jpg", icon="🧔",
    ),
    Row(
        "김하늘 (Haneul Kim)", "haneul", "Draws letters, eats noodles.", ("type", "web"),
        (b.paragraph("하늘은 하늘을 그립니다."),), cover=f"{IMAGES}/team/haneul.jpg", icon="🍜",
    ),
    Row(
        "मीरा शर्मा (Mira Sharma)", "mira", "Writes code that prints well.", ("web",),
        (b.paragraph("Mira has never met a margin she could not name."),), cover=f"{IMAGES}/team/mira.jpg",
    ),
    Row(
        "יעל בן־דוד (Yael Ben-David)", "yael", "Keeps the books, reads all of them.", ("money",),
        (b.paragraph("If you got your invoice in verse, that was Yael."),),
    ),
)  # fmt: skip
JOBS: tuple[Row, ...] = (
    Row(
        "Press operator (part-time)", "press-operator", "Strong arms, gentle hands.", ("print",),
        (b.paragraph("You oil, it prints, you are both happy."), b.bulleted("20 hours a week")),
    ),
    Row(
        "Designer who writes", "designer", "Or a writer who draws. We are not strict.", ("web",),
        (b.paragraph("Send us a page you are proud of, and one you are not."),),
    ),
    Row(
        "Apprenticeship", "/apprenticeship", "Three years, all the letters.", ("print",),
        (b.paragraph("Starts every September."),), icon="🎓",
    ),
)  # fmt: skip
PROJECTS: tuple[Row, ...] = (
    Row(
        "Café Sunrise", "work/cafe-sunrise", "A menu that fits on one card, and a site that fits it.", ("web",),
        (b.paragraph("Opens at six. So did we, for the photos."), b.image(f"{IMAGES}/projects/sunrise-1.jpg")),
        cover=f"{IMAGES}/projects/sunrise.jpg", icon="☕",
    ),
    Row(
        "Harbour Museum", "work/harbour-museum", "Four languages, one grid.", ("web", "print"),
        (b.paragraph("Signs for people who arrive by boat."),), cover=f"{IMAGES}/projects/harbour.jpg", icon="⚓",
    ),
    Row(
        "Press and awards", "/press", "What others wrote. The kind half.", ("studio",),
        (b.paragraph("“Surprisingly legible.” — a newspaper"),), cover=f"{IMAGES}/projects/press.jpg",
    ),
    Row(
        "Wedding cards for M & T", None, "Forty guests, four hundred words.", ("print",),
        (b.paragraph("They are still married. We checked."),),
    ),
)  # fmt: skip
