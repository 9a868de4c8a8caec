"""Printing answers: a table for people, whole texts for pipes, the API's JSON for programs."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from everbell.cli.base import state

Column = tuple[str, str]
"""(heading, dotted path into the object)."""


def print_json(body: Any) -> None:
    """Print JSON: indented for a terminal, one line in a pipe is not needed by any tool."""
    click.echo(json.dumps(body, indent=2, ensure_ascii=False))


def print_answer(
    body: dict[str, Any],
    columns: Sequence[Column],
    in_words: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> None:
    """Print an API answer (the envelope) in the form that was asked for.

    ``in_words`` puts a row in words, for people: on a terminal only.
    """
    form = state().form
    data = body.get("data")
    rows = data if isinstance(data, list) else [data] if data is not None else []
    if form == "json":
        print_json(body)
    elif form == "jsonl":
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    elif form == "yaml":
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)
    elif form in {"id", "name"}:
        other = "id" if form == "name" else "name"
        for row in rows:
            click.echo(str(row.get(form) or row.get(other)))
    elif form == "csv":
        _print_csv(columns, rows)
    else:
        told = in_words if in_words is not None and sys.stdout.isatty() else dict
        print_table(columns, [told(row) for row in rows])


def print_record(body: dict[str, Any], columns: Sequence[Column]) -> None:
    """Print one object: names and values below each other for people."""
    if state().form != "table":
        print_answer(body, columns)
        return
    data = body.get("data") or {}
    width = max((len(heading) for heading, _ in columns), default=0)
    for heading, path in columns:
        value = cell(pick(data, path))
        if value:
            click.echo(f"{heading:<{width}}  {value}")


def _print_csv(columns: Sequence[Column], rows: Iterable[Any]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([heading.lower() for heading, _ in columns])
    writer.writerows([cell(pick(row, path)) for _, path in columns] for row in rows)


def print_table(columns: Sequence[Column], rows: Iterable[Any]) -> None:
    """Align columns on a terminal; in a pipe, tabs and whole values."""
    grid = [[cell(pick(row, path)) for _, path in columns] for row in rows]
    headings = [heading for heading, _ in columns]
    if not sys.stdout.isatty():
        for line in ([heading.lower() for heading in headings], *grid):
            click.echo("\t".join(" ".join(text.split()) for text in line))
        return
    _print_aligned(headings, [[" ".join(text.split()) for text in line] for line in grid])


def _print_aligned(headings: list[str], grid: list[list[str]]) -> None:
    if not grid:
        click.echo("none", err=True)
        return
    if state().wide:
        table = [headings, *grid]
        widths = [max(len(line[i]) for line in table) for i in range(len(headings))]
    else:
        table = [headings, *([_whole_second(text) for text in line] for line in grid)]
        table, widths = fit_columns(table, max(40, _terminal_width()))
    plain = bool(os.environ.get("NO_COLOR"))
    for number, line in enumerate(table):
        fitted = [_fit(text, width) for text, width in zip(line, widths, strict=True)]
        text = "  ".join(fitted).rstrip()
        click.echo(click.style(text, bold=True) if number == 0 and not plain else text)


_ISO = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+(Z|[+-]\d\d:\d\d)")
_WORDS = ("WHY", "NOTE", "REASON", "SCHEDULE", "DESCRIPTION", "STATUS")
_NAMES = ("JOB", "NAME", "PROJECT", "WHO", "ADDRESS", "TARGET")
_CUT = _WORDS + _NAMES
_SPARE = ("CODE", "STARTED", "ZONE", "LAST", "MEMORY", "CPU %", "QUEUED", "MS", "ADDRESS")
"""Left out one after the other where a table is too wide; ``-o wide`` shows all."""

_LEAST = 12


def fit_columns(table: list[list[str]], room: int) -> tuple[list[list[str]], list[int]]:
    """Return the table and its columns' widths, made to fit a line of ``room`` characters.

    ``table`` begins with the headings. Reasons and other words are cut first, names next. Times,
    ids and states are never cut: columns that matter less are left out, else lines are longer.
    """
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    kept = list(range(len(widths)))

    def excess(least: int) -> int:
        shown = [min(widths[i], least) if table[0][i] in _CUT else widths[i] for i in kept]
        return sum(shown) + 2 * (len(shown) - 1) - room

    for spare in _SPARE:
        if excess(_LEAST) > 0 and spare in table[0]:
            kept.remove(table[0].index(spare))
    for group in (_WORDS, _NAMES):
        shown = [i for i in kept if table[0][i] in group]
        while excess(room) > 0 and any(widths[i] > _LEAST for i in shown):
            widths[max(shown, key=lambda i: widths[i])] -= 1
    return [[line[i] for i in kept] for line in table], [widths[i] for i in kept]


def _whole_second(text: str) -> str:
    """Return a time without its fraction; -o wide and all other forms have it."""
    found = _ISO.fullmatch(text)
    return text if found is None else found[1] + found[2]


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def pick(item: Any, path: str) -> Any:
    """Follow a dotted path; the first of ``a|b`` that is there wins."""
    for option in path.split("|"):
        value = item
        for part in option.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value not in {None, ""} if not isinstance(value, (dict, list)) else value:
            return value
    return None


def cell(value: Any) -> str:
    """Return a value as text for a table."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value):
        return ",".join(str(item) for item in value)
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


_STEERING = re.compile(r"\x1b(?!\[[0-9;:]*m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]")


def for_terminal(text: str) -> str:
    """Return a program's output as a terminal may show it.

    Colours, tabs and line ends stay. What else steers a terminal (its title, the cursor, the
    clipboard) is shown as text: a job's target must not act on the person who reads its log.
    """
    return _STEERING.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def span(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    left = round(abs(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size} {unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts) or "0 s"


def iso_utc(at_us: int) -> str:
    """Return microseconds since the epoch as ISO 8601, UTC."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat()
