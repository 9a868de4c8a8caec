"""A database that can't be used is said by the command line: what, where, which key, what to do."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from everbell.stores.postgres import PostgresStore
from everbell.testing.free_ports import free_port
from everbell.testing.postgres_server import PostgresServer

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    made = PostgresServer(settings=("max_connections=8", "superuser_reserved_connections=3"))
    made.sql("CREATE ROLE password_role LOGIN PASSWORD 'right'")
    made.sql("CREATE ROLE plain LOGIN")
    yield made
    made.close()


@pytest.fixture(scope="module")
def standby(server: PostgresServer) -> Iterator[PostgresServer]:
    """A copy of the server that is in recovery: it can be read and not be written to."""
    made = PostgresServer()
    made.stop("fast")
    (made.data / "standby.signal").touch()
    shutil.chown(made.data / "standby.signal", made.data.owner(), made.data.group())
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as `everbell init` leaves it."""
    made = tmp_path_factory.mktemp("home")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EVERBELL_")}
    subprocess.run(
        [sys.executable, "-m", "everbell", "init", "."],
        cwd=made,
        env=kept,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return made


def refused(home: Path, url: str, **more: str) -> tuple[int, str]:
    """Open the database by a command; return its exit code and what it said."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EVERBELL_")}
    names = {f"EVERBELL_DATABASE_{key.upper()}": value for key, value in more.items()}
    done = subprocess.run(
        [sys.executable, "-m", "everbell", "job", "list"],
        cwd=home,
        env={**kept, "EVERBELL_DATABASE_URL": url, **names},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr


def test_what_is_refused_is_said(server: PostgresServer, home: Path) -> None:
    name = server.new_database()
    server.sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    newer = server.new_database()
    asyncio.run(_make_newer(server.url(newer)))
    cases = {
        server.url(name, "password_role", "secret-word"): (7, "password", "database.password"),
        server.url("nowhere"): (7, "does not exist", "database.name"),
        f"postgresql://x@127.0.0.1:{free_port()}/x": (7, "can't be reached", "database.addr"),
        "postgresql://x@no-such-host.invalid/x": (7, "can't be reached", "database.url"),
        server.url("latin"): (1, "LATIN1", "ENCODING 'UTF8'"),
        server.url(newer): (1, "schema version 999", "database.url"),
        server.url(name, "plain"): (7, "may not make a schema", "GRANT CREATE ON DATABASE"),
        "postgresql://x@h:port/x": (2, "database.url", "postgresql://USER"),
        "postgresql://x:secret-word@more@h/x": (2, "database.url", "%40"),
        "postgresql://x:secret-word/more@h/x": (2, "database.url", "%2F"),
    }
    for url, (code, said, hint) in cases.items():
        got, text = refused(home, url)
        assert (got, said in text, hint in text) == (code, True, True), (url, got, text)
        assert "secret-word" not in text
        assert "Traceback" not in text


async def _make_newer(url: str) -> None:
    store = await PostgresStore.open(url)
    await store.close()
    con = await asyncpg.connect(url)
    await con.execute("INSERT INTO everbell.schema_version VALUES (999)")
    await con.close()


def test_half_of_tls_is_refused(server: PostgresServer, home: Path) -> None:
    code, text = refused(home, server.url("postgres"), tls_ca="ca.pem")
    assert code == 2
    assert "database.tls" in text


def test_a_server_without_a_connection_left_is_said(server: PostgresServer, home: Path) -> None:
    async def body() -> tuple[int, str]:
        taken = [await asyncpg.connect(server.url(role="plain")) for _ in range(5)]
        try:
            return await asyncio.to_thread(
                refused, home, server.url("postgres", "password_role", "right")
            )
        finally:
            for con in taken:
                await con.close()

    code, text = asyncio.run(body())
    assert code == 7
    assert "database.connections" in text


def test_a_standby_is_refused_and_passed_over(
    server: PostgresServer, standby: PostgresServer, home: Path
) -> None:
    code, text = refused(home, standby.url())
    assert (code, "standby" in text, "primary" in text) == (7, True, True), text
    standby_first = f"127.0.0.1:{standby.port},127.0.0.1:{server.port}"
    code, text = refused(home, f"postgresql://postgres@{standby_first}/postgres")
    assert code == 0, text


async def test_what_a_connection_is_for_is_shown(server: PostgresServer) -> None:
    store = await PostgresStore.open(server.url(server.new_database()), name="node-7")
    settings = await store._read(
        lambda sql: sql.row(
            "SELECT current_setting('application_name'), current_setting('statement_timeout'),"
            " current_setting('lock_timeout'),"
            " current_setting('idle_in_transaction_session_timeout')"
        )
    )
    await store.close()
    assert settings[0] == "everbell node-7"
    assert "0" not in settings[1:]
