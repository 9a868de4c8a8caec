"""Each promise names its tests, and the tests exist."""

from __future__ import annotations

import ast
import re

from everbell_docs_pages import ROOT

PAGE = (ROOT / "docs" / "promises.md").read_text()
NAMED = re.compile(r"^- `([\w/.-]+\.py)::(\w+)`$", re.MULTILINE)


def test_all_nine_promises_name_tests() -> None:
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    numbered = [part for part in parts if part[0].isdigit()]
    assert [int(part.partition(".")[0]) for part in numbered] == list(range(1, 10))
    assert [part.splitlines()[0] for part in numbered if not NAMED.search(part)] == []


def test_every_named_test_exists() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 20
    missing = []
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        names = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        if name not in names:
            missing.append(f"{path}::{name}")
    assert missing == []
    assert all("test_" in line for line in PAGE.splitlines() if line.startswith("- `"))
