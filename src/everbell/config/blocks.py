"""djinn's configuration language: `name value` lines and blocks in braces.

Read are texts in quotes, bare words, whole and broken numbers, durations (`1m30s` = 90 seconds),
sizes (`2MB` = bytes), `true` and `false`, lists, blocks, comments from `#`, `include`, and
`${NAME}` of the environment inside of a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from everbell.domain.errors import ConfigError

MAX_DEPTH = 8
"""Blocks, lists and included files inside of one another."""

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r]+|\#[^\n]*)|(?P<end>[\n;])|(?P<text>"(?:[^"\\\n]|\\.)*")"""
    r"""|(?P<mark>[{}\[\],])|(?P<word>[^\s{}\[\],;"\#]+)"""
)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_WORD = re.compile(r"[A-Za-z_/.][\w./:@+-]*")
_NUMBER = re.compile(r"[0-9]{1,18}(\.[0-9]{1,9})?")
_SIZE = re.compile(r"([0-9]{1,12})(B|KB|MB|GB|TB)")
_STEP = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {name: 1024**power for power, name in enumerate(("B", "KB", "MB", "GB", "TB"))}

Place = tuple[Path, int]


class Blocks(NamedTuple):
    """A file that was read, with those that it includes: its tree, and where each key stands."""

    tree: dict[str, Any]
    places: dict[tuple[str, ...], Place]


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def parse_blocks(
    path: Path, text: str, env: Mapping[str, str], read: Any, depth: int = 0
) -> Blocks:
    """Read a file; ``read`` returns the text of an included one.

    Raises ConfigError that names file and line.
    """
    return _Reader(path, env, read, depth).whole(text)


