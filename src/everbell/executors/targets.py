"""The one reading of a callback's URL, used when a job is stored and when it is called."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

from yarl import URL

from everbell.domain.errors import RefusedError, ValidationError
from everbell.executors.addresses import Address, AddressPolicy, Kind, kind_of

_BAD_CHARACTERS = re.compile(r"[\x00-\x20\x7f\\]")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?")
_NUMERIC_LABEL = re.compile(r"([0-9]+|0[xX][0-9a-fA-F]*)")
MAX_URL = 8192


@lru_cache(maxsize=4096)
def parse_target(url: str) -> URL:
    """Read an http(s) URL strictly; no DNS.

    Raises ValidationError for anything that two parsers could read differently (ASVS 1.5.3).
    """
    if not url or len(url) > MAX_URL:
        raise ValidationError(
            "the URL is empty" if not url else f"the URL is longer than {MAX_URL} characters",
            hint="write it like https://example.com/path",
        )
    if _BAD_CHARACTERS.search(url):
        raise ValidationError(
            "the URL holds a space, a backslash or a control character",
            hint="percent-encode it: a space is %20, a backslash %5C",
        )
    try:
        target = URL(url)
        second = urlsplit(url)
        second_port = second.port
    except ValueError as error:
        raise ValidationError(
            f"the URL can't be read: {error}", hint="write it like https://example.com/path"
        ) from None
    _check_authority(target, second.netloc)
    if second_port == 0:
        raise ValidationError("port 0 can't be called", hint="name the port the target listens on")
    _check_host(target, second.netloc, second.hostname or "")
    return target


def _check_authority(target: URL, authority: str) -> None:
    if target.scheme not in {"http", "https"}:
        raise ValidationError(
            f"callbacks speak http and https, not {target.scheme or 'a URL without a scheme'!r}",
            hint="write it like https://example.com/path",
        )
    if "@" in authority:
        raise ValidationError(
            "the URL holds a user name or a password",
            hint="put the credential into a header, such as Authorization",
        )
    if not target.raw_host:
        raise ValidationError(
            "the URL names no host", hint="write it like https://example.com/path"
        )


def _check_host(target: URL, authority: str, written: str) -> None:
    host = target.raw_host or ""
    if "%" in written or "%" in host:
        raise ValidationError(
            "the host holds a zone or a percent sign", hint="write the plain address or name"
        )
    if ":" in host or "[" in authority:
        _literal(host)
        return
    if not _HOST.fullmatch(host) or len(host) > 253:
        raise ValidationError(
            f"{host[:80]!r} is no host name", hint="letters, digits, hyphens and dots only"
        )
    # A name whose last label is a number is an IPv4 address to some resolvers and a name to others.
    last = host.rstrip(".").rpartition(".")[2]
    if _NUMERIC_LABEL.fullmatch(last) and (host != written or not _is_plain_v4(host)):
        raise ValidationError(
            f"{written[:80]!r} is an unusual way to write an IPv4 address",
            hint="write it as four decimal numbers, like 192.168.1.10",
        )


def _is_plain_v4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _literal(host: str) -> Address:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        raise ValidationError(
            f"{host[:80]!r} is no IP address", hint="IPv6 is written like http://[2001:db8::1]/"
        ) from None


def check_literal(target: URL, policy: AddressPolicy) -> None:
    """Judge a host that is written as an address; names are judged when they are resolved.

    Raises RefusedError.
    """
    host = target.raw_host or ""
    if ":" in host or _is_plain_v4(host):
        refuse_unless_allowed(host, [_literal(host)], policy)


def refuse_unless_allowed(host: str, answers: list[Address], policy: AddressPolicy) -> None:
    """Raise RefusedError unless every answer may be called: one bad answer spoils a name."""
    for address in answers:
        problem = policy.problem(address)
        if problem:
            where = str(address) if host == str(address) else f"{host} ({address})"
            hint = "an operator can list the network under callbacks.allow"
            if kind_of(address) is Kind.NEVER:
                hint = "no setting allows it: name the host that answers"
            raise RefusedError(f"callbacks to {where} are refused: {problem}", hint=hint)
