"""The page on PostgreSQL, run against a private server."""

from __future__ import annotations

from pathlib import Path

import pytest
from everbell_docs_pages import ROOT, Shell, blocks, differs, steps

from everbell.testing.free_ports import free_port
from everbell.testing.postgres_server import PostgresServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
PAGE = ROOT / "docs" / "how-to" / "postgresql.md"


def test_every_command_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    server = PostgresServer()
    home = tmp_path / "reader"
    home.mkdir()
    shell = Shell(home, [free_port(), free_port()])
    shell.ports["127.0.0.1:5432"] = f"127.0.0.1:{server.port}"
    try:
        for step in (step for block in blocks(PAGE, "console") for step in steps(block)):
            printed, code = shell.run(step.command)
            where = f"line {step.line}: $ {step.command}"
            assert code == 0, f"{where}\n" + "\n".join(printed)
            assert not (why := differs(step.shown, printed)), f"{where}\n{why}"
    finally:
        shell.close()
        server.close()
