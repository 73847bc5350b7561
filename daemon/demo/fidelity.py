"""Holds the sandbox's answers against recorded real ones: `python -m daemon.demo.fidelity FOLDER`.

The folder has an `INDEX.json`, a list of `{"file", "kind", "api_version"}`, and the response bodies it names.
Compared are the forms that both have: the keys of each kind of object, block, property and rich text, and the
JSON types in them, for each API version apart. Ends with 1 when they differ in a way that is not accepted here.
"""

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from daemon.demo.calls import VERSIONS
from daemon.demo.shapes import Difference, Problem, Shape
from daemon.demo.specimens import answers

KINDS = frozenset(
    {
        "page",
        "database",
        "data_source",
        "query",
        "search",
        "block_list",
        "block",
        "property_item",
        "property_item_list",
        "error",
    }
)
"""The kinds of responses that the sandbox gives; others are left out."""


@dataclass(frozen=True)
class Accepted:
    """A difference that stays, and why."""

    problem: Problem
    path: str
    """`*` stands for anything."""
    reason: str

    def covers(self, difference: Difference) -> bool:
        """Whether the difference is of this sort."""
        pattern = self.path.replace("[", "[[]")
        return self.problem == difference.problem and fnmatchcase(difference.path, pattern)


ACCEPTED: tuple[Accepted, ...] = (
    Accepted(
        "type",
        "page.properties.*<number>.number",
        "an empty cell: null was recorded with 2026-03-11, with 2025-09-03 there were two numbers only",
    ),
    Accepted(
        "type",
        "rich_text<mention>.mention<date>.date.start",
        "a day without a time, as date properties have it; the two mentions recorded had a time",
    ),
)


@dataclass
class Report:
    """What a comparison brought, for one API version."""

    version: str
    recorded: int
    """Recorded responses that were looked at."""
    compared: int = 0
    """Forms that both have."""
    only_recorded: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    """Those that nothing accepts."""
    accepted: list[tuple[Difference, str]] = field(default_factory=list)
    """The others, with the reason."""

    def lines(self) -> Iterable[str]:
        """The report as text."""
        yield (
            f"{self.version}: {self.recorded} recorded responses, {self.compared} forms compared, "
            f"{len(self.only_recorded)} forms only recorded, {len(self.accepted)} accepted differences, "
            f"{len(self.differences)} differences"
        )
        yield from (f"  {difference}" for difference in self.differences)
        yield from (f"  accepted: {difference} ({reason})" for difference, reason in self.accepted)
        yield from (f"  only recorded: {form}" for form in self.only_recorded)


def recorded(folder: Path) -> dict[str, tuple[int, Shape]]:
    """The shapes of a folder's responses and their number, by API version.

    Responses of other kinds, and those saved without their version, are left out. Raises OSError when there
    is no index, ValueError when it is none.
    """
    index = json.loads((folder / "INDEX.json").read_text("utf-8"))
    found: dict[str, tuple[int, Shape]] = {}
    for entry in index:
        version = entry.get("api_version")
        if entry["kind"] in KINDS and version is not None:
            count, shape = found.get(version, (0, Shape()))
            shape.add(entry["kind"], json.loads((folder / entry["file"]).read_text("utf-8")))
            found[version] = (count + 1, shape)
    return found


async def sandbox_shape(version: str) -> Shape:
    """The shape of the sandbox's answers."""
    shape = Shape()
    async for kind, body in answers(version):
        shape.add(kind, body)
    return shape


def compare(version: str, ours: Shape, real: Shape, count: int) -> Report:
    """Hold the sandbox's shape against the real one of `count` responses."""
    report = Report(version, count, len(ours.forms & real.forms), sorted(real.forms - ours.forms))
    for difference in ours.differences(real):
        reason = next((a.reason for a in ACCEPTED if a.covers(difference)), None)
        if reason is None:
            report.differences.append(difference)
        else:
            report.accepted.append((difference, reason))
    return report


async def compare_folder(folder: Path) -> list[Report]:
    """One report for each version that the folder has responses of and the sandbox speaks."""
    real = recorded(folder)
    return [
        compare(version, await sandbox_shape(version), real[version][1], real[version][0])
        for version in VERSIONS
        if version in real
    ]


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 alike, 1 different, 2 nothing to compare with."""
    folder = Path(arguments[0]) if len(arguments) == 1 else None
    if folder is None or not (folder / "INDEX.json").is_file():
        sys.stderr.write("usage: python -m daemon.demo.fidelity FOLDER (with an INDEX.json in it)\n")
        return 2
    reports = asyncio.run(compare_folder(folder))
    for report in reports:
        sys.stdout.writelines(f"{line}\n" for line in report.lines())
    if not reports:
        sys.stderr.write(f"no responses of the API versions {', '.join(VERSIONS)} in {folder}\n")
        return 2
    return 1 if any(report.differences for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
