"""``everbell limit``: how many runs jobs may share."""

from __future__ import annotations

import click

from everbell.cli.base import Group, say, state
from everbell.cli.client import connect, seg
from everbell.cli.output import Column, print_answer, print_record

COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("PROJECT", "project"),
    ("MOST", "most"),
    ("ACTIVE", "active"),
    ("JOBS", "jobs"),
]
_project = click.option(
    "-p", "--project", envvar="EVERBELL_PROJECT", help="Project, by id, uuid or name."
)


@click.group(cls=Group)
def limit() -> None:
    """How many runs may be active at once, over all jobs that name a limit (`--limit`)."""


@limit.command("list")
@_project
def list_(project: str | None) -> None:
    """List limits: those that are set, and those that jobs name (they allow one run)."""
    print_answer(connect(state()).pages("/limits", {"project": project}, 10_000), COLUMNS)


@limit.command("get")
@click.argument("name")
@_project
def get(name: str, project: str | None) -> None:
    """Show a limit."""
    client = connect(state())
    print_record(client.call("GET", f"/limits/{seg(name)}", query={"project": project}), COLUMNS)


@limit.command("set")
@click.argument("name")
@click.argument("most", type=click.IntRange(1, 10_000))
@_project
def set_(name: str, most: int, project: str | None) -> None:
    """Let at most MOST runs be active at once under limit NAME.

    A lower number ends nothing: what is active goes on.
    """
    client = connect(state())
    path, query = f"/limits/{seg(name)}", {"project": project}
    print_record(client.call("PUT", path, body={"most": most}, query=query), COLUMNS)


@limit.command("delete")
@click.argument("name")
@_project
def delete(name: str, project: str | None) -> None:
    """Forget a limit: the jobs that name it run one at a time."""
    connect(state()).call("DELETE", f"/limits/{seg(name)}", query={"project": project})
    say(f"limit `{name}` is forgotten; jobs that name it run one at a time")
