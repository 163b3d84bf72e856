"""Where webhooks may go: rules for urls and for the addresses behind them.

A url is checked when a timer is created, and the addresses each time its host is resolved. The HTTP client connects to
exactly the addresses that `CheckedResolver` returned. A name that points elsewhere a moment later (DNS rebinding)
therefore changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Lookup = Callable[[str, int, socket.AddressFamily], Awaitable[Sequence[str]]]

MAX_URL_LENGTH = 2048

# Addresses that the ipaddress module counts as public, although no receiver has one.
_REFUSED: tuple[Network, ...] = (
    IPv4Network("100.64.0.0/10"),  # carrier-grade NAT
    IPv4Network("168.63.129.16/32"),  # the metadata and health service of Azure
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv6Network("::/96"),  # IPv4-compatible
    IPv6Network("::ffff:0:0/96"),  # IPv4-mapped
    IPv6Network("::ffff:0:0:0/96"),  # IPv4-translated
    IPv6Network("64:ff9b::/96"),  # NAT64
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("2001::/23"),  # Teredo among others
    IPv6Network("2002::/16"),  # 6to4
    IPv6Network("3fff::/20"),
    IPv6Network("5f00::/16"),
    IPv6Network("fec0::/10"),  # site-local
)
_DOTTED = re.compile(r"(\d{1,3}\.){3}\d{1,3}")
_NUMERIC_LABEL = re.compile(r"\d+|0[xX][0-9a-fA-F]*")
_NAME = re.compile(
    r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?)*\.?"
)


class DestinationRefused(Exception):
    """A url or an address that webhooks must not go to. The message says why."""


class Destinations:
    """The rules. `allowed` are networks that webhooks may go to although they are not public."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def __repr__(self) -> str:
        return f"Destinations(allowed=[{', '.join(map(str, self._allowed))}])"

    def url(self, text: str) -> URL:
        """A checked url. The name of its host is not resolved here.

        Raises:
            DestinationRefused: with the rule and the fix.
        """
        if len(text) > MAX_URL_LENGTH:
            raise DestinationRefused(f"is {len(text)} characters long: use at most {MAX_URL_LENGTH}")
        if re.search(r"[\x00-\x20\x7f\\]", text):
            raise DestinationRefused("holds a space, a control character or a backslash: percent-encode them")
        try:
            url = URL(text)
            host, port = url.raw_host, url.port
        except ValueError as error:
            raise DestinationRefused(f"is not a url: {error}") from None
        if url.scheme not in ("http", "https"):
            raise DestinationRefused("must begin with http:// or https://")
        if re.match(r"[^/?#]*//[^/?#]*@", text):
            raise DestinationRefused("holds credentials: leave them out, the receiver can check the signature instead")
        if not host:
            raise DestinationRefused("has no host: write it like https://example.com/path")
        if not port:
            raise DestinationRefused("has an invalid port: use 1 to 65535")
        self._host(host)
        return url.with_fragment(None)

    def _host(self, host: str) -> None:
        if ":" in host:
            if "%" in host:
                raise DestinationRefused("names a network interface: use a global address")
            self.address(host)
            return
        if not _NAME.fullmatch(host) or len(host) > 253:
            raise DestinationRefused(f"has an invalid host, {host!r}: use a name or an address")
        labels = host.rstrip(".").split(".")
        if _NUMERIC_LABEL.fullmatch(labels[-1]):
            # The C library reads 2130706433, 0x7f.1 and 0177.0.0.1 as addresses too.
            if not _DOTTED.fullmatch(host):
                raise DestinationRefused(f"writes an address as {host!r}: use four decimal numbers")
            self.address(host)
        elif labels[-1].lower() == "localhost" and not self._allowed:
            raise DestinationRefused("points to this machine itself, which is not allowed")

    def address(self, text: str) -> None:
        """Checks an address.

        Raises:
            DestinationRefused: the address is not public, and not in an allowed network.
        """
        try:
            address: Address = ipaddress.ip_address(text)
        except ValueError as error:
            raise DestinationRefused(f"writes an address as {text!r}: use four decimal numbers") from error
        if any(address in network for network in self._allowed):
            return
        if not address.is_global or address.is_multicast or address.is_reserved:
            raise DestinationRefused(f"points to {address}, which is not a public address")
        if any(address in network for network in _REFUSED):
            raise DestinationRefused(f"points to {address}, which is reserved for a special purpose")


class CheckedResolver(AbstractResolver):
    """Resolves names for the HTTP client. A host is refused if one of its addresses is refused."""

    def __init__(self, destinations: Destinations, lookup: Lookup | None = None) -> None:
        """`lookup(host, port, family)` returns addresses as text; the default is the resolver of the system."""
        self._destinations = destinations
        # The event loop has only a few threads: one slow name server would delay all other look-ups.
        self._threads = ThreadPoolExecutor(64, thread_name_prefix="timer-service-lookup")
        self._lookup = lookup or self._system

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = list(dict.fromkeys(await self._lookup(host, port, family)))
        if not addresses:
            raise OSError(None, f"{host} has no address")
        for address in addresses:
            self._destinations.address(address)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def _system(self, host: str, port: int, family: socket.AddressFamily) -> Sequence[str]:
        def ask() -> list[str]:
            found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            return [str(entry[4][0]) for entry in found]

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def joined(url: URL, timer_id: str) -> URL:
    """The url with the id as one more segment of its path, before the query."""
    return url.with_path(f"{url.raw_path.rstrip('/')}/{timer_id}", encoded=True, keep_query=True)
