"""Keyed hashes and derived secrets: pure functions of the installation's secret key."""

from __future__ import annotations

import base64
import hashlib
import hmac
from functools import lru_cache

_WEBHOOK_CONTEXT = b"everbell/webhook/v1/"


def hash_secret(secret_key: bytes, secret: str) -> str:
    """Return the hex HMAC-SHA256 of an API secret; only this is stored.

    A fast keyed hash is right here: API secrets are random, 32 bytes, never chosen by people.
    """
    return hmac.new(secret_key, secret.encode(), hashlib.sha256).hexdigest()


def same_secret(secret_key: bytes, secret: str, stored: str) -> bool:
    """Tell in constant time whether ``secret`` is the one whose hash is ``stored``."""
    return bool(stored) and hmac.compare_digest(hash_secret(secret_key, secret), stored)


@lru_cache(maxsize=4096)
def derive_webhook_secret(secret_key: bytes, project_uuid: str) -> bytes:
    """Return the 32 bytes with which callbacks of a project's jobs are signed."""
    context = _WEBHOOK_CONTEXT + project_uuid.encode()
    return hmac.new(secret_key, context, hashlib.sha256).digest()


def webhook_secret_text(secret: bytes) -> str:
    """Return the ``whsec_`` form that Standard Webhooks libraries take."""
    return "whsec_" + base64.b64encode(secret).decode("ascii")


def key_check(secret_key: bytes) -> str:
    """Return a value that tells two secret keys apart without giving either away."""
    return hmac.new(secret_key, b"everbell/key-check/v1", hashlib.sha256).hexdigest()[:32]
