"""The sample site: the workspace of a small studio, with a history, in which a newcomer can look around."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from daemon.demo import blocks as b
from daemon.demo.files import PUBLIC_URL
from daemon.demo.sample_guide import style_guide
from daemon.demo.sample_pages import (
    COURSE,
    PAGES,
    PAGES_SCHEMA,
    Lesson,
    SitePage,
    holiday_hours,
    opening_hours,
)
from daemon.demo.sample_posts import POSTS, POSTS_SCHEMA, Post, utc
from daemon.demo.sample_rows import JOBS, PROJECTS, ROW_SCHEMA, TEAM, Row
from daemon.demo.wire import Json
from daemon.demo.workspace import Workspace


class Table(NamedTuple):
    """A database with its only data source."""

    database: str
    data_source: str


@dataclass(frozen=True)
class Sample:
    """Where things are in the sample site. All values are ids."""

    root: str
    """The top page, which holds the pages database."""
    pages_database: str
    pages_data_source: str
    posts_database: str
    """It lies on the home page, where it is shown."""
    posts_data_source: str
    pages: Mapping[str, str]
    """By the builder's names: `home`, `about`, `services`, `work`, `contact`, `course`, `jobs`, `clients`,
    `imprint`, `style_guide`, and below the course `week_one`, `lesson`, `exercise`, `week_two`, `make_ready`,
    `week_three`."""
    posts: Mapping[str, str]
    """`hello`, `press`, `typography`, `umlauts`, `seoul`, `devanagari`, `right-to-left`, `spring`, `prices`,
    `small-websites`, `ink`, `winter`."""
    team: Table
    jobs: Table
    projects: Table
    linked_database: str
    """A linked view, which the API does not serve."""
    synced_original: str
    """On the contact page."""
    synced_pages: tuple[str, ...]
    """The other pages that show it."""
    unshared_page: str
    """Not shared with the integration; the contact page shows a synced block of it."""


def build(workspace: Workspace) -> Sample:
    """Fill an empty workspace with the sample site. The same seed makes the same site.

    Everything in it was written between 2024 and the end of 2025, so that nothing in it is news.
    """
    return _Builder(workspace).build()


class _Builder:
    """Writes the site in the order in which it came about."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._pages: dict[str, str] = {}
        self._posts: dict[str, str] = {}
        self._authors = [
            workspace.add_person("Jürgen Köster", "juergen@papermoon.example"),
            workspace.add_person("김하늘", "haneul@papermoon.example"),
            workspace.add_person("मीरा शर्मा", "mira@papermoon.example"),
        ]

    def build(self) -> Sample:
        handbook, holidays = self._make_handbook()
        root, pages = self._make_root()
        for page in PAGES:
            self._add_page(page, pages.data_source)
        hours = self._complete_contact(holidays)
        posts = self._complete_home(hours)
        team = self._complete_about(hours)
        projects, linked = self._complete_work()
        jobs = self._table("jobs", "Open positions", JOBS)
        self._add_lessons(self._pages["course"], COURSE)
        self._add_posts(posts.data_source, hours)
        self._add_style_guide(pages.data_source, posts.database)
        return Sample(
            root=root,
            pages_database=pages.database,
            pages_data_source=pages.data_source,
            posts_database=posts.database,
            posts_data_source=posts.data_source,
            pages=MappingProxyType(self._pages),
            posts=MappingProxyType(self._posts),
            team=team,
            jobs=jobs,
            projects=projects,
            linked_database=linked,
            synced_original=hours,
            synced_pages=(self._pages["home"], self._pages["about"], self._posts["winter"]),
            unshared_page=handbook,
        )

    # What everything else lies in

    def _make_handbook(self) -> tuple[str, str]:
        """The page that is not shared, and the synced block on it."""
        with self._workspace.at(utc(2024, 2, 9)):
            handbook = self._workspace.create_page(None, "Studio handbook (not shared)", icon="📕")
            hours = self._workspace.append_blocks(handbook, [b.synced_original(holiday_hours())])
            self._workspace.unshare(handbook)
        return handbook, hours[0]

    def _make_root(self) -> tuple[str, Table]:
        words = [b.paragraph("Everything on our website is written below. Please do not tidy up.")]
        with self._workspace.at(utc(2024, 2, 12, 8)):
            root = self._workspace.create_page(None, "Papermoon website", blocks=words, icon="🌙")
            return root, Table(*self._workspace.create_database(root, "Pages", PAGES_SCHEMA, inline=False))

    # Pages

    def _add_page(self, page: SitePage, source: str) -> None:
        cells = {
            "excerpt": page.excerpt,
            "tags": list(page.tags),
            "visibility": "public",
            **dict(page.columns),
        }
        if page.slug is not None:
            cells["slug"] = page.slug
        cells["Owner"] = [self._authors[len(self._pages) % len(self._authors)]]
        self._pages[page.name] = self._workspace.add_row(
            source,
            page.title,
            cells,
            blocks=page.body(),
            icon=page.icon,
            cover=page.cover,
            created_time=page.created,
        )

    def _complete_contact(self, holidays: str) -> str:
        """The synced opening hours that other pages show."""
        contact = self._pages["contact"]
        with self._workspace.at(utc(2024, 2, 16)):
            made = self._workspace.append_blocks(
                contact, [b.heading(2, "Opening hours"), b.synced_original(opening_hours())]
            )
            self._workspace.append_blocks(contact, [b.synced_copy(holidays)])
        return made[1]

    def _complete_home(self, hours: str) -> Table:
        """The blog, inline, and the opening hours below it."""
        home = self._pages["home"]
        with self._workspace.at(utc(2024, 3, 1)):
            posts = Table(*self._workspace.create_database(home, "Blog", POSTS_SCHEMA))
            self._workspace.set_icon(posts.database, "📰")
            self._add_references(posts.data_source)
        with self._workspace.at(utc(2024, 3, 2)):
            self._workspace.append_blocks(home, [b.divider(), b.synced_copy(hours)])
        return posts

    def _add_references(self, source: str) -> None:
        """The columns that lead to other posts."""
        related = self._workspace.add_property(source, "Related", {"relation": {"data_source_id": source}})
        count = {
            "relation_property_name": "Related",
            "relation_property_id": related,
            "rollup_property_name": "Title",
            "rollup_property_id": "title",
            "function": "count",
        }
        self._workspace.add_property(source, "Related posts", {"rollup": count})

    def _complete_about(self, hours: str) -> Table:
        team = self._table("about", "Team", TEAM)
        with self._workspace.at(utc(2024, 6, 4)):
            self._workspace.append_blocks(
                self._pages["about"], [b.heading(2, "Come by"), b.synced_copy(hours)]
            )
        return team

    def _complete_work(self) -> tuple[Table, str]:
        projects = self._table("work", "Projects", PROJECTS)
        with self._workspace.at(utc(2024, 6, 10)):
            linked = self._workspace.create_linked_database(
                self._pages["work"], "Posts about our work (view)"
            )
        return projects, linked

    def _table(self, page: str, title: str, rows: Sequence[Row]) -> Table:
        """A database inside a page, with its rows."""
        opened = utc(2025, 3, 18) if page == "jobs" else utc(2024, 5, 13)
        with self._workspace.at(opened):
            made = Table(*self._workspace.create_database(self._pages[page], title, ROW_SCHEMA))
            for row in rows:
                cells: dict[str, Any] = {"excerpt": row.excerpt, "tags": list(row.tags)}
                if row.slug is not None:
                    cells["slug"] = row.slug
                self._workspace.add_row(
                    made.data_source, row.title, cells, blocks=row.body, cover=row.cover, icon=row.icon
                )
        return made

    def _add_lessons(self, parent: str, lessons: Sequence[Lesson]) -> None:
        with self._workspace.at(utc(2025, 2, 11)):
            for lesson in lessons:
                place = self._holder(parent, lesson.inside)
                page = self._workspace.create_page(
                    place, lesson.title, blocks=lesson.body(), icon=lesson.icon
                )
                self._pages[lesson.name] = page
                self._add_lessons(page, lesson.lessons)

    def _holder(self, parent: str, inside: Json | None) -> str:
        """What a page is put into: its parent, or a block that is made there for it."""
        if inside is None:
            return parent
        (made,) = self._workspace.append_blocks(parent, [inside])
        return self._workspace.children(made)[-1] if inside["type"] == "column_list" else made

    def _add_style_guide(self, source: str, posts: str) -> None:
        author = self._authors[0]
        image = f"{PUBLIC_URL}/papermoon/papermoon.png"
        drawn = {"id": self._workspace.ids.random(), "name": "papermoon", "url": image}
        emoji = {"type": "custom_emoji", "custom_emoji": drawn}
        self._pages["style_guide"] = self._workspace.add_row(
            source,
            "Style guide: every block we use",
            {
                "slug": "style-guide",
                "excerpt": "If it looks right here, it looks right.",
                "tags": ["internal"],
            },
            blocks=style_guide(self._pages["home"], posts, author, emoji),
            icon=emoji,
            created_time=utc(2025, 10, 6),
            last_edited_time=utc(2025, 10, 9, 14, 25),
        )

    # Posts

    def _add_posts(self, source: str, hours: str) -> None:
        for post in POSTS:
            author = self._authors[len(self._posts) % len(self._authors)]
            with self._workspace.edited_by(author):
                self._posts[post.name] = self._workspace.add_row(
                    source,
                    post.title,
                    self._cells(post, author),
                    blocks=post.body(),
                    icon=post.icon,
                    cover=post.cover,
                    created_time=post.written,
                    last_edited_time=post.edited,
                )
        with self._workspace.at(POSTS[-1].edited):
            self._workspace.append_blocks(self._posts["winter"], [b.synced_copy(hours)])

    def _cells(self, post: Post, author: str) -> dict[str, Any]:
        related = [self._posts[name] for name in post.related]
        slug = {} if post.slug is None else {"slug": post.slug}
        return {
            **slug,
            "excerpt": post.excerpt,
            "tags": list(post.tags),
            "visibility": "public",
            "Status": "Published",
            "Date": post.written.date().isoformat(),
            "Author": [author],
            "Words": post.words,
            "Minutes": round(post.words / 220),
            "Related": related,
            "Related posts": len(related),
            **dict(post.columns),
        }
