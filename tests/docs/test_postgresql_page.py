"""Pages that need PostgreSQL, or Redis too, run against private servers."""

from __future__ import annotations

from pathlib import Path

import pytest
from everbell_docs_pages import PAGES, ROOT, Shell, blocks, check, steps

from everbell.testing.free_ports import free_port
from everbell.testing.postgres_server import PostgresServer
from everbell.testing.redis_server import RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
FOUND = [p for p in PAGES if any(b.info == "postgres" for b in blocks(p, "console"))]


@pytest.mark.parametrize("page", FOUND, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_the_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    server = PostgresServer()
    redis = RedisServer()
    home = tmp_path / "reader"
    home.mkdir()
    shell = Shell(home, [free_port(), free_port()])
    shell.ports |= {"5432": str(server.port), "6379": str(redis.port)}
    try:
        found = (step for block in blocks(page, "console") for step in steps(block))
        check(shell, found, page.name)
    finally:
        shell.close()
        redis.close()
        server.close()
