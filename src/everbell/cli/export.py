"""``everbell export``: jobs as a file that ``everbell apply`` takes, or as a crontab."""

from __future__ import annotations

import json
from typing import Any

import click

from everbell.cli.base import Command, UsageError, say, state
from everbell.cli.client import connect

MOST = 1_000_000


@click.command("export", cls=Command)
@click.option("-p", "--project", envvar="EVERBELL_PROJECT", help="Only this project's jobs.")
@click.option("--owner", help="Only jobs with this owner, which the file then names.")
@click.option("--format", "form", type=click.Choice(["toml", "yaml", "json"]),
              help="Form of the file (toml; with --json, json).")  # fmt: skip
@click.option("--crontab", is_flag=True, help="A crontab, with comments for what cron can't do.")
def export(project: str | None, owner: str | None, form: str | None, *, crontab: bool) -> None:
    """Write all jobs to stdout; `everbell apply -f` of it changes nothing."""
    if crontab and form:
        raise UsageError("--crontab and --format contradict each other")
    from everbell.api.schemas import JobIn
    from everbell.services.exports import without_defaults

    client = connect(state())
    shown = client.pages("/jobs", {"project": project}, MOST)["data"]
    shown = [job for job in shown if owner is None or job["owner"] == owner]
    head = {"owner": owner} if owner else {}
    bodies = []
    for job in shown:
        body = without_defaults(job, JobIn)
        if project is None:
            body = {"name": body.pop("name"), "project": job["project"], **body}
        bodies.append(body)
    if project is not None:
        head["project"] = project
    if crontab:
        from everbell.services.crontabs import crontab as written

        click.echo(written(bodies), nl=False)
        return
    if form is None:
        form = state().form if state().form in {"json", "yaml"} else "toml"
    click.echo(_text(form, head, bodies), nl=False)
    say(f"{len(bodies)} jobs")


def _text(form: str, head: dict[str, Any], bodies: list[dict[str, Any]]) -> str:
    whole = {**head, "jobs": bodies}
    if form == "json":
        return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    if form == "yaml":
        import yaml

        text: str = yaml.safe_dump(whole, sort_keys=False, allow_unicode=True, width=100)
        return text
    from everbell.services.toml import jobs_file

    try:
        return jobs_file(head, bodies) if bodies else jobs_file({**head, "jobs": []}, [])
    except ValueError as error:
        raise UsageError(str(error), hint="use --format yaml or json") from None
