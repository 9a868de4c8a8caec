"""Identifiers from the ports of time and chance, so that a seed replays them."""

from __future__ import annotations

import base64
from uuid import UUID

from everbell.ports.clock import Clock, Entropy


def uuid7(clock: Clock, entropy: Entropy) -> str:
    """Return a version 7 UUID (RFC 9562): 48 bits of milliseconds, then 74 random bits."""
    milliseconds = clock.now_us() // 1000
    random = int.from_bytes(entropy.token_bytes(10), "big")
    value = (milliseconds & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= (random >> 68 & 0xFFF) << 64
    value |= 0b10 << 62
    value |= random & ((1 << 62) - 1)
    return str(UUID(int=value))


def short_id(entropy: Entropy) -> str:
    """Return 16 hex digits: enough to tell triggers of one job apart."""
    return entropy.token_bytes(8).hex()


def api_key(entropy: Entropy) -> str:
    """Return the public half of a credential."""
    return "eb_" + entropy.token_bytes(12).hex()


def api_secret(entropy: Entropy) -> str:
    """Return the secret half of a credential: 256 random bits, URL-safe.

    It never begins with a hyphen: programs would take it for an option.
    """
    secret = base64.urlsafe_b64encode(entropy.token_bytes(32)).decode().rstrip("=")
    return "0" + secret[1:] if secret[0] == "-" else secret
