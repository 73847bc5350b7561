"""A Notion in a process of its own, so that its work does not count as ours: `python -m bench.server`.

Takes a site as JSON arguments, says on standard output where it is, then obeys lines on standard input.
"""

import asyncio
import json
import sys
from typing import Any

from bench.clock import SkippingClock
from bench.site import build
from daemon.demo.files import Stored
from daemon.demo.sandbox import Sandbox


async def serve(
    *, pages: int, blocks: int, nested: bool, images: int, image_bytes: int | None, started: float
) -> None:
    """Build the site, serve it, and obey until standard input ends."""
    clock = SkippingClock(started)
    sandbox = Sandbox(clock=clock, seed=7)
    if image_bytes is not None:
        sandbox.files.make = lambda _: Stored(bytes(image_bytes), "image/png")
    site = build(sandbox.workspace, pages, blocks, nested=nested, images=images)
    async with sandbox.serve() as url:
        _say({"url": url, "site": site.as_dict()})
        while line := await asyncio.to_thread(sys.stdin.readline):
            _say(_obey(sandbox, clock, json.loads(line)))


def _obey(sandbox: Sandbox, clock: SkippingClock, order: dict[str, Any]) -> Any:
    match order.pop("do"):
        case "advance":
            clock.advance(order["seconds"])
        case "edit":
            workspace = sandbox.workspace
            workspace.update_text(workspace.children(order["page"])[0], order["text"])
        case "requests":
            seen = [[r.method, r.path, "start_cursor" in (r.body or r.query)] for r in sandbox.requests]
            sandbox.requests.clear()
            return seen
        case "downloads":
            return len(sandbox.downloads)
    return None


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(**json.loads(sys.argv[1])))
