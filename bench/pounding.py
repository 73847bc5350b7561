"""So many requests a second at a steady pace, whatever the answers take: `python -m bench.pounding`, arguments as JSON.

Each request has its moment, and its latency counts from there: one that is sent late because an answer was late has
waited too, as it would have for whoever asks at that moment. For this machine's own servers, and for a bounded time.
"""

import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass, field

CONNECTIONS = 50
PATIENCE_SECONDS = 10.0
MOST_SECONDS = 120.0
MOST_A_SECOND = 5_000
LOOPBACK = "127.0.0.1"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


@dataclass
class Pounding:
    """What is asked, how often, for how long, and how it went. `latencies`: seconds, of the answers that came."""

    port: int
    path: str
    a_second: int
    seconds: float
    latencies: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 < self.a_second <= MOST_A_SECOND or not 0 < self.seconds <= MOST_SECONDS:
            raise ValueError(f"at most {MOST_A_SECOND} requests a second for {MOST_SECONDS:g} s")

    async def run(self) -> None:
        """All of it."""
        began = time.perf_counter() + 0.05
        await asyncio.gather(*(self._client(number, began) for number in range(CONNECTIONS)))

    async def _client(self, number: int, began: float) -> None:
        """Every fiftieth request, over one connection as long as it holds."""
        request = f"GET {self.path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nUser-Agent: pounding\r\n\r\n".encode()
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for index in range(number, int(self.a_second * self.seconds), CONNECTIONS):
            moment = began + index / self.a_second
            await asyncio.sleep(max(0.0, moment - time.perf_counter()))
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    streams = streams or await asyncio.open_connection(LOOPBACK, self.port)
                    status = await _exchange(*streams, request)
                self.latencies.append(time.perf_counter() - moment)
                if status != b"200":
                    self.failures.append(status.decode())
            except (OSError, TimeoutError, EOFError) as error:
                self.failures.append(type(error).__name__)
                if streams is not None:
                    streams[1].close()
                streams = None
        if streams is not None:
            streams[1].close()

    def report(self) -> dict[str, object]:
        """Counts, and latencies in milliseconds."""
        ordered = sorted(self.latencies) or [0.0]

        def at(share: float) -> float:
            return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)

        return {
            "sent": len(self.latencies) + sum(1 for failure in self.failures if not failure.isdigit()),
            "failed": len(self.failures),
            "failures": sorted(set(self.failures)),
            "p50_ms": at(0.5),
            "p99_ms": at(0.99),
            "max_ms": at(1.0),
        }


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """One request. Out: the status of its answer, which was received whole."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    await reader.readexactly(int(length[1]) if length else 0)
    return head[9:12]


if __name__ == "__main__":
    pounding = Pounding(**json.loads(sys.argv[1]))
    asyncio.run(pounding.run())
    print(json.dumps(pounding.report()))
