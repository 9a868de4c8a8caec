"""``everbell schedule``: read a schedule, offline, with the engine that the node uses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from everbell.cli.base import Group, UsageError, state, warn
from everbell.cli.job_body import RULES, WEEKDAYS
from everbell.cli.output import print_answer, print_json, span
from everbell.telemetry.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from everbell.domain.schedule import Schedule
    from everbell.domain.schedule.explain import Explanation, Slot


@click.group(cls=Group)
def schedule() -> None:
    """Explain and check schedules, without a server."""


def _options(function: Any) -> Any:
    options = (
        click.option("--tz", default="UTC", show_default=True, help="Zone, as in Asia/Tokyo."),
        click.option("--start-at", metavar="TIME", help="No slot before."),
        click.option("--end-at", metavar="TIME", help="No slot after."),
        *RULES,
    )
    for option in reversed(options):
        function = option(function)
    return click.argument("text")(function)


def _parse(text: str, given: dict[str, Any], anchor_us: int | None = None) -> Schedule:
    from everbell.domain.schedule import parse_schedule
    from everbell.domain.schedule.zones import get_zone

    get_zone(given["tz"], given["tz"], 0)  # its error points into the zone, not into the text
    start, end = (_us(given[name]) for name in ("start_at", "end_at"))
    return parse_schedule(
        text,
        given["tz"],
        anchor_us=anchor_us if start is None else start,
        start_us=start,
        end_us=end,
        dst_gap=(given["dst_gap"] or "run-after").replace("-", "_"),
        dst_overlap=given["dst_overlap"] or "first",
        week_start=given["week_start"] or WEEKDAYS[0],
        exclude=given["exclude"],
    )


def _instant(text: str | None) -> datetime:
    if text is None:
        return datetime.fromtimestamp(SystemClock().now_us() / 1e6, UTC)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        message = f"`{text}` is no time"
        raise UsageError(message, hint="as in 2026-03-29T01:00:00+01:00") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _us(text: str | None) -> int | None:
    return None if text is None else int(_instant(text).timestamp()) * 1_000_000


def _explained(
    text: str, given: dict[str, Any], count: int, after: datetime
) -> tuple[Schedule, Explanation]:
    from everbell.domain.schedule.explain import explain as explained

    after_us = int(after.timestamp()) * 1_000_000
    found = _parse(text, given, after_us)
    return found, explained(found, after_us, count)


def rows(slots: Iterable[Slot], tz: str, after: datetime) -> list[dict[str, Any]]:
    """Return slots as rows, each with what a clock change does to it."""
    zone = ZoneInfo(tz)
    found: list[dict[str, Any]] = []
    for slot in slots:
        utc = datetime.fromtimestamp(slot.at_us // 1_000_000, UTC)
        utc = utc.replace(microsecond=slot.at_us % 1_000_000)
        at = utc.astimezone(zone)
        found.append(
            {
                "at": at.isoformat(),
                "utc": utc.isoformat().replace("+00:00", "Z"),
                "zone": at.tzname(),
                "in": "in " + span((at - after).total_seconds()),
                "mark": slot.mark,
                "note": slot.note,
            }
        )
    return found


def _changes(found: Explanation, tz: str) -> list[dict[str, Any]]:
    zone = ZoneInfo(tz)
    return [
        {
            "at": datetime.fromtimestamp(one.at_us // 1_000_000, zone).isoformat(),
            "before": one.before_s,
            "after": one.after_s,
            "note": one.note,
        }
        for one in found.changes
    ]


@schedule.command("explain")
@_options
@click.option("-n", "--n", "count", type=click.IntRange(0, 1000), default=5, show_default=True)
@click.option("--after", metavar="TIME", help="Begin after this time, not now.")
def explain(text: str, count: int, after: str | None, **given: Any) -> None:
    """Say TEXT in words, when it fires next, and what clock changes do to it."""
    since = _instant(after)
    found, said = _explained(text, given, count, since)
    next_rows, excluded = rows(said.slots, found.tz, since), rows(said.excluded, found.tz, since)
    changes = _changes(said, found.tz)
    if state().form == "json":
        words = {"schedule": text, "timezone": found.tz, "words": said.words}
        told = {"warnings": list(said.warnings), "next": next_rows, "excluded": excluded}
        print_json({"data": {**words, **told, "clock_changes": changes}})
        return
    click.echo(said.words)
    for warning in said.warnings:
        warn(warning)
    for row in sorted(next_rows + excluded, key=lambda one: str(one["utc"])):
        tail = f"  ({row['note']})" if row["note"] else ""
        click.echo(f"  {row['at']}  {row['in']}{tail}")
    if count and not next_rows:
        click.echo("  never again")
    for change in changes:
        way = "forward" if change["after"] > change["before"] else "back"
        moved = span(abs(change["after"] - change["before"]))
        click.echo(f"clocks go {way} {moved} at {change['at']}: {change['note']}")


@schedule.command("next")
@_options
@click.option("-n", "--n", "count", type=click.IntRange(1, 100_000), default=5, show_default=True)
@click.option("--after", metavar="TIME", help="Begin after this time, not now.")
def next_(text: str, count: int, after: str | None, **given: Any) -> None:
    """Print the next slots of TEXT."""
    since = _instant(after)
    found, said = _explained(text, given, count, since)
    columns = [("AT", "at"), ("UTC", "utc"), ("IN", "in"), ("NOTE", "note")]
    print_answer({"data": rows(said.slots, found.tz, since)}, columns)


@schedule.command("check")
@_options
def check(text: str, **given: Any) -> None:
    """Exit with 0 if TEXT can be read, with 2 and the position if not."""
    found = _parse(text, given)
    warnings = found.lint(SystemClock().now_us())
    for warning in warnings:
        warn(warning)
    if state().form == "json":
        print_json({"data": {"ok": True, "words": found.describe(), "warnings": warnings}})
    else:
        click.echo("ok")
