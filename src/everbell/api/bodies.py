"""Request bodies: bounded, JSON, and converted with every wrong field named."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import json
import re
import types
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from starlette.requests import Request

from everbell.api.problems import JsonError, MediaTypeError, SlowBody
from everbell.domain.errors import FieldProblem, LimitError, ValidationError
from everbell.services.validate import as_given

T = TypeVar("T", bound=msgspec.Struct)
_PATH = re.compile(r" - at `(\$.*)`\Z")
_BYTE = re.compile(r"\(byte (\d+)\)")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`\Z", re.DOTALL)
_ABSENT = re.compile(r"Object missing required field `(.*)`\Z", re.DOTALL)
_EXPECTED = re.compile(r"Expected `([^`]*)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_KINDS = "http, command, script, python or queue"
_EXAMPLES = {
    "action": 'such as {"kind": "http", "url": "https://example.com/callback"}',
    "name": "the name that people will know it by",
    "kind": _KINDS,
    "url": "an address such as https://example.com/callback",
}
"""What to give for a field that is missing, by its name."""
_DESCRIBED = "/openapi.json describes it"
_JSON_WORDS = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
}
MAX_SHOWN = 80
UNIQUE_MAX = 65_536
"""Longest body, in bytes, that is searched for keys that stand twice."""


async def read_body(request: Request, limit: int, timeout_s: float) -> bytes:
    """Return the body.

    Raises LimitError as soon as it is longer than ``limit`` bytes, SlowBody if it is not whole
    after ``timeout_s``.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _whole(request, limit)
    except TimeoutError:
        raise SlowBody(
            f"the body was not whole after {timeout_s:g} s",
            hint="send it faster, or in smaller requests (setting api.body_timeout)",
        ) from None