class _Reader:
    """One file on its way from text to tree."""

    def __init__(self, path: Path, env: Mapping[str, str], read: Any, depth: int) -> None:
        self.path, self.env, self.read, self.depth = path, env, read, depth
        self.places: dict[tuple[str, ...], Place] = {}
        self.tokens: list[_Token] = []
        self.at = 0

    def fail(self, line: int, message: str, hint: str = "") -> NoReturn:
        """Refuse the file because of a line."""
        raise ConfigError(f"{self.path.name}:{line}: {message}", hint=hint)

    def whole(self, text: str) -> Blocks:
        """Return what the text says."""
        self.tokens = list(self.split(text))
        tree = self.block((), self.depth)
        return Blocks(tree, self.places)

    def split(self, text: str) -> list[_Token]:
        """Return the tokens, the last one an end."""
        found: list[_Token] = []
        at, line = 0, 1
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                self.fail(line, "a text in quotes does not end", 'close it with "')
            at = match.end()
            kind = str(match.lastgroup)
            if kind != "blank":
                found.append(_Token(kind, match[0], line))
            line += match[0].count("\n")
        found.append(_Token("end", "", line))
        return found

    def next(self) -> _Token:
        """Return the next token and go on."""
        token = self.tokens[self.at]
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self.at == len(self.tokens) - 1

    def block(self, path: tuple[str, ...], depth: int) -> dict[str, Any]:
        """Read entries up to the end of the file, or of the block that ``path`` names."""
        tree: dict[str, Any] = {}
        opened = self.tokens[self.at].line
        if depth > MAX_DEPTH:
            self.fail(opened, "nested too deeply")
        while not self.over:
            token = self.next()
            if token.kind == "end":
                continue
            if token.text == "}" and path:
                return tree
            if token.kind != "word" or not _NAME.fullmatch(token.text):
                hint = 'lines are `name value`, as in: addr "localhost:5432"'
                self.fail(token.line, f"a name is needed here, not `{token.text[:60]}`", hint)
            self.entry(tree, path, token, depth)
        if path:
            self.fail(opened, f"the block `{'.'.join(path)}` does not end", "close it with }")
        return tree

    def entry(self, tree: dict[str, Any], path: tuple[str, ...], name: _Token, depth: int) -> None:
        """Read the values of a name into the tree."""
        key = (*path, name.text)
        if name.text == "include" and not path:
            return self.include(tree, name, self.values(key, name, depth))
        self.once(key, (self.path, name.line))
        tree[name.text] = self.meaning(key, name, self.values(key, name, depth))
        return None

    def once(self, key: tuple[str, ...], place: Place) -> None:
        """Note where a key stands, unless it stands elsewhere already."""
        if key in self.places:
            path, line = self.places[key]
            message = f"`{'.'.join(key)}` is given twice"
            where = f"the first is at {path.name}:{line}; remove one"
            raise ConfigError(f"{place[0].name}:{place[1]}: {message}", hint=where)
        self.places[key] = place

    def values(self, key: tuple[str, ...], name: _Token, depth: int) -> list[Any]:
        """Return the values up to the end of the line, or with a block."""
        found: list[Any] = []
        while True:
            token = self.tokens[self.at]
            if token.kind == "end" or token.text == "}":
                break
            self.next()
            if token.text == "{":
                found.append(self.block(key, depth + 1))
                break
            found.append(self.value(token, depth))
        if not found:
            self.fail(name.line, f"`{'.'.join(key)}` has no value", "write one behind it")
        return found

    def meaning(self, key: tuple[str, ...], name: _Token, values: list[Any]) -> Any:
        """Return the value of a name; `log LEVEL "FILE"` is the only one with two."""
        if len(values) == 1 and key != ("log",):
            return values[0]
        if key == ("log",) and isinstance(values[0], dict):
            return values[0]
        if key == ("log",) and len(values) <= 2:
            self.places |= {(*key, part): (self.path, name.line) for part in ("level", "file")}
            file = values[1] if len(values) == 2 else ""
            standard = file in ("/dev/stdout", "/dev/stderr")
            return {"level": values[0], "file": "" if standard else file}
        hint = 'several need a list: ["a", "b"]'
        return self.fail(name.line, f"`{'.'.join(key)}` takes one value, not {len(values)}", hint)

    def value(self, token: _Token, depth: int) -> Any:
        """Return the value that begins with a token."""
        if token.kind == "text":
            return self.text(token)
        if token.text == "[":
            return self.items(token, depth + 1)
        if token.kind == "word":
            found = plain(token.text)
            if found is not None:
                return found
        hint = "put texts in quotes"
        return self.fail(token.line, f"no value can be `{token.text[:60]}`", hint)

    def items(self, opened: _Token, depth: int) -> list[Any]:
        """Read a list, which may go over lines."""
        if depth > MAX_DEPTH:
            self.fail(opened.line, "nested too deeply")
        found: list[Any] = []
        ready = True
        while not self.over:
            token = self.next()
            if token.text == "]":
                return found
            if token.text == "\n":
                continue
            if token.text == ",":
                if ready:
                    self.fail(token.line, "a value is missing before the comma")
                ready = True
            elif not ready:
                self.fail(token.line, f"a comma is missing before `{token.text[:60]}`")
            else:
                found.append(self.value(token, depth))
                ready = False
        return self.fail(opened.line, "a list does not end", "close it with ]")

    def text(self, token: _Token) -> str:
        """Return a text without its quotes, with what its variables hold."""

        def held(found: re.Match[str]) -> str:
            if found[1] not in self.env:
                message = f"the environment has no `{found[1][:60]}`"
                self.fail(token.line, message, "set it; it may be empty")
            return self.env[found[1]]

        bare = _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), token.text[1:-1])
        return _VARIABLE.sub(held, bare)

    def include(self, tree: dict[str, Any], name: _Token, values: list[Any]) -> None:
        """Read other files, relative to this one, as if they stood here."""
        files = values[0] if isinstance(values[0], list) else values
        for file in files:
            if not isinstance(file, str) or not file:
                self.fail(name.line, "`include` takes the name of a file, or a list", "in quotes")
            if self.depth >= MAX_DEPTH:
                self.fail(name.line, f"`include` of {file}: too deep, or a circle")
            inner = self.path.parent / file
            text = self.read(inner)
            found = parse_blocks(inner, text, self.env, self.read, self.depth + 1)
            for key, place in found.places.items():
                self.once(key, place)
            tree |= found.tree


def plain(word: str) -> Any:
    """Return the meaning of a value that stands without quotes; None if it has none."""
    if word in {"true", "false"}:
        return word == "true"
    if found := _NUMBER.fullmatch(word):
        return float(word) if found[1] else int(word)
    if found := _SIZE.fullmatch(word):
        return int(found[1]) * _BYTES[found[2]]
    if word and _STEP.sub("", word) == "":
        return sum(float(step[1]) * _SECONDS[step[2]] for step in _STEP.finditer(word))
    return word if _WORD.fullmatch(word) else None
