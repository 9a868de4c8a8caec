"""``everbell why``: why did a job run, or not?"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click

from everbell.cli.base import Command, say, state
from everbell.cli.client import connect
from everbell.cli.find import find_job
from everbell.cli.output import print_answer
from everbell.cli.times import WHEN
from everbell.telemetry.clock import SystemClock

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")


@click.command("why", cls=Command)
@click.argument("key", metavar="JOB")
@click.option("-p", "--project", envvar="EVERBELL_PROJECT", help="Project of the job.")
@click.option(
    "--at",
    metavar="TIME",
    help="About this time (the last slot): ISO 8601, without a zone in the job's; 02:00; `2h ago`.",
)
def why(key: str, project: str | None, at: str | None) -> None:
    """Say why JOB ran, or did not, and what came before and after."""
    client = connect(state())
    path = f"/jobs/{find_job(client, key, project)}"
    asked = None
    if at is not None:
        asked = _instant(at, ZoneInfo(client.call("GET", path)["data"]["timezone"]))
    answer = client.call("GET", f"{path}/why", query={"at": asked})
    if state().form != "table":
        print_answer(answer, [("AT", "at"), ("VERDICT", "verdict")])
        return
    _tell(answer["data"])


def _instant(text: str, zone: ZoneInfo) -> str:
    """Return ISO 8601 with a zone; a time of day is the last one that passed."""
    if found := _CLOCK.fullmatch(text):
        now = datetime.fromtimestamp(SystemClock().now_us() / 1e6, UTC).astimezone(zone)
        hour, minute, second = (int(part or 0) for part in found.groups())
        at = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
        return (at if at <= now else at - timedelta(days=1)).isoformat()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return WHEN.convert(text, None, None)
    return (at if at.tzinfo else at.replace(tzinfo=zone)).isoformat()


def _tell(data: dict[str, Any]) -> None:
    click.echo(f"job {data['job_id']} `{data['job']}` at {data['local']}")
    click.echo(f"  {data['verdict']}")
    for fact in data["facts"]:
        click.echo(f"  {fact}")
    for name in ("before", "slot", "after"):
        slot = data[name]
        if slot is not None:
            run = f"  run {slot['run']['id']}" if slot["run"] else ""
            click.echo(f"{name:<6}  {slot['local']}  {slot['words']}{run}")
    for run in data["beside"]:
        click.echo(f"beside  run {run['id']} ({run['trigger']}) was at work")
    if data["slot"] is None:
        near = _nearest(data)
        if near is not None:
            say(f"hint: did you mean `--at {near['local']}`?")


def _nearest(data: dict[str, Any]) -> dict[str, Any] | None:
    slots = [data[name] for name in ("before", "after") if data[name] is not None]
    at = datetime.fromisoformat(data["at"])

    def distance(slot: dict[str, Any]) -> timedelta:
        return abs(datetime.fromisoformat(slot["at"]) - at)

    return min(slots, key=distance, default=None)
