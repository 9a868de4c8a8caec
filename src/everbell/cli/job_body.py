"""From the options of ``job create`` and ``job edit`` to the body that the API takes."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from everbell.cli.base import UsageError

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")


class Span(click.ParamType[float]):
    """Seconds, or a number with ms, s, m, h or d."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return seconds."""
        found = _SPAN.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"`{value}` is no duration; as in 30s, 5m or 1.5h", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


SPAN = Span()

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# What decides slots beside the text; `schedule explain` takes the same.
RULES = (
    click.option(
        "--exclude",
        metavar="WHEN",
        multiple=True,
        help="No slots then: 2026-12-25, --12-24..--01-06, sat,sun 22:00-06:00. Repeatable.",
    ),
    click.option(
        "--dst-gap",
        type=click.Choice(["run-after", "skip"]),
        help="Times that a clock change leaves out: one run after it (default), or none.",
    ),
    click.option(
        "--dst-overlap",
        type=click.Choice(["first", "second", "both"]),
        help="Times that occur twice: when to run (first).",
    ),
    click.option("--week-start", type=click.Choice(WEEKDAYS), help="Day of `weekly` (monday)."),
)
_WHEN = (
    click.option("--schedule", metavar="TEXT", help="Any schedule text."),
    click.option("--cron", metavar="EXPR", help='Cron expression, as in "0 2 * * 1-5".'),
    click.option("--every", metavar="DURATION", help="Interval, as in 10s or 1h30m."),
    click.option("--at", metavar="TIME", help="Once, as in 2026-12-24T18:00."),
    click.option("--times", metavar="LIST", help="Every day, as in 02:00,14:30:15."),
    click.option("--interval", metavar="SPAN", help="As in 05:30 (MM:SS) or 01:00:00."),
    click.option("--override", metavar="TEXT", help="Replaces the schedule until cleared."),
    click.option("--override-times", metavar="LIST", help="The same, as times of day."),
    click.option("--override-interval", metavar="SPAN", help="The same, as MM:SS or HH:MM:SS."),
    click.option("--tz", help="Zone that the schedule is read in (UTC)."),
    click.option("--start-at", metavar="TIME", help="No slot before."),
    click.option("--end-at", metavar="TIME", help="No slot after."),
    click.option("--anchor-at", metavar="TIME", help="Intervals count from here (creation)."),
    click.option("--jitter", type=SPAN, help="Move all slots by one stable part of this."),
    click.option("--once/--repeat", "once", default=None, help="The first slot only, or all."),
    *RULES,
)
_WHAT = (
    click.option("--http", metavar="URL", help="Call this address."),
    click.option("--method", metavar="METHOD", help="HTTP method (POST)."),
    click.option("--header", "headers", metavar="NAME:VALUE", multiple=True, help="Repeatable."),
    click.option("--batch", is_flag=True, help="Share one request with runs of the same instant."),
    click.option("--script", metavar="FILE", help="Run this script; - reads it from stdin."),
    click.option("--interpreter", help="Of the script (sh)."),
    click.option("--queue", metavar="DRIVER", help="Put a message on the queue of this driver."),
    click.option("--cwd", metavar="DIR", help="Directory of the process."),
    click.option("--env", "env", metavar="NAME=VALUE", multiple=True, help="Repeatable."),
)
_AROUND = (
    click.option(
        "--check", metavar="CMD", help="First, before planned runs; exit 1 = skip the run."
    ),
    click.option("--check-url", metavar="URL", help="The same by HTTP GET; 204 = skip the run."),
    click.option(
        "--then",
        metavar="JOB[:WHEN[:DELAY]]",
        multiple=True,
        help="Start JOB after each run: on success (default), failure or always. Repeatable.",
    ),
    click.option(
        "--limit",
        "limits",
        metavar="NAME",
        multiple=True,
        help="Share a limit with other jobs (`everbell limit set`). Repeatable.",
    ),
)
_HOW = (
    click.option("--description"),
    click.option("--timeout", type=SPAN, help="Longest run, as in 90s."),
    click.option("--retries", type=click.IntRange(0), help="Further attempts after a failure."),
    click.option("--retry-delay", type=SPAN, help="Wait before the next attempt."),
    click.option("--data", metavar="JSON", help="Handed to the target; @FILE reads it from FILE."),
    click.option("--overlap", type=click.Choice(["skip", "queue", "allow", "replace"])),
    click.option("--max-running", type=click.IntRange(1), help="Runs at once before --overlap."),
    click.option("--misfire", type=click.Choice(["skip", "latest", "all"])),
    click.option("--tag", "tags", multiple=True, help="Repeatable."),
)


def definition_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add all options that define a job."""
    for option in reversed((*_WHEN, *_WHAT, *_AROUND, *_HOW)):
        function = option(function)
    return function


def job_body(given: dict[str, Any], argv: tuple[str, ...]) -> dict[str, Any]:
    """Return what was said about a job, and nothing else. Raises UsageError."""
    body: dict[str, Any] = {}
    if (text := _schedule(given)) is not None:
        body["schedule"] = text
    if (action := _action(given, argv)) is not None:
        body["action"] = action
    for name, key in _PLAIN.items():
        if given.get(name) is not None:
            body[key] = given[name]
    body |= _rules(given) | _around(given)
    if given.get("misfire"):
        body["misfire"] = {"policy": given["misfire"]}
    if given.get("tags"):
        body["tags"] = list(given["tags"])
    retry = {"max": given.get("retries"), "delay": given.get("retry_delay")}
    if said := {key: value for key, value in retry.items() if value is not None}:
        body["retry"] = said
    if given.get("data") is not None:
        body["data"] = _data(given["data"])
    return body


_PLAIN = {
    "tz": "timezone",
    "start_at": "start_at",
    "end_at": "end_at",
    "anchor_at": "anchor_at",
    "jitter": "jitter",
    "week_start": "week_start",
    "description": "description",
    "timeout": "timeout",
    "overlap": "overlap",
    "max_running": "max_running",
}


def _rules(given: dict[str, Any]) -> dict[str, Any]:
    """What decides slots beside the schedule's text."""
    body: dict[str, Any] = {}
    if (text := _text(given, ("override", "override_times", "override_interval"))) is not None:
        body["override"] = text
    if given.get("exclude"):
        body["exclude"] = list(given["exclude"])
    dst = {"gap": given.get("dst_gap"), "overlap": given.get("dst_overlap")}
    if said := {key: value.replace("-", "_") for key, value in dst.items() if value is not None}:
        body["dst"] = said
    if given.get("once") is not None:
        body["repeat"] = not given["once"]
    return body


