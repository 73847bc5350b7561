"""The one door for calls to addresses that the operator gave: bounded in time and size, and silent about the address.

Such an address may itself be a secret, so nothing that is said of a call repeats it. Redirects are not followed: what
was meant for one host is not for another.
"""

import asyncio
import email.utils
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus

import httpx

from daemon import __version__

DEADLINE_SECONDS = 10.0
"""For a whole call, from looking up the name to the end of the answer."""
LARGEST_ANSWER_BYTES = 64 * 1024
LONGEST_RETRY_AFTER_SECONDS = 3600.0


@dataclass(frozen=True)
class Reply:
    """What came of a call. `problem`: one clause without address or content; None: the answer was a 2xx.

    `status` is None when there was no answer. `is_too_much`: a smaller call may succeed.
    """

    status: int | None
    problem: str | None = None
    retry_after_seconds: float | None = None
    is_too_much: bool = False


class Outgoing:
    """Posts JSON. One connection pool; close it in the end."""

    def __init__(self, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._deadline_seconds = deadline_seconds

    @cached_property
    def _http(self) -> httpx.AsyncClient:
        """Made when it is first needed: most daemons call nobody."""
        return httpx.AsyncClient(
            timeout=httpx.Timeout(self._deadline_seconds, connect=self._deadline_seconds / 2),
            follow_redirects=False,
            headers={"user-agent": f"notion-kv-sync/{__version__}"},
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """Post a JSON text. Never raises for what the other side does."""
        sent = {"content-type": "application/json", **(headers or {})}
        try:
            async with (
                asyncio.timeout(self._deadline_seconds),
                self._http.stream("POST", url, content=body, headers=sent) as response,
            ):
                await _drain(response)
                return _reply(response)
        except (TimeoutError, httpx.TimeoutException) as error:
            problem = f"no answer within {self._deadline_seconds:g} s"
            return Reply(None, problem, is_too_much=not isinstance(error, httpx.ConnectTimeout))
        except httpx.ConnectError as error:
            return Reply(None, f"no connection ({error})")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Reply(None, f"the connection failed ({type(error).__name__})")

    async def close(self) -> None:
        if "_http" in self.__dict__:
            await self._http.aclose()


async def _drain(response: httpx.Response) -> None:
    """Read an answer, so that its connection can be used again; one that does not end is left."""
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > LARGEST_ANSWER_BYTES:
            return


def _reply(response: httpx.Response) -> Reply:
    status = response.status_code
    if response.is_success:
        return Reply(status)
    words = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "unknown status"
    problem = f"answered {status} {words}" + (", a redirect" if response.has_redirect_location else "")
    retry_after = _retry_after(response.headers.get("retry-after", ""), datetime.now(UTC))
    return Reply(status, problem, retry_after, is_too_much=status in (413, 504))


def _retry_after(text: str, now: datetime) -> float | None:
    """Seconds, or a date of HTTP, as seconds; bounded, None when there is nothing usable."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(text) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
