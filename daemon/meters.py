"""What is measured while it happens, because it could not be read from the parts afterwards."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from prometheus_client import Histogram

PREFIX = "notion_kv_sync"
CYCLE_BOUNDS_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0)
EDIT_BOUNDS_SECONDS = (
    *(5.0, 10.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0, 120.0),
    *(180.0, 300.0, 600.0, 1800.0, 3600.0, 21600.0),
)


class Outcome(StrEnum):
    """How a cycle ended."""

    SUCCESS = "success"
    PROBLEM = "problem"
    """It did what it could: Notion or the store was in the way of the rest."""
    REFUSED = "refused"
    """Notion refuses the token: the run is stopped."""
    CRASHED = "crashed"
    """The ledger could not be used, or an error of our own."""


def _cycle_seconds() -> Histogram:
    return Histogram(
        f"{PREFIX}_cycle_duration_seconds",
        "How long cycles took that were not broken off, looking, reading and writing together.",
        buckets=CYCLE_BOUNDS_SECONDS,
        registry=None,
    )


def _edit_seconds() -> Histogram:
    return Histogram(
        f"{PREFIX}_edit_to_kv_seconds",
        "From the stamp of a page's edit, which Notion cuts to the minute, to the batch that published it.",
        buckets=EDIT_BOUNDS_SECONDS,
        registry=None,
    )


@dataclass
class Meters:
    """Since the process started."""

    cycles: Counter[Outcome] = field(default_factory=Counter)
    cycle_seconds: Histogram = field(default_factory=_cycle_seconds)
    edit_seconds: Histogram = field(default_factory=_edit_seconds)