def _around(given: dict[str, Any]) -> dict[str, Any]:
    """What goes before a run, comes after it, and may not go on beside it."""
    body: dict[str, Any] = {}
    if given.get("check") is not None and given.get("check_url") is not None:
        raise UsageError("--check and --check-url both say what to check", hint="keep one of them")
    if given.get("check") is not None:
        body["check"] = {"kind": "command", "argv": _words(given["check"])}
    if given.get("check_url") is not None:
        body["check"] = {"kind": "http", "url": given["check_url"], "method": "GET"}
    if given.get("then"):
        body["then"] = [_then(text) for text in given["then"]]
    if given.get("limits"):
        body["limits"] = list(given["limits"])
    return body


def _words(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--check can't be read: {str(error).lower()}") from None
    if not words:
        raise UsageError("--check is empty", hint='as in --check "test -e /var/spool/new"')
    return words


# A name with a colon is told from a mistyped word by the word that must follow it.
_THEN = re.compile(r"([^:]+)|(.+):(success|failure|always)(?::([^:]+))?")


def _then(text: str) -> dict[str, Any]:
    found = _THEN.fullmatch(text)
    if found is None:
        hint = "as in report, alarm:failure or clean-up:always:5m"
        raise UsageError(
            f"--then needs JOB[:success|failure|always[:DELAY]], not `{text}`", hint=hint
        )
    name, named, word, delay = found.groups()
    then: dict[str, Any] = {"job": name or named}
    if word:
        then["on"] = word
    if delay:
        then["delay"] = SPAN.convert(delay, None, None)
    return then


_PREFIX = {"every": "@every ", "at": "@at ", "times": "times ", "interval": "interval "}


def _schedule(given: dict[str, Any]) -> str | None:
    return _text(given, ("schedule", "cron", "every", "at", "times", "interval"))


def _text(given: dict[str, Any], names: tuple[str, ...]) -> str | None:
    said = [name for name in names if given.get(name) is not None]
    if len(said) > 1:
        flags = " and ".join(f"--{name.replace('_', '-')}" for name in said)
        raise UsageError(f"{flags} both say when", hint="keep one of them")
    if not said:
        return None
    value = str(given[said[0]])
    return value if value.startswith("@") else _PREFIX.get(said[0].split("_")[-1], "") + value


def _action(given: dict[str, Any], argv: tuple[str, ...]) -> dict[str, Any] | None:
    said = [flag for flag in ("http", "script", "queue") if given.get(flag)]
    kinds = [f"--{flag}" for flag in said] + (["a command"] if argv else [])
    if len(kinds) > 1:
        raise UsageError(f"{' and '.join(kinds)} both say what to run", hint="keep one of them")
    if not kinds:
        _refuse_lonely(given)
        return None
    if given.get("http"):
        action = {"kind": "http", "url": given["http"]}
        _pairs(action, "headers", given.get("headers") or (), ":")
        if given.get("method"):
            action["method"] = str(given["method"]).upper()
        if given.get("batch"):
            action["batch"] = True
        return action
    if given.get("queue"):
        return {"kind": "queue", "driver": given["queue"]}
    if given.get("script"):
        action = {"kind": "script", "text": _read(str(given["script"]))}
        if given.get("interpreter"):
            action["interpreter"] = given["interpreter"]
    else:
        action = {"kind": "command", "argv": list(argv)}
    if given.get("cwd"):
        action["cwd"] = given["cwd"]
    _pairs(action, "env", given.get("env") or (), "=")
    return action


def _refuse_lonely(given: dict[str, Any]) -> None:
    for name in ("method", "headers", "batch", "interpreter", "cwd", "env"):
        if given.get(name):
            flag = {"headers": "header"}.get(name, name)
            hint = "give --http URL, --script FILE or -- COMMAND as well"
            raise UsageError(f"--{flag} needs something to run", hint=hint)


def _pairs(action: dict[str, Any], key: str, texts: tuple[str, ...], mark: str) -> None:
    pairs = {}
    for text in texts:
        name, found, value = text.partition(mark)
        if not found or not name.strip():
            flag = "--header" if key == "headers" else "--env"
            raise UsageError(f"{flag} needs NAME{mark}VALUE, not `{text}`")
        pairs[name.strip()] = value.strip() if mark == ":" else value
    if pairs:
        action[key] = pairs


def _read(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.read()
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        message = f"can't read {path}: {error.strerror or error}"
        raise UsageError(message, hint="name a file, or - for stdin") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text") from error


def _data(text: str) -> Any:
    raw = _read(text[1:]) if text.startswith("@") else text
    return read_json(raw, "--data")


def read_json(raw: str, what: str) -> Any:
    """Return a JSON value. Raises UsageError with line and column."""
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        message = f"{what} is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        raise UsageError(message, hint='text needs double quotes: \'{"a": "b"}\'') from None
