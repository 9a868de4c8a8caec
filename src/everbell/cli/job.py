"""``everbell job``."""

from __future__ import annotations

from typing import Any

import click

from everbell.cli.ask import confirm
from everbell.cli.base import Group, UsageError, say, state
from everbell.cli.client import ApiClient, connect
from everbell.cli.find import find_job
from everbell.cli.follow import follow_run
from everbell.cli.job_body import SPAN, definition_options, job_body, read_json
from everbell.cli.output import Column, print_answer, print_record

COLUMNS: list[Column] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("PROJECT", "project"),
    ("SCHEDULE", "schedule"),
    ("ZONE", "timezone"),
    ("ENABLED", "enabled"),
    ("NEXT", "next_run"),
    ("LAST", "last_run"),
    ("STATUS", "quarantined|parked|last_status"),
]
DETAILS: list[Column] = [
    *COLUMNS[:-1],
    ("STATUS", "last_status"),
    ("PARKED", "parked"),
    ("QUARANTINED", "quarantined"),
    ("OVERRIDE", "override"),
    ("EXCLUDE", "exclude"),
    ("ACTION", "action"),
    ("DATA", "data"),
    ("DESCRIPTION", "description"),
    ("CHECK", "check"),
    ("LAST SKIPPED", "last_skipped"),
    ("THEN", "then"),
    ("LIMITS", "limits"),
    ("OVERLAP", "overlap"),
    ("MISFIRE", "misfire.policy"),
    ("RETRY", "retry"),
    ("TIMEOUT", "timeout"),
    ("FAILURES", "failures"),
    ("TAGS", "tags"),
    ("OWNER", "owner"),
    ("VERSION", "version"),
    ("UUID", "uuid"),
    ("CREATED", "created_at"),
    ("UPDATED", "updated_at"),
]
_key = click.argument("key", metavar="JOB")
_project = click.option(
    "-p", "--project", envvar="EVERBELL_PROJECT", help="Project, by id, uuid or name."
)


LAZY = {
    "skip-next": ("everbell.cli.skip:skip_next", "Let the next slot go by."),
    "run-instead": ("everbell.cli.skip:run_instead", "Skip the next slot, run in its place."),
}


@click.group(cls=Group, lazy=LAZY)
def job() -> None:
    """Create, change, run and list jobs."""


@job.command("create", context_settings={"ignore_unknown_options": False})
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@_project
@click.option("--disabled", is_flag=True, help="Plan nothing until it is enabled.")
@definition_options
def create(
    name: str, command: tuple[str, ...], project: str | None, *, disabled: bool, **given: Any
) -> None:
    """Create job NAME: when (--every, --cron, --at, --schedule) and what to run.

    The command stands behind `--`: everbell job create hello --every 10s -- echo hi
    """
    body = {"name": name, **job_body(given, command)}
    if "action" not in body:
        hint = "give --http URL, --script FILE, or a command behind `--`"
        raise UsageError(f"job `{name}` has nothing to run", hint=hint)
    if project:
        body["project"] = project
    if disabled:
        body["enabled"] = False
    answer = connect(state()).call("POST", "/jobs", body=body)
    _show_changed(answer, "created")
    if "schedule" not in body:
        say("no schedule: it runs only when told (`everbell job run`)")


def _show_changed(answer: dict[str, Any], verb: str) -> None:
    for note in answer.get("notes") or ():
        say(f"note: {note}")
    if state().form != "table":
        print_answer(answer, COLUMNS)
        return
    data = answer.get("data") or {}
    following = f", next run {data['next_run']}" if data.get("next_run") else ""
    click.echo(f"job {data.get('id')} `{data.get('name')}` {verb}{following}")


