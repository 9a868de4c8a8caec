"""A whole installation on SQLite moved into a real PostgreSQL: the same through both stores."""

import os
import signal
import subprocess
import sys

import apsw
import asyncpg
import pytest

from everbell.domain.audit import AuditEntry
from everbell.domain.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    StoreCorrupt,
    StoreUnavailable,
)
from everbell.domain.moving import shapes
from everbell.ports.store import JobFilter, Page, RunFilter
from everbell.stores.postgres import PostgresStore
from everbell.stores.postgres.receiving import PostgresReceiver
from everbell.stores.sqlite import SqliteStore, giving
from everbell.stores.sqlite.backup import back_up
from everbell.stores.sqlite.checkup import check_up
from everbell.stores.sqlite.giving import SqliteGiver, look
from everbell.testing.contracts import making
from everbell.testing.contracts.making import NOW, SEC
from everbell.testing.moving import fill, moved, run_cli, usable

pytestmark = pytest.mark.timeout(120)
DAY = 86_400 * SEC
PAGE = Page(limit=1000)


async def told(store):
    """Return all that a store tells, verb by verb."""
    jobs, count = await store.list_jobs(JobFilter(), PAGE)
    runs = await store.list_runs(RunFilter(), 1000)
    keys = [run.key for run in runs]
    assert jobs
    assert len(runs) > 8
    return {
        "projects": await store.list_projects(None, PAGE),
        "credentials": await store.list_credentials(PAGE),
        "found": await store.find_credential("key-c"),
        "jobs": (jobs, count),
        "by name": await store.list_jobs(JobFilter(search="ü"), PAGE),
        "versions": [await store.job_versions(job.id) for job in jobs],
        "holds": await store.list_holds(),
        "limits": await store.list_limits(None),
        "runs": runs,
        "last": await store.last_runs([job.id for job in jobs]),
        "attempts": [await store.attempts(key) for key in keys],
        "output": [await store.read_output(key, 1, 0, 10**6) for key in keys],
        "audit": await store.list_audit(None, 100),
        "nodes": await store.list_nodes(),
        "meta": await store.meta("secret_check"),
        "remembered": await store.remember("scope", "key", b"new", NOW),
        "due": await store.due(NOW + DAY, 100),
        "next due": await store.next_due_us(),
        "orphans": await store.orphans(NOW + 10 * DAY, 100),
        "to cancel": await store.cancel_flags("n2"),
    }


@pytest.fixture
async def source(tmp_path):
    path = tmp_path / "everbell.db"
    await fill(path)
    return path


@pytest.fixture
def url(postgres_server):
    return postgres_server.url(postgres_server.new_database())


async def test_nothing_of_either_catalog_is_forgotten(source, url):
    receiver, giver = await PostgresReceiver.open(url), SqliteGiver.open(source)
    store = await PostgresStore.open(url)
    try:
        found, wrong = shapes(giver.columns(), await receiver.columns())
    finally:
        giver.close()
        await receiver.close()
        await store.close()
    assert wrong == []
    assert all(shape.columns for shape in found)


@pytest.mark.parametrize(("rows", "size"), [(giving.ROWS, giving.BYTES), (2, 3)])
async def test_every_verb_tells_the_same_of_both(source, url, rows, size, monkeypatch):
    monkeypatch.setattr(giving, "ROWS", rows)
    monkeypatch.setattr(giving, "BYTES", size)
    store = await SqliteStore.open(source)
    before = await told(store)
    await store.close()
    done = await moved(source, url)
    assert not done.already
    assert done.replaced == 3, "NUL in the errors of three ends"
    rows = {table.name: table.rows for table in done.tables}
    assert rows["runs"] + rows["ended_runs"] == len(before["runs"])
    store = await PostgresStore.open(url)
    after = await told(store)
    await store.close()
    for run in before["runs"]:
        # The one difference that is meant: PostgreSQL has no place for NUL.
        assert "\0" not in run.error or run.error.replace("\0", "\ufffd") in {
            one.error for one in after["runs"] if one.key == run.key
        }
    for name, expected in before.items():
        assert spelled(after[name]) == spelled(expected), name


def spelled(thing):
    return repr(thing).replace("\\x00", "\ufffd")


