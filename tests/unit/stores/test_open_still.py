"""Files that are only looked at: backups, older ones, live ones, and other programs'."""

import apsw
import pytest

from everbell.domain.errors import EverbellError, StoreCorrupt, StoreUnavailable
from everbell.ports.store import JobFilter, Page
from everbell.stores.sqlite import SqliteStore
from everbell.stores.sqlite.connection import migrate
from everbell.testing.contracts.making import NOW, add_job, node, project


@pytest.fixture
async def path(tmp_path):
    store = await SqliteStore.open(tmp_path / "everbell.db")
    await add_job(store)
    await store.heartbeat(node(heartbeat_us=NOW + 5))
    await store.close()
    return tmp_path / "everbell.db"


def names(path):
    return sorted(one.name for one in path.parent.iterdir())


async def test_nothing_is_made_and_nothing_changed(path):
    before = path.read_bytes()
    store = await SqliteStore.open_still(path)
    assert [job.name for job in (await store.list_jobs(JobFilter(), Page()))[0]] == ["job"]
    assert await store.last_seen_us() == NOW + 5
    with pytest.raises(EverbellError):
        await store.add_project(project("other"))
    await store.close()
    assert names(path) == ["everbell.db"]
    assert path.read_bytes() == before


async def test_what_a_live_database_has_in_its_log_is_seen(path):
    live = await SqliteStore.open(path)
    await live.add_project(project("fresh"))
    assert "everbell.db-wal" in names(path)
    store = await SqliteStore.open_still(path)
    assert (await store.get_project("fresh")).name == "fresh"
    await store.close()
    await live.close()


async def test_an_older_file_is_brought_up_to_date_in_memory(tmp_path):
    path = tmp_path / "old.db"
    db = apsw.Connection(str(path))
    migrate(db, upto=2)
    db.close()
    before = path.read_bytes()
    store = await SqliteStore.open_still(path)
    assert await store.list_holds() == []
    assert await store.last_seen_us() == 0
    await store.close()
    assert path.read_bytes() == before


async def test_what_is_no_database_of_ours_is_refused(tmp_path):
    with pytest.raises(StoreUnavailable, match="no file"):
        await SqliteStore.open_still(tmp_path / "absent.db")
    other = tmp_path / "other.db"
    db = apsw.Connection(str(other))
    db.execute("CREATE TABLE t (a)")
    db.close()
    with pytest.raises(StoreCorrupt, match="another program"):
        await SqliteStore.open_still(other)
    empty = tmp_path / "empty.db"
    empty.touch()
    with pytest.raises(StoreCorrupt, match="no database of Everbell"):
        await SqliteStore.open_still(empty)
    text = tmp_path / "text.db"
    text.write_text("hello " * 1000)
    with pytest.raises(StoreCorrupt):
        await SqliteStore.open_still(text)