@job.command("list")
@_project
@click.option("--search", help="Part of the name.")
@click.option("--enabled/--disabled", "enabled", default=None)
@click.option("--parked", is_flag=True, default=None, help="Only parked jobs.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True)
def list_(
    project: str | None, search: str | None, enabled: bool | None, parked: bool | None, limit: int
) -> None:
    """List jobs."""
    query = {"project": project, "search": search, "enabled": _flag(enabled)}
    query["parked"] = _flag(parked)
    print_answer(connect(state()).pages("/jobs", query, limit), COLUMNS)


def _flag(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()


@job.command("get")
@_key
@_project
def get(key: str, project: str | None) -> None:
    """Show a job, by id, uuid or name."""
    client, path = _open(key, project)
    print_record(client.call("GET", path), DETAILS)


def _open(key: str, project: str | None) -> tuple[ApiClient, str]:
    client = connect(state())
    return client, f"/jobs/{find_job(client, key, project)}"


@job.command("edit")
@_key
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@_project
@click.option("--name", "new_name", help="A new name.")
@click.option("--no-schedule", is_flag=True, help="Run only when told.")
@click.option("--no-override", is_flag=True, help="Back to the default schedule.")
@click.option("--no-exclude", is_flag=True, help="Exclude nothing.")
@click.option("--no-check", is_flag=True, help="Check nothing first.")
@click.option("--no-then", is_flag=True, help="Start no other job.")
@click.option("--no-limit", is_flag=True, help="Share no limit.")
@definition_options
def edit(
    key: str,
    command: tuple[str, ...],
    project: str | None,
    new_name: str | None,
    **given: Any,
) -> None:
    """Change what is named of a job; the rest stays."""
    body = job_body(given, command)
    if new_name:
        body["name"] = new_name
    for flag, field in _CLEARED.items():
        clear = given[f"no_{flag}"]
        if clear and field in body:
            raise UsageError(f"--no-{flag} and --{flag} contradict each other")
        if clear:
            body[field] = None
    if not body:
        raise UsageError("nothing to change", hint="see `everbell job edit --help`")
    client, path = _open(key, project)
    _show_changed(client.call("PATCH", path, body=body), "changed")


_CLEARED = {
    "schedule": "schedule",
    "override": "override",
    "exclude": "exclude",
    "check": "check",
    "then": "then",
    "limit": "limits",
}


def _switch(key: str, project: str | None, verb: str, done: str) -> None:
    client, path = _open(key, project)
    _show_changed(client.call("POST", f"{path}/{verb}"), done)


@job.command("enable")
@_key
@_project
def enable(key: str, project: str | None) -> None:
    """Plan a job again, from now on."""
    _switch(key, project, "enable", "enabled")


@job.command("disable")
@_key
@_project
def disable(key: str, project: str | None) -> None:
    """Plan nothing of a job until it is enabled."""
    _switch(key, project, "disable", "disabled")


@job.command("resolve")
@_key
@_project
def resolve(key: str, project: str | None) -> None:
    """Put a parked job back to work."""
    _switch(key, project, "resolve", "resolved")


@job.command("delete")
@_key
@_project
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(key: str, project: str | None, *, yes: bool) -> None:
    """Delete a job with all its runs."""
    client, path = _open(key, project)
    confirm(f"Delete job {key} and all its runs?", yes=yes)
    client.call("DELETE", path)
    say(f"job {key} is deleted")


@job.command("run")
@_key
@_project
@click.option("--reason", default="", help="Kept with the run.")
@click.option("-w", "--wait", is_flag=True, help="Show its output; exit with its verdict.")
@click.option("--timeout", type=SPAN, help="With --wait: longest wait; then exit code 8.")
def run(
    key: str, project: str | None, reason: str, timeout: float | None, *, wait: bool
) -> int | None:
    """Run a job now, whatever its schedule."""
    client, path = _open(key, project)
    body = {"reason": reason} if reason else None
    answer = client.call("POST", f"{path}/runs", body=body)
    data = answer["data"]
    if wait:
        say(f"run {data['id']}")
        return follow_run(client, str(data["id"]), timeout)
    if state().form == "table":
        click.echo(f"run {data['id']} {data['state']}")
        if not any(one["state"] == "up" for one in client.call("GET", "/nodes")["data"]):
            say("note: no node is up; it waits for one (`everbell start`)")
        say(f"follow it with: everbell run logs -f {data['id']}")
    else:
        print_answer(answer, [("ID", "id"), ("STATE", "state")])
    return None


@job.command("next")
@_key
@_project
@click.option("-n", "--n", "count", type=click.IntRange(1, 100), default=5, show_default=True)
def next_(key: str, project: str | None, count: int) -> None:
    """Show the next planned instants of a job."""
    client, path = _open(key, project)
    answer = client.call("GET", f"{path}/next", query={"n": count})
    print_answer(answer, [("AT", "at"), ("LOCAL", "local"), ("NOTE", "note")])


@job.command("import")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@_project
def import_(file: Any, project: str | None) -> None:
    """Create jobs from a JSON FILE (- = stdin): one object, or a list; all or none."""
    jobs = read_json(file.read(), str(file.name))
    listed = jobs if isinstance(jobs, list) else [jobs]
    if not all(isinstance(one, dict) for one in listed):
        raise UsageError("jobs are JSON objects", hint='[{"name": ..., "schedule": ...}, ...]')
    if project:
        listed = [{"project": project, **one} for one in listed]
    answer = connect(state()).call("POST", "/jobs", body=listed)
    for note in answer.get("notes") or ():
        say(f"note: {note}")
    print_answer(answer, COLUMNS)
