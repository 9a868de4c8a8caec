"""``everbell apply``: the jobs of a file, planned or done."""

from __future__ import annotations

import difflib
import json
import sys
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import click

from everbell.cli.ask import can_ask, confirm
from everbell.cli.base import EXIT_PENDING, Command, UsageError, state
from everbell.cli.client import connect
from everbell.cli.plan_output import send, show_plan

MAX_BYTES = 32 * 1_048_576
KEYS = ("project", "owner", "jobs")
FORM = 'a file of jobs: owner = "shop", then [[jobs]] with name, schedule and action'


@click.command("apply", cls=Command)
@click.option("-f", "--file", required=True, metavar="FILE", help="TOML, YAML or JSON; - = stdin.")
@click.option("-p", "--project", envvar="EVERBELL_PROJECT", help="Of jobs that name none.")
@click.option("--owner", help="Marks the jobs as this file's (`owner` of the file).")
@click.option("--plan", is_flag=True, help="Only show what would change. Exit code 8 if anything.")
@click.option("--days", type=click.IntRange(1, 366), default=7, show_default=True,
              help="How far fire times are compared.")  # fmt: skip
@click.option("--prune/--no-prune", default=None,
              help="Remove the owner's other jobs (default if it has one).")  # fmt: skip
@click.option("--take-over", is_flag=True, help="Change jobs of other owners too.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before jobs are removed.")
def apply(
    file: str,
    project: str | None,
    owner: str | None,
    days: int,
    prune: bool | None,
    *,
    plan: bool,
    take_over: bool,
    yes: bool,
) -> int | None:
    """Make the jobs what FILE says: add, change, and remove what the file's owner no longer has.

    Again with the same file, it changes nothing.
    """
    tree = read_tree(file)
    body = _body(tree, file)
    if owner:
        body["owner"] = owner
    if project:
        body["project"] = project
    if prune and not body.get("owner"):
        raise UsageError("--prune needs an owner", hint='`owner = "shop"` in the file, or --owner')
    body |= {"days": days, "take_over": take_over}
    if prune is not None:
        body["prune"] = prune
    places = [_place(file, number, job) for number, job in enumerate(body["jobs"], 1)]
    return run_plan(body, places, plan=plan, yes=yes)


def run_plan(body: dict[str, Any], places: list[str], *, plan: bool, yes: bool) -> int | None:
    """Plan, or do it after asking; return the exit code."""
    client = connect(state())
    if not plan and not yes and can_ask():
        removed = send(client, {**body, "plan": True}, places)["data"]["removed"]
        if removed:
            confirm(f"Remove {removed} jobs with all their runs?", yes=False)
    answer = send(client, {**body, "plan": plan}, places)
    show_plan(answer)
    return EXIT_PENDING if plan and answer["data"]["steps"] else None


def _place(file: str, number: int, job: Any) -> str:
    name = job.get("name") if isinstance(job, dict) else None
    where = "stdin" if file == "-" else Path(file).name
    return f"{where}: job `{name}`" if isinstance(name, str) else f"{where}: job number {number}"


def _body(tree: Any, file: str) -> dict[str, Any]:
    if isinstance(tree, list):
        tree = {"jobs": tree}
    if not isinstance(tree, dict):
        raise UsageError(f"{file} holds no jobs", hint=FORM)
    for name in tree:
        if name not in KEYS:
            near = difflib.get_close_matches(str(name), KEYS, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(KEYS)}"
            raise UsageError(f"{file}: `{name}` is unknown", hint=hint)
    jobs = tree.get("jobs")
    if not isinstance(jobs, list):
        raise UsageError(f"{file}: `jobs` is no list", hint=FORM)
    for name in ("project", "owner"):
        if not isinstance(tree.get(name, ""), str):
            raise UsageError(f"{file}: `{name}` is no text", hint="put it in quotes")
    return {name: _plain(value) for name, value in tree.items()}


def _plain(value: Any) -> Any:
    """Return JSON values: TOML and YAML know times."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.isoformat() if isinstance(value, date | datetime | time) else value


# --- reading -------------------------------------------------------------------------------------


def read_tree(file: str) -> Any:
    """Read a file by its ending; find out the form of stdin. Raises UsageError with the line."""
    text = read_text(file)
    suffix = Path(file).suffix.lower()
    if suffix == ".json" or (suffix not in {".toml", ".yml", ".yaml"} and text.lstrip()[:1] == "{"):
        return _json(text, file)
    if suffix == ".toml":
        return _toml(text, file)
    if suffix in {".yml", ".yaml"}:
        return _yaml(text, file)
    if file != "-":
        raise UsageError(f"can't tell the form of {file}", hint="name it .toml, .yaml or .json")
    try:
        return _toml(text, file)
    except UsageError:
        return _yaml(text, file)


def read_text(file: str) -> str:
    """Read a file or stdin (``-``) as UTF-8. Raises UsageError."""
    try:
        raw = sys.stdin.buffer.read(MAX_BYTES + 1) if file == "-" else Path(file).read_bytes()
    except OSError as error:
        message = f"can't read {file}: {error.strerror or error}"
        raise UsageError(message, hint="name a file, or - for stdin") from error
    if len(raw) > MAX_BYTES:
        raise UsageError(f"{file} is larger than {MAX_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{file}, line {line}: not UTF-8 text", hint="save it as UTF-8") from None


def _json(text: str, file: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{file}: not JSON: {error}", hint="check commas and quotes") from None


def _toml(text: str, file: str) -> Any:
    import tomllib

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        hint = 'text needs quotes: schedule = "0 2 * * *"'
        raise UsageError(f"{file}: not TOML: {error}", hint=hint) from None


def _yaml(text: str, file: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        hint = "check the indentation; texts such as `*/5 * * * *` need quotes"
        raise UsageError(f"{file}{where}: not YAML: {what}", hint=hint) from None
