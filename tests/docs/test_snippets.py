"""What pages show in Python, JavaScript, JSON and unit files works as shown."""

from __future__ import annotations

import base64
import configparser
import hashlib
import hmac
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from everbell_docs_pages import PAGES, ROOT, blocks

from everbell.config.schema import Settings
from everbell.domain.job import Action

CALLBACKS = ROOT / "docs" / "how-to" / "verify-callbacks.md"
SECRET = b"a secret of thirty-two bytes, ok"
BODY = b'{"job": {}, "run": {}}'


def shown(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def signed(body: bytes, secret: bytes = SECRET, age_s: int = 0) -> dict[str, str]:
    stamp = str(int(time.time()) - age_s)
    text = f"17-1763712000000000.{stamp}.".encode() + body
    digest = hmac.digest(secret, text, hashlib.sha256)
    return {
        "webhook-id": "17-1763712000000000",
        "webhook-timestamp": stamp,
        "webhook-signature": "v1,AAAA v1," + base64.b64encode(digest).decode(),
    }


# Signed when the test is run: a signature is good for minutes only. The secret, the age, the body
# that arrives, and what is wrong with it.
CASES = [
    (SECRET, 0, BODY, ""),
    (SECRET, 0, BODY + b" ", "bad signature"),
    (b"another", 0, BODY, "bad signature"),
    (SECRET, 3600, BODY, "too old"),
]


@pytest.mark.parametrize(("secret", "age_s", "body", "error"), CASES)
def test_the_check_in_python(secret: bytes, age_s: int, body: bytes, error: str) -> None:
    headers = signed(BODY, secret, age_s)
    space: dict[str, Any] = {}
    exec(blocks(CALLBACKS, "python")[0].text, space)
    if error:
        with pytest.raises(ValueError, match=error):
            space["verify"](SECRET, headers, body)
    else:
        space["verify"](SECRET, headers, body)


def test_the_check_in_node() -> None:
    program = (
        blocks(CALLBACKS, "javascript")[0].text
        + """
for (const [headers, body] of JSON.parse(process.argv[1])) {
  try { verify(Buffer.from(process.argv[2]), headers, Buffer.from(body)); console.log('') }
  catch (error) { console.log(error.message) }
}
"""
    )
    cases = json.dumps([[signed(BODY, key, age_s), body.decode()] for key, age_s, body, _ in CASES])
    done = subprocess.run(
        ["node", "-e", program, cases, SECRET.decode()],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert done.stdout.splitlines() == [error for *_, error in CASES]


def test_every_python_block_is_python() -> None:
    for page in PAGES:
        for block in blocks(page, "python"):
            compile(block.text, f"{shown(page)}:{block.line}", "exec")


def test_every_json_block_is_json_and_actions_are_actions() -> None:
    for page in PAGES:
        for block in blocks(page, "json"):
            value = json.loads(block.text)
            if "kind" in value:
                msgspec.convert(value, Action)


def test_the_unit_file_starts_a_node_and_waits_for_its_runs() -> None:
    text = (ROOT / "dist" / "everbell.service").read_text()
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(text)
    service = unit["Service"]
    assert re.fullmatch(r"/\S+/everbell start", service["ExecStart"])
    execution = Settings().execution
    longest = execution.shutdown_grace + execution.kill_grace
    assert float(service["TimeoutStopSec"]) > longest
    assert service["KillMode"] == "mixed"


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    linked = {
        (ROOT / "docs" / link.partition("#")[0]).resolve()
        for link in re.findall(r"\]\(([^)]+)\)", index)
    }
    loose = [
        shown(page)
        for page in PAGES
        if page not in linked and page.name != "index.md" and "adr" not in page.parts
    ]
    assert loose == []
    adr = (ROOT / "docs" / "adr" / "README.md").read_text()
    pages = [page.name for page in PAGES if "adr" in page.parts and page.name != "README.md"]
    assert [name for name in pages if f"({name})" not in adr] == []
