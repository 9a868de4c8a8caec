"""A move that is killed at any step, and the command that makes it."""

import json
import signal
import subprocess
import sys

import asyncpg
import pytest

from everbell.domain.errors import (
    ConfigError,
    ConflictError,
)
from everbell.ports.store import JobFilter, Page, RunFilter
from everbell.stores.postgres import PostgresStore
from everbell.stores.sqlite import SqliteStore
from everbell.testing.contracts import making
from everbell.testing.contracts.making import NOW, SEC
from everbell.testing.moving import fill, moved, run_cli, usable

pytestmark = pytest.mark.timeout(120)
DAY = 86_400 * SEC
PAGE = Page(limit=1000)


@pytest.fixture
async def source(tmp_path):
    path = tmp_path / "everbell.db"
    await fill(path)
    return path


@pytest.fixture
def url(postgres_server):
    return postgres_server.url(postgres_server.new_database())


# A real process that kills itself, as the machine might, right before or after a step.
KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from everbell.services.moving import move
from everbell.stores.postgres.receiving import PostgresReceiver
from everbell.stores.sqlite.giving import SqliteGiver
from everbell.telemetry.clock import SystemClock

path, url, step, when = sys.argv[1:]

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def wrap(kind):
    real = getattr(kind, step)
    if asyncio.iscoroutinefunction(real):
        async def other(self, *args):
            when == "before" and die()
            await real(self, *args)
            die()
    else:
        def other(self, *args):
            when == "before" and die()
            real(self, *args)
            die()
    setattr(kind, step, other)

tell = lambda name, rows, total: die() if step == "tell" and name == when else None
if step != "tell":
    wrap(SqliteGiver if step in ("leave",) else PostgresReceiver)

async def main():
    receiver = await PostgresReceiver.open(url)
    await move(SqliteGiver.open(Path(path)), receiver, SystemClock(), "killed", tell)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("step", "when", "complete"),
    [
        ("begin", "after", False),
        ("tell", "jobs", False),
        ("tell", "ended_runs", False),
        ("commit", "before", False),
        ("commit", "after", False),
        ("leave", "before", False),
        ("leave", "after", True),
        ("done", "before", True),
        ("done", "after", True),
    ],
)
async def test_killed_anywhere_the_next_call_goes_on(source, url, step, when, complete):
    command = [sys.executable, "-c", KILLED, str(source), url, step, when]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    if complete:
        with pytest.raises(ConfigError, match="was moved to"):
            await SqliteStore.open(source)
    else:
        # It is as if nothing had been; also a node may run again and change it meanwhile.
        store = await SqliteStore.open(source)
        await store.add_jobs([making.new_job("meanwhile")], NOW)
        await store.close()
    if step == "commit" and when == "after":
        with pytest.raises(ConfigError, match="holds an unfinished move"):
            await PostgresStore.open(url)
        with pytest.raises(ConflictError, match="unfinished move"):
            other = source.with_name("other.db")
            await fill(other)
            await moved(other, url, "other")
    result = await moved(source, url, "again")
    assert result.already == complete
    store = await PostgresStore.open(url)
    jobs, _ = await store.list_jobs(JobFilter(), PAGE)
    assert ("meanwhile" in {job.name for job in jobs}) is not complete
    assert len(await store.list_runs(RunFilter(), 1000)) > 8
    await store.close()


async def test_the_command_plans_moves_and_says_what_next(source, url):
    home = source.parent
    planned = run_cli(home, "migrate", "--to", url, "--plan", "--json")
    assert planned.returncode == 0, planned.stderr
    data = json.loads(planned.stdout)["data"]
    assert (data["state"], data["obstacle"]) == ("planned", None)
    assert data["jobs"] == 5
    con = await asyncpg.connect(url)
    assert await con.fetchval("SELECT to_regnamespace('everbell')") is None, "a plan makes nothing"
    await con.close()
    done = run_cli(home, "migrate", "--from", "sqlite:///everbell.db", "--to", url, "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert data["state"] == "done"
    assert sum(table["rows"] for table in data["tables"]) == data["rows"]
    assert 'database.url = "postgresql://' in done.stderr
    again = run_cli(home, "migrate", "--to", url, "--json")
    assert json.loads(again.stdout)["data"]["state"] == "already done"
    planned = run_cli(home, "migrate", "--to", url, "--plan", "--json")
    assert json.loads(planned.stdout)["data"]["state"] == "already moved"


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("--to", "mysql://h/d"), "is no PostgreSQL", 2),
        (("--from", "postgresql://u:pw-word@h/d", "--to", "sqlite:///x.db"), "is no SQLite", 2),
        (("--from", "sqlite:///nothing.db", "--to", "postgresql://h/d"), "no database", 5),
        ((), "--to is missing", 2),
        (("--from", "sqlite://", "--to", "postgresql://h/d"), "is no SQLite file", 2),
        (("--to", "postgresql://u:pw-word@127.0.0.1:1/d"), "can't be reached", 7),
        (("--server", "http://h", "--to", "postgresql://h/d"), "--server has no meaning", 2),
    ],
)
async def test_bad_words_are_refused_with_what_to_do(source, words, said, code):
    done = run_cli(source.parent, "migrate", *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "hint: " in done.stderr
    assert "pw-word" not in done.stderr
    await usable(source)
