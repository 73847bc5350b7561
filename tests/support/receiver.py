"""Somebody who is called over real HTTP: a site's route or a chat's webhook, that answers as it is told to."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from daemon import jsontext
from tests.support.http_server import served


@dataclass(frozen=True)
class Call:
    """One POST as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return jsontext.loads(self.body)


@dataclass
class Receiver:
    """Keeps what it is told. `answers`: the next statuses, then `always`; while `is_open` is not set, callers wait."""

    calls: list[Call] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    always: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    is_open: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.calls.append(Call(scope["path"], headers, body))
        while not self.is_open.is_set():
            if (await _patiently(receive)) == "http.disconnect":
                return
        status = self.answers.pop(0) if self.answers else self.always
        await send({"type": "http.response.start", "status": status, "headers": self.headers})
        await send({"type": "http.response.body", "body": b'{"ok": true}'})

    @property
    def told(self) -> list[Any]:
        """What was told, as JSON."""
        return [call.json for call in self.calls]


async def _patiently(receive: Any) -> str | None:
    """What comes in the next moment, if anything."""
    try:
        async with asyncio.timeout(0.005):
            return str((await receive())["type"])
    except TimeoutError:
        return None


@contextmanager
def a_receiver(path: str = "/api/revalidate") -> Iterator[Receiver]:
    """One that listens, and says yes to everything until told otherwise."""
    receiver = Receiver()
    receiver.is_open.set()
    with served(receiver, lifespan="off") as address:
        receiver.url = f"{address}{path}"
        try:
            yield receiver
        finally:
            receiver.is_open.set()
