"""An ASGI app served over real HTTP from a thread of its own, so that it outlives the tests' event loops."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn


class _ThreadedServer(uvicorn.Server):
    """Says when it listens; leaves signals to the tests' own process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def served(app: Any, **uvicorn_options: Any) -> Iterator[str]:
    """Serve an app on a free local port; gives its address (`http://127.0.0.1:port`)."""
    # The protocol is named because asyncio sends small packets at once only then; else a request takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    options: dict[str, Any] = {"http": "h11", "ws": "none", "log_config": None, "access_log": False}
    config = uvicorn.Config(app, timeout_graceful_shutdown=1, **(options | uvicorn_options))
    server = _ThreadedServer(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        assert server.listening.wait(10), "the server did not start"
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
    assert not thread.is_alive(), "the server did not stop"
