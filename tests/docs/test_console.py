"""Every command that a page shows is run, and prints what the page says it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from everbell_docs_pages import PAGES, ROOT, Shell, blocks, check, steps

from everbell.testing.free_ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

# `console` is run in a directory of its own against real nodes; `python NAME` is a file there.
# `console checkout` belongs to a checkout of the sources: its `make` targets must exist (the tests
# can't run themselves).
# `console postgres` needs a server (test_postgresql_page.py).
# `console root` changes a system: the page's own test checks what can be checked.


def pages_with(info: str) -> list[Path]:
    return [p for p in PAGES if any(b.info == info for b in blocks(p, "console"))]


def shown(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", pages_with(""), ids=shown)
def test_every_command_of_a_page_does_what_the_page_says(page: Path, tmp_path: Path) -> None:
    home = tmp_path / "reader"
    home.mkdir()
    shell = Shell(home, [free_port(), free_port()])
    for named in blocks(page, "python", "javascript"):
        if named.info:
            (home / named.info).write_text(named.text)
    try:
        plain = (block for block in blocks(page, "console") if not block.info)
        check(shell, (step for block in plain for step in steps(block)), shown(page))
    finally:
        shell.close()


@pytest.mark.parametrize("page", pages_with("checkout"), ids=shown)
def test_what_a_checkout_is_told_to_make_can_be_made(page: Path) -> None:
    for block in blocks(page, "console"):
        for step in steps(block) if block.info == "checkout" else []:
            program, *words = step.command.partition("#")[0].split()
            if program == "make":
                done = subprocess.run(
                    ["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, f"{step.command}: {done.stderr}"
            else:
                assert program in {"export", "cd"}, step.command


def test_make_run_starts_a_node_with_a_first_job(tmp_path: Path) -> None:
    said = make_run(tmp_path)
    assert any("job 1 `hello` created" in line for line in said), said
    # Broken off after the job was stored and before that was noted: the next run goes on.
    (tmp_path / "run" / ".first-job").unlink()
    again = make_run(tmp_path)
    assert not any("created" in line or "error" in line for line in again), again


def make_run(tmp_path: Path) -> list[str]:
    """Return what `make run` says until the node is up; stop it then."""
    port = str(free_port())
    bin_dir = str(Path(sys.executable).parent)
    node = subprocess.Popen(
        ["sh", "scripts/run.sh"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "PATH": f"{bin_dir}:{os.environ['PATH']}",
            "EVERBELL_RUN_DIR": str(tmp_path / "run"),
            "EVERBELL_SERVER_PORT": port,
        },
    )
    try:
        assert node.stdout is not None
        said: list[str] = []
        for line in node.stdout:
            said.append(line)
            if "Ctrl-C to stop" in line:
                break
        assert any(f"http://127.0.0.1:{port}" in line for line in said), said
        assert node.poll() is None, said
    finally:
        node.terminate()
        code = node.wait(40)
        assert node.stdout is not None
        node.stdout.close()
    assert code == 0, said
    return said


def test_no_commands_hide_in_blocks_that_are_not_run() -> None:
    loose = [f"{shown(p)}:{b.line}" for p in PAGES for b in blocks(p, "sh", "bash", "shell")]
    known = {b.info for p in PAGES for b in blocks(p, "console")}
    assert loose == []
    assert known <= {"", "checkout", "postgres", "root"}
