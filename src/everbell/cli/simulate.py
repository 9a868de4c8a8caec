"""``everbell simulate``: what would an outage do?"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from everbell.cli.base import Command, say, state
from everbell.cli.client import connect
from everbell.cli.find import find_job
from everbell.cli.job_body import SPAN
from everbell.cli.output import Column, print_answer, print_json

COLUMNS: list[Column] = [
    ("JOB", "job"),
    ("SLOT", "local"),
    ("BECOMES", "becomes"),
    ("AT", "local_at"),
    ("NOTE", "note"),
]
_WORDS = {
    "runs": "runs",
    "late": "runs late",
    "catch_up": "caught up",
    "again": "runs again",
    "lost": "lost",
    "skipped": "skipped",
    "missed": "missed",
    "cancelled": "cancelled",
}


@click.command("simulate", cls=Command)
@click.option(
    "--down",
    "downs",
    metavar="HH:MM-HH:MM",
    multiple=True,
    required=True,
    help="No node is up then (local times; past midnight if it ends earlier). Repeatable.",
)
@click.option("--date", "day", metavar="DAY", required=True, help="On this day: 2027-03-28.")
@click.option("--zone", "--tz", help="Zone of these times (the job's, else UTC).")
@click.option("--job", "job_key", metavar="JOB", help="Only this job (id, uuid or name).")
@click.option("-p", "--project", envvar="EVERBELL_PROJECT", help="Only jobs of this project.")
@click.option("--takes", type=SPAN, default="0s", help="How long each run lasts (0s).")
def simulate(
    downs: tuple[str, ...],
    day: str,
    zone: str | None,
    job_key: str | None,
    project: str | None,
    takes: float,
) -> None:
    """Tell what would run, be skipped, missed or caught up around an outage.

    The planner of the nodes decides, on a clock of its own: nothing runs, no node is needed.
    """
    client = connect(state())
    query: dict[str, Any] = {"down": ",".join(downs), "date": day, "zone": zone}
    query |= {"project": project, "takes": round(takes)}
    if job_key:
        query["job"] = find_job(client, job_key, project)
    answer = client.call("GET", "/simulate", query=query)
    data = answer["data"]
    while data["next"] is not None:
        more = client.call("GET", "/simulate", query={**query, "cursor": data["next"]})["data"]
        data = {**more, "jobs": [*data["jobs"], *more["jobs"]]}
    if state().form == "json":
        print_json({**answer, "data": data})
        return
    _show(data)


def _show(data: dict[str, Any]) -> None:
    for down in data["outages"]:
        start, end = (datetime.fromisoformat(down[name]) for name in ("local_from", "local_to"))
        say(f"no node from {start.isoformat()} to {end.isoformat()} ({end - start})")
    rows = [
        {
            **fate,
            "job": job["job"],
            "becomes": _becomes(fate),
            "local": fate["local"],
        }
        for job in data["jobs"]
        for fate in job["fates"]
    ]
    print_answer({"data": rows}, COLUMNS)
    for job in data["jobs"]:
        counts = ", ".join(
            f"{count} {_WORDS.get(what, what)}" for what, count in job["counts"].items()
        )
        notes = [job["note"]] if job["note"] else []
        notes += [f"{job['more']} lines are left out"] if job["more"] else []
        tail = f" ({'; '.join(notes)})" if notes else ""
        policies = f"misfire {job['misfire']}, overlap {job['overlap']}"
        say(f"{job['job']}: {counts or 'nothing'}; {policies}{tail}")


def _becomes(fate: dict[str, Any]) -> str:
    words = _WORDS.get(fate["what"], fate["what"])
    words += f" ({fate['reason']})" if fate["reason"] else ""
    return f"{fate['count']} slots {words}" if fate["count"] > 1 else words
