"""The text of a new configuration file: every setting, commented out, at its default."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from everbell.config.fields import Field, all_fields, expectation, section_docs
from everbell.config.files import find_file
from everbell.config.secrets import write_private
from everbell.domain.errors import ConfigError

_HEAD = """\
# Configuration of an Everbell node. Every setting stands here at its default; remove the `#`
# before those that you change. Flags and EVERBELL_<SECTION>_<KEY> come before this file.
# Check it with `everbell config check`, see the result with `everbell config show --origin`.
"""


def config_text(form: Literal["toml", "yaml"] = "toml") -> str:
    """Return a complete configuration file in which nothing is set."""
    parts = [_HEAD]
    for section, fields in groupby(all_fields().values(), key=lambda field: field.section):
        header = f"[{section}]" if form == "toml" else f"{section}:"
        parts.append(f"\n# {section_docs()[section]}\n{header}\n")
        parts.extend(_entry(field, form) for field in fields)
    return "".join(parts)


def _entry(field: Field, form: str) -> str:
    about = f"{field.doc} ({expectation(field)})" if field.doc else expectation(field)
    default = toml_value(field.default)
    if form == "yaml":
        default = default.replace(" = ", ": ")
        return f"  # {about}\n  # {field.key}: {default}\n"
    return f"# {about}\n# {field.key} = {default}\n"


def toml_value(value: Any) -> str:
    """Return a setting's value as TOML (its lists and texts are YAML too)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        inside = ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items())
        return "{ " + inside + " }" if inside else "{}"
    return str(value)


def write_config(
    directory: Path, form: Literal["toml", "yaml"], *, force: bool, name: str | None = None
) -> tuple[Path, bool]:
    """Write a configuration file unless the directory has one; return it, and if it is new.

    With ``name`` only a file of that name counts, and it is the one that is written. With
    ``force`` an old file is kept beside the new one, under ``.bak``. Raises ConfigError.
    """
    if name is not None:
        path = directory / name
        existing = path if path.exists() else None
    else:
        path = directory / ("everbell.toml" if form == "toml" else "everbell.yml")
        existing = find_file(directory)
    if existing is not None and not force:
        return existing, False
    try:
        if path.exists():
            write_private(_free_backup(path), path.read_bytes(), replace=False, mode=0o644)
        write_private(path, config_text(form).encode(), replace=force, mode=0o644)
    except OSError as error:
        message = f"can't write {path}: {error.strerror or error}"
        raise ConfigError(message, hint="check that the directory exists and is yours") from error
    return path, True


def _free_backup(path: Path) -> Path:
    candidate = path.with_name(path.name + ".bak")
    number = 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}.bak{number}")
    return candidate
