"""``everbell migrate``: from one machine's file into PostgreSQL, and no slot missed or doubled."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from everbell.api.times import iso
from everbell.cli.backup import here_only
from everbell.cli.base import EXIT_CONFLICT, EXIT_OK, Command, UsageError, say, state, warn
from everbell.cli.output import Column, print_record
from everbell.config.loader import Loaded, without_password
from everbell.config.secrets import load_secrets, secrets_path
from everbell.domain.errors import ConflictError
from everbell.domain.secrets import key_check
from everbell.ports.moving import Source, Standing
from everbell.services.moving import Moved, full, in_use, move
from everbell.telemetry.clock import SystemClock, SystemEntropy

T = TypeVar("T")
COLUMNS: list[Column] = [
    ("FROM", "from"),
    ("TO", "to"),
    ("STATE", "state"),
    ("AT", "at"),
    ("JOBS", "jobs"),
    ("RUNS", "runs"),
    ("ROWS", "rows"),
    ("QUEUED", "queued"),
    ("ACTIVE", "active"),
    ("SCHEMA", "schema"),
    ("SECRETS", "secrets"),
    ("SECONDS", "seconds"),
    ("ROWS/S", "rows_per_s"),
    ("OBSTACLE", "obstacle"),
    ("NEXT", "next"),
]
_POSTGRES = ("postgresql://", "postgres://")
_ONLY = "only sqlite:///FILE into postgresql://USER:PASSWORD@HOST/DATABASE can be moved"


@click.command(cls=Command)
@click.option("--from", "source", metavar="URL", help="The file (default: database.url).")
@click.option("--to", "target", metavar="URL", help="An empty database (default: database.url).")
@click.option("--plan", is_flag=True, help="Look at both sides and say what would happen.")
def migrate(source: str | None, target: str | None, *, plan: bool) -> int:
    """Move all from a SQLite file into an empty PostgreSQL database.

    Jobs, history, output, keys, holds, limits and the audit log are copied and compared; ids stay.
    Stop every node before. Afterwards the file is marked, and no node starts on it any more. If the
    command is ended, at any point, the same command again goes on.
    """
    loaded = here_only(state(), "migrate")
    file, url = _sides(loaded, source, target)
    if plan:
        return _plan(loaded, file, url)
    seconds, found, done = _run(_move(loaded, file, url))
    rows = sum(table.rows for table in done.tables)
    counts = {table.name: table.rows for table in done.tables}
    shown: dict[str, Any] = {
        **_sides_shown(done.move.source, done.move.target),
        "state": "done" if not done.already else "already done",
        "at": iso(done.move.at_us),
        "id": done.move.id,
        "jobs": counts.get("jobs"),
        "runs": counts["runs"] + counts["ended_runs"] if counts else None,
        "rows": rows if not done.already else None,
        "queued": found.queued if not done.already else None,
        "active": found.active if not done.already else None,
        "replaced": done.replaced,
        "secrets": _secrets(loaded, found.secret_check),
        "seconds": round(seconds, 2),
        "rows_per_s": round(rows / seconds) if rows else None,
        "tables": [
            {"name": one.name, "rows": one.rows, "digest": one.digest} for one in done.tables
        ],
    }
    print_record({"data": shown}, COLUMNS)
    _tell_next(loaded, found, done)
    return EXIT_OK


def _run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner() as runner:
        return runner.run(main)


def _sides(loaded: Loaded, source: str | None, target: str | None) -> tuple[Path, str]:
    """Return the file and the address. Raises UsageError."""
    own = loaded.settings.database.url
    source = source or (own if own.startswith("sqlite:") else "")
    target = target or (own if own.startswith(_POSTGRES) else "")
    if not source or not target:
        flag = "--from" if not source else "--to"
        raise UsageError(f"{flag} is missing", hint=_ONLY)
    scheme, separator, rest = source.partition(":///")
    if scheme != "sqlite" or not separator or not rest:
        hint = _ONLY
        if source.startswith(_POSTGRES):
            hint += "; definitions go anywhere by `everbell export` and `everbell apply`"
        raise UsageError(f"--from {without_password(source)!r} is no SQLite file", hint=hint)
    if not target.startswith(_POSTGRES):
        raise UsageError(f"--to {without_password(target)!r} is no PostgreSQL", hint=_ONLY)
    return Path(loaded.directory) / rest, target


async def _move(loaded: Loaded, file: Path, url: str) -> tuple[float, Source, Moved]:
    from everbell.bootstrap import look_at_source, open_giver, open_receiver

    clock = SystemClock()
    found = look_at_source(file, clock.now_us())
    receiver = await open_receiver(loaded, url)
    try:
        giver = open_giver(file)
        try:
            begun = clock.monotonic()
            new_id = SystemEntropy().token_bytes(16).hex()
            done = await move(giver, receiver, clock, new_id, _Progress())
            return clock.monotonic() - begun, found, done
        finally:
            giver.close()
    finally:
        await receiver.close()


class _Progress:
    """Tells a person at a terminal how far a table is, on one line."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._name = ""

    def __call__(self, name: str, rows: int, total: int) -> None:
        """Show the line; a table that is finished keeps it."""
        if self._on:
            click.echo(f"\r{name:<12} {rows:,} of {total:,} rows", err=True, nl=rows >= total)


