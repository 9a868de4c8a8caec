"""A feature that no page names is not finished, after datasette's test_docs."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import msgspec
import pytest

from everbell.domain import errors

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = "\n".join(p.read_text() for p in sorted(DOCS.rglob("*.md")) if "adr" not in p.parts)
# Words in code style, and whole lines of fenced blocks: what a reader would search for.
WORDS = set(re.findall(r"[\w.:/{}@$-]+", PAGES))


def modules(package: str) -> Iterator[ModuleType]:
    home = importlib.import_module(package)
    yield home
    for found in pkgutil.walk_packages(home.__path__, f"{package}."):
        yield importlib.import_module(found.name)


def config_keys(record: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(record):
        inner = struct_of(field.type)
        if inner is None:
            yield f"{prefix}{field.encode_name}"
        else:
            yield from config_keys(inner, f"{prefix}{field.encode_name}.")


def struct_of(kind: Any) -> type[msgspec.Struct] | None:
    while hasattr(kind, "__metadata__"):
        kind = kind.__origin__
    return kind if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else None


def test_every_setting_is_in_the_docs() -> None:
    schema = importlib.import_module("everbell.config.schema")
    keys = set(config_keys(schema.Settings))
    assert len(keys) > 10
    assert sorted(keys - WORDS) == []


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
    routing = importlib.import_module("starlette.routing")
    paths = {
        route.path
        for module in modules("everbell.api")
        for value in vars(module).values()
        if isinstance(value, list | tuple)
        for route in value
        if isinstance(route, routing.Route)
    }
    assert len(paths) > 10
    assert sorted(path for path in paths if path not in PAGES) == []


LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]+)")


@pytest.mark.parametrize(
    "page",
    [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert broken == []
