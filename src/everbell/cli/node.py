"""``everbell node`` and ``everbell status``."""

from __future__ import annotations

import click

from everbell.cli.base import Command, Group, state
from everbell.cli.client import connect
from everbell.cli.output import Column, print_answer, print_json

COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("STATE", "state"),
    ("ADDRESS", "address"),
    ("RUNNING", "running"),
    ("QUEUED", "queued"),
    ("WORKERS", "workers"),
    ("MEMORY", "rss_bytes"),
    ("CPU %", "cpu_percent"),
    ("HEARTBEAT", "heartbeat_at"),
    ("ID", "id"),
    ("WHY", "reason"),
]


@click.group(cls=Group)
def node() -> None:
    """The processes of the cluster."""


@node.command("list")
def list_() -> None:
    """List the nodes."""
    print_answer(connect(state()).call("GET", "/nodes"), COLUMNS)


@click.command(cls=Command)
def status() -> None:
    """Show nodes, holds and what is running."""
    client = connect(state())
    nodes = client.call("GET", "/nodes")["data"]
    holds = client.call("GET", "/holds")["data"]
    running = client.call("GET", "/runs", query={"state": "running", "limit": 200})["data"]
    if state().form == "json":
        print_json({"data": {"nodes": nodes, "holds": holds, "running": running}})
        return
    up = [one for one in nodes if one.get("state") in {"up", "throttled", "draining"}]
    click.echo(f"nodes    {len(up)} of {len(nodes)} up")
    for one in up:
        load = f"{one['running']}/{one['workers']} running, {one['queued']} queued"
        click.echo(f"  {one['name']}  {one['state']}  {load}  {one['address']}".rstrip())
        if one.get("reason"):
            click.echo(f"    takes no new work: {one['reason']}")
    click.echo(f"running  {len(running)}")
    for one in running:
        click.echo(f"  {one['id']}  {one['job']}  since {one['started_at']}")
    click.echo(f"holds    {len(holds)}")
    for one in holds:
        click.echo(f"  {one['id']}  {one['scope']} {one['target_id'] or ''}  {one['reason']}")
