"""``everbell verify``: does the ledger account for every slot?"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import click

from everbell.cli.base import EXIT_FAILED, EXIT_OK, Command, State, UsageError, say, state
from everbell.cli.client import ApiClient, App, LocalClient, connect
from everbell.cli.find import find_job
from everbell.cli.output import Column, print_answer, print_json
from everbell.cli.times import WHEN
from everbell.config.loader import Loaded
from everbell.config.secrets import Secrets

COLUMNS: list[Column] = [
    ("JOB", "job"),
    ("ID", "job_id"),
    ("WHAT", "kind"),
    ("FIRST", "first"),
    ("LAST", "last"),
    ("COUNT", "count"),
    ("RUN", "run"),
    ("DETAIL", "detail"),
    ("WHY", "why"),
]
FINDINGS_MAX = 10_000
_SUMS = ("jobs", "slots", "unexplained", "explained")


@click.command("verify", cls=Command)
@click.option("--job", "job_key", metavar="JOB", help="Only this job (id, uuid or name).")
@click.option("-p", "--project", envvar="EVERBELL_PROJECT", help="Only this project.")
@click.option("--from", "from_", type=WHEN, help="First slot (all that is kept); `2d ago`.")
@click.option("--to", type=WHEN, help="Last slot (some seconds ago).")
@click.option(
    "--database",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A backup, or another database, as of its last moment; it is not changed.",
)
@click.option("--explained", is_flag=True, help="List also what has an explanation.")
def verify(
    job_key: str | None,
    project: str | None,
    from_: str | None,
    to: str | None,
    database: Path | None,
    *,
    explained: bool,
) -> int:
    """Derive every slot from the schedules' versions and compare them with the ledger.

    Exit code 0: every slot has its one row, or it is explained why not. 1: something is not.
    """
    client = connect(state()) if database is None else _over(state(), database)
    query = {"project": project, "from": from_, "to": to}
    if job_key:
        query["job"] = find_job(client, job_key, project)
    told = _account(client, query)
    _show(told, explained=explained)
    return EXIT_FAILED if told["unexplained"] else EXIT_OK


def _account(client: ApiClient, query: dict[str, Any]) -> dict[str, Any]:
    """Ask part by part and add them up."""
    told: dict[str, Any] = {}
    states: Counter[str] = Counter()
    findings: list[dict[str, Any]] = []
    cursor = None
    while True:
        part = client.call("GET", "/verify", query={**query, "cursor": cursor})["data"]
        states.update(part["states"])
        room = FINDINGS_MAX - len(findings)
        findings += part["findings"][:room]
        sums = {name: told.get(name, 0) + part[name] for name in _SUMS}
        told = {"from": told.get("from", part["from"]), "to": part["to"], **sums}
        cursor = part["next"]
        if cursor is None:
            return {**told, "states": dict(sorted(states.items())), "findings": findings}


def _show(told: dict[str, Any], *, explained: bool) -> None:
    if state().form == "json":
        print_json({"data": told, "success": True})
        return
    shown = [one for one in told["findings"] if explained or not one["why"]]
    if shown or state().form != "table":
        print_answer({"data": shown}, COLUMNS)
    counted = ", ".join(f"{count} {name}" for name, count in told["states"].items())
    say(f"{told['slots']} slots of {told['jobs']} jobs, {told['from']} to {told['to']}")
    if counted:
        say(f"  {counted}")
    if told["explained"]:
        hint = "" if explained else " (--explained lists them)"
        say(f"  {told['explained']} findings with an explanation{hint}")
    if told["unexplained"]:
        say(f"error: {told['unexplained']} findings that nothing explains")
        say("hint: `everbell why JOB --at TIME` tells what is known of a slot")
    elif state().form == "table":
        click.echo("every slot is accounted for")


def _over(at: State, file: Path) -> ApiClient:
    if at.server:
        raise UsageError("--database and --server contradict each other", hint="give one of them")
    client = _FileClient(at.load(tell=False), file)
    click.get_current_context().call_on_close(client.close)
    return client


class _FileClient(LocalClient):
    """The application over a file that is only looked at; it needs no secrets."""

    def __init__(self, loaded: Loaded, file: Path) -> None:
        self._file = file
        super().__init__(loaded, Secrets(secret_key=""))

    async def _keep(self, loaded: Loaded, _: Secrets, opened: asyncio.Future[App]) -> None:
        from everbell.bootstrap import open_still

        async with open_still(self._file, loaded.settings) as app:
            opened.set_result(app)
            await self._closing.wait()
