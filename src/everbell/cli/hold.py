"""``everbell hold``: nothing new starts in a scope until it is released."""

from __future__ import annotations

from typing import Any

import click

from everbell.cli.base import Group, say, state
from everbell.cli.client import ApiClient, connect, seg
from everbell.cli.find import find_job
from everbell.cli.output import Column, print_answer, print_record
from everbell.cli.times import WHEN

COLUMNS: list[Column] = [
    ("ID", "id"),
    ("SCOPE", "scope"),
    ("TARGET", "target|target_id"),
    ("REASON", "reason"),
    ("WHO", "who"),
    ("SINCE", "created_at"),
    ("UNTIL", "until"),
    ("THEN", "then"),
]


def _options(function: Any) -> Any:
    options = (
        click.option("--reason", default="", help="Why; shown wherever the hold is."),
        click.option("--until", type=WHEN, help="It ends by itself then; or after, as in 2h."),
        click.option(
            "--then",
            type=click.Choice(["skip", "once", "each"]),
            help="What then becomes of the slots missed (skip).",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group(cls=Group)
def hold() -> None:
    """Stop new runs, and let them go on."""


def _put(client: ApiClient, body: dict[str, Any]) -> None:
    answer = client.call("POST", "/holds", body=body)
    print_record(_shown(answer), COLUMNS)
    held = answer.get("data") or {}
    if held.get("until"):
        say(f"it ends at {held['until']}; missed slots: {held['then']}")
    say(f"release it with: everbell hold release {held.get('id')} --missed once|each|skip")


def _shown(answer: dict[str, Any]) -> dict[str, Any]:
    """Say what is held in words; programs get the answer as it is."""
    if state().form not in {"table", "csv"}:
        return answer
    data = answer.get("data") or []
    told = [
        {**one, "target": "every job" if one["scope"] == "all" else one["target_id"]}
        for one in (data if isinstance(data, list) else [data])
    ]
    return {**answer, "data": told if isinstance(data, list) else told[0]}


@hold.command("all")
@_options
def all_(**given: str | None) -> None:
    """Hold every job of every project."""
    _put(connect(state()), {"scope": "all", **given})


@hold.command("project")
@click.argument("key")
@_options
def project(key: str, **given: str | None) -> None:
    """Hold the jobs of a project."""
    _put(connect(state()), {"scope": "project", "target": key, **given})


@hold.command("job")
@click.argument("key")
@click.option("--project", "owner", envvar="EVERBELL_PROJECT", help="Project of a job's name.")
@_options
def job(key: str, owner: str | None, **given: str | None) -> None:
    """Hold one job."""
    client = connect(state())
    _put(client, {"scope": "job", "target": find_job(client, key, owner), **given})


@hold.command("list")
def list_() -> None:
    """List the holds."""
    print_answer(_shown(connect(state()).call("GET", "/holds")), COLUMNS)


@hold.command("release")
@click.argument("hold_id", metavar="ID")
@click.option(
    "--missed",
    type=click.Choice(["once", "each", "skip"]),
    required=True,
    help="What becomes of the slots missed: run once, run each, or skip them.",
)
def release(hold_id: str, missed: str) -> None:
    """End a hold, and decide about what was missed."""
    connect(state()).call("POST", f"/holds/{seg(hold_id)}/release", body={"missed": missed})
    say(f"hold {hold_id} is released; missed slots: {missed}")
