"""What a finding is, and how findings add up."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much a finding matters: nothing, worth a look, in the way."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """`what` was found `about` something, and the next step (`todo`). `shown`: a value to be copied."""

    level: Level
    about: str
    what: str
    todo: str = ""
    shown: str = ""


def exit_code(findings: Collection[Finding], settings_problems: Collection[str]) -> int:
    """0: no problem. 1: there is one. 2: `run` would not even start with these settings."""
    if settings_problems:
        return 2
    return int(any(finding.level is Level.PROBLEM for finding in findings))


def conclusion(findings: Collection[Finding]) -> str:
    """The last line."""
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    notes = sum(finding.level is Level.NOTE for finding in findings)
    counted = [count(number, word) for number, word in ((problems, "problem"), (notes, "note")) if number]
    return f"{', '.join(counted)}." if counted else "Everything is in order."


def not_checked(about: str) -> Finding:
    """What cannot be looked at with these settings."""
    return Finding(Level.NOTE, about, "Not checked.", "Mend the settings named above, then run doctor again.")


def check_failed(about: str, error: Exception) -> Finding:
    """A check that itself failed: the others go on."""
    what = f"This check failed itself ({type(error).__name__}: {error})."
    return Finding(Level.PROBLEM, about, what, "Please report it: doctor should have known this case.")


def span(seconds: float) -> str:
    """A length of time as people say it, in its largest unit."""
    for unit, length in (("day", 86_400.0), ("hour", 3600.0), ("minute", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}s"
    return f"{seconds:.0f} s"


def count(number: int, word: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def sentence(text: str) -> str:
    """`text` with a capital at its beginning and a stop at its end; nothing stays nothing."""
    stripped = text.strip()
    if not stripped:
        return ""
    return stripped[0].upper() + stripped[1:] + ("" if stripped[-1] in ".:!?" else ".")
