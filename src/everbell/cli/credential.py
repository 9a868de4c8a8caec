"""``everbell credential``: API keys of clients, and the secrets of this installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from everbell.cli.ask import can_ask, confirm, need
from everbell.cli.base import Group, UsageError, say, state
from everbell.cli.client import connect, seg
from everbell.cli.output import Column, print_answer, print_record
from everbell.config.secrets import Secrets, create_secrets, load_secrets
from everbell.domain.errors import ConflictError

COLUMNS: list[Column] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("API KEY", "api_key"),
    ("SCOPES", "scopes"),
    ("PROJECT", "project_id"),
    ("REVOKED", "archived"),
    ("CREATED", "created_at"),
    ("EXPIRES", "expires_at"),
]
SCOPES = ["read", "run", "write", "admin"]


@click.group(cls=Group)
def credential() -> None:
    """API keys of clients, and the secrets of this installation."""


@credential.command("init")
@click.option("--generate", is_flag=True, help="Make strong values for what is not given.")
@click.option("--secret-key", help="Key of all hashes and signatures, at least 16 characters.")
@click.option("--username", help="Name that nodes show each other.")
@click.option("--password", help="Password that nodes show each other.")
@click.option(
    "--force", is_flag=True, help="Replace old secrets; the database here can't be opened then."
)
def init(
    secret_key: str | None,
    username: str | None,
    password: str | None,
    *,
    generate: bool,
    force: bool,
) -> None:
    """Write the secrets of this directory to .everbell (mode 0600)."""
    from everbell.cli.init import generate_secrets

    home = Path(_directory())
    given = bool(secret_key or username or password)
    if load_secrets(home) is not None and not force:
        path = home / ".everbell"
        if generate and not given:
            say(f"{path} is already there; nothing was changed (--force makes a new one)")
            return
        hint = "--force replaces it; the database here then can't be opened any more"
        raise ConflictError(f"{path} is already there", hint=hint)
    if not generate and not can_ask():
        _refuse_to_ask(secret_key, username, password)
    made = generate_secrets()
    if generate:
        key, name = secret_key or made.secret_key, username or made.auth_username
        word = password or made.auth_password
    else:
        name = need(username, "--username", "Username for nodes")
        word = need(password, "--password", "Password for nodes", hidden=True)
        key = need(secret_key, "--secret-key", "Secret key", hidden=True)
    secrets = Secrets(secret_key=key, auth_username=name, auth_password=word)
    say(f"wrote {create_secrets(home, secrets, force=force)} (mode 0600)")
    say("next: everbell create credential")


def _refuse_to_ask(*values: str | None) -> None:
    flags = ("--secret-key", "--username", "--password")
    missing = [flag for flag, value in zip(flags, values, strict=True) if not value]
    if missing:
        message = f"{', '.join(missing)}: missing, and no one can be asked here"
        raise UsageError(message, hint="give them, or --generate for strong ones")


def _directory() -> str:
    chosen = state().config
    if chosen is not None:
        return str(Path(chosen).expanduser().absolute().parent)
    return state().load(tell=False).directory


@credential.command("create")
@click.option("--name", default="", help="What it is for.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="Repeatable.")
@click.option("--project", help="Only this project.")
@click.option("--expires-in", type=float, metavar="SECONDS", help="Ends after this time.")
@click.option("--expires-at", metavar="TIME", help="Ends at this time (ISO 8601).")
def create(
    name: str,
    scopes: tuple[str, ...],
    project: str | None,
    expires_in: float | None,
    expires_at: str | None,
) -> None:
    """Make an API key and its secret; the secret is shown only now."""
    body: dict[str, Any] = {"name": name, "project": project}
    body |= {"expires_in": expires_in, "expires_at": expires_at, "scopes": list(scopes) or None}
    sent = {key: value for key, value in body.items() if value is not None}
    _show_secret(connect(state()).call("POST", "/credentials", body=sent))


def _show_secret(answer: dict[str, Any]) -> None:
    if state().form != "table":
        print_answer(answer, [*COLUMNS, ("API SECRET", "api_secret")])
        return
    data = answer["data"]
    click.echo(f"api_key     {data['api_key']}")
    click.echo(f"api_secret  {data['api_secret']}")
    say("keep the secret: it is shown only now")


@credential.command("list")
@click.option("--limit", type=click.IntRange(1), default=1000)
def list_(limit: int) -> None:
    """List the API keys."""
    print_answer(connect(state()).pages("/credentials", {}, limit), COLUMNS)


@credential.command("get")
@click.argument("key")
def get(key: str) -> None:
    """Show one credential, by id, uuid or API key."""
    print_record(connect(state()).call("GET", f"/credentials/{seg(key)}"), COLUMNS)


@credential.command("rotate")
@click.argument("key")
@click.option("--grace", type=float, metavar="SECONDS", help="The old secret stays good (1 day).")
def rotate(key: str, grace: float | None) -> None:
    """Give a credential a new secret; the old one stays good for a while."""
    body = {} if grace is None else {"grace": grace}
    _show_secret(connect(state()).call("POST", f"/credentials/{seg(key)}/rotate", body=body))


@credential.command("revoke")
@click.argument("key")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def revoke(key: str, *, yes: bool) -> None:
    """End a credential at once."""
    client = connect(state())
    confirm(f"Revoke credential {key}?", yes=yes)
    client.call("DELETE", f"/credentials/{seg(key)}")
    say(f"credential {key} is revoked")