def _plan(loaded: Loaded, file: Path, url: str) -> int:
    found, where, standing = _run(_look(loaded, file, url))
    obstacle = _obstacle(found, where, standing)
    known = found.move
    finished = known is not None and known.state == "moved" and obstacle is None
    shown: dict[str, Any] = {
        **_sides_shown(found.where, where),
        "state": "already moved" if finished else "planned",
        "jobs": found.rows.get("jobs", 0),
        "runs": found.rows.get("runs", 0),
        "rows": sum(found.rows.values()),
        "queued": found.queued,
        "active": found.active,
        "schema": _schemas(found, standing),
        "nodes": list(found.nodes),
        "users": list(found.users),
        "secrets": _secrets(loaded, found.secret_check),
        "tables": [{"name": name, "rows": rows} for name, rows in found.rows.items()],
        "obstacle": obstacle.message if obstacle is not None else None,
        "next": obstacle.hint if obstacle is not None else "the same without --plan",
    }
    print_record({"data": shown}, COLUMNS)
    return EXIT_OK if obstacle is None else EXIT_CONFLICT


async def _look(loaded: Loaded, file: Path, url: str) -> tuple[Source, str, Standing]:
    from everbell.bootstrap import look_at_source, open_receiver

    found = look_at_source(file, SystemClock().now_us())
    receiver = await open_receiver(loaded, url)
    try:
        return found, receiver.where, await receiver.standing()
    finally:
        await receiver.close()


def _obstacle(found: Source, where: str, standing: Standing) -> ConflictError | None:
    known = found.move
    if known is not None and known.state == "moved":
        if standing.move is not None and standing.move.id == known.id:
            return None
        message = f"{found.where} was moved to {known.target}"
        return ConflictError(message, hint="use that one: see `everbell migrate --help`")
    return in_use(found) or full(where, standing, known.id if known is not None else "")


def _sides_shown(source: str, target: str) -> dict[str, Any]:
    return {"from": source, "to": target}


def _schemas(found: Source, standing: Standing) -> str:
    source = str(found.schema)
    if found.schema < found.newest:
        source += f", to become {found.newest} first"
    target = str(standing.schema) if standing.schema else "none yet"
    if 0 < standing.schema < standing.newest:
        target += f", to become {standing.newest} first"
    return f"{source}; in the target {target}"


def _secrets(loaded: Loaded, check: str) -> str:
    """Say whether the secrets that are here belong to the database."""
    secrets = load_secrets(loaded.directory, os.environ)
    if secrets is None:
        return "missing here"
    return "fit" if not check or key_check(secrets.key) == check else "of another database"


def _tell_next(loaded: Loaded, found: Source, done: Moved) -> None:
    if done.already:
        say(f"{done.move.source} had been moved by an earlier call; nothing was copied again")
    if done.replaced:
        warn(f"{done.replaced} texts held characters that PostgreSQL can't store, now U+FFFD")
    if found.active and not done.already:
        many = "1 run was" if found.active == 1 else f"{found.active} runs were"
        say(f"{many} active on a node that was killed: the first new node recovers what it left")
    if (secrets := _secrets(loaded, found.secret_check)) != "fit":
        path = secrets_path(loaded.directory)
        warn(f"{path}: {secrets}; nodes need the file that belongs to {done.move.source}")
    say(f'next: database.url = "{_with_login(done.move.target)}", also in place of the file')
    say("      everbell start; then everbell verify. Every machine needs the same .everbell file")


def _with_login(target: str) -> str:
    return target.replace("://", "://USER:PASSWORD@", 1)
