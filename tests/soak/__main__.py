"""`python -m tests.soak [--seeds 200] [--start 0] [--jobs 2]`: exit code 1 when a seed found something."""

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Sequence

from tests.soak.campaign import Result, campaign
from tests.support.redis_server import redis_executable


async def soak(seeds: Sequence[int], jobs: int) -> list[Result]:
    """Play these seeds, so many at once, and print a line for each."""
    logging.getLogger("uvicorn.error").setLevel(
        logging.CRITICAL
    )  # a daemon that dies leaves requests unanswered
    redis = redis_executable()
    room = asyncio.Semaphore(jobs)

    async def one(seed: int) -> Result:
        async with room:
            result = await campaign(seed, redis)
            say(line(result))
            return result

    return await asyncio.gather(*(one(seed) for seed in seeds))


def line(result: Result) -> str:
    """What came of a seed, and how to play it again."""
    head = (
        f"seed {result.seed:4}  {result.seconds:5.1f} s  {len(result.story):3} events  {result.keys:3} keys  "
    )
    if not result.wrong:
        return head + "right"
    again = f"again: python -m tests.soak --seeds 1 --start {result.seed}; story and logs: {result.folder}"
    return "\n    ".join([head + "WRONG", *(text[:400] for text in result.wrong[:20]), again])


def say(text: str) -> None:
    """Print, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Read the arguments, play, sum up."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    began = time.monotonic()
    results = asyncio.run(soak(range(chosen.start, chosen.start + chosen.seeds), chosen.jobs))
    wrong = [result.seed for result in results if result.wrong]
    say(f"{len(results)} seeds in {time.monotonic() - began:.0f} s, wrong: {wrong or 'none'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
