"""A feature that no page names is not finished, after datasette's test_docs."""

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from everbell.domain import errors

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = "\n".join(p.read_text() for p in sorted(DOCS.rglob("*.md")) if "adr" not in p.parts)
# Words in code style, and whole lines of fenced blocks: what a reader would search for.
WORDS = set(re.findall(r"[\w.:/{}@$-]+", PAGES))


def test_every_setting_is_in_the_docs() -> None:
    keys = set(importlib.import_module("everbell.config.fields").all_fields())
    assert len(keys) > 10
    assert sorted(keys - WORDS) == []


@pytest.mark.parametrize("key", ["LogLevel", "MaxMemory", "HTTPExecutorPayloadMaxSizeMb"])
def test_the_keys_of_scheduler0_are_in_the_docs(key: str) -> None:
    assert key in WORDS


@pytest.mark.parametrize(
    "page", ["reference/config.md", "reference/cli.md", "reference/rest.md", "errors.md"]
)
def test_generated_pages_are_up_to_date(page: str) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "gen_docs.py"), "--check", page]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]


def test_every_error_code_is_in_the_docs() -> None:
    page = (DOCS / "errors.md").read_text()
    codes = {kind.code for kind in descendants(errors.EverbellError)} | {"internal"}
    assert sorted(code for code in codes if f"`{code}`" not in page) == []


def descendants(kind: type[errors.EverbellError]) -> Iterator[type[errors.EverbellError]]:
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from descendants(child)


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None, (*path, name)
        if not child.hidden:
            yield from commands(child, (*path, name))


def test_every_command_is_in_the_docs() -> None:
    entry = importlib.import_module("everbell.cli.main")
    groups = [value for value in vars(entry).values() if isinstance(value, click.Group)]
    assert groups, "everbell.cli.main defines the root command"
    found = {" ".join(path) for group in groups for path in commands(group, ("everbell",))}
    assert len(found) > 10
    assert sorted(path for path in found if path not in PAGES) == []


def test_every_route_is_in_the_docs() -> None:
    endpoints = importlib.import_module("everbell.api.table").ENDPOINTS
    page = (DOCS / "reference" / "rest.md").read_text()
    assert len(endpoints) > 10
    missing = [e.path for e in endpoints if f"| {e.method} | `{e.path}` |" not in page]
    assert missing == []


LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]+)")


@pytest.mark.parametrize(
    "page",
    [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert broken == []
