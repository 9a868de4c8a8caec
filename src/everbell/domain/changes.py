"""What differs between two definitions, field by field."""

from __future__ import annotations

from typing import Any

import msgspec

from everbell.domain.job import Definition

# Compared as a whole: what a target is handed has no fields of ours.
_WHOLE = frozenset({"data"})


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    """A field with its value before and after, as plain JSON values.

    ``path`` holds the field's name inside the definition, and what leads into it, as in
    ``("action", "env", "PATH")``. None = it is not there.
    """

    path: tuple[str, ...]
    before: Any
    after: Any


def field_changes(before: Definition, after: Definition) -> tuple[FieldChange, ...]:
    """Return the fields that differ, in the order of the definition."""
    found: list[FieldChange] = []
    _compare((), msgspec.to_builtins(before), msgspec.to_builtins(after), found)
    return tuple(found)


def _compare(path: tuple[str, ...], before: Any, after: Any, found: list[FieldChange]) -> None:
    if before == after:
        return
    inside = isinstance(before, dict) and isinstance(after, dict)
    if not inside or path[:1] in {(name,) for name in _WHOLE} or _other_kind(before, after):
        found.append(FieldChange(path=path, before=before, after=after))
        return
    for name in dict.fromkeys((*before, *after)):
        _compare((*path, name), before.get(name), after.get(name), found)


def _other_kind(before: dict[str, Any], after: dict[str, Any]) -> bool:
    return bool(before.get("kind") != after.get("kind"))
