"""``everbell node`` and ``everbell status``."""

from __future__ import annotations

import click

from everbell.cli.base import Command, Group, say, state
from everbell.cli.client import connect, seg
from everbell.cli.output import Column, print_answer, print_json, print_record

COLUMNS: list[Column] = [
    ("NAME", "name"),
    ("STATE", "state"),
    ("ADDRESS", "address"),
    ("ROLES", "roles"),
    ("RUNNING", "running"),
    ("QUEUED", "queued"),
    ("WORKERS", "workers"),
    ("SHARDS", "shards"),
    ("LOAD", "load"),
    ("MEMORY", "rss_bytes"),
    ("CPU %", "cpu_percent"),
    ("CLOCK", "clock_offset_s"),
    ("HEARTBEAT", "heartbeat_at"),
    ("ID", "id"),
    ("WHY", "reason|drained"),
    ("NOTES", "notes"),
]
CLUSTER: list[Column] = [
    ("NODES", "nodes_alive"),
    ("SHARDS", "shards"),
    ("DEALT", "dealt"),
    ("EPOCH", "epoch"),
    ("LOAD", "load"),
    ("RATIO", "load_ratio"),
]


@click.group(cls=Group)
def node() -> None:
    """The processes of the cluster."""


@node.command("list")
def list_() -> None:
    """List the nodes."""
    print_answer(connect(state()).call("GET", "/nodes"), COLUMNS)


@node.command("drain")
@click.argument("name")
@click.option("--reason", default="", help="Why; shown wherever the node is.")
def drain(name: str, reason: str) -> None:
    """Let a node take no new work, also after a restart; what runs there may end."""
    path = f"/nodes/{seg(name)}/drain"
    told = connect(state()).call("POST", path, body={"reason": reason})["data"]
    say(f"node {told['name']} is drained: {told['drained']}; `everbell node resume` ends that")


@node.command("resume")
@click.argument("name")
def resume(name: str) -> None:
    """Let a drained node take work again."""
    told = connect(state()).call("POST", f"/nodes/{seg(name)}/resume")["data"]
    say(f"node {told['name']} takes work again")


@node.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Forget a node that is gone, by its id, or all that had a name."""
    connect(state()).call("DELETE", f"/nodes/{seg(name)}")
    say(f"node {name} is forgotten")


@click.group(cls=Group)
def cluster() -> None:
    """All nodes together."""


@cluster.command("status")
def cluster_status() -> None:
    """Show how the work is spread over the nodes."""
    print_record(connect(state()).call("GET", "/cluster"), CLUSTER)


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
            what = "works, but" if one["state"] == "up" else "takes no new work:"
            click.echo(f"    {what} {one['reason']}")
    click.echo(f"running  {len(running)}")
    for one in running:
        click.echo(f"  {one['id']}  {one['job']}  since {one['started_at']}")
    click.echo(f"holds    {len(holds)}")
    for one in holds:
        click.echo(f"  {one['id']}  {one['scope']} {one['target_id'] or ''}  {one['reason']}")
