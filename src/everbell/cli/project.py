"""``everbell project``."""

from __future__ import annotations

import click

from everbell.cli.ask import confirm
from everbell.cli.base import Group, say, state
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
