"""Judgement of addresses that callbacks may be sent to. Pure.

The standard library's ``is_global`` is not used: it calls multicast, NAT64, 6to4 and deprecated
site-local addresses global. Here an address is global only if a table says so. Sources: IANA
special-purpose registries (RFC 6890 and updates), the metadata addresses of cloud vendors.
"""

from __future__ import annotations

import ipaddress
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Kind(IntEnum):
    """What an address is, from harmless to impossible."""

    GLOBAL = 0
    PRIVATE = 1
    """Private, loopback, carrier-grade NAT, or a tunnel: the policy decides."""
    SENSITIVE = 2
    """Link-local or a cloud's metadata service: refused unless listed."""
    NEVER = 3
    """Multicast, broadcast, reserved, unspecified, documentation: no callback can be there."""


def _table(kind: Kind, *texts: str) -> list[tuple[Network, Kind]]:
    return [(ipaddress.ip_network(text), kind) for text in texts]


# First match wins, so that exceptions stand before the wider network.
_V4 = [
    *_table(
        Kind.SENSITIVE,
        "169.254.0.0/16",  # link-local; AWS, Azure, GCP, OpenStack metadata
        "100.100.100.200/32",  # Alibaba metadata
        "192.0.0.192/32",  # Oracle metadata
        "168.63.129.16/32",  # Azure host agent
    ),
    *_table(
        Kind.PRIVATE,
        "10.0.0.0/8",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # carrier-grade NAT, also overlay networks
        "198.18.0.0/15",  # benchmarking, also fake addresses of local proxies
    ),
    *_table(
        Kind.NEVER,
        "0.0.0.0/8",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    ),
]

_V6 = [
    *_table(
        Kind.SENSITIVE,
        "fe80::/10",
        "fd00:ec2::/32",  # AWS metadata, DNS and time
        "fd20:ce::254/128",  # GCP metadata
        "fd00:42::42/128",  # Scaleway metadata
    ),
    *_table(Kind.PRIVATE, "::1/128", "fc00::/7"),
    *_table(
        Kind.NEVER,
        "2001::/23",  # protocol assignments; Teredo is unwrapped before
        "2001:db8::/32",
        "3fff::/20",
    ),
    *_table(Kind.GLOBAL, "2000::/3"),
]

_MAPPED = ipaddress.ip_network("::ffff:0:0/96")
_TRANSLATED = tuple(
    ipaddress.ip_network(text) for text in ("::ffff:0:0:0/96", "64:ff9b::/96", "::/96")
)
_SIX_TO_FOUR = ipaddress.ip_network("2002::/16")
_TEREDO = ipaddress.ip_network("2001::/32")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


def embedded(address: IPv6Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address carries: none, one, or two (Teredo)."""
    number = int(address)
    low = IPv4Address(number & 0xFFFF_FFFF)
    if address in _TEREDO:
        server = IPv4Address((number >> 64) & 0xFFFF_FFFF)
        return [server, IPv4Address(int(low) ^ 0xFFFF_FFFF)]
    if address in _SIX_TO_FOUR:
        return [IPv4Address((number >> 80) & 0xFFFF_FFFF)]
    if number <= 1:  # unspecified and loopback are no compatible addresses
        return []
    if address in _MAPPED or any(address in network for network in _TRANSLATED):
        return [low]
    if (number >> 32) & 0xFFFF_FFFF in _ISATAP:
        return [low]
    return []


@lru_cache(maxsize=4096)
def kind_of(address: Address) -> Kind:
    """Judge one address. An IPv4-mapped one is what it carries; a tunnel is at least private."""
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _V4 if address in network), Kind.GLOBAL)
    carried = embedded(address)
    if carried:
        worst = max(kind_of(inner) for inner in carried)
        return worst if address in _MAPPED else max(worst, Kind.PRIVATE)
    return next((kind for network, kind in _V6 if address in network), Kind.NEVER)


@lru_cache(maxsize=1024)
def parse_network(text: str) -> Network:
    """Read a CIDR network or a single address. Raises ValueError."""
    return ipaddress.ip_network(text.strip(), strict=False)


class AddressPolicy:
    """Which addresses callbacks may reach.

    ``allow`` lists networks that are always allowed (metadata and link-local too), except
    addresses where no callback can be. Raises ValueError for a network that can't be read.
    """

    def __init__(self, *, private: bool, allow: tuple[str, ...] = ()) -> None:
        self._private = private
        self._allow = tuple(parse_network(text) for text in allow)

    def problem(self, address: Address) -> str:
        """Return why the address is refused, or an empty text if it is allowed."""
        kind = kind_of(address)
        if kind is Kind.GLOBAL:
            return ""
        if kind is Kind.NEVER:
            return "not an address that a callback can be sent to"
        if self._listed(address):
            return ""
        if kind is Kind.SENSITIVE:
            return "a link-local or cloud metadata address"
        return "" if self._private else "a private or loopback address"

    def _listed(self, address: Address) -> bool:
        """A network lists an address itself; for a mapped or tunnelled one, all that it carries."""
        if any(address in network for network in self._allow):
            return True
        carried = embedded(address) if isinstance(address, IPv6Address) else []
        return bool(carried) and all(
            any(inner in network for network in self._allow) for inner in carried
        )
