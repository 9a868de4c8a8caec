"""The schema as a table: every setting with type, default and meaning; reading single values."""

from __future__ import annotations

import contextlib
import math
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from everbell.config.schema import Settings
from everbell.domain.errors import ConfigError


class Field(NamedTuple):
    """One setting. ``type`` keeps its annotations; ``base`` is the bare type."""

    section: str
    key: str
    type: Any
    base: Any
    default: Any
    doc: str

    @property
    def name(self) -> str:
        """The dotted name, as in ``server.port``."""
        return f"{self.section}.{self.key}"

    @property
    def env(self) -> str:
        """The variable that sets it."""
        return f"EVERBELL_{self.section}_{self.key}".upper().replace(".", "_")

    def of(self, settings: Settings) -> Any:
        """Return its value."""
        value: Any = settings
        for part in self.name.split("."):
            value = getattr(value, part)
        return value


@cache
def all_fields() -> dict[str, Field]:
    """Return every setting by its dotted name, in the order of the schema."""
    sections = get_type_hints(Settings).items()
    return {field.name: field for name, kind in sections for field in _fields_of(name, kind)}


def _fields_of(section: str, kind: Any, inside: str = "") -> Iterator[Field]:
    hints = get_type_hints(kind, include_extras=True)
    for info in msgspec.structs.fields(kind):
        hint, key = hints[info.name], inside + info.name
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield from _fields_of(section, hint, f"{key}.")
            continue
        doc = next((m.description for m in hint.__metadata__ if m.description), "")
        default = info.default
        if info.default_factory is not msgspec.NODEFAULT:
            default = info.default_factory()
        yield Field(section, key, hint, hint.__origin__, default, doc)


SECRET = frozenset({"database.password", "redis.password", "crypto.salt"})
"""Settings that are never shown; those that hold an address are shown without its password."""


def shown_value(name: str, value: Any) -> Any:
    """Return a setting's value for people: secrets hidden."""
    if name in SECRET:
        return "***" if value else ""
    return without_password(value) if name in {"database.url", "redis.addr"} else value


def without_password(url: str) -> str:
    """Return an address to be shown to people."""
    return re.sub(r"^(\w+://[^/@:]*:).*(@)", r"\1***\2", url)


@cache
def section_docs() -> dict[str, str]:
    """Return every section with its meaning."""
    return {name: (kind.__doc__ or "").strip() for name, kind in get_type_hints(Settings).items()}


def expectation(field: Field) -> str:
    """Return in words what a setting takes."""
    if get_origin(field.base) is Literal:
        return "one of " + ", ".join(str(item) for item in get_args(field.base))
    if field.base in {int, float}:
        noun = "a whole number" if field.base is int else "a number"
        return f"{noun}{_bounds(field)}"
    if get_origin(field.base) is tuple:
        item = get_args(field.base)[0]
        if get_origin(item) is Literal:
            return "a list of " + ", ".join(str(one) for one in get_args(item))
        return "a list of texts"
    if get_origin(field.base) is dict:
        return "a table of texts"
    if field.base is bool:
        return "true or false"
    if any(meta.min_length for meta in field.type.__metadata__):
        return "a text that is not empty"
    return "a text"


def _bounds(field: Field) -> str:
    low, above, high = _limits(field)
    if above is not None:
        start = f" above {above}"
    elif low is not None:
        start = f" of at least {low}"
    else:
        start = ""
    return start + (f" and at most {high}" if start and high is not None else "")


def _limits(field: Field) -> tuple[Any, Any, Any]:
    metas = field.type.__metadata__
    found = [next((v for m in metas if (v := getattr(m, at)) is not None), None) for at in _BOUNDS]
    return found[0], found[1], found[2]


_BOUNDS = ("ge", "gt", "le")


def read_value(field: Field, value: Any, *, text: bool) -> Any:
    """Convert a value from a file, or (``text``) from the environment or a flag.

    Raises ConfigError without a place: the caller knows where the value came from.
    """
    raw = _from_text(field, value) if text and isinstance(value, str) else value
    if get_origin(field.base) is Literal and isinstance(raw, str):
        raw = _any_case(get_args(field.base), raw)
    elif get_origin(field.base) is tuple and isinstance(raw, list):
        raw = [_any_case(_allowed(field), one) if isinstance(one, str) else one for one in raw]
    try:
        result = msgspec.convert(raw, field.type, strict=not text)
    except (msgspec.ValidationError, OverflowError):
        raise _wrong(field, value, text=text) from None
    if isinstance(result, float) and not math.isfinite(result):
        raise _wrong(field, value, text=text)
    return result


def _wrong(field: Field, value: Any, *, text: bool) -> ConfigError:
    if field.name in SECRET:
        message = f"`{field.name}` must be {expectation(field)}"
        return ConfigError(message, hint="write it in quotes")
    shown = repr(value) if not isinstance(value, str) else f"`{value[:80]}`"
    message = f"`{field.name}` must be {expectation(field)}, not {shown[:100]}"
    quoted = field.base is str and not isinstance(value, (dict, list))
    hint = f'write it in quotes: "{value}"' if quoted and value != "" else field.doc
    if not text and isinstance(value, str) and value.isdigit() and field.base in {int, float}:
        hint = f"write it without quotes: {value}" if len(value) < 10 else field.doc
    return ConfigError(message, hint=hint)


def _allowed(field: Field) -> tuple[str, ...]:
    item = get_args(field.base)[0]
    return get_args(item) if get_origin(item) is Literal else ()


def _any_case(allowed: tuple[str, ...], value: str) -> str:
    return next((item for item in allowed if item.casefold() == value.casefold()), value)


def _from_text(field: Field, text: str) -> Any:
    """Read the text forms of lists (``a,b``) and tables (``k=v,k=v``), or those of a file."""
    if get_origin(field.base) in {tuple, dict} and text.strip()[:1] in {"[", "{"}:
        # As it stands in a TOML file: ["a", "b"]. What is no list there may be an IPv6 address.
        with contextlib.suppress(tomllib.TOMLDecodeError):
            return tomllib.loads(f"value = {text.strip()}")["value"]
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if get_origin(field.base) is tuple:
        return parts
    if get_origin(field.base) is dict:
        if not all("=" in part for part in parts):
            return text
        return dict(part.split("=", 1) for part in parts)
    return text if field.base is str else text.strip()


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a native configuration file, for editors."""
    schema: dict[str, Any] = msgspec.json.schema(Settings)
    return {"title": "Everbell configuration", **schema}