async def _whole(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def decode(body: bytes, content_type: str | None) -> Any:
    """Return the JSON value of a body. Raises MediaTypeError, JsonError (line and column)."""
    if content_type is not None:
        kind = content_type.partition(";")[0].strip().lower()
        if kind != "application/json" and not (
            kind.startswith("application/") and kind.endswith("+json")
        ):
            raise MediaTypeError(
                f"the body is declared as {kind[:MAX_SHOWN]!r}",
                hint="send JSON, with the header content-type: application/json",
            )
    if not body.strip():
        raise JsonError("the body is empty", hint="send a JSON object")
    try:
        value = msgspec.json.decode(body)
        if len(body) <= UNIQUE_MAX:
            _refuse_twice(body)
        return value
    except msgspec.DecodeError as error:
        raise _bad_json(body, str(error)) from None
    except RecursionError:
        raise JsonError("the body is nested too deeply", hint="fewer levels of lists") from None
    except (UnicodeDecodeError, ValueError):
        raise JsonError("the body is not UTF-8", hint="encode it as UTF-8") from None


def _refuse_twice(body: bytes) -> None:
    """Raise JsonError if an object has a key twice: else the last value would win unnoticed.

    It costs about 10 us per KiB, so that long bodies, which programs write, are not looked at.
    """
    with contextlib.suppress(ValueError):  # such as whole numbers of thousands of digits
        json.loads(body, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            shown = json.dumps(name[:MAX_SHOWN], ensure_ascii=False)
            raise JsonError(f"the key {shown} stands twice in an object", hint="keep one of them")
        seen.add(name)


def convert(value: Any, kind: type[T], pointer: str = "", names: dict[str, str] | None = None) -> T:
    """Return ``value`` as ``kind``. Raises ValidationError that names every wrong field.

    ``names`` maps our field names to those that the caller used.
    """
    names = names or {}
    if not isinstance(value, dict):
        problem = FieldProblem(pointer, f"is {_json_name(value)}", hint="a JSON object is needed")
        raise ValidationError("the body is not an object", problems=(problem,))
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError):
        # It stops at the first wrong field: look at each by itself, to name them all.
        pass
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    problems, suggestions = _unknown(value, list(fields))
    good: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in value:
            if field.required:
                problems.append(_missing(f"/{name}", field.type))
            continue
        try:
            good[field.name] = msgspec.convert(value[name], field.type)
        except msgspec.ValidationError as error:
            problems.append(_problem(str(error), f"/{name}", field.type))
    if problems:
        problems = [_placed(one, pointer, names) for one in problems]
        count = len(problems)
        detail = "1 field is wrong" if count == 1 else f"{count} fields are wrong"
        first = problems[0]
        raise ValidationError(
            f"{detail}: {first.pointer} {first.message}",
            hint=first.hint,
            problems=tuple(problems),
            suggestions=tuple(suggestions),
        )
    return kind(**good)


def closest(name: str, known: list[str]) -> tuple[str, ...]:
    """Return up to three known names that look like ``name``."""
    return tuple(difflib.get_close_matches(name.lower()[:100], known, n=3, cutoff=0.6))


def unknown_field(name: str, known: list[str], pointer: str) -> FieldProblem:
    """Return the problem of a field that nobody asked for."""
    near = closest(name, known)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return FieldProblem(f"{pointer}/{escape(name)}", "is unknown", hint=hint, code="unknown_field")


def escape(name: str) -> str:
    """Return one step of a JSON pointer (RFC 6901), shortened."""
    return name[:MAX_SHOWN].replace("~", "~0").replace("/", "~1")


def _placed(problem: FieldProblem, prefix: str, names: dict[str, str]) -> FieldProblem:
    pointer = prefix + as_given(problem.pointer, names)
    return FieldProblem(pointer, problem.message, hint=problem.hint, code=problem.code)


def _unknown(value: dict[str, Any], known: list[str]) -> tuple[list[FieldProblem], list[str]]:
    problems: list[FieldProblem] = []
    suggestions: list[str] = []
    for name in value:
        if name not in known:
            problems.append(unknown_field(name, known, ""))
            suggestions += closest(name, known)[:1]
            if len(problems) >= 20:
                break
    return problems, suggestions


def _too_large(limit: int) -> LimitError:
    return LimitError(
        f"the body is longer than {limit} bytes", hint="send less (setting api.max_body)"
    )


def _bad_json(body: bytes, message: str) -> JsonError:
    found = _BYTE.search(message)
    where = ""
    if found:
        at = int(found.group(1))
        before = body[:at]
        line = before.count(b"\n") + 1
        column = at - (before.rfind(b"\n") + 1) + 1
        where = f" at line {line}, column {column}"
    reason = _BYTE.sub("", message).removeprefix("JSON is malformed: ").strip(" :")
    return JsonError(f"the body is not JSON{where}: {reason}", hint="check quotes and commas")


def _problem(message: str, pointer: str, kind: Any) -> FieldProblem:
    steps: list[str] = []
    found = _PATH.search(message)
    if found:
        steps = [a or b for a, b in _STEP.findall(found.group(1))]
        message = message[: found.start()]
    pointer += "".join(f"/{escape(step)}" for step in steps)
    unknown = _UNKNOWN.match(message)
    if unknown:
        return unknown_field(unknown.group(1), _names_below(kind), pointer)
    absent = _ABSENT.match(message)
    if absent:
        return _missing(f"{pointer}/{absent.group(1)}")
    if message.startswith("Invalid value") and pointer.endswith("/kind"):
        return FieldProblem(pointer, "is no kind of action", hint=_KINDS)
    hint = _choices(_type_at(kind, steps)) or _words(message)
    return FieldProblem(pointer, message[:1].lower() + message[1:200], hint=hint)


def _words(message: str) -> str:
    """Return the types that a message of msgspec expects, in words."""
    found = _EXPECTED.match(message)
    names = found.group(1).split(" | ") if found else []
    return " or ".join(_JSON_WORDS.get(name, name) for name in names) or _DESCRIBED


def _choices(kind: Any) -> str:
    """Return the values that a type allows, if it lists them."""
    values = [
        str(value)
        for one in (kind, *get_args(kind))
        if get_origin(one) is Literal
        for value in get_args(one)
    ]
    return f"one of {', '.join(values)}" if values else ""


def _type_at(kind: Any, steps: list[str]) -> Any:
    """Return the type of a field inside a type, None where that can't be told."""
    for step in steps:
        inside = (kind, *get_args(kind))
        structs = [
            one for one in inside if isinstance(one, type) and issubclass(one, msgspec.Struct)
        ]
        fields = [field for one in structs for field in msgspec.structs.fields(one)]
        kind = next((field.type for field in fields if field.encode_name == step), None)
    return kind


def _missing(pointer: str, kind: Any = None) -> FieldProblem:
    """Return the problem of a field that must be there; its hint says what to give."""
    name = pointer.rpartition("/")[2]
    hint = _choices(kind) or _EXAMPLES.get(name, _DESCRIBED)
    return FieldProblem(pointer, "is missing", hint=hint, code="required")


def _names_below(kind: Any) -> list[str]:
    """Return the field names of all structs inside a type, for suggestions."""
    if get_origin(kind) in {Union, types.UnionType}:
        return [name for one in get_args(kind) for name in _names_below(one)]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [field.encode_name for field in msgspec.structs.fields(kind)]
    return []


def _json_name(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(value), "null" if value is None else "a number")
