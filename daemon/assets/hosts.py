"""Where files may be fetched from: public addresses only, checked when a name has been resolved, before connecting.

The host of a NOTION_BASE_URL that is not Notion's counts as Notion's file host, wherever it is; nothing else does.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from urllib.parse import SplitResult, urljoin, urlsplit

import httpcore

from daemon.config_rules import is_notion
from daemon.notion.connections import ssl_context
from daemon.notion.files import plain

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_EMBEDDING = ipaddress.ip_network("64:ff9b::/96")


class ForbiddenHostError(Exception):
    """An address that files must not be fetched from."""


class FileHosts:
    """The rule for one daemon. `base_url`: the API's address."""

    def __init__(self, base_url: str) -> None:
        own = urlsplit(base_url)
        self.own_host = None if is_notion(base_url) else (own.hostname or "").lower()

    def check_first(self, url: str) -> None:
        """An address that Notion gave. Raises ForbiddenHostError."""
        self._check(_split(url))

    def check_redirect(self, origin: str, location: str) -> str:
        """Where a redirect from `origin` leads. Raises ForbiddenHostError: an own host leads only to itself."""
        target = plain(urljoin(origin, location))
        parts = _split(target)
        if parts.hostname == self.own_host and parts.netloc != urlsplit(origin).netloc:
            raise ForbiddenHostError("it redirects to another port of the API's own host")
        self._check(parts)
        return target

    def is_own(self, host: str) -> bool:
        """Whether it is the host of an API that is not Notion's."""
        return self.own_host is not None and host.lower() == self.own_host

    def _check(self, parts: SplitResult) -> None:
        if parts.scheme != "https" and not (parts.scheme == "http" and self.is_own(parts.hostname or "")):
            raise ForbiddenHostError("it does not begin with https://")
        if parts.username is not None or parts.password is not None:
            raise ForbiddenHostError("it carries a user name")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError:
        raise ForbiddenHostError("it is no address") from None
    if not parts.hostname:
        raise ForbiddenHostError("it names no host")
    return parts


def is_public(address: Address) -> bool:
    """Whether an address is out on the internet, whatever it is wrapped in."""
    inner = _unwrapped(address)
    if isinstance(inner, ipaddress.IPv6Address) and inner.is_site_local:
        return False  # fec0::/10, which Python counts as global
    return inner.is_global and not (inner.is_multicast or inner.is_reserved or inner.is_unspecified)


def _unwrapped(address: Address) -> Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _EMBEDDING:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address.teredo is not None:
        inner = address.teredo[1]
    return address if inner is None else inner


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connects to the very address that was checked: a name that resolves otherwise a moment later changes nothing."""

    def __init__(self, hosts: FileHosts) -> None:
        self._hosts = hosts
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """As httpcore's own; raises ForbiddenHostError for a host with any address that is not public."""
        addresses = await _resolve(host, port)
        if not self._hosts.is_own(host) and not all(is_public(each) for each in addresses):
            raise ForbiddenHostError("its host has an address that is not public")
        failure: Exception = httpcore.ConnectError("the name has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise ForbiddenHostError("it is no address on the internet")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


async def _resolve(host: str, port: int) -> Sequence[Address]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise httpcore.ConnectError("the name cannot be resolved") from None
    # A scope at the end of an address (fe80::1%eth0) is no part of it.
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def file_connections(hosts: FileHosts) -> httpcore.AsyncConnectionPool:
    """The connections that files are fetched over. No proxy of the environment, no cookies, no redirects."""
    return httpcore.AsyncConnectionPool(
        ssl_context=ssl_context(),
        max_connections=16,
        max_keepalive_connections=8,
        keepalive_expiry=30.0,
        network_backend=PublicNetwork(hosts),
    )
