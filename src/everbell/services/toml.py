"""Writes TOML 1.0; the standard library only reads it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


def jobs_file(head: Mapping[str, Any], jobs: list[dict[str, Any]]) -> str:
    """Return a file with plain keys first, then one ``[[jobs]]`` table for each job.

    Raises ValueError, with the job's name, for what TOML has no form for (null).
    """
    parts = ["".join(f"{_key(name)} = {value(one)}\n" for name, one in head.items())]
    for job in jobs:
        try:
            lines = [f"{_key(name)} = {value(one)}" for name, one in job.items()]
        except ValueError as error:
            raise ValueError(f"job `{job.get('name')}`: {error}") from None
        parts.append("[[jobs]]\n" + "\n".join(lines) + "\n")
    return "\n".join(part for part in parts if part)


def _key(name: str) -> str:
    return name if _BARE.match(name) else _text(name)


def _text(text: str) -> str:
    # JSON escapes are TOML escapes, but for DEL and surrogates, which UTF-8 does not have.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def value(given: Any) -> str:
    """Return one value in one line. Raises ValueError for null and for numbers out of range."""
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, str):
        return _text(given)
    if isinstance(given, int):
        if not -(2**63) <= given < 2**63:
            raise ValueError(f"{given} does not fit into 64 bits")
        return str(given)
    if isinstance(given, float):
        if not math.isfinite(given):
            raise ValueError("a number is not finite")
        return repr(given)
    if isinstance(given, Mapping):
        inner = ", ".join(f"{_key(str(name))} = {value(one)}" for name, one in given.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(given, list | tuple):
        return "[" + ", ".join(value(one) for one in given) + "]"
    raise ValueError("TOML has no null")
