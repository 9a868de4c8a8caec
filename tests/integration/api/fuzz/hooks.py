"""What a description can't say and the fuzzer must know."""

import itertools

import schemathesis

_count = itertools.count(1)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Give every request a key of its own: a repeated one with another body is rightly refused."""
    headers = case.headers or {}
    key = headers.get("idempotency-key")
    if isinstance(key, str) and 0 < len(key) <= 200 and key.isascii() and key.isprintable():
        headers["idempotency-key"] = f"{key}-{next(_count)}"
