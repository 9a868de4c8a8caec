"""Settings from flags, environment, file and defaults, in this order, each with its origin."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from everbell.config.aliases import (
    ALIASES,
    ENV_PREFIX,
    TOP_LEVEL,
    WITHOUT_EFFECT,
    canonical,
    cluster_note,
    translate,
)
from everbell.config.collected import Collector
from everbell.config.distributed import from_environment
from everbell.config.fields import all_fields, section_docs, without_password
from everbell.config.files import DEFAULT_NAMES, Document, find_file, read_document
from everbell.config.schema import Settings
from everbell.config.together import check_together, compose_database
from everbell.domain.job import Record

RESERVED_ENV = frozenset(
    {
        "EVERBELL_API_KEY",
        "EVERBELL_API_SECRET",
        "EVERBELL_ATTEMPT",
        "EVERBELL_AUTH_PASSWORD",
        "EVERBELL_AUTH_USERNAME",
        "EVERBELL_CONFIG",
        "EVERBELL_JOB",
        "EVERBELL_JOB_UUID",
        "EVERBELL_PROJECT",
        "EVERBELL_RUN_ID",
        "EVERBELL_SECRET_KEY",
        "EVERBELL_SERVER",
        "EVERBELL_SLOT",
        "EVERBELL_TOKEN",
    }
)
"""Variables of the command line, of the secrets and of what a run is told: no settings."""

__all__ = ["Loaded", "load_settings", "without_password"]

# A Kubernetes service named "everbell" brings these into every container beside it.
_SERVICE_LINKS = re.compile(r"^EVERBELL(_\w+)?_(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP)\w*)$")


def _is_service_link(variable: str, value: str) -> bool:
    if variable.endswith("_PORT") and re.match(r"^(tcp|udp|sctp)://", value):
        return True
    return bool(_SERVICE_LINKS.match(variable))


class Loaded(Record, frozen=True):
    """Settings and where each came from.

    ``origins`` maps ``section.key`` to ``default``, ``FILE:LINE``, ``env NAME`` or ``flag``.
    ``directory`` is the absolute home of relative paths: the file's, or the working directory.
    ``notes`` are for people: keys that were understood but have no effect.
    """

    settings: Settings
    origins: dict[str, str]
    notes: list[str]
    directory: str
    path: str | None = None


def load_settings(
    path: Path | None,
    env: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
    *,
    cwd: Path | None = None,
) -> Loaded:
    """Read all sources: flag (``overrides``) over environment over file over default.

    Without ``path``, ``EVERBELL_CONFIG`` or one of the default names in ``cwd`` is read, if any.
    Raises ConfigError; its ``problems`` list every wrong key at once.
    """
    home = (cwd or Path.cwd()).absolute()
    chosen = path or (Path(env["EVERBELL_CONFIG"]) if env.get("EVERBELL_CONFIG") else None)
    file = home / chosen if chosen is not None else find_file(home)
    into = Collector()
    if file is not None:
        _take_file(into, read_document(file, env))
        if chosen is None:
            _note_shadowed(into, file)
    _take_env(into, env)
    _take_overrides(into, overrides or {})
    into.raise_problems()
    compose_database(into)
    into.raise_problems()
    settings = _build(into)
    check_together(into, settings)
    into.raise_problems()
    return Loaded(
        settings=settings,
        origins={name: into.origins.get(name, "default") for name in all_fields()},
        notes=into.notes,
        directory=str(file.parent if file is not None else home),
        path=str(file) if file is not None else None,
    )


def _note_shadowed(into: Collector, chosen: Path) -> None:
    into.notes.extend(
        f"{name} is not read: {chosen.name} comes first"
        for name in DEFAULT_NAMES
        if name != chosen.name and (chosen.parent / name).is_file()
    )


# --- file ----------------------------------------------------------------------------------------


def _take_file(into: Collector, document: Document) -> None:
    given: dict[str, str] = {}
    for key, value in document.tree.items():
        if key in section_docs():
            _take_section(into, document, key, value, given)
        elif key in TOP_LEVEL:
            _put_once(into, TOP_LEVEL[key], value, (key, document.where(key)), given)
        elif key in WITHOUT_EFFECT:
            into.notes.append(f"{document.where(key)}: `{key}` is ignored: {WITHOUT_EFFECT[key]}")
        elif (name := canonical(key)) is not None:
            _take_alias(into, document, (key, name), value, given)
        else:
            where = document.where(key)
            into.problem(key, f"{where}: unknown key `{key}`", _suggest_top(key))


def _take_section(
    into: Collector, document: Document, section: str, tree: Any, given: dict[str, str]
) -> None:
    if tree is None:
        return
    if not isinstance(tree, dict):
        where = document.where(section)
        message = f"{where}: `{section}` is a section, not {tree!r:.60}"
        into.problem(section, message, f"put its keys below it: {_keys_of(section)}")
        return
    for raw_key, value in tree.items():
        key = str(raw_key)
        name = f"{section}.{key}"
        where = document.where(section, key)
        if isinstance(value, dict) and _has_inside(name):
            for inner, one in value.items():
                _take_inner(into, document, (section, key, str(inner)), one, given)
        elif name not in all_fields():
            into.problem(name, f"{where}: unknown key `{name}`", _suggest(section, key))
        else:
            _put_once(into, name, value, (name, where), given)


def _has_inside(name: str) -> bool:
    return any(other.startswith(f"{name}.") for other in all_fields())


def _take_inner(
    into: Collector,
    document: Document,
    path: tuple[str, str, str],
    value: Any,
    given: dict[str, str],
) -> None:
    name, where = ".".join(path), document.where(*path)
    if name in all_fields():
        _put_once(into, name, value, (name, where), given)
    else:
        hint = _suggest(path[0], f"{path[1]}.{path[2]}")
        into.problem(name, f"{where}: unknown key `{name}`", hint)


def _take_alias(
    into: Collector,
    document: Document,
    spelling: tuple[str, str],
    value: Any,
    given: dict[str, str],
) -> None:
    key, name = spelling
    where = document.where(key)
    if name not in ALIASES:
        into.notes.append(cluster_note(name, where))
        return
    if name == "NodeId":
        into.notes.append(f"{where}: `NodeId` only names this node; its id needs a cluster")
    for target in ALIASES[name]:
        _put_once(into, target, translate(name, value), (key, where), given)


def _put_once(
    into: Collector, name: str, value: Any, source: tuple[str, str], given: dict[str, str]
) -> None:
    key, where = source
    if (other := given.get(name)) is not None:
        message = f"{where}: `{key}` and `{other}` both set `{name}`"
        into.problem(name, message, "keep one of the two")
        return
    given[name] = key
    into.put(name, value, where, text=False, spelled=key)


# --- environment and flags -----------------------------------------------------------------------


def _take_env(into: Collector, env: Mapping[str, str]) -> None:
    for setting, (value, variable) in from_environment(env).items():
        into.put(setting, value, f"env {variable}", text=True)
    by_env = {field.env: field.name for field in all_fields().values()}
    for variable in sorted(env):
        if variable.upper().startswith(ENV_PREFIX):
            _take_scheduler0_env(into, variable, env[variable])
    for variable in sorted(env):
        if not variable.startswith("EVERBELL_") or variable in RESERVED_ENV:
            continue
        if variable in by_env:
            into.put(by_env[variable], env[variable], f"env {variable}", text=True)
        elif not _is_service_link(variable, env[variable]):
            near = _close(variable, [*by_env, *RESERVED_ENV])
            into.problem(variable, f"environment: `{variable}` is no setting", near)


def _take_scheduler0_env(into: Collector, variable: str, value: str) -> None:
    name = canonical(variable[len(ENV_PREFIX) :].replace("_", ""))
    if name is None:
        return
    if name not in ALIASES:
        into.notes.append(cluster_note(name, f"env {variable}"))
        return
    for target in ALIASES[name]:
        given = translate(name, value)
        into.put(target, given, f"env {variable}", text=True, spelled=name)


def _take_overrides(into: Collector, overrides: Mapping[str, Any]) -> None:
    for name, value in overrides.items():
        if name in all_fields():
            into.put(name, value, "flag", text=True)
        else:
            section, _, key = name.partition(".")
            into.problem(name, f"flag: unknown key `{name}`", _suggest(section, key))


# --- together ------------------------------------------------------------------------------------


def _build(into: Collector) -> Settings:
    sections: dict[str, Any] = {}
    for section, kind in get_type_hints(Settings).items():
        prefix = section + "."
        values = {n.removeprefix(prefix): v for n, v in into.values.items() if n.startswith(prefix)}
        tree: dict[str, Any] = {}
        for key, value in values.items():
            outer, _, inner = key.rpartition(".")
            (tree.setdefault(outer, {}) if outer else tree)[inner] = value
        sections[section] = msgspec.convert(tree, kind)
    return Settings(**sections)


# --- suggestions ---------------------------------------------------------------------------------


def _suggest_top(key: str) -> str:
    names = [
        *section_docs(),
        *ALIASES,
        *TOP_LEVEL,
        *(field.name for field in all_fields().values()),
    ]
    matches = [field.name for field in all_fields().values() if field.key == key]
    if matches:
        return f"did you mean `{matches[0]}`? Settings stand in sections"
    return _close(key, names)


def _suggest(section: str, key: str) -> str:
    fields = all_fields().values()
    inside = [field.key for field in fields if field.section == section]
    near = difflib.get_close_matches(key, inside, n=1)
    if near:
        return f"did you mean `{section}.{near[0]}`?"
    elsewhere = [field.name for field in fields if field.key == key]
    if elsewhere:
        return f"did you mean `{elsewhere[0]}`?"
    if inside:
        return f"`{section}` has {_keys_of(section)}"
    return _close(f"{section}.{key}", [field.name for field in fields])


def _keys_of(section: str) -> str:
    return ", ".join(field.key for field in all_fields().values() if field.section == section)


def _close(word: str, names: Iterable[str]) -> str:
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(word.casefold(), folded, n=1)
    if near:
        return f"did you mean `{folded[near[0]]}`?"
    return "`everbell config schema` lists every key"
