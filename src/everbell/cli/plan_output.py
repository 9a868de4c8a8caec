"""A plan for people: jobs, fields, fire times, load; and its errors with the place in the file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from everbell.cli.base import ApiError, say, state
from everbell.cli.client import ApiClient
from everbell.cli.output import print_json

MARKS = {"add": "+", "change": "~", "remove": "-"}
SHOWN = 3
_POINTER = re.compile(r"/jobs/(\d+)")


def send(client: ApiClient, body: dict[str, Any], places: Sequence[str]) -> dict[str, Any]:
    """Apply or plan. Raises ApiError that names places of the file, not of the request."""
    try:
        return client.call("POST", "/apply", body=body)
    except ApiError as error:
        raise _placed(error, places) from None


def _placed(error: ApiError, places: Sequence[str]) -> ApiError:
    def place(found: re.Match[str]) -> str:
        number = int(found[1])
        return f"{places[number]}: " if number < len(places) else found[0]

    problem = dict(error.problem)
    items = [dict(one) for one in problem.get("errors") or [] if isinstance(one, dict)]
    for item in items:
        item["pointer"] = _POINTER.sub(place, str(item.get("pointer", "")))
    told = _POINTER.sub(place, error.message)
    # One wrong job is named at once; of several each has its own line.
    if len(items) == 1 and items[0]["pointer"].partition(": ")[0] not in told:
        told = f"{items[0]['pointer'].partition(': ')[0]}: {told}"
    return ApiError(error.status, {**problem, "errors": items, "detail": told})


def show_plan(answer: dict[str, Any]) -> None:
    """Print a plan in the form that was asked for."""
    if state().form != "table":
        print_json(answer)
        return
    data = answer["data"]
    for note in answer.get("notes") or ():
        say(f"note: {note}")
    for step in data["steps"]:
        _show_step(step)
    if data["steps"]:
        _show_load(data)
    verb = {True: "", False: "to "}[data["applied"]]
    words = ("added", "changed", "removed") if data["applied"] else ("add", "change", "remove")
    counts = [data[name] for name in ("added", "changed", "removed")]
    told = ", ".join(f"{n} {verb}{word}" for n, word in zip(counts, words, strict=True))
    click.echo(f"{told}, {data['unchanged']} unchanged")


def _show_step(step: dict[str, Any]) -> None:
    click.echo(f"{MARKS[step['what']]} {step['project']}/{step['job']}")
    for one in step["fields"]:
        click.echo(f"    {one['field']}: {_value(one['before'])} -> {_value(one['after'])}")
    if step["moves"] is not None:
        _show_moves(step)


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return "none" if value is None else text if len(text) <= 200 else text[:200] + "..."


def _show_moves(step: dict[str, Any]) -> None:
    found, zone = step["moves"], ZoneInfo(step["timezone"])

    def times(name: str) -> str:
        return ", ".join(local(at, zone) for at in found[name][:SHOWN]) or "never"

    until = local(found["until"], zone)
    few = "" if found["whole"] else " (too many slots for more)"
    counts = f"{found['gone_count']} go, {found['new_count']} come, {found['kept_count']} stay"
    click.echo(f"    fire times until {until}{few}: {counts}")
    if step["what"] != "add":
        click.echo(f"      before: {times('before')}")
    if step["what"] != "remove":
        click.echo(f"      after:  {times('after')}")
    edit = found["edit"]
    if edit is not None:
        last = local(edit["last"], zone)
        upcoming = local(edit["next"], zone) if edit["next"] else "never"
        slots = ", ".join(local(at, zone) for at in edit["slots"][:SHOWN])
        what = {"missed": "missed by the edit", "doubled": "doubled by the edit"}[edit["kind"]]
        click.echo(f"      {what}: {slots} (last slot {last}, next {upcoming})")


def _show_load(data: dict[str, Any]) -> None:
    before, after = data["load_before"], data["load_after"]
    rate = f"{before['per_hour']:.2f} -> {after['per_hour']:.2f} starts an hour"
    at = f" (at {after['peak_at']})" if after["peak_at"] else ""
    peak = f"busiest minute {before['peak']} -> {after['peak']} starts{at}"
    click.echo(f"load until {data['load_until']}: {rate}, {peak}")


def local(at: str, zone: ZoneInfo) -> str:
    """Return an instant as the job's own clock shows it."""
    shown = datetime.fromisoformat(at).astimezone(zone)
    return shown.strftime("%Y-%m-%dT%H:%M:%S%z").replace("+0000", "Z")
