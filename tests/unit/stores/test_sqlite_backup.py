"""Copies of a database in use, and what may not be given out again after a restore."""

import asyncio
import os
import stat

import apsw
import pytest

from everbell.domain.errors import ConflictError, NotFoundError, StoreCorrupt
from everbell.domain.run import RunKey
from everbell.ports.store import JobFilter, NewRun, Page
from everbell.stores.sqlite import SqliteStore, backup
from everbell.testing.contracts import making

NOW = 1_800_000_000_000_000


@pytest.fixture
async def store(tmp_path):
    opened = await SqliteStore.open(tmp_path / "everbell.db")
    yield opened
    await opened.close()


async def filled(store, runs=3):
    job = await making.add_job(store)
    for number in range(runs):
        await queue(store, job, number)
    return job


async def queue(store, job, number):
    key = RunKey(NOW + number, job.id, f"t{number}")
    run = NewRun(
        key=key, project_id=job.project_id, version=job.version, trigger="manual", due_us=NOW
    )
    return await store.enqueue(run, NOW)


async def test_a_copy_is_whole_private_and_one_file(store, tmp_path):
    await filled(store)
    copy = tmp_path / "copy.db"
    content = backup.back_up(tmp_path / "everbell.db", copy)
    assert (content.jobs, content.runs) == (1, 3)
    assert content.last_slot_us == NOW + 2
    assert content.size_bytes == copy.stat().st_size
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    left = sorted(name for name in os.listdir(tmp_path) if "copy" in name)
    assert left == ["copy.db"]


async def test_what_is_there_is_not_replaced_unless_told_so(store, tmp_path):
    source, copy = tmp_path / "everbell.db", tmp_path / "copy.db"
    copy.write_text("precious")
    with pytest.raises(ConflictError, match="already there"):
        backup.back_up(source, copy)
    assert copy.read_text() == "precious"
    backup.back_up(source, copy, force=True)
    assert backup.examine(copy).jobs == 0
    with pytest.raises(ConflictError):
        backup.back_up(source, source, force=True)
    os.link(source, tmp_path / "same.db")
    with pytest.raises(ConflictError):
        backup.back_up(source, tmp_path / "same.db", force=True)


def test_a_database_that_is_not_there(tmp_path):
    with pytest.raises(NotFoundError):
        backup.back_up(tmp_path / "none.db", tmp_path / "copy.db")
    assert os.listdir(tmp_path) == []
    with pytest.raises(NotFoundError):
        backup.examine(tmp_path / "none.db")


@pytest.mark.parametrize("what", ["text", "foreign", "newer", "flipped", "cut"])
async def test_a_copy_that_cannot_be_trusted_is_refused(store, tmp_path, what):
    await filled(store, 300)
    copy = tmp_path / "copy.db"
    backup.back_up(tmp_path / "everbell.db", copy)
    if what == "text":
        copy.write_text("not a database, only some words that say so" * 20)
    elif what in {"foreign", "newer"}:
        db = apsw.Connection(str(copy))
        db.execute("PRAGMA application_id = 7" if what == "foreign" else "PRAGMA user_version = 99")
        db.close()
    else:
        raw = bytearray(copy.read_bytes())
        if what == "flipped":
            for at in range(4096, len(raw), 512):
                raw[at] ^= 0xFF
        copy.write_bytes(raw[: len(raw) * 2 // 3] if what == "cut" else raw)
    with pytest.raises(StoreCorrupt):
        backup.examine(copy)


async def test_copies_under_load_are_consistent_and_hold_what_was_acknowledged(store, tmp_path):
    job = await filled(store, 0)
    acknowledged, stop = [0], asyncio.Event()

    async def write():
        while not stop.is_set():
            await asyncio.gather(*(queue(store, job, acknowledged[0] + n) for n in range(10)))
            acknowledged[0] += 10

    writing = asyncio.create_task(write())
    loop = asyncio.get_running_loop()
    number = 0
    while number < 8 or acknowledged[0] <= 100:
        number += 1
        before = acknowledged[0]
        copy = tmp_path / f"copy{number}.db"
        content = await loop.run_in_executor(
            None, lambda: backup.back_up(tmp_path / "everbell.db", copy)
        )
        assert before <= content.runs <= acknowledged[0] + 10
    stop.set()
    await writing


async def test_a_database_in_use_is_not_released(store, tmp_path):
    with pytest.raises(ConflictError, match="in use"):
        backup.release_file(tmp_path / "everbell.db")
    job = await filled(store)
    await store.close()
    marks = backup.release_file(tmp_path / "everbell.db")
    assert marks.job_id == job.id
    assert not (tmp_path / "everbell.db-wal").exists()
    assert backup.release_file(tmp_path / "none.db") is None
    (tmp_path / "bad.db").write_text("no database at all " * 100)
    assert backup.release_file(tmp_path / "bad.db") is None


async def test_tokens_and_ids_given_out_since_the_backup_stay_given_out(store, tmp_path):
    target, copy = tmp_path / "everbell.db", tmp_path / "copy.db"
    await making.add_job(store)
    backup.back_up(target, copy)
    later = await making.add_job(store, "later")
    await queue(store, later, 0)
    [claimed] = await store.take_queued("n1", NOW, 1)
    await store.close()
    given = backup.release_file(target)
    assert given.token >= claimed.token
    backup.put_in_place(backup.stage(copy, target, given), target, tmp_path / "old.db")
    again = await SqliteStore.open(target)
    try:
        assert (await again.list_jobs(JobFilter(), Page()))[1] == 1
        fresh = await making.add_job(again, "fresh")
        assert fresh.id > later.id
        await queue(again, fresh, 0)
        [next_claim] = await again.take_queued("n2", NOW, 1)
        assert next_claim.token > claimed.token
    finally:
        await again.close()
    assert backup.examine(tmp_path / "old.db").jobs == 2


async def test_without_the_old_database_tokens_jump_ahead(store, tmp_path):
    job = await filled(store, 1)
    copy, target = tmp_path / "copy.db", tmp_path / "new.db"
    backup.back_up(tmp_path / "everbell.db", copy)
    backup.put_in_place(backup.stage(copy, target, None), target, tmp_path / "old.db")
    again = await SqliteStore.open(target)
    [claimed] = await again.take_queued("n", NOW, 1)
    await again.close()
    assert claimed.key.job_id == job.id
    assert backup.UNKNOWN_TOKENS < claimed.token < 2 * backup.UNKNOWN_TOKENS
    assert not (tmp_path / "old.db").exists()


async def test_a_log_of_the_old_database_is_not_played_into_the_new_one(store, tmp_path):
    await filled(store)
    copy, target = tmp_path / "copy.db", tmp_path / "lost.db"
    backup.back_up(tmp_path / "everbell.db", copy)
    target.write_text("damaged " * 100)
    (tmp_path / "lost.db-wal").write_text("of the damaged one")
    backup.put_in_place(backup.stage(copy, target, None), target, tmp_path / "aside.db")
    assert backup.examine(target).runs == 3
    assert (tmp_path / "aside.db-wal").read_text() == "of the damaged one"
    assert (tmp_path / "aside.db").read_text().startswith("damaged")


async def test_a_directory_that_is_missing_is_not_made(store, tmp_path):
    with pytest.raises(OSError, match="No such file"):
        backup.back_up(tmp_path / "everbell.db", tmp_path / "none" / "copy.db")
    assert not (tmp_path / "none").exists()
