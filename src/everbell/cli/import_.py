"""``everbell import``: jobs from other schedulers."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from everbell.cli.apply import read_text
from everbell.cli.base import EXIT_USAGE, Group, UsageError, pointed, say, state
from everbell.cli.client import connect
from everbell.cli.job_body import SPAN
from everbell.cli.output import print_json
from everbell.cli.plan_output import send, show_plan
from everbell.domain.crontab import Crontab, Finding, Names, Source, parse_crontab
from everbell.services.imports import Choices, job_bodies
from everbell.telemetry.clock import SystemClock

# After Debian's cron: other names in /etc/cron.d are skipped, as backups of editors and packages.
_CRON_D_NAME = re.compile(r"[A-Za-z0-9_-]+\Z")


@click.group("import", cls=Group)
def import_() -> None:
    """Import jobs from other schedulers."""


@import_.command("crontab")
@click.argument("file")
@click.option("--user", help="Whose crontab it is: commands run as this user.")
@click.option("--system", is_flag=True, help="A user stands before each command (/etc/crontab).")
@click.option("-p", "--project", envvar="EVERBELL_PROJECT", help="Project, by id, uuid or name.")
@click.option("--tz", help="Zone that cron reads times in (that of this machine).")
@click.option("--prefix", help="Begins the jobs' names (the file's name in /etc/cron.d).")
@click.option("--cwd", metavar="DIR", help="Where commands start (home directory, if known).")
@click.option("--as-node", is_flag=True, help="Run all as the node's user, whoever stands there.")
@click.option("--misfire", type=click.Choice(["skip", "latest", "all"]))
@click.option("--overlap", type=click.Choice(["skip", "queue", "allow", "replace"]))
@click.option("--timeout", type=SPAN, help="Longest run, as in 12h.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be imported.")
@click.option("--skip-bad", is_flag=True, help="Import the rest if lines can't be read.")
@click.option("--prune", is_flag=True, help="Remove jobs whose lines are gone since last time.")
@click.option("--no-notes", is_flag=True, help="Tell of errors and warnings only.")
def crontab(
    file: str,
    user: str | None,
    project: str | None,
    tz: str | None,
    prefix: str | None,
    cwd: str | None,
    misfire: str | None,
    overlap: str | None,
    timeout: float | None,
    *,
    system: bool,
    as_node: bool,
    dry_run: bool,
    skip_bad: bool,
    prune: bool,
    no_notes: bool,
) -> int | None:
    """Import FILE: a user's crontab, /etc/crontab, a directory such as /etc/cron.d; - = stdin.

    Twice the same file changes nothing. Tells what cron does otherwise.
    """
    read, skipped = _read(file, tz or local_zone(), prefix, system=system)
    bad = [one for found in read for one in found.errors]
    table = state().form == "table"
    if table or bad:
        _report(read, skipped, notes=not no_notes)
    if bad and not skip_bad:
        say(f"error: {len(bad)} of the lines can't be read; nothing is imported")
        say("hint: mend them, or add --skip-bad to import the rest")
        return EXIT_USAGE
    choices = Choices(
        user=user,
        as_node=as_node,
        cwd=cwd,
        homes=_homes(read, user),
        misfire=misfire,
        overlap=overlap,
        timeout_s=timeout,
    )
    bodies, places = _bodies(read, choices)
    if not bodies and not prune:
        raise UsageError(f"{file} holds no lines to import", hint="crontab -l > FILE writes yours")
    owner = f"crontab:{'stdin' if file == '-' else Path(file).absolute().name}"
    body = {"jobs": bodies, "owner": owner, "prune": prune, "plan": dry_run}
    if project:
        body["project"] = project
    answer = send(connect(state()), body, places)
    if table:
        show_plan(answer)
    else:
        findings = [_finding(found, one) for found in read for one in found.findings]
        data = {**answer["data"], "findings": findings, "jobs": bodies, "skipped": skipped}
        print_json({**answer, "data": data})
    return None


def _read(
    file: str, zone: str, prefix: str | None, *, system: bool
) -> tuple[list[Crontab], list[str]]:
    """Return the crontabs of a file or directory, and the names that cron would skip."""
    path = Path(file)
    names, now_us = Names(), SystemClock().now_us()
    if file == "-" or not path.is_dir():
        in_cron_d = path.absolute().parent.name == "cron.d"
        system = system or in_cron_d or str(path.absolute()) == "/etc/crontab"
        start = prefix or (path.name if in_cron_d else "")
        shown = "stdin" if file == "-" else str(path)
        source = Source(name=shown, timezone=zone, system=system, prefix=start, now_us=now_us)
        return [parse_crontab(read_text(file), source, names)], []
    found, skipped = [], []
    for one in sorted(path.iterdir()):
        if not one.is_file() or not _CRON_D_NAME.match(one.name):
            skipped += [one.name] if one.is_file() and not one.name.startswith(".") else []
            continue
        start = f"{prefix}-{one.name}" if prefix else one.name
        source = Source(name=str(one), timezone=zone, system=True, prefix=start, now_us=now_us)
        found.append(parse_crontab(read_text(str(one)), source, names))
    return found, skipped


def _bodies(read: Sequence[Crontab], choices: Choices) -> tuple[list[dict[str, Any]], list[str]]:
    bodies: list[dict[str, Any]] = []
    places: list[str] = []
    for found in read:
        bodies += job_bodies(found, choices)
        places += [f"{found.source.name}:{entry.line}" for entry in found.entries]
    return bodies, places


def _homes(read: Sequence[Crontab], user: str | None) -> dict[str, str]:
    """Return the home directories of the users that this machine has."""
    names = {entry.user for found in read for entry in found.entries} | {user}
    homes = {}
    for name in names - {None}:
        assert name is not None
        try:
            home = pwd.getpwnam(name).pw_dir
        except KeyError:
            continue
        if Path(home).is_dir():
            homes[name] = home
    return homes


def local_zone() -> str:
    """Return the name of this machine's zone; UTC if it has none."""
    zone = os.environ.get("TZ", "").removeprefix(":")
    if not zone:
        try:
            zone = Path("/etc/timezone").read_text(encoding="utf-8").strip()
        except OSError:
            target = os.path.realpath("/etc/localtime")
            zone = target.partition("/zoneinfo/")[2]
    return zone or "UTC"


