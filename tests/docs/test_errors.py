"""The generated list of errors is complete, whatever module an error lives in."""

from __future__ import annotations

import re

from everbell_docs_pages import ROOT

from everbell.api.problems import TITLES

PAGE = (ROOT / "docs" / "errors.md").read_text()
SOURCES = [p for p in (ROOT / "src").rglob("*.py") if "testing" not in p.parts]


def test_every_class_with_a_code_is_listed() -> None:
    declared = {
        code
        for path in SOURCES
        for code in re.findall(r'^    code = "(\w+)"$', path.read_text(), re.MULTILINE)
    }
    assert {"version_mismatch", "idempotency_key_reused", "naive_datetime"} <= declared
    listed = set(re.findall(r"^\| `(\w+)` \| `\w+` \| \d{3} \| \d \| \S", PAGE, re.MULTILINE))
    assert declared - listed == set()
    assert set(TITLES) - listed == set()


def test_every_code_of_a_field_is_listed() -> None:
    used = {
        code
        for path in SOURCES
        for call in re.findall(r"FieldProblem\((?:[^()]|\([^()]*\))*\)", path.read_text())
        for code in re.findall(r'code="(\w+)"', call)
    }
    fields = PAGE.partition("## Codes of single fields")[2]
    assert len(used) > 5
    assert [code for code in sorted(used) if f"| `{code}` |" not in fields] == []
