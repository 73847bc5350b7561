"""Somebody at work in the sample site: one believable edit after the other, for as long as one likes to watch."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random

from daemon.clock import Clock
from daemon.demo import blocks as b
from daemon.demo.sample import Sample
from daemon.demo.sample_posts import POSTS
from daemon.demo.wire import Json, decode
from daemon.demo.workspace import Workspace

Edit = Callable[[], str]

AT_ONCE_SECONDS = 2.0
"""How soon the second of two quick edits follows."""
MOST_LINES = 4
"""So many added lines stay; older ones are taken out again."""
MOST_MADE = 3
"""So many posts, and rows, are added in all; then they come and go."""

_LINES = (
    "Corrected on a train, with a borrowed pencil.",
    "Jürgen disagrees, and has put it in writing.",
    "하늘 drew this again, larger.",
    "मीरा found a shorter word.",
    "Paper arrived. It was the wrong grey, which is now the right grey.",
    "The kettle has been replaced; the tea has not improved.",
    "Nobody noticed the typo, so we left it in. Then somebody noticed.",
    "Tested on three phones and one grandmother.",
)
_NEW_POSTS = (
    ("Notes from the composing room", "Small things, set in small type.", "print"),
    ("Seven ways to fold a poster", "Two of them on purpose.", "print"),
    ("오늘의 글자: letter of the day", "One letter, looked at for a while.", "type"),
)
_NEW_ROWS = (
    ("Bookbinder (one day a week)", "bookbinder", "Glue, thread, patience."),
    ("Summer intern", "summer-intern", "You make the coffee once. We make it the other days."),
    ("Keeper of the tulips", "/tulips", "The neighbour insists."),
)
_ICONS = ("🌗", "🌕", "🌓", "🌑")
_TAGS = ("studio", "type", "print", "web", "travel")
_OPEN = ("Tuesday to Friday, 10 to 18", "Tuesday to Saturday, 10 to 17")


class Editor:
    """Edits a freshly built sample site through its workspace.

    The first edits tell a story: each is of a kind that is easily missed. After it they vary for ever, and
    what they add they also take away. The same seed makes the same edits.
    """

    def __init__(self, workspace: Workspace, sample: Sample, clock: Clock, seed: int = 0) -> None:
        self._workspace = workspace
        self._sample = sample
        self._clock = clock
        self._random = Random(seed)
        self._story: list[Edit] = [
            self._rewrite_sentence,
            self._edit_deep_page,
            self._edit_deep_page_again,
            self._write_post,
            self._add_row,
            self._change_opening_hours,
            self._rename_week,
            self._change_tags,
            self._trash_post,
            self._rename_spring,
            self._tick,
            self._change_icon,
            self._restore_post,
        ]
        self._variations: list[Edit] = [
            self._add_line,
            self._tick,
            self._rename_post,
            self._change_tags,
            self._change_icon,
            self._move_lesson,
            self._rename_week,
            self._change_opening_hours,
            self._edit_deep_page,
            self._come_and_go_post,
            self._come_and_go_row,
        ]
        self._steps = 0
        self._last: Edit | None = None
        self._lines: list[str] = []
        self._tags = {sample.posts[post.name]: sorted(post.tags) for post in POSTS}
        self._moons = 0
        self._weeks = 0
        self._new_posts: list[str] = []
        self._new_rows: list[str] = []

    def step(self) -> str:
        """Make one edit; says in a sentence what was done, and where."""
        if self._steps < len(self._story):
            edit = self._story[self._steps]
        else:
            edit = self._random.choice([e for e in self._variations if e != self._last])
        self._last = edit
        self._steps += 1
        return edit()

    async def run(self, interval_seconds: float, said: Callable[[str], None], stop: asyncio.Event) -> None:
        """Edit every so many seconds until `stop` is set; `said` is told of each edit when it is made."""
        while not stop.is_set():
            said(self.step())
            at_once = self._story[self._steps : self._steps + 1] == [self._edit_deep_page_again]
            pause_seconds = min(interval_seconds, AT_ONCE_SECONDS) if at_once else interval_seconds
            await self._pause(pause_seconds, stop)

    async def _pause(self, seconds: float, stop: asyncio.Event) -> None:
        waiting = {
            asyncio.ensure_future(self._clock.sleep_until(self._clock.monotonic() + seconds)),
            asyncio.ensure_future(stop.wait()),
        }
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    # The story

    def _rewrite_sentence(self) -> str:
        post = self._sample.posts["ink"]
        first = self._workspace.children(post)[0]
        self._workspace.update_text(
            first, "Grey is not a colour. It is a negotiation, and paper usually wins."
        )
        return f"Rewrote the first sentence of the post {self._title(post)}"

    def _edit_deep_page(self) -> str:
        page = self._sample.pages["exercise"]
        added = self._add_lines(page, b.numbered)
        if self._steps > len(self._story):
            return added
        return (
            f"{added}, three levels below {self._title_of_page('course')}: no page above it gets a new stamp"
        )

    def _edit_deep_page_again(self) -> str:
        page = self._sample.pages["exercise"]
        self._workspace.update_text(self._lines[-1], "Set it a third time, in italics, for the poet.")
        return f"Changed that line in {self._title(page)} again, seconds later: often within the same stamp"

    def _write_post(self) -> str:
        title, excerpt, tag = _NEW_POSTS[len(self._new_posts)]
        cells = {
            "excerpt": excerpt,
            "tags": [tag],
            "visibility": "public",
            "Status": "Published",
            "Date": self._clock.now().date().isoformat(),
            "Words": 90,
        }
        body = [b.paragraph(excerpt), b.paragraph(self._line()), b.to_do("Find a picture")]
        made = self._workspace.add_row(self._sample.posts_data_source, title, cells, blocks=body, icon="🆕")
        self._new_posts.append(made)
        return f"Wrote a new post, {self._title(made)}"

    def _add_row(self) -> str:
        title, slug, excerpt = _NEW_ROWS[len(self._new_rows)]
        made = self._workspace.add_row(
            self._sample.jobs.data_source,
            title,
            {"slug": slug, "excerpt": excerpt},
            blocks=[b.paragraph(excerpt), b.paragraph(self._line())],
        )
        self._new_rows.append(made)
        return f"Added {self._title(made)} to the open positions on {self._title_of_page('jobs')}"

    def _change_opening_hours(self) -> str:
        line = self._workspace.children(self._sample.synced_original)[0]
        self._weeks += 1
        days = _OPEN[self._weeks % len(_OPEN)]
        self._workspace.update_text(line, [b.text("Open ", bold=True), b.text(days)])
        return (
            f"Changed the opening hours on {self._title_of_page('contact')}; "
            f"{len(self._sample.synced_pages)} other pages show the same synced block"
        )

    def _rename_week(self) -> str:
        page = self._sample.pages["week_two"]
        before = self._title(page)
        usual, other = "Week 2: Ink and paper", "Week 2: Paper first, then ink"
        self._workspace.set_title(page, other if self._plain_title(page) == usual else usual)
        below = len([child for child in self._workspace.children(page) if child in self._workspace.pages])
        others = ", and with it that of the page below" if below else ""
        return f"Renamed {before} to {self._title(page)}: its address changes{others}"

    def _change_tags(self) -> str:
        post = self._some_post() if self._steps > len(self._story) else self._sample.posts["typography"]
        tags = self._tags[post]
        while tags == self._tags[post]:
            tags = sorted(self._random.sample(_TAGS, self._random.choice([1, 2, 3])))
        self._tags[post] = tags
        self._workspace.set_properties(post, {"tags": tags})
        return f"Set the tags of the post {self._title(post)} to {', '.join(tags)}"

    def _trash_post(self) -> str:
        post = self._sample.posts["umlauts"]
        self._workspace.trash(post)
        return f"Put the post {self._title(post)} into the trash"

    def _rename_spring(self) -> str:
        return self._rename(self._sample.posts["spring"])

    def _restore_post(self) -> str:
        post = self._sample.posts["umlauts"]
        self._workspace.restore(post)
        return f"Took the post {self._title(post)} out of the trash again"

    # Variations

    def _add_line(self) -> str:
        return self._add_lines(self._some_post(), b.paragraph)

    def _tick(self) -> str:
        page, box = self._random.choice(self._boxes())
        checked = not decode(self._workspace.blocks[box].content)["checked"]
        self._workspace.update_block(box, {"checked": checked})
        return f"{'Ticked' if checked else 'Unticked'} a box in {self._title(page)}"

    def _rename_post(self) -> str:
        return self._rename(self._some_post())

    def _rename(self, post: str) -> str:
        before, title = self._title(post), self._plain_title(post)
        shorter = title.removesuffix(", continued")
        self._workspace.set_title(post, f"{title}, continued" if shorter == title else shorter)
        return f"Renamed the post {before} to {self._title(post)}"

    def _change_icon(self) -> str:
        page = self._sample.pages["home"]
        self._moons += 1
        icon = _ICONS[self._moons % len(_ICONS)]
        self._workspace.set_icon(page, icon)
        return f"Gave {self._title(page)} the icon {icon}"

    def _move_lesson(self) -> str:
        lesson, week_two = self._sample.pages["make_ready"], self._sample.pages["week_two"]
        there = lesson in self._workspace.children(week_two)
        target = self._sample.pages["week_three"] if there else week_two
        self._workspace.move(lesson, target)
        return f"Moved {self._title(lesson)} to {self._title(target)}"

    def _come_and_go_post(self) -> str:
        if len(self._new_posts) < MOST_MADE:
            return self._write_post()
        return self._come_and_go(self._new_posts, "the post ")

    def _come_and_go_row(self) -> str:
        if len(self._new_rows) < MOST_MADE:
            return self._add_row()
        return self._come_and_go(self._new_rows, "the position ")

    def _come_and_go(self, made: Sequence[str], what: str) -> str:
        page = self._random.choice(made)
        if self._workspace.in_trash(page):
            self._workspace.restore(page)
            return f"Took {what}{self._title(page)} out of the trash again"
        self._workspace.trash(page)
        return f"Put {what}{self._title(page)} into the trash"

    # What they are made of

    def _add_lines(self, page: str, form: Callable[[str], Json]) -> str:
        """Put a line at the end of a page. Of those added before, the oldest goes when there are too many."""
        line = self._line()
        self._lines += self._workspace.append_blocks(page, [form(line)])
        said = f"Added “{line}” to {self._title(page)}"
        if len(self._lines) <= MOST_LINES:
            return said
        oldest = self._lines.pop(0)
        elsewhere = self._workspace.parent_of(oldest)[1]
        self._workspace.delete_block(oldest)
        self._workspace.purge(oldest)
        return f"{said} and took an older line out of {'it' if elsewhere == page else self._title(elsewhere)}"

    def _line(self) -> str:
        return self._random.choice(_LINES)

    def _some_post(self) -> str:
        """One of the older posts that are not in the trash."""
        posts = [p for p in self._sample.posts.values() if not self._workspace.in_trash(p)]
        return self._random.choice(posts)

    def _boxes(self) -> list[tuple[str, str]]:
        """The pages with checkboxes, and the checkboxes."""
        pages = [self._sample.pages["week_one"], self._sample.posts["spring"], self._sample.posts["winter"]]
        return [
            (page, block)
            for page in pages
            for block in self._workspace.children(page)
            if block in self._workspace.blocks and self._workspace.blocks[block].kind == "to_do"
        ]

    def _plain_title(self, page: str) -> str:
        return self._workspace.title_of(page)

    def _title(self, page: str) -> str:
        return f"'{self._plain_title(page)}'"

    def _title_of_page(self, name: str) -> str:
        return self._title(self._sample.pages[name])
