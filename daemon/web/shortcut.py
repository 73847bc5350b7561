"""Answers to `/health` without parsing: the bytes of a request that was understood once mean the same again.

Whoever watches a daemon sends the same request over and over. Parsing, routing and a task of its own cost more than
ten times what the verdict does, and would be taken from reading and publishing.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from daemon.web.guard import HEADERS

MOST_KNOWN = 64
LONGEST_BYTES = 1024
_LIVE = {b"": False, b"live=1": True}
_KEPT_OUT = frozenset(
    (b"authorization", b"cookie", b"expect", b"upgrade", b"x-sync-secret", b"transfer-encoding")
)
"""Headers that carry secrets, or ask for more than an answer."""

Health = Callable[[bool], tuple[int, str]]
"""From `live` to status and body."""


class Shortcut:
    """The requests for `/health` that were seen last, byte for byte, and what is answered to each."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._known: dict[bytes, bool] = {}
        guarded = "".join(f"{name.lower()}: {value}\r\n" for name, value in HEADERS.items())
        self._guarded = f"content-type: application/json\r\n{guarded}\r\n"

    def answer(self, data: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
        """The whole answer to a request of which nothing but `data` arrived; None: it has to be parsed.

        `headers`: those that the server puts on every answer.
        """
        live = self._known.get(data)
        if live is None:
            return None
        status, body = self._health(live)
        content = body.encode()
        phrase = "200 OK" if status == 200 else "503 Service Unavailable"
        always = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in headers)
        head = f"HTTP/1.1 {phrase}\r\n{always}content-length: {len(content)}\r\n{self._guarded}"
        return head.encode() + content

    def learn(self, data: bytes, scope: Mapping[str, Any]) -> None:
        """`data` was parsed as one whole request, with nothing before or after it: this `scope`."""
        live = _LIVE.get(scope["query_string"])
        is_plain = scope["method"] == "GET" and scope["path"] == "/health" and scope["http_version"] == "1.1"
        if live is None or not is_plain or len(data) > LONGEST_BYTES or _is_odd(scope["headers"]):
            return
        while len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[data] = live


def _is_odd(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    closing = ((b"connection", value) for name, value in headers if name == b"connection")
    return any(name in _KEPT_OUT for name, _ in headers) or any(
        value.lower() != b"keep-alive" for _, value in closing
    )
