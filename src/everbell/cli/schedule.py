"""``everbell schedule``: read a schedule, offline, with the engine that the node uses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from everbell.cli.base import Group, UsageError, state, warn
from everbell.cli.output import print_answer, print_json, span
from everbell.telemetry.clock import SystemClock

if TYPE_CHECKING:
    from everbell.domain.schedule import Schedule


@click.group(cls=Group)
def schedule() -> None:
    """Explain and check schedules, without a server."""


def _options(function: Any) -> Any:
    function = click.option(
        "--tz", default="UTC", show_default=True, help="Zone, as in Asia/Tokyo."
    )(function)
    return click.argument("text")(function)


def _parse(text: str, tz: str, anchor_us: int | None = None) -> Schedule:
    from everbell.domain.schedule import parse_schedule

    return parse_schedule(text, tz, anchor_us=anchor_us)


def _instant(text: str | None) -> datetime:
    if text is None:
        return datetime.fromtimestamp(SystemClock().now_us() / 1e6, UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        message = f"`{text}` is no time"
        raise UsageError(message, hint="as in 2026-03-29T01:00:00+01:00") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def slots(text: str, tz: str, count: int, after: datetime) -> list[dict[str, Any]]:
    """Return the next slots, each with what the clock does before it."""
    rows: list[dict[str, Any]] = []
    anchor = int(after.timestamp()) * 1_000_000
    last = None
    for at in _parse(text, tz, anchor).slots(after, count):
        offset = at.utcoffset()
        previous = after.astimezone(at.tzinfo).utcoffset() if last is None else last
        change = "" if offset == previous or offset is None or previous is None else "clock change"
        if change and offset is not None and previous is not None:
            hours = (offset - previous).total_seconds() / 3600
            change = f"clock goes {'forward' if hours > 0 else 'back'} {span(hours * 3600)} before"
        rows.append(
            {
                "at": at.isoformat(),
                "utc": at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
                "zone": at.tzname(),
                "in": "in " + span((at - after).total_seconds()),
                "note": change,
            }
        )
        last = offset
    return rows


@schedule.command("explain")
@_options
@click.option("-n", "--n", "count", type=click.IntRange(0, 1000), default=5, show_default=True)
@click.option("--after", metavar="TIME", help="Begin after this time, not now.")
def explain(text: str, tz: str, count: int, after: str | None) -> None:
    """Say TEXT in words, and when it fires next."""
    found = _parse(text, tz)
    rows = slots(text, tz, count, _instant(after))
    if state().form == "json":
        words = {"schedule": text, "timezone": found.tz, "words": found.describe()}
        print_json({"data": {**words, "warnings": found.lint(), "next": rows}})
        return
    click.echo(found.describe())
    for warning in found.lint():
        warn(warning)
    for row in rows:
        tail = f"  ({row['note']})" if row["note"] else ""
        click.echo(f"  {row['at']}  {row['in']}{tail}")
    if count and not rows:
        click.echo("  never again")


@schedule.command("next")
@_options
@click.option("-n", "--n", "count", type=click.IntRange(1, 100_000), default=5, show_default=True)
@click.option("--after", metavar="TIME", help="Begin after this time, not now.")
def next_(text: str, tz: str, count: int, after: str | None) -> None:
    """Print the next slots of TEXT."""
    rows = slots(text, tz, count, _instant(after))
    columns = [("AT", "at"), ("UTC", "utc"), ("IN", "in"), ("NOTE", "note")]
    print_answer({"data": rows}, columns)


@schedule.command("check")
@_options
def check(text: str, tz: str) -> None:
    """Exit with 0 if TEXT can be read, with 2 and the position if not."""
    found = _parse(text, tz)
    for warning in found.lint():
        warn(warning)
    if state().form == "json":
        print_json({"data": {"ok": True, "words": found.describe(), "warnings": found.lint()}})
    else:
        click.echo("ok")
