"""The other side of `bench.server`: starts it, and tells it what to do."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.clock import SkippingClock
from bench.site import Site


@dataclass
class Remote:
    """A sandbox in another process that shares our clock. `url`: without `/v1`."""

    url: str
    site: Site
    clock: SkippingClock
    _process: "subprocess.Popen[str]"

    def advance(self, seconds: float) -> None:
        """Let time pass, here and there."""
        self.clock.advance(seconds)
        self._order(do="advance", seconds=seconds)

    def edit(self, page: str, text: str) -> None:
        """Change the first block of a page."""
        self._order(do="edit", page=page, text=text)

    def requests(self) -> list[tuple[str, str, bool]]:
        """Method, path and whether it went on from a cursor, of every request since this was asked last."""
        return [(method, path, goes_on) for method, path, goes_on in self._order(do="requests")]

    def downloads(self) -> int:
        """How many files were fetched since the beginning."""
        return int(self._order(do="downloads"))

    def _order(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self.hear(self._process)

    @staticmethod
    def hear(process: "subprocess.Popen[str]") -> Any:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the sandbox's process ended")
        return json.loads(line)


@contextmanager
def a_sandbox(
    pages: int, blocks: int, *, nested: bool, images: int = 0, image_bytes: int | None = None
) -> Iterator[Remote]:
    """A site of that size, served by another process for as long as the block runs.

    `images`: on every page so many, which hold so many bytes (None: a small picture).
    """
    clock = SkippingClock()
    size = {"pages": pages, "blocks": blocks, "nested": nested, "images": images, "image_bytes": image_bytes}
    wanted = {**size, "started": clock.started}
    command = [sys.executable, "-m", "bench.server", json.dumps(wanted)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            heard = Remote.hear(process)
            yield Remote(heard["url"], Site(**heard["site"]), clock, process)
        finally:
            process.terminate()
