"""A real S3-compatible server for the tests: rclone, from its wheel, up in a tenth of a second."""

import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.redis_server import free_port

BUCKET = "site-files"
KEY, SECRET = "a-key", "a-secret-key-of-some-length"


@dataclass(frozen=True)
class Bucket:
    """Where it listens, where its objects lie, and where anybody may read them."""

    endpoint: str
    public_url: str
    folder: Path

    @property
    def settings(self) -> dict[str, str]:
        """What a daemon is told of it; its objects can be read by anybody."""
        return {**self.private_settings, "S3_PUBLIC_URL": self.public_url}

    @property
    def private_settings(self) -> dict[str, str]:
        """The same for a bucket that only the daemon can read."""
        return {
            "S3_ENDPOINT_URL": self.endpoint,
            "S3_BUCKET": BUCKET,
            "S3_REGION": "us-east-1",
            "S3_ACCESS_KEY_ID": KEY,
            "S3_SECRET_ACCESS_KEY": SECRET,
        }

    def objects(self) -> list[str]:
        """The keys in the bucket."""
        root = self.folder / BUCKET
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def rclone() -> str | None:
    """The path of rclone, None when there is none."""
    beside = Path(sys.executable).parent / "rclone"
    return str(beside) if beside.exists() else shutil.which("rclone")


@contextlib.contextmanager
def a_bucket(folder: Path) -> Iterator[Bucket]:
    """Serve a bucket from a folder, over S3's protocol and as plain files."""
    (folder / BUCKET).mkdir(parents=True)
    ports = [free_port(), free_port()]
    kinds = (["s3", "--auth-key", f"{KEY},{SECRET}"], ["http"])
    command = [str(rclone()), "serve"]
    served = [str(folder), str(folder / BUCKET)]
    processes = [
        subprocess.Popen(
            [*command, *kind, root, "--addr", f"127.0.0.1:{port}", "--config", "", "--dir-cache-time", "0s"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for kind, root, port in zip(kinds, served, ports, strict=True)
    ]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    try:
        for port, process in zip(ports, processes, strict=True):
            _wait_until_up(port, process)
        yield Bucket(urls[0], urls[1], folder)
    finally:
        for process in processes:
            process.kill()
            process.wait(10)


def _wait_until_up(port: int, process: "subprocess.Popen[bytes]") -> None:
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=5.0).close()
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"rclone ended with {process.wait(0.01)} instead of serving")
