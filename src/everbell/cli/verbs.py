"""``everbell create job`` and the like: the verb before the noun."""

from __future__ import annotations

import click

from everbell.cli.base import LazyGroup


def _verb(name: str, nouns: dict[str, str]) -> LazyGroup:
    table = {noun: (target, f"Same as `everbell {noun} {name}`.") for noun, target in nouns.items()}
    return LazyGroup(name=name, lazy=table, plurals=True, hidden=True, help=f"{name.title()}.")


create: click.Group = _verb(
    "create",
    {
        "credential": "everbell.cli.credential:create",
        "project": "everbell.cli.project:create",
        "job": "everbell.cli.job:create",
    },
)
list_: click.Group = _verb(
    "list",
    {
        "credential": "everbell.cli.credential:list_",
        "project": "everbell.cli.project:list_",
        "job": "everbell.cli.job:list_",
        "run": "everbell.cli.run:list_",
        "hold": "everbell.cli.hold:list_",
        "limit": "everbell.cli.limit:list_",
        "node": "everbell.cli.node:list_",
    },
)
get: click.Group = _verb(
    "get",
    {
        "credential": "everbell.cli.credential:get",
        "project": "everbell.cli.project:get",
        "job": "everbell.cli.job:get",
        "run": "everbell.cli.run:show",
    },
)
delete: click.Group = _verb(
    "delete",
    {
        "credential": "everbell.cli.credential:revoke",
        "project": "everbell.cli.project:delete",
        "job": "everbell.cli.job:delete",
    },
)
