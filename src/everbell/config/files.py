"""Reading a configuration file: text to a plain tree, with the line of every key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from everbell.config.blocks import parse_blocks
from everbell.domain.errors import ConfigError

DEFAULT_NAMES = (
    "everbell.toml",
    "everbell.yml",
    "everbell.yaml",
    "config.yml",
    "everbell.conf",
    "djinn-scheduler.conf",
)
"""Looked for in this order in the working directory."""

MAX_BYTES = 1_048_576
Lines = dict[tuple[str, ...], int]


class Document:
    """A parsed file: its tree, and the line (from 1) of each key as far as known.

    ``files`` has the keys that stand in an included file.
    """

    __slots__ = ("files", "lines", "path", "tree")

    def __init__(
        self,
        path: Path,
        tree: dict[str, Any],
        lines: Lines,
        files: dict[tuple[str, ...], Path] | None = None,
    ) -> None:
        self.path = path
        self.tree = tree
        self.lines = lines
        self.files = files or {}

    def where(self, *keys: str) -> str:
        """Return ``FILE:LINE`` of a key, or ``FILE`` where the line is not known."""
        line = self.lines.get(keys)
        name = self.files.get(keys, self.path).name
        return f"{name}:{line}" if line else name


def find_file(directory: Path) -> Path | None:
    """Return the first default name that exists in the directory."""
    for name in DEFAULT_NAMES:
        if (directory / name).is_file():
            return directory / name
    return None


def read_document(path: Path, env: Mapping[str, str] | None = None) -> Document:
    """Parse a file by its extension. Raises ConfigError that names file and line.

    ``env`` has what ``${NAME}`` stands for in a .conf file.
    """
    suffix = path.suffix.lower()
    if suffix not in {".toml", ".yml", ".yaml", ".conf"}:
        message = f"{path}: can't tell the format of the configuration from its name"
        raise ConfigError(message, hint="name it .toml, .yml, .yaml or .conf")
    text = _read_text(path)
    if suffix == ".conf":
        tree, places = parse_blocks(path, text, env or {}, _read_text)
        lines = {key: line for key, (_, line) in places.items()}
        return Document(path, tree, lines, {key: file for key, (file, _) in places.items()})
    if suffix == ".toml":
        return _parse_toml(path, text)
    return _parse_yaml(path, text)


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        message = f"no configuration file {path}"
        raise ConfigError(message, hint="`everbell config init` writes one") from None
    except IsADirectoryError:
        message = f"{path} is a directory, not a configuration file"
        raise ConfigError(message, hint="name the file itself") from None
    except OSError as error:
        message = f"can't read {path}: {error.strerror or error}"
        raise ConfigError(message, hint="check owner and mode of the file") from error
    if len(raw) > MAX_BYTES:
        message = f"{path} is larger than {MAX_BYTES} bytes: not a configuration file"
        raise ConfigError(message)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"{path}, line {line}: not UTF-8 text (byte {error.start})"
        raise ConfigError(message, hint="is this the right file, and whole?") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        message = f"{path}, line {line}: a NUL byte: not a text file, or a torn one"
        raise ConfigError(message, hint="restore it; `everbell config init` shows the form")
    return text


# --- TOML ----------------------------------------------------------------------------------------

_HEADER = re.compile(r"^\s*\[\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""^\s*([A-Za-z0-9_\-."' ]+?)\s*=""")


def _parse_toml(path: Path, text: str) -> Document:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = f"{path}: not valid TOML: {error}"
        raise ConfigError(message, hint='text values need quotes: host = "127.0.0.1"') from error
    except RecursionError as error:
        message = f"{path}: nested too deeply"
        raise ConfigError(message) from error
    return Document(path, tree, _toml_lines(text))


def _toml_lines(text: str) -> Lines:
    """Find the lines of keys; tomllib knows no positions. Good for messages, not for meaning."""
    lines: Lines = {}
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            section = _split_dotted(header.group(1))
            lines.setdefault(section, number)
        elif key := _KEY.match(line):
            lines.setdefault(section + _split_dotted(key.group(1)), number)
    return lines


def _split_dotted(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


# --- YAML ----------------------------------------------------------------------------------------


def _parse_yaml(path: Path, text: str) -> Document:
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        lines: Lines = {}
        if root is None:
            return Document(path, {}, lines)
        if not isinstance(root, yaml.MappingNode):
            found = "list" if isinstance(root, yaml.SequenceNode) else "single value"
            message = f"{path}: settings expected (`key: value`), found a {found}"
            raise ConfigError(message, hint="`everbell config init` shows the form")
        _yaml_lines(path, root, (), lines)
        tree = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        message = f"{path}{where}: not valid YAML: {error.problem}"
        raise ConfigError(message, hint="check the indentation and the quotes there") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        message = f"{path}: not valid YAML: {str(error).splitlines()[0]}"
        raise ConfigError(message) from error
    finally:
        loader.dispose()
    return Document(path, {str(key): value for key, value in tree.items()}, lines)


def _yaml_lines(path: Path, node: Any, prefix: tuple[str, ...], lines: Lines) -> None:
    for key_node, value_node in node.value:
        key = (*prefix, str(key_node.value))
        line = key_node.start_mark.line + 1
        if key in lines:
            message = f"{path}, line {line}: `{'.'.join(key)}` is given twice"
            raise ConfigError(message, hint=f"the first is in line {lines[key]}; remove one")
        lines[key] = line
        if len(key) < 3 and value_node.id == "mapping":
            _yaml_lines(path, value_node, key, lines)