async def test_what_was_given_out_is_not_given_out_again(source, url):
    store = await SqliteStore.open(source)
    last = (await store.add_jobs([making.new_job("late")], NOW))[0]
    taken = await making.claimed(store, last)
    await store.finish([making.end(taken)], NOW)
    await store.delete_job(last.id, NOW)
    project = await store.add_project(making.project("gone"))
    await store.delete_project(project.id)
    entries = await store.list_audit(None, 1)
    await store.close()
    await moved(source, url)
    store = await PostgresStore.open(url)
    entry = AuditEntry(at_us=NOW, who="me", what="make", kind="job")
    [job] = await store.audited(entry).add_jobs([making.new_job("new")], NOW)
    assert job.id == last.id + 1
    assert (await store.add_project(making.project("new"))).id == project.id + 1
    assert (await making.claimed(store, job)).token > taken.token
    assert (await store.list_audit(None, 1))[0].id > entries[0].id
    await store.close()


async def test_a_slot_of_the_ledger_is_not_claimed_again(source, url):
    store = await SqliteStore.open(source)
    taken = [run for run in await store.list_runs(RunFilter(), 1000) if not run.key.trigger_id]
    await store.close()
    await moved(source, url)
    store = await PostgresStore.open(url)
    for run in taken:
        job = await store.get_job(run.key.job_id)
        decision = making.decision(job, claims=(making.claim(run.key.slot_us),))
        [answer] = await store.decide("n9", [decision], NOW)
        assert answer.runs == (), run.key
    await store.close()


async def test_the_source_sends_everybody_on(source, url, tmp_path):
    await moved(source, url)
    where = "was moved to postgresql://"
    with pytest.raises(ConfigError, match=where) as caught:
        await SqliteStore.open(source)
    assert "database.url = " in caught.value.hint
    with pytest.raises(ConfigError, match=where):
        back_up(source, tmp_path / "copy.db")
    with pytest.raises(ConfigError, match=where):
        check_up(source, NOW)
    store = await SqliteStore.open_still(source)
    assert len(await store.list_runs(RunFilter(), 1000)) > 8, "it can still be looked at"
    await store.close()
    # Versions that know of no mark see a schema of the future.
    db = apsw.Connection(str(source))
    assert db.pragma("user_version") > 1_000_000
    db.close()


async def test_a_second_call_says_that_it_is_done(source, url):
    first = await moved(source, url)
    again = await moved(source, url, "two")
    assert again.already
    assert again.move == first.move


async def test_a_moved_source_goes_nowhere_else(source, url, postgres_server):
    await moved(source, url)
    with pytest.raises(ConflictError, match="was moved to"):
        await moved(source, postgres_server.url(postgres_server.new_database()))


async def test_a_target_with_something_in_it_is_refused(source, url):
    store = await PostgresStore.open(url)
    await making.add_job(store)
    await store.close()
    with pytest.raises(ConflictError, match="is not empty"):
        await moved(source, url)
    await usable(source)


async def test_a_target_that_was_only_looked_at_counts_as_empty(source, url):
    store = await PostgresStore.open(url)
    await store.add_project(making.project("default"))
    await store.meta("secret_check", "another")
    await store.close()
    await moved(source, url)
    store = await PostgresStore.open(url)
    assert await store.meta("secret_check") == "abc"
    await store.close()


async def test_another_programs_schema_is_left_alone(source, url):
    con = await asyncpg.connect(url)
    await con.execute("CREATE SCHEMA everbell; CREATE TABLE everbell.theirs (a int)")
    await con.close()
    with pytest.raises(Exception, match="another program's"):
        await moved(source, url)
    await usable(source)


class Careless(PostgresReceiver):
    """Loses a row of the ledger on the way."""

    async def put(self, shape, rows):
        await super().put(shape, rows[1:] if shape.part.name == "ended_runs" else rows)


class Twisting(PostgresReceiver):
    """Stores one figure wrong."""

    async def put(self, shape, rows):
        if shape.part.name == "ended_runs":
            rows = [[*rows[0]], *rows[1:]]
            rows[0][shape.columns.index("token")] += 1
        await super().put(shape, rows)