# --- the report ----------------------------------------------------------------------------------


def _report(read: Sequence[Crontab], skipped: Sequence[str], *, notes: bool) -> None:
    """Tell what there is to know: of all files once, then of each; equal lines together."""
    told: set[str] = set()
    for found in read:
        lines: dict[tuple[str, str, str], list[Finding]] = {}
        for one in found.findings:
            # What is true of every crontab is told once.
            if (notes or one.level != "note") and (one.line or one.message not in told):
                lines.setdefault((one.level, one.message, one.text), []).append(one)
                told.add(one.message)
        for same in lines.values():
            _tell(found.source.name, same)
    for name in skipped if notes else ():
        say(f"note: {name} is left out, as cron does: its name holds other than A-Z, 0-9, _ and -")


def _tell(name: str, same: Sequence[Finding]) -> None:
    one = same[0]
    numbers = ",".join(str(each.line) for each in same)
    place = f"{name}:{numbers}: " if one.line else ""
    say(f"{one.level}: {place}{one.message}")
    for line in pointed(one.text, one.column - 1) if one.text else ():
        say(f"  {line}")
    if one.hint:
        say(f"  hint: {one.hint}")


def _finding(found: Crontab, one: Finding) -> dict[str, Any]:
    return {
        "file": found.source.name,
        "line": one.line,
        "column": one.column,
        "level": one.level,
        "code": one.code,
        "message": one.message,
        "hint": one.hint,
    }
