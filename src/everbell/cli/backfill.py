"""``everbell backfill``: run slots of the past."""

from __future__ import annotations

from typing import Any

import click

from everbell.cli.ask import confirm
from everbell.cli.base import EXIT_OK, Command, say, state
from everbell.cli.client import connect
from everbell.cli.find import find_job
from everbell.cli.output import Column, print_answer
from everbell.cli.times import WHEN

COLUMNS: list[Column] = [
    ("SLOT", "at"),
    ("LOCAL", "local"),
    ("BEFORE", "before"),
    ("RUN", "run.id"),
    ("STATE", "run.state"),
]


@click.command("backfill", cls=Command)
@click.argument("key", metavar="JOB")
@click.option("-p", "--project", envvar="EVERBELL_PROJECT", help="Project of the job.")
@click.option("--from", "from_", type=WHEN, required=True, help="First slot; `2d ago`.")
@click.option("--to", type=WHEN, default="now", show_default=True, help="Last slot.")
@click.option("--max", "most", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--dry-run", is_flag=True, help="Only list the slots.")
@click.option("--reason", default="", help="Kept with the runs.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def backfill(
    key: str,
    project: str | None,
    from_: str,
    to: str,
    most: int,
    reason: str,
    *,
    dry_run: bool,
    yes: bool,
) -> int:
    """Run each slot of JOB between two times that has no successful run, oldest first.

    The list is shown first. Asking again starts nothing twice; what failed is tried anew.
    """
    client = connect(state())
    path = f"/jobs/{find_job(client, key, project)}/backfill"
    body: dict[str, Any] = {"from": from_, "to": to, "max": most, "reason": reason}
    listed = client.call("POST", path, body={**body, "dry_run": True})
    slots = listed["data"]["slots"]
    if dry_run or not slots:
        _show(listed)
        return EXIT_OK
    if not yes:
        _show(listed)
    confirm(f"Run {len(slots)} slots of {key}?", yes=yes)
    _show(client.call("POST", path, body=body))
    return EXIT_OK


def _show(answer: dict[str, Any]) -> None:
    if state().form != "table":
        print_answer(answer, COLUMNS)
        return
    data = answer["data"]
    if data["slots"]:
        print_answer({"data": data["slots"]}, COLUMNS)
    verb = "queued" if data["started"] else "to run"
    say(f"{len(data['slots'])} {verb}, {data['done']} had run, {data['waiting']} are under way")
    if data["more"]:
        say(f"{data['more']} more are left out; ask again, or with a greater --max")
