"""The layers, and the linters: one `make test` says whether a change may be merged."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def test_import_contracts_hold() -> None:
    run(str(BIN / "lint-imports"), "--no-cache")


@pytest.mark.parametrize("what", [("check",), ("format", "--check")], ids=["check", "format"])
def test_ruff_is_clean(what: tuple[str, ...]) -> None:
    run(str(BIN / "ruff"), *what, "--quiet", ".")


@pytest.mark.timeout(300)
def test_types_are_strict() -> None:
    run(str(BIN / "mypy"))
