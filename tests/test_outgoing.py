"""Calls to addresses that the operator gave: bounded, not led elsewhere, and silent about the address."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from daemon.outgoing import LARGEST_ANSWER_BYTES, Outgoing, _retry_after

SECRET = "secret-of-the-hook"
NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


@asynccontextmanager
async def answering(
    head: str, drip: bytes = b"", pause_seconds: float = 0.0
) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that sends a head, then the same bytes for ever. Gives its address, and how much each caller took."""
    taken: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        taken.append(0)
        try:
            writer.write(f"HTTP/1.1 {head}\r\n\r\n".encode())
            while drip:
                writer.write(drip)
                await writer.drain()
                taken[-1] += len(drip)
                await asyncio.sleep(pause_seconds)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/services/{SECRET}?key={SECRET}", taken


@asynccontextmanager
async def outgoing(deadline_seconds: float = 5.0) -> AsyncIterator[Outgoing]:
    """The door, closed in the end."""
    door = Outgoing(deadline_seconds)
    try:
        yield door
    finally:
        await door.close()


async def test_an_answer_that_does_not_end_is_left_and_counts_by_its_status() -> None:
    """Fails when the answer is read to its end, however long that is."""
    async with answering("200 OK", b"x" * 4096) as (url, taken), outgoing() as door:
        async with asyncio.timeout(4.0):
            reply = await door.post(url, b"{}")
        assert reply.problem is None and taken[0] < 100 * LARGEST_ANSWER_BYTES


async def test_an_answer_that_drips_ends_at_the_deadline() -> None:
    """One byte now and then keeps every timeout of a single read away. Fails without a deadline for the whole call."""
    async with answering("200 OK", b"x", pause_seconds=0.005) as (url, _), outgoing(0.7) as door:
        async with asyncio.timeout(4.0):
            reply = await door.post(url, b"{}")
        assert reply.status is None and reply.problem == "no answer within 0.7 s" and reply.is_too_much


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (
            "308 Permanent Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0",
            "answered 308 Permanent Redirect",
        ),
        ("404 Nothing\r\ncontent-length: 0", "answered 404 Not Found"),
        ("799 Odd\r\ncontent-length: 0", "answered 799 unknown status"),
        ("yes", "the connection failed (RemoteProtocolError)"),
    ],
)
async def test_what_went_wrong_is_said_without_the_address(head: str, problem: str) -> None:
    """Fails when the words of the other side, or the address, are repeated, and when a redirect is followed."""
    async with answering(head) as (url, _), outgoing() as door:
        reply = await door.post(url, b"{}")
        assert reply.problem is not None and reply.problem.startswith(problem) and SECRET not in repr(reply)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with outgoing() as door:
        for address in (f"http://127.0.0.1:{port}/{SECRET}", f"http://{'a' * 300}.example/{SECRET}"):
            reply = await door.post(address, b"{}")
            assert reply.status is None and reply.problem and SECRET not in reply.problem


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("0.5", 0.5),
        ("-5", 0.0),
        ("1e99", 3600.0),
        (format_datetime(NOW.replace(minute=2), usegmt=True), 120.0),
        ("Mon, 05 Jan 2026 09:02:00 -0000", None),
        ("nan", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    """Seconds or a date, never more than an hour; what cannot be understood is as good as nothing."""
    assert _retry_after(text, NOW) == seconds


@pytest.mark.parametrize(
    "text", ["Mon, 01 Jan 2020 00:00:00 +99999999999999999999", f"1 Jan {'9' * 20} 00:00:00"]
)
def test_a_moment_beyond_all_calendars_is_none(text: str) -> None:
    """Fails when the overflow of the date's parser reaches the caller, who is promised that nothing is raised."""
    assert _retry_after(text, NOW) is None