@pytest.mark.parametrize("kind", [Careless, Twisting])
async def test_a_copy_that_differs_is_thrown_away(source, url, kind):
    with pytest.raises(StoreCorrupt, match="ended_runs differs after the copy"):
        await moved(source, url, kind=kind)
    await usable(source)
    assert not (await moved(source, url)).already


async def test_a_connection_lost_on_the_way_leaves_all_as_it_was(source, url, postgres_server):
    def cut(name, rows, total):
        if name == "ended_runs":
            postgres_server.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{url.rpartition('/')[2]}'"
            )

    with pytest.raises(StoreUnavailable):
        await moved(source, url, tell=cut)
    await usable(source)
    store = await PostgresStore.open(url)
    assert await store.list_jobs(JobFilter(), PAGE) == ([], 0)
    await store.close()
    assert not (await moved(source, url)).already


async def test_a_backup_from_before_is_the_way_back(source, url):
    home = source.parent
    run_cli(home, "credential", "init", "--generate")
    db = apsw.Connection(str(source))
    db.execute("DELETE FROM meta WHERE key = 'secret_check'")
    db.close()
    assert run_cli(home, "backup", "before.db").returncode == 0
    await moved(source, url)
    assert run_cli(home, "job", "list").returncode == 2
    done = run_cli(home, "restore", "before.db", "--yes")
    assert done.returncode == 0, done.stderr
    assert run_cli(home, "job", "list").returncode == 0


async def test_a_source_in_use_is_refused(source, url):
    script = (
        "import asyncio, sys\n"
        "from everbell.stores.sqlite import SqliteStore\n"
        "async def main():\n"
        "    store = await SqliteStore.open(sys.argv[1])\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
        "    await store.close()\n"
        "asyncio.run(main())\n"
    )
    user = subprocess.Popen(
        [sys.executable, "-c", script, str(source)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        user.stdout.readline()
        assert look(source, NOW).users == (user.pid,)
        os.kill(user.pid, signal.SIGSTOP)
        with pytest.raises(ConflictError, match="is in use"):
            await moved(source, url)
        os.kill(user.pid, signal.SIGCONT)
    finally:
        user.communicate(b"", timeout=20)
    await moved(source, url)


async def test_what_opens_the_source_meanwhile_finds_it_locked(source, url):
    giver = SqliteGiver.open(source)
    script = (
        "import asyncio, sys\n"
        "from everbell.stores.sqlite import SqliteStore\n"
        "asyncio.run(SqliteStore.open(sys.argv[1], busy_timeout_s=0.2))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(source)], capture_output=True, text=True
    )
    giver.close()
    assert "locked by another process" in done.stderr
    await usable(source)


async def test_bad_addresses(source, postgres_server, tmp_path):
    with pytest.raises(NotFoundError, match="no database"):
        SqliteGiver.open(tmp_path / "nothing.db")
    (tmp_path / "text.db").write_text("not a database" * 100)
    with pytest.raises(Exception, match="damaged or no SQLite database"):
        SqliteGiver.open(tmp_path / "text.db")
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await PostgresReceiver.open(postgres_server.url("nowhere"))
    with pytest.raises(ConfigError):
        await PostgresReceiver.open("postgresql://h:port/x")
    postgres_server.sql("DO $$ BEGIN CREATE ROLE password_role LOGIN PASSWORD 'right';"
                        " EXCEPTION WHEN duplicate_object THEN NULL; END $$")  # fmt: skip
    name = postgres_server.new_database()
    with pytest.raises(StoreUnavailable, match="refuses the password") as caught:
        await PostgresReceiver.open(postgres_server.url(name, "password_role", "wrong"))
    assert "wrong" not in caught.value.message
    postgres_server.sql("DO $$ BEGIN CREATE ROLE nobody_role LOGIN;"
                        " EXCEPTION WHEN duplicate_object THEN NULL; END $$")  # fmt: skip
    with pytest.raises(StoreUnavailable, match=r"lacks a right|may not make a schema"):
        await moved(source, postgres_server.url(name, "nobody_role"))
    await usable(source)


async def test_an_older_schema_is_brought_up_to_date_first(source, url, tmp_path):
    from everbell.stores.sqlite import connection

    old = tmp_path / "old.db"
    db = apsw.Connection(str(old))
    connection.migrate(db, upto=1)
    db.close()
    found = look(old, NOW)
    assert found.schema == 1
    await moved(old, url)
