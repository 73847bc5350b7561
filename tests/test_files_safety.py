"""Files are fetched from the public internet and from nowhere else, whatever an address, a name or a redirect says."""

import asyncio
import ipaddress
import socket
from pathlib import Path
from typing import Any

import httpcore
import pytest

from daemon.assets.fetch import Fetcher, FetchError
from daemon.assets.hosts import FileHosts, ForbiddenHostError, PublicNetwork, is_public
from daemon.assets.room import Room
from daemon.status import full
from tests.support.gallery import a_gallery
from tests.support.liar import a_liar

NOTION = "https://api.notion.com"

PRIVATE = [
    *("127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
    *("::1", "::", "fe80::1", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::"),
    *("2002:c0a8:101::1", "2001:0:4136:e378:8000:63bf:80ff:fffe"),
]
PUBLIC = ["1.1.1.1", "52.92.0.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address: str) -> None:
    """Loopback, private, link-local, shared, reserved; also inside an IPv6 address that wraps an IPv4 one."""
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_that_are_public(address: str) -> None:
    """So that the list above is not simply everything."""
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://prod-files-secure.s3.us-west-2.amazonaws.com/a.png",
        "file:///etc/passwd",
        "ftp://files.example/a.png",
        "https://user:word@files.example/a.png",
        "https://files.example:99999/a.png",
        "https:///a.png",
        "gopher://files.example/_x",
    ],
)
def test_addresses_that_are_refused_before_anything_is_asked(url: str) -> None:
    """Plain http, other schemes, names and passwords; in the address that Notion gave, and in a redirect."""
    with pytest.raises(ForbiddenHostError):
        FileHosts(NOTION).check_first(url)
    if "///a" not in url:  # which in a redirect means the same host
        with pytest.raises(ForbiddenHostError):
            FileHosts(NOTION).check_redirect("https://files.example/b.png", url)


async def refused(folder: Path, url: str, base_url: str = NOTION) -> FetchError:
    """The error with which a file is refused."""
    fetcher = Fetcher(FileHosts(base_url), folder, 1_000_000, Room(1_000_000))
    try:
        with pytest.raises(FetchError) as caught:
            async with fetcher.fetch(url, "file"):
                pass
    finally:
        await fetcher.close()
    return caught.value


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "localhost", "169.254.169.254", "2130706433", "0x7f.1"]
)
async def test_a_private_host_is_refused_when_its_name_is_resolved(tmp_path: Path, host: str) -> None:
    """Written as an address, as a name, as a number: what counts is what is connected to."""
    error = await refused(tmp_path, f"https://{host}/latest/meta-data")
    assert error.refused and "not public" in str(error)


async def test_a_redirect_into_the_house_is_not_followed(tmp_path: Path) -> None:
    """From the allowed host to another port of it, to loopback by name, to cloud metadata, to a file.

    Fails when redirects are left to the HTTP client, or checked by their text alone.
    """
    async with a_liar() as outside, a_liar() as inside:
        port = inside.url.rpartition(":")[2]
        for location in (
            inside.url + "/secret",
            f"http://localhost:{port}/secret",
            f"https://localhost:{port}/secret",
            f"http://[::1]:{port}/",
            "http://169.254.169.254/latest/meta-data",
            "https://169.254.169.254/latest/meta-data",
            f"//127.0.0.1:{port}/secret",
            "file:///etc/passwd",
        ):
            outside.location = location
            error = await refused(tmp_path, f"{outside.url}/away", outside.url)
            assert error.refused, location
        assert inside.requests == 0
        outside.location = "/away-again"
        error = await refused(tmp_path, f"{outside.url}/away", outside.url)
        assert "for ever" in str(error)


async def test_only_the_apis_own_host_may_be_private(tmp_path: Path) -> None:
    """With Notion's own API nothing private is allowed; with another one its host is, and no other."""
    async with a_liar() as liar:
        assert (await refused(tmp_path, f"{liar.url}/a.png")).refused
        assert (await refused(tmp_path, f"{liar.url}/a.png", "http://localhost:8099")).refused
        fetcher = Fetcher(FileHosts("http://127.0.0.1:1"), tmp_path, 1_000_000, Room(1_000_000))
        async with fetcher.fetch(f"{liar.url}/a.png", "file") as file:
            assert file.size_bytes > 0
        await fetcher.close()


async def test_a_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with one private address among public ones is refused; what was checked is what is connected to.

    Fails when the name, not the address, is handed to the connection: it would be resolved a second time.
    """
    network, connected = PublicNetwork(FileHosts(NOTION)), []

    async def connect(host: str, *_: Any) -> httpcore.AsyncNetworkStream:
        connected.append(host)
        raise httpcore.ConnectError("nobody there")

    monkeypatch.setattr(network._inner, "connect_tcp", connect)
    answers = [["93.184.216.34", "10.0.0.7"], ["93.184.216.34", "1.1.1.1"]]

    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in answers.pop(0)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(ForbiddenHostError):
        await network.connect_tcp("rebinding.example", 443)
    assert connected == []
    with pytest.raises(httpcore.ConnectError):
        await network.connect_tcp("rebinding.example", 443)
    assert connected == ["93.184.216.34", "1.1.1.1"] and answers == []


async def test_external_files_are_never_fetched(tmp_path: Path) -> None:
    """An address that a writer typed stays as it is: only what Notion hosts is fetched."""
    async with a_liar() as liar, a_gallery(tmp_path) as gallery:
        external = {"type": "external", "external": {"url": f"{liar.url}/a.png"}}
        gallery.add("One", {"type": "image", "image": external}, cover=external, icon=external)
        await gallery.publish()
        assert liar.requests == 0 and f"{liar.url}/a.png" in await gallery.text("page:one")


async def test_a_refused_address_is_told_and_leaves_the_page_alone(tmp_path: Path) -> None:
    """End to end: a hosted file whose host redirects to this machine. The page is published, the status says why."""
    async with a_liar() as inside, a_gallery(tmp_path) as gallery:
        gallery.put_image(gallery.add("One"), "photo.png")
        gallery.sandbox.faults.add(path="photo", redirect=f"{inside.url}/secret")
        await gallery.publish()
        (told,) = (await full(gallery.app))["files"]["troubled"]
        assert "not allowed" in told["reason"] and inside.requests == 0 and gallery.copies() == []
        assert await gallery.text("page:one")


async def test_room_is_first_come_first_served() -> None:
    """No more bytes than allowed at once; something larger than the room waits until it is alone."""
    room = Room(100)
    first = await room.take(60)
    waiting = [asyncio.create_task(room.take(size)) for size in (500, 10)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    room.give_back(first)
    assert await waiting[0] == 100 and not waiting[1].done()
    gone = asyncio.create_task(room.take(10))
    await asyncio.sleep(0)
    gone.cancel()
    room.give_back(100)
    assert await waiting[1] == 10
    await asyncio.gather(gone, return_exceptions=True)
    assert await room.take(90) == 90


def test_site_local_addresses_are_not_public() -> None:
    """Fails when Python's word is taken for fec0::/10, which it counts as global."""
    assert not is_public(ipaddress.ip_address("fec0::1"))
