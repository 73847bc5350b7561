"""The switches for Notion's habits: what is inconvenient about the real thing, each on its own."""

from dataclasses import dataclass
from typing import Literal


@dataclass
class Habits:
    """How the sandbox behaves; every field may be changed while it serves, for the requests that follow.

    The defaults are what Notion does all the time (floored stamps, signed URLs, a cap on results).
    Everything that it does only now and then is off.
    """

    # Stamps
    stamp_granularity_seconds: int = 60
    """Stamps are shown rounded down to this; 0 shows the exact millisecond."""
    clock_skew_seconds: float = 0.0
    """How far Notion's clock (`Date` header and stamps) is ahead of the given one; negative is behind."""
    future_stamps_seconds: float = 0.0
    """Edits made while this is set are stamped that far in the future (the `Date` header stays right)."""
    compares: Literal["stored", "shown"] = "stored"
    """What filters and sorts compare: the exact instant, or the floored one that responses show."""
    trash_moves_stamp: bool = True
    restore_moves_stamp: bool = False
    move_moves_stamp: bool = False
    """Whether trashing, restoring or moving a page moves that page's own stamp."""
    trash_reaches_down: Literal["no", "flag", "not_found"] = "no"
    """What a GET of a page below a trashed one says: nothing of it, `in_trash: true`, or 404."""

    # Lag
    query_lag_seconds: float = 0.0
    search_lag_seconds: float = 0.0
    """Queries / search show rows, their order and their bodies as they were that many seconds ago."""
    search_forgets: float = 0.0
    """Share (0..1) of the pages that search never returns; always the same ones."""

    # Listings
    result_cap: int = 10_000
    """Queries and searches end after this many results and call themselves incomplete."""
    short_pages: bool = False
    """Listings return fewer than `page_size` results although there are more."""
    cursor_dies: float = 0.0
    """Below 1: the probability that a continuation is refused; from 1 on: every n-th continuation is."""
    cursor_lifetime_seconds: float | None = None
    """Cursors of queries and search are refused once they are older than this."""
    cursor_position: Literal["key", "offset", "snapshot"] = "key"
    """How a cursor of a query or search meets edits: it marks a place in the sort order, a count of
    results already seen, or a list that was frozen at its first page."""
    cursor_repeats: bool = False
    """A listing's continuations all name the same next cursor, so that it never ends."""
    partial_objects: float = 0.0
    """Share (0..1) of the objects in listings that come as `{object, id}` only; always the same ones."""
    lists_unshared: bool = False
    """Whether the block list of a page still shows child pages that the integration cannot read."""

    # Reading
    rotating_urls: bool = True
    """URLs of hosted files are signed anew at every read."""
    refuse_children: bool = False
    """Unsupported blocks claim to have children, and refuse to list them with a 400."""
    wrong_kind: Literal["not_found", "validation_error"] = "not_found"
    """How a database's id is refused where a page's is meant, and the reverse."""
    page_url_base: str = "https://www.notion.so/"
    """What the `url` of pages and databases begins with."""
    shared_id_prefix: bool = True
    """New ids of pages and blocks share their first digits."""

    # Limits
    budget_per_minute: int | None = None
    """Requests answered per 60 s window; what is above gets 429 until the window ends."""
