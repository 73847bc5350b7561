"""One HTTP connection: uvicorn's, with an end to every kind of waiting, and errors in the form of all the others."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from daemon import jsontext
from daemon.web.guard import HEADERS, MAX_BODY_BYTES
from daemon.web.room import Room
from daemon.web.shortcut import Shortcut

REQUEST_SECONDS = 10.0
"""How long a client may take to send a request once it has begun, or has connected, however it does so."""
IDLE_SECONDS = 75
"""How long a connection is kept for the next request: longer than proxies keep theirs, so that they close first."""
ANSWER_SECONDS = 60.0
"""How long a client may leave an answer unread."""
MAX_HEADER_BYTES = 32 * 1024
MAX_REQUEST_BYTES = 4 * MAX_BODY_BYTES
"""How much of a request is received at all: somewhat more than is read, so that a refusal reaches its client."""


class Connection(H11Protocol):
    """uvicorn by itself would wait for ever: for the rest of a request, and for a client that does not read."""

    def __init__(self, *args: Any, room: Room, shortcut: Shortcut, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.timeout_keep_alive = IDLE_SECONDS
        self._room = room
        self._shortcut = shortcut
        self._request_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._last_used = 0.0
        self._received_bytes = 0
        self._is_between = True
        """Whether nothing of a next request has arrived and nothing of an answer is left to do."""

    def leave(self) -> None:
        """End at once; what is not sent yet is lost."""
        self.transport.abort()

    # What the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self._room.enter(self):
            self.leave()
            return
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        if self._is_between and not self.flow.write_paused and not self.transport.is_closing():
            answer = self._shortcut.answer(data, self.server_state.default_headers)
            if answer is not None:
                self.transport.write(answer)
                self._was_used()
                return
        self._received_bytes += len(data)
        if self._received_bytes > MAX_REQUEST_BYTES:
            self.leave()
            return
        was_between, self._is_between = self._is_between, False
        super().data_received(data)
        if was_between and self.conn.their_state is h11.DONE and not self.conn.trailing_data[0]:
            self._shortcut.learn(data, self.scope)
        self._expect_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._room.waits(self)
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._is_between:
            self._room.works(self)
        if self._answer_timer is not None and not self.transport.is_closing():
            self._answer_timer.cancel()
            self._answer_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.left(self)
        self._stop_expecting_request()
        self._unset_keepalive_if_required()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None
        super().connection_lost(exc)

    # What uvicorn calls

    def on_response_complete(self) -> None:
        self._received_bytes = 0
        self._room.waits(self)
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_reading()  # it is closed when what is left has been sent
            return
        begun = bool(self.conn.trailing_data[0])
        if self.conn.their_state is h11.IDLE and not begun:
            self._is_between = self.conn.our_state is h11.IDLE
            self._stop_expecting_request()  # from here on the idle time counts
            self._last_used = self.loop.time()
        else:
            self._expect_request()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets an error like any other, or, where an answer has begun already, the end."""
        error = {"ok": False, "error": "bad_request", "message": "This is not a request that HTTP knows."}
        content = jsontext.dumps(error).encode()
        headers = [*self.server_state.default_headers, (b"content-type", b"application/json")]
        headers += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        headers += [(b"content-length", str(len(content)).encode()), (b"connection", b"close")]
        try:
            start = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
            events = (start, h11.Data(content), h11.EndOfMessage())
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        except h11.LocalProtocolError:
            self.leave()
            return
        self.transport.close()
        self._expect_reading()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came for the idle time; requests that took the shortcut did not move the timer, but count."""
        left = self._last_used + IDLE_SECONDS - self.loop.time()
        if left <= 0:
            self.leave()
        else:
            self._keep_alive_for(left)

    # Ends of waiting

    def _was_used(self) -> None:
        """A request was answered without the parser."""
        self._room.waits(self)
        self._stop_expecting_request()
        self._last_used = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._keep_alive_for(IDLE_SECONDS)

    def _keep_alive_for(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _expect_request(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_expecting_request()
            self._room.works(self)
        elif self._request_timer is None:
            self._request_timer = self.loop.call_later(REQUEST_SECONDS, self.leave)

    def _stop_expecting_request(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _expect_reading(self) -> None:
        if self._answer_timer is None:
            self._answer_timer = self.loop.call_later(ANSWER_SECONDS, self.leave)
