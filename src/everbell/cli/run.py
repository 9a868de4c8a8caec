"""``everbell run``."""

from __future__ import annotations

import sys
from typing import Any

import click

from everbell.cli.base import Group, UsageError, say, state
from everbell.cli.chain import chain_of
from everbell.cli.client import ApiClient, connect, seg
from everbell.cli.find import find_job
from everbell.cli.follow import follow_run
from everbell.cli.job_body import SPAN
from everbell.cli.output import Column, for_terminal, print_answer, print_record
from everbell.cli.words import is_ahead, run_in_words, what_it_waits_for
from everbell.domain.errors import NotFoundError

COLUMNS: list[Column] = [
    ("ID", "id"),
    ("JOB", "job"),
    ("SLOT", "slot"),
    ("TRIGGER", "trigger"),
    ("STATE", "state"),
    ("CODE", "code"),
    ("STARTED", "started_at"),
    ("MS", "duration_ms"),
    ("WHY", "error|reason"),
]
DETAILS: list[Column] = [
    *COLUMNS[:-1],
    ("ERROR", "error"),
    ("REASON", "reason"),
    ("FOLLOWS", "follows"),
    ("THEN", "then"),
    ("ATTEMPT", "attempt"),
    ("ATTEMPTS", "attempts"),
    ("NODE", "node"),
    ("LATE MS", "lateness_ms"),
    ("FINISHED", "finished_at"),
    ("OUTPUT", "output_bytes"),
    ("TRUNCATED", "truncated"),
    ("UNTIL", "until"),
    ("COUNT", "count"),
]
BEGUN = "claimed,running,succeeded,failed,timed_out,cancelled,lost"
_project = click.option("-p", "--project", envvar="EVERBELL_PROJECT", help="Project of the job.")
_job = click.option("--job", "job_key", metavar="JOB", help="The job's latest run, without an ID.")


@click.group(cls=Group)
def run() -> None:
    """Look at runs: state, output, cancel, retry."""


@run.command("list")
@click.option("--job", "job_key", metavar="JOB", help="Only of this job (id, uuid or name).")
@_project
@click.option("--state", "states", multiple=True, help="As in failed. Repeatable.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
def list_(job_key: str | None, project: str | None, states: tuple[str, ...], limit: int) -> None:
    """List runs, newest first."""
    client = connect(state())
    query: dict[str, Any] = {"state": ",".join(states) or None}
    if job_key:
        query["job"] = find_job(client, job_key, project)
    else:
        query["project"] = project
    print_answer(client.pages("/runs", query, limit), COLUMNS, run_in_words)


@run.command("show")
@click.argument("run_id", metavar="[ID]", required=False)
@_job
@_project
def show(run_id: str | None, job_key: str | None, project: str | None) -> None:
    """Show one run."""
    client, chosen = _chosen(run_id, job_key, project)
    answer = client.call("GET", f"/runs/{seg(chosen)}")
    if state().form == "table":
        answer = {**answer, "data": {**answer["data"], **chain_of(client, answer["data"])}}
    print_record(answer, DETAILS)


run.add_command(show, "get")


@run.command("logs")
@click.argument("run_id", metavar="[ID]", required=False)
@click.option(
    "--job", "job_key", metavar="JOB", help="Of the job's newest run that started (-f: the newest)."
)
@_project
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--attempt", type=click.IntRange(1), help="Of this attempt (the last).")
def logs(
    run_id: str | None,
    job_key: str | None,
    project: str | None,
    attempt: int | None,
    *,
    follow: bool,
) -> None:
    """Print a run's output; its bytes unchanged unless followed."""
    client, chosen = _chosen(run_id, job_key, project, started=not follow)
    if follow:
        follow_run(client, chosen)
        return
    sys.stdout.flush()
    raw = client.text(f"/runs/{seg(chosen)}/output", {"attempt": attempt})
    if not raw:
        _tell_if_not_started(client, chosen)
        return
    if sys.stdout.isatty():
        click.echo(for_terminal(raw.decode(errors="replace")), nl=False)
        return
    sys.stdout.buffer.write(raw)
    sys.stdout.buffer.flush()


def _tell_if_not_started(client: ApiClient, run_id: str) -> None:
    found = client.call("GET", f"/runs/{seg(run_id)}")["data"]
    if is_ahead(found) and found["attempt"] == 1:
        why = what_it_waits_for(client, found)
        say(f"run {run_id} has not started" + (f": {why}" if why else ""))


@run.command("watch")
@click.argument("run_id", metavar="[ID]", required=False)
@_job
@_project
@click.option("--timeout", type=SPAN, help="Longest wait; then exit code 8.")
def watch(
    run_id: str | None, job_key: str | None, project: str | None, timeout: float | None
) -> int:
    """Follow a run and exit with its verdict: 0 succeeded, 3 not, 8 still at work."""
    client, chosen = _chosen(run_id, job_key, project)
    return follow_run(client, chosen, timeout)


def _chosen(
    run_id: str | None, job_key: str | None, project: str | None, *, started: bool = False
) -> tuple[ApiClient, str]:
    """Return the run that is meant: a job's newest, or with ``started`` the newest at work."""
    if (run_id is None) == (job_key is None):
        raise UsageError("name one run", hint="give its ID, or --job JOB for the latest of a job")
    client = connect(state())
    if run_id is not None:
        return client, run_id
    assert job_key is not None
    job_id = find_job(client, job_key, project)
    query: dict[str, Any] = {"job": job_id, "limit": 1}
    latest = client.call("GET", "/runs", query=query)["data"]
    if started and latest and (is_ahead(latest[0]) or latest[0]["state"] in {"skipped", "missed"}):
        query = {**query, "state": BEGUN, "limit": 50}
        begun = client.call("GET", "/runs", query=query)["data"]
        latest = [one for one in begun if not is_ahead(one)] or latest
    if not latest:
        hint = f"start one with `everbell job run {job_key}`"
        raise NotFoundError(f"job `{job_key}` has no run yet", hint=hint)
    return client, str(latest[0]["id"])


@run.command("cancel")
@click.argument("run_id", metavar="ID")
def cancel(run_id: str) -> None:
    """Ask for the end of a run."""
    answer = connect(state()).call("POST", f"/runs/{seg(run_id)}/cancel")
    _tell(answer, "told to stop")


@run.command("retry")
@click.argument("run_id", metavar="ID")
def retry(run_id: str) -> None:
    """Run again what a run was for, as a new run."""
    answer = connect(state()).call("POST", f"/runs/{seg(run_id)}/retry")
    _tell(answer, "queued")


def _tell(answer: dict[str, Any], done: str) -> None:
    if state().form != "table":
        print_answer(answer, COLUMNS)
        return
    data = answer.get("data") or {}
    click.echo(f"run {data.get('id')} {data.get('state')}")
    say(f"run {data.get('id')}: {done}")
