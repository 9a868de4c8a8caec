"""``everbell doctor``: what is wrong here, or soon will be, and what to do about it."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from everbell.cli.base import EXIT_FAILED, EXIT_OK, Command, State, UsageError, state
from everbell.cli.doctor_checks import (
    BAD,
    OK,
    WARN,
    Finding,
    callbacks,
    clocks,
    descriptors,
    disk,
    interpreters,
    port,
    zones,
)
from everbell.config.fields import without_password
from everbell.config.secrets import load_secrets, permission_note
from everbell.domain.errors import EverbellError, UserError
from everbell.domain.secrets import key_check
from everbell.telemetry.clock import SystemClock

if TYPE_CHECKING:
    from everbell.config.loader import Loaded
    from everbell.ports.checkup import Checkup

_COLORS = {OK: "green", WARN: "yellow", BAD: "red"}
MANY_WAL_BYTES = 512 * 1024 * 1024


@click.command(cls=Command)
def doctor() -> int:
    """Look for trouble: configuration, secrets, database, clock, jobs. Changes nothing.

    Each line is ok, warn or bad, with what to do. Exit code 1 if anything is bad.
    """
    at = state()
    if at.server:
        hint = "run it where the node runs, in its directory or with --config"
        raise UsageError("`doctor` looks at this machine; --server has no meaning", hint=hint)
    findings = list(_examine(at))
    _show(at, findings)
    return EXIT_FAILED if any(one.level == BAD for one in findings) else EXIT_OK


def _show(at: State, findings: list[Finding]) -> None:
    if at.form == "json":
        import json

        data = [one._asdict() for one in findings]
        click.echo(json.dumps({"data": data}, indent=2, ensure_ascii=False))
        return
    plain = bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()
    width = max(len(one.what) for one in findings)
    for one in findings:
        level = f"{one.level:<4}"
        shown = level if plain else click.style(level, fg=_COLORS[one.level])
        click.echo(f"{shown}  {one.what:<{width}}  {one.found}")
        if one.hint:
            click.echo(f"{'':4}  {'':{width}}  -> {one.hint}")


def _examine(at: State) -> Iterable[Finding]:
    try:
        loaded = at.load(tell=False)
    except UserError as error:
        problems = error.problems
        if not problems:
            yield Finding(BAD, "configuration", error.message, error.hint)
        for problem in problems:
            yield Finding(BAD, "configuration", problem.message, problem.hint)
        return
    yield Finding(OK, "configuration", loaded.path or f"defaults, in {loaded.directory}")
    for note in loaded.notes:
        yield Finding(WARN, "configuration", note)
    yield from _exposed(loaded)
    yield from _secrets(loaded)
    yield from _database(loaded)
    yield from _redis(loaded)
    yield from clocks(Path(loaded.directory))
    yield zones()
    yield from callbacks(loaded.settings)


def _exposed(loaded: Loaded) -> Iterable[Finding]:
    """Tell of passwords in a configuration that others of this machine may read."""
    path, settings = loaded.path, loaded.settings
    if path is None or not stat.S_IMODE(Path(path).stat().st_mode) & 0o077:
        return
    kept = {
        "database.url": without_password(settings.database.url) != settings.database.url,
        "redis.password": bool(settings.redis.password),
        "crypto.salt": bool(settings.crypto.salt),
    }
    told = [name for name, is_secret in kept.items() if is_secret]
    told = [name for name in told if loaded.origins[name].startswith(Path(path).name)]
    if told:
        text = f"others may read {path}, which holds {' and '.join(told)}"
        yield Finding(WARN, "configuration", text, f"chmod 600 {path}, or use the environment")


def _secrets(loaded: Loaded) -> Iterable[Finding]:
    try:
        found = load_secrets(loaded.directory, os.environ)
    except EverbellError as error:
        yield Finding(BAD, "secrets", error.message, error.hint)
        return
    if found is None:
        hint = "`everbell init` makes them; if there is a database, restore its own .everbell"
        yield Finding(BAD, "secrets", f"{loaded.directory}/.everbell is missing", hint)
    elif note := permission_note(loaded.directory):
        yield Finding(WARN, "secrets", *note.rsplit(": ", 1))
    else:
        yield Finding(OK, "secrets", f"{loaded.directory}/.everbell, only for its owner")


def _database(loaded: Loaded) -> Iterable[Finding]:
    from everbell.bootstrap import database_checkup, database_file

    url = loaded.settings.database.url
    if not url.startswith("sqlite:"):
        yield from _in_memory(loaded) if url == "memory:" else _server(loaded)
        return
    path = database_file(loaded)
    yield from disk(path)
    if not path.exists():
        yield Finding(WARN, "database", f"{path} is not there yet", "`everbell init` makes it")
        yield from port(loaded.settings, ())
        return
    now_us = SystemClock().now_us()
    try:
        found = database_checkup.check_up(path, now_us)
    except EverbellError as error:
        yield Finding(BAD, "database", error.message, error.hint)
        yield from port(loaded.settings, ())
        return
    yield from _file(path, found)
    yield from _inside(loaded, found, now_us)


def _inside(loaded: Loaded, found: Checkup, now_us: int) -> Iterable[Finding]:
    yield from _key(loaded, found.secret_check)
    yield from _nodes(found, now_us)
    alive = tuple(one for one in found.nodes if _alive(one.state, one.lease_until_us, now_us))
    yield from port(loaded.settings, alive)
    yield from descriptors(loaded.settings, alive)
    yield from _jobs(found, up=bool(alive))
    yield from interpreters(loaded.settings, found.interpreters)


def _server(loaded: Loaded) -> Iterable[Finding]:
    import asyncio

    from everbell.bootstrap import check_server_up

    try:
        found = asyncio.run(check_server_up(loaded))
    except EverbellError as error:
        yield Finding(BAD, "database", error.message, error.hint)
        yield from port(loaded.settings, ())
        return
    yield Finding(OK, "database", found.server)
    yield from _schema(found)
    limit = loaded.settings.node.max_clock_offset
    if abs(found.clock_offset_s) > limit:
        text = f"the database's is {found.clock_offset_s:+.3f} s from this machine's"
        hint = f"synchronise both (NTP); above node.max_clock_offset ({limit:g} s) no node works"
        yield Finding(BAD, "clock", text, hint)
    if found.schema == found.newest:
        yield from _inside(loaded, found, SystemClock().now_us())


def _redis(loaded: Loaded) -> Iterable[Finding]:
    if not loaded.settings.redis.addr:
        return
    import asyncio

    from everbell.bootstrap import redis_parts

    async def ask() -> str:
        clock, directory = SystemClock(), loaded.directory
        async with redis_parts(loaded.settings.redis, clock, "doctor", directory) as parts:
            return "" if parts is None or await parts.probe() else parts.trouble

    try:
        trouble = asyncio.run(ask())
    except UserError as error:
        yield Finding(BAD, "redis", error.message, error.hint)
        return
    if trouble:
        found, _, hint = trouble.partition("; ")
        yield Finding(BAD, "redis", found, hint)
    else:
        yield Finding(OK, "redis", "it answers")


def _in_memory(loaded: Loaded) -> Iterable[Finding]:
    hint = "fit for trying out only: set database.url"
    yield Finding(WARN, "database", "in memory: all is lost when the node stops", hint)
    yield from port(loaded.settings, ())


def _file(path: Path, found: Checkup) -> Iterable[Finding]:
    size = f"{found.size_bytes / 1e6:.1f} MB"
    if found.integrity not in {"ok", ""}:
        hint = "stop the nodes and `everbell restore` the newest backup"
        yield Finding(BAD, "database", f"{path} is damaged: {found.integrity}", hint)
    else:
        checked = "whole" if found.integrity else "too large to be read as a whole here"
        yield Finding(OK, "database", f"{path}, {size}, {checked}")
    yield from _schema(found)
    if found.wal_bytes > MANY_WAL_BYTES:
        text = f"the log beside it has {found.wal_bytes / 1e6:.0f} MB"
        hint = "a program reads for long and keeps it from being folded in: end that program"
        yield Finding(WARN, "write-ahead log", text, hint)
    if found.locked_by is not None:
        pids = ", ".join(str(pid) for pid in found.locked_by) or "none of ours"
        text = f"nobody could write for a second; processes that have it open: {pids}"
        yield Finding(BAD, "lock", text, "end the program that holds a long transaction")


def _schema(found: Checkup) -> Iterable[Finding]:
    if found.schema > found.newest:
        text = f"schema {found.schema}, this version knows {found.newest}"
        yield Finding(BAD, "schema", text, "use the newer everbell that wrote it")
    elif found.schema < found.newest:
        text = f"schema {found.schema}, to become {found.newest} when a node starts"
        yield Finding(WARN, "schema", text, "back up before: there is no way back but that")
    else:
        yield Finding(OK, "schema", str(found.schema))


def _key(loaded: Loaded, check: str) -> Iterable[Finding]:
    try:
        secrets = load_secrets(loaded.directory, os.environ)
    except EverbellError:
        return
    if secrets is not None and check and key_check(secrets.key) != check:
        text = "the database was made with another secret key: no node can open it"
        yield Finding(BAD, "secrets", text, "restore the .everbell that belongs to it")


def _alive(state_: str, lease_until_us: int, now_us: int) -> bool:
    return state_ not in {"dead", "left"} and lease_until_us >= now_us


def _nodes(found: Checkup, now_us: int) -> Iterable[Finding]:
    up = [one for one in found.nodes if _alive(one.state, one.lease_until_us, now_us)]
    names = ", ".join(f"{one.name} ({one.state})" for one in up)
    if up:
        yield Finding(OK, "nodes", f"{len(up)} up: {names}")
    else:
        yield Finding(WARN, "nodes", "none is up: nothing runs", "`everbell start`")
    for one in up:
        if one.heartbeat_us > now_us + 2_000_000:
            ahead = (one.heartbeat_us - now_us) / 1e6
            text = f"the clock of {one.name} is {ahead:.1f} s ahead of this machine's"
            yield Finding(BAD, "clock", text, "synchronise the clocks of all machines (NTP)")
        if one.state == "throttled":
            text = f"{one.name} takes no new work: {one.reason or 'its limits are reached'}"
            yield Finding(WARN, "nodes", text, "see node.max_memory and node.max_cpu")
    dead = [
        one.name
        for one in found.nodes
        if one.state != "left" and not _alive(one.state, one.lease_until_us, now_us)
    ]
    if dead:
        text = f"{len(dead)} ended without good-bye in the last day: {', '.join(dead[:5])}"
        yield Finding(WARN, "nodes", text, "killed, or out of memory? see the system's log")


def _jobs(found: Checkup, *, up: bool) -> Iterable[Finding]:
    rows = (
        (found.quarantined, BAD, "in quarantine: they can't be planned",
         "`everbell job get NAME` says why; mend it with `everbell job edit`"),
        (found.overdue, BAD if up else WARN, "overdue by more than a minute",
         "see the node's log" if up else "no node is up to decide their slots"),
        (found.orphans, WARN, "run on a node that is gone",
         "a node that is up takes them over within its lease" if up else "`everbell start`"),
        (found.long, WARN, "run for more than a day", "`everbell run list --state running`"),
        (found.parked, WARN, "parked after failures", "`everbell job resolve NAME`"),
        (found.never, WARN, "never ran and have no slot any more",
         "`everbell job next NAME`; change the schedule or delete them"),
        (found.holds, WARN, "held", "`everbell hold list`, `everbell hold release ID`"),
    )  # fmt: skip
    fine = True
    for names, level, text, hint in rows:
        if names.count:
            fine = False
            more = ", ..." if names.count > len(names.names) else ""
            shown = ", ".join(" ".join(name.split())[:60] for name in names.names)
            yield Finding(level, "jobs", f"{names.count} {text}: {shown}{more}", hint)
    if fine:
        yield Finding(OK, "jobs", "none is stuck, parked, held, overdue or without a slot")
