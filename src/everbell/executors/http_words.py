"""What went on between us and a target, in words for people."""

from __future__ import annotations

import errno
from http import HTTPStatus

import aiohttp
from yarl import URL


def where(target: URL) -> str:
    """Return host and port, as people write them."""
    host = target.raw_host or ""
    return f"[{host}]:{target.port}" if ":" in host else f"{host}:{target.port}"


def status_words(status: int) -> str:
    """Return the status with its standard words; never the words that the server sent."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


_REASONS = {
    errno.ECONNREFUSED: "connection refused by {}",
    errno.ECONNRESET: "connection reset by {}",
    errno.EHOSTUNREACH: "no route to {}",
    errno.ENETUNREACH: "network of {} is unreachable",
    errno.ETIMEDOUT: "{} does not answer",
    errno.EPIPE: "connection closed by {}",
}


def error_words(error: aiohttp.ClientError | OSError, target: URL) -> str:
    """Say what went wrong on the way."""
    place = where(target)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"no address found for host {target.raw_host}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        inner = error.certificate_error
        reason = getattr(inner, "verify_message", "") or "it does not match the name"
        return f"the certificate of {place} is refused: {reason}"
    if isinstance(error, aiohttp.ClientSSLError):
        return f"no TLS connection with {place}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return f"{place} closed the connection without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return f"{place} broke off its answer"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{place} gave an answer that is no HTTP"
    number = getattr(error, "errno", None)
    if number in _REASONS:
        return _REASONS[number].format(place)
    return f"no connection to {place}"
