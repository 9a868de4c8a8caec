"""Who asks: from headers, or from the process itself."""

from __future__ import annotations

import base64
import binascii

from starlette.requests import Request

from everbell.api.refusals import Refusals
from everbell.domain.errors import AuthenticationError
from everbell.services.context import LOCAL, Actor, Services
from everbell.services.credentials import authenticate

LOCAL_FLAG = "everbell.local"
"""Key of the ASGI scope that in-process callers set to True. No header can set it."""

_HINT = (
    "send x-api-key and x-secret-key, or 'Authorization: Bearer <api_key>:<secret>'; "
    "`everbell credential create` makes them"
)


async def identify(services: Services, request: Request) -> Actor:
    """Return who asks. Raises AuthenticationError, RateLimited (too many wrong ones)."""
    if request.scope.get(LOCAL_FLAG) is True:
        return LOCAL
    key, secret = _given(request)
    refusals: Refusals = request.app.state.refusals
    address, now_s = address_of(request), services.clock.monotonic()
    refusals.check(address, key, now_s)
    try:
        actor = await authenticate(services, key, secret)
    except AuthenticationError:
        refusals.failed(address, key, now_s)
        raise
    refusals.passed(address, key)
    return actor


def address_of(request: Request) -> str:
    """Return the caller's address, if the server knows it."""
    return request.client.host if request.client else ""


def _given(request: Request) -> tuple[str, str]:
    key = request.headers.get("x-api-key")
    secret = request.headers.get("x-secret-key")
    if key and secret:
        return key, secret
    if key or secret:
        absent = "x-secret-key" if key else "x-api-key"
        raise AuthenticationError(f"the header {absent} is missing", hint=_HINT)
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if not scheme:
        raise AuthenticationError("no API key was sent", hint=_HINT)
    if scheme.lower() == "basic":
        value = _decoded(value)
    elif scheme.lower() != "bearer":
        raise AuthenticationError("this kind of authorization is not known", hint=_HINT)
    name, colon, rest = value.strip().partition(":")
    if not (name and colon and rest):
        raise AuthenticationError("the authorization is not <api_key>:<secret>", hint=_HINT)
    return name, rest


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise AuthenticationError("the Basic authorization can't be read", hint=_HINT) from None
