"""``everbell backup``: a checked copy of the database while nodes use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from everbell.api.times import iso
from everbell.cli.base import Command, State, UsageError, say, state, warn
from everbell.cli.output import Column, print_record
from everbell.config.loader import Loaded
from everbell.config.secrets import secrets_path, write_private
from everbell.domain.errors import ConflictError
from everbell.telemetry.clock import SystemClock

COLUMNS: list[Column] = [
    ("BACKUP", "file"),
    ("BYTES", "bytes"),
    ("JOBS", "jobs"),
    ("RUNS", "runs"),
    ("LAST SLOT", "last_slot"),
    ("SCHEMA", "schema"),
    ("CONFIG", "config"),
    ("SECRETS", "secrets"),
]


def here_only(at: State, verb: str) -> Loaded:
    """Return the settings of this directory. Raises UsageError if another server was meant."""
    if at.server:
        hint = "run it where the node runs, in its directory or with --config"
        raise UsageError(f"`{verb}` works on files; --server has no meaning", hint=hint)
    return at.load(tell=False)


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@click.option("--with-secrets", is_flag=True, help="Copy .everbell too, to FILE.everbell.")
def backup(file: Path, *, force: bool, with_secrets: bool) -> None:
    """Write a consistent copy of the database to FILE, while nodes go on.

    It is checked before it gets its name. The configuration is copied to FILE.toml (or .yml);
    the secrets only with --with-secrets.
    """
    loaded = here_only(state(), "backup")
    target = file.expanduser().absolute()
    if target.is_dir() or not target.parent.is_dir():
        what = "is a directory" if target.is_dir() else "can't be made: its directory is missing"
        raise UsageError(f"{file} {what}", hint="name a file in a directory that is there")
    copies = _side_files(loaded, target, with_secrets=with_secrets)
    taken = [str(copy) for copy in copies if copy.exists() and not force]
    if taken:
        raise ConflictError(f"{taken[0]} is already there", hint="--force replaces it")
    from everbell.bootstrap import database_copies, database_file

    now_us = SystemClock().now_us()
    content = database_copies.back_up(database_file(loaded), target, force=force, now_us=now_us)
    for copy, source in copies.items():
        write_private(copy, source.read_bytes(), replace=force)
    shown: dict[str, Any] = {
        "file": str(target),
        "bytes": content.size_bytes,
        "jobs": content.jobs,
        "runs": content.runs,
        "last_slot": iso(content.last_slot_us),
        "schema": content.schema,
        "taken_at": iso(now_us),
        "config": _named(copies, loaded.path),
        "secrets": _named(copies, str(secrets_path(loaded.directory))),
    }
    print_record({"data": shown}, COLUMNS)
    if with_secrets and not shown["secrets"]:
        warn("there is no .everbell here; the secrets come from the environment: keep them apart")
    elif not with_secrets:
        say("note: .everbell is not in it, and it can't be opened without: keep a copy elsewhere,")
        say("      or add it with --with-secrets")


def _side_files(loaded: Loaded, target: Path, *, with_secrets: bool) -> dict[Path, Path]:
    """Return what is copied beside the database: its new name, and where it comes from."""
    found: dict[Path, Path] = {}
    if loaded.path is not None:
        source = Path(loaded.path)
        found[target.with_name(target.name + source.suffix)] = source
    secrets = secrets_path(loaded.directory)
    if with_secrets and secrets.exists():
        found[target.with_name(target.name + secrets.name)] = secrets
    return found


def _named(copies: dict[Path, Path], source: str | None) -> str | None:
    return next((str(copy) for copy, of in copies.items() if str(of) == source), None)
