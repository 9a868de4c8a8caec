"""``everbell start``: run a node."""

from __future__ import annotations

import os
from pathlib import Path

import click

from everbell import __version__
from everbell.cli.base import Command, UsageError, say, state
from everbell.cli.config import apply_assignments, set_option
from everbell.config.loader import Loaded
from everbell.config.secrets import permission_note, require_secrets


@click.command(cls=Command)
@click.option("--host", help="Address to listen on (server.host).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on (server.port).")
@click.option("--log-level", help="ERROR, WARN, INFO or DEBUG (log.level).")
@click.option("--init", "prepare", is_flag=True, help="Create first what is missing here.")
@set_option
def start(
    assignments: tuple[str, ...],
    host: str | None,
    port: int | None,
    log_level: str | None,
    *,
    prepare: bool,
) -> int:
    """Run a node: scheduler, workers and API, until a signal ends it."""
    at = state()
    if at.server:
        raise UsageError("`start` runs a node here; --server has no meaning", hint="use --host")
    apply_assignments(at, assignments)
    for name, value in (("host", host), ("port", port)):
        if value is not None:
            at.overrides[f"server.{name}"] = str(value)
    if log_level:
        at.overrides["log.level"] = log_level
    if prepare:
        from everbell.cli.init import make_ready

        make_ready(at, Path(at.config).expanduser().parent if at.config else Path())
    loaded = at.load()
    secrets = require_secrets(loaded.directory, os.environ, _database(loaded))
    if note := permission_note(loaded.directory):
        say(f"note: {note}")
    from everbell.bootstrap import run_node
    from everbell.telemetry.logs import set_up

    set_up(loaded.settings.log, loaded.directory)
    return run_node(loaded, secrets, lambda address: _tell_ready(loaded, address))


def _database(loaded: Loaded) -> Path | None:
    scheme, _, rest = loaded.settings.database.url.partition(":///")
    return Path(loaded.directory) / rest if scheme == "sqlite" else None


def _tell_ready(loaded: Loaded, address: str) -> None:
    settings = loaded.settings
    say(f"everbell {__version__} · {address} · API {address}/api/v1")
    say(f"config {loaded.path or 'defaults'} · database {settings.database.url} · Ctrl-C to stop")
