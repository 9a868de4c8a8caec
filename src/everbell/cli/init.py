"""``everbell init``: everything that a directory needs, and nothing that is there is lost."""

from __future__ import annotations

import os
from pathlib import Path

import click

from everbell.cli.base import Command, State, say, state
from everbell.cli.client import LocalClient
from everbell.cli.config import make_directory, target_directory
from everbell.config.loader import Loaded, load_settings
from everbell.config.secrets import (
    CliKey,
    Secrets,
    create_secrets,
    load_secrets,
    new_secret_key,
    permission_note,
    save_cli_key,
)
from everbell.config.template import write_config
from everbell.telemetry.clock import SystemEntropy


@click.command(cls=Command)
@click.argument("directory", required=False)
def init(directory: str | None) -> None:
    """Make DIRECTORY (here) ready to start: configuration, secrets, database, admin key.

    What is there already is kept, so it can be run again at any time.
    """
    make_ready(state(), target_directory(directory))


def make_ready(at: State, home: Path) -> Loaded:
    """Create what is missing in a directory and say so. Raises ConfigError, StoreError."""
    make_directory(home)
    chosen = Path(at.config).expanduser() if at.config else home
    path, new = (chosen, False) if chosen.is_file() else write_config(home, "toml", force=False)
    say(f"{'wrote' if new else 'kept'} {path}")
    loaded = load_settings(path.absolute(), os.environ, at.overrides)
    secrets = load_secrets(loaded.directory, os.environ)
    if secrets is None:
        secrets = generate_secrets()
        say(f"wrote {create_secrets(loaded.directory, secrets)} (mode 0600)")
    else:
        say(f"kept {home / '.everbell'}")
        if note := permission_note(loaded.directory):
            say(f"note: {note}")
    if secrets.cli is None and not loaded.settings.database.url.startswith("memory:"):
        _first_credential(loaded, secrets)
    prefix = "" if home.absolute() == Path.cwd() else f"cd {home} && "
    say(f"next: {prefix}everbell start")
    return loaded


def generate_secrets() -> Secrets:
    """Return strong secrets; nobody needs to remember them."""
    entropy = SystemEntropy()
    return Secrets(
        secret_key=new_secret_key(entropy.token_bytes(32)),
        auth_username="node-" + entropy.token_bytes(4).hex(),
        auth_password=entropy.token_bytes(24).hex(),
    )


def _first_credential(loaded: Loaded, secrets: Secrets) -> None:
    client = LocalClient(loaded, secrets)
    try:
        body = {"name": "first admin", "scopes": ["read", "run", "write", "admin"]}
        made = client.call("POST", "/credentials", body=body)["data"]
    finally:
        client.close()
    if (Path(loaded.directory) / ".everbell").exists():
        key = CliKey(api_key=made["api_key"], api_secret=made["api_secret"])
        save_cli_key(loaded.directory, key)
    say("made the first admin credential; its secret is shown only now:")
    click.echo(f"api_key     {made['api_key']}")
    click.echo(f"api_secret  {made['api_secret']}")
