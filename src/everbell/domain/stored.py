"""How a definition is kept in a database: JSON, which a row may hold damaged."""

from __future__ import annotations

import msgspec

from everbell.domain.job import CommandAction, Definition

_decode = msgspec.json.Decoder(Definition).decode
_encode = msgspec.json.Encoder().encode


def encode(definition: Definition) -> str:
    """Return the stored form of a definition."""
    return _encode(definition).decode()


def placeholder(name: str) -> Definition:
    """Return what stands for a definition that can't be read: a command without arguments."""
    return Definition(name=name, action=CommandAction(argv=()))


def decode(text: str | None, name: str) -> tuple[Definition, str]:
    """Return a definition and ""; of one that can't be read a placeholder and why not.

    So one bad row never breaks a list; the engine stores the quarantine when it meets the job.
    """
    try:
        return _decode(text or ""), ""
    except msgspec.MsgspecError as error:
        return placeholder(name), f"the stored definition can't be read: {error}"
