"""A file host that does not do what is expected of it, over a real socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

HEAD = "HTTP/1.1 {status} Whatever\r\nConnection: close\r\n{headers}\r\n\r\n"
PIECE = b"x" * 16_384


@dataclass
class Liar:
    """What was asked of it. `location`: where `/away…` leads; `seen`: the paths, in order."""

    url: str = ""
    location: str = ""
    requests: int = 0
    sent_bytes: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            await self._tell(head.split(b" ")[1].decode(), reader, writer)
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    async def _tell(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if path.startswith("/away"):
            await self._send(writer, HEAD.format(status=302, headers=f"Location: {self.location}").encode())
        elif path.startswith("/big"):
            headers = "Content-Type: application/octet-stream\r\nContent-Length: 100000"
            await self._send(writer, HEAD.format(status=200, headers=headers).encode() + b"y" * 100_000)
        elif path.startswith("/claims"):
            headers = "Content-Type: application/octet-stream\r\nContent-Length: 999999999999"
            await self._send(writer, HEAD.format(status=200, headers=headers).encode() + b"few bytes")
            await reader.read()  # until the other side gives up
        elif path.startswith("/endless"):
            headers = "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked"
            await self._send(writer, HEAD.format(status=200, headers=headers).encode())
            for _ in range(2000):
                await self._send(writer, b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
        else:
            kind = "text/html" if ".html" in path else "image/svg+xml" if ".svg" in path else "image/png"
            body = b"<html><script>document.title='ran'</script></html>"
            headers = f"Content-Type: {kind}\r\nContent-Length: {len(body)}"
            await self._send(writer, HEAD.format(status=200, headers=headers).encode() + body)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        self.sent_bytes += len(data)
        await writer.drain()


@asynccontextmanager
async def a_liar(host: str = "127.0.0.1") -> AsyncIterator[Liar]:
    """It listens on a port of its own."""
    liar = Liar()
    server = await asyncio.start_server(liar.answer, host, 0)
    port = server.sockets[0].getsockname()[1]
    liar.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    async with server:
        yield liar
