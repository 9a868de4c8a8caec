"""The pages about the API name all that a program may meet."""

from pathlib import Path

from everbell.api import aliases
from everbell.api.openapi import document
from everbell.api.problems import TITLES
from everbell.api.table import ENDPOINTS

ROOT = Path(__file__).resolve().parents[3]


def test_the_description_is_current():
    stored = (ROOT / "docs/reference/openapi.json").read_bytes()
    assert stored == document(ENDPOINTS), "run: python scripts/gen_openapi.py"


def test_every_error_code_is_explained():
    pages = (ROOT / "docs/errors.md").read_text() + (ROOT / "docs/reference/errors.md").read_text()
    assert [code for code in TITLES if f"`{code}`" not in pages] == []


def test_every_alias_is_documented():
    page = (ROOT / "docs/reference/http-api.md").read_text()
    spellings = {name.lower().replace("_", "") for name in aliases.ALIASES}
    known = page.lower().replace("_", "")
    assert [name for name in spellings if f"`{name}`" not in known] == []
