"""``everbell job skip-next`` and ``everbell job run-instead``."""

from __future__ import annotations

from typing import Any

import click

from everbell.cli.base import Command, say, state
from everbell.cli.client import connect
from everbell.cli.find import find_job
from everbell.cli.output import Column, print_answer
from everbell.cli.times import WHEN

COLUMNS: list[Column] = [
    ("SKIPPED", "skipped.slot"),
    ("ID", "skipped.id"),
    ("WHY", "skipped.reason"),
    ("INSTEAD", "instead.id"),
    ("AT", "instead.due_at"),
]
_key = click.argument("key", metavar="JOB")
_project = click.option(
    "-p", "--project", envvar="EVERBELL_PROJECT", help="Project, by id, uuid or name."
)
_slot = click.option("--slot", type=WHEN, help="This coming slot (the next one).")
_reason = click.option("--reason", default="", help="Kept in the ledger.")


@click.command("skip-next", cls=Command)
@_key
@_project
@_slot
@_reason
def skip_next(key: str, project: str | None, slot: str | None, reason: str) -> None:
    """Let a job's next slot go by; the ledger says that it was skipped by hand."""
    _skip(key, project, "skip-next", {"slot": slot, "reason": reason})


@click.command("run-instead", cls=Command)
@_key
@_project
@_slot
@click.option("--at", type=WHEN, help="When it runs instead (now).")
@_reason
def run_instead(
    key: str, project: str | None, slot: str | None, at: str | None, reason: str
) -> None:
    """Skip a job's next slot and run it now, or at another time, in its place."""
    _skip(key, project, "run-instead", {"slot": slot, "at": at, "reason": reason})


def _skip(key: str, project: str | None, verb: str, given: dict[str, Any]) -> None:
    client = connect(state())
    body = {name: value for name, value in given.items() if value}
    answer = client.call("POST", f"/jobs/{find_job(client, key, project)}/{verb}", body=body)
    if state().form != "table":
        print_answer(answer, COLUMNS)
        return
    data = answer["data"]
    click.echo(f"slot {data['skipped']['slot']} is skipped")
    run = data.get("instead")
    if run:
        click.echo(f"run {run['id']} {run['state']}, due {run['due_at']}")
        if not any(one["state"] == "up" for one in client.call("GET", "/nodes")["data"]):
            say("note: no node is up; it waits for one (`everbell start`)")
