"""Fixtures: the sandbox on a driven clock, served over HTTP, and the official client. A plugin, never imported."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
from notion_client import AsyncClient

from daemon.clock import DrivenClock
from daemon.demo import Sandbox
from tests.support.sandbox_client import Connect


@pytest.fixture
def clock() -> DrivenClock:
    """Monday morning, 09:00:00 UTC."""
    return DrivenClock()


@pytest.fixture
def sandbox(clock: DrivenClock) -> Iterator[Sandbox]:
    """An empty Notion."""
    yield Sandbox(clock=clock)


@pytest.fixture
async def base_url(sandbox: Sandbox) -> AsyncIterator[str]:
    """The sandbox's address."""
    async with sandbox.serve() as url:
        yield url


@pytest.fixture
async def connect(base_url: str) -> AsyncIterator[Connect]:
    """Makes official clients; they are closed at the end."""
    async with AsyncExitStack() as stack:

        def make(version: str = "2026-03-11", token: str = "ntn_sandbox") -> AsyncClient:
            made = AsyncClient(
                auth=token,
                base_url=base_url,
                notion_version=version,
                retry=False,
                logger=logging.getLogger("tests.notion"),
            )
            stack.push_async_callback(made.aclose)
            return made

        yield make


@pytest.fixture
def notion(connect: Connect) -> AsyncClient:
    """The official client, newest API version."""
    return connect()


@pytest.fixture
async def http(base_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client with the token and the version set, for what the official one hides."""
    headers = {"Authorization": "Bearer ntn_sandbox", "Notion-Version": "2026-03-11"}
    async with httpx.AsyncClient(base_url=f"{base_url}/v1", headers=headers) as client:
        yield client
