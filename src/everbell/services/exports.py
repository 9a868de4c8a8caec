"""Jobs as files: what the API shows of a job, without what need not be said, and as a crontab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

# What a job of a file does not say by itself.
_BESIDE = frozenset({"project", "owner"})


def without_defaults(shown: Mapping[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the body that makes a job which is shown like this; ``kind`` is the body's shape.

    Project and owner are left out: they stand beside the jobs of a file.
    """
    names = {field.encode_name for field in msgspec.structs.fields(kind)}
    given = {name: value for name, value in shown.items() if name in names - _BESIDE}
    return _said(msgspec.convert(given, kind))


def _said(value: msgspec.Struct) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if value.__struct_config__.tag_field is not None:
        said[str(value.__struct_config__.tag_field)] = value.__struct_config__.tag
    for field in msgspec.structs.fields(value):
        own = getattr(value, field.name)
        if not field.required and own == _default(field):
            continue
        said[field.encode_name] = _plain(own)
    return said


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _said(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return msgspec.to_builtins(value)
