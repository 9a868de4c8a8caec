"""``everbell project``."""

from __future__ import annotations

import click

from everbell.cli.ask import confirm
from everbell.cli.base import Group, UsageError, say, state
from everbell.cli.client import connect, seg
from everbell.cli.output import Column, print_answer, print_record

COLUMNS: list[Column] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("DESCRIPTION", "description"),
    ("UUID", "uuid"),
    ("CREATED", "created_at"),
]


@click.group(cls=Group)
def project() -> None:
    """Projects, the namespaces of jobs."""


@project.command("create")
@click.argument("name")
@click.option("--description", default="")
def create(name: str, description: str) -> None:
    """Make a project."""
    body = {"name": name, "description": description}
    print_record(connect(state()).call("POST", "/projects", body=body), COLUMNS)


@project.command("list")
@click.option("--limit", type=click.IntRange(1), default=1000)
def list_(limit: int) -> None:
    """List the projects."""
    print_answer(connect(state()).pages("/projects", {}, limit), COLUMNS)


@project.command("get")
@click.argument("key")
def get(key: str) -> None:
    """Show one project, by id, uuid or name."""
    print_record(connect(state()).call("GET", f"/projects/{seg(key)}"), COLUMNS)


@project.command("delete")
@click.argument("key")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(key: str, *, yes: bool) -> None:
    """Delete a project that has no jobs."""
    client = connect(state())
    confirm(f"Delete project {key}?", yes=yes)
    client.call("DELETE", f"/projects/{seg(key)}")
    say(f"project {key} is deleted")


@project.command("secret")
@click.argument("key")
def secret(key: str) -> None:
    """Print the secret that signs the callbacks of a project's jobs (a whsec_ text).

    It is derived from this directory's secret key, so it is known only where the node lives.
    """
    import os

    from everbell.config.secrets import require_secrets
    from everbell.domain.secrets import derive_webhook_secret, webhook_secret_text

    at = state()
    if at.server or os.environ.get("EVERBELL_SERVER"):
        message = "the secret is derived from the node's secret key, which no server gives out"
        raise UsageError(message, hint="run this in the node's directory, without --server")
    secrets = require_secrets(at.load().directory, os.environ)
    found = connect(at).call("GET", f"/projects/{seg(key)}")["data"]
    text = webhook_secret_text(derive_webhook_secret(secrets.key, found["uuid"]))
    if at.form == "table":
        click.echo(text)
    else:
        data = {"name": found["name"], "uuid": found["uuid"], "webhook_secret": text}
        print_answer({"data": data, "success": True}, [("SECRET", "webhook_secret")])
