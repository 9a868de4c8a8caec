"""Files that can't be trusted, disks that are full, rows that can't be read."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import apsw
import pytest

from everbell.domain.errors import (
    ConflictError,
    EverbellError,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
    ValidationError,
)
from everbell.ports.store import JobFilter, Page, RunFilter
from everbell.stores.sqlite import SqliteStore
from everbell.stores.sqlite.connection import migrate, migrations
from everbell.testing.contracts.making import (
    NOW,
    add_job,
    add_jobs,
    claimed,
    decision,
    definition,
    new_job,
    new_run,
    project,
)


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """A database with some hundred rows, closed in good order."""
    path = tmp_path / "everbell.db"
    store = await SqliteStore.open(path)
    jobs = await add_jobs(store, *(new_job(f"j{number}") for number in range(200)))
    await store.decide("n1", [decision(job) for job in jobs], NOW)
    await store.close()
    return path


def change(path: Path, sql: str) -> None:
    """Do to the file what another program would."""
    db = apsw.Connection(str(path))
    db.execute(sql)
    db.close()


async def refused(path: Path) -> StoreError:
    """Return the error with which the file is refused."""
    with pytest.raises(StoreError) as caught:
        await SqliteStore.open(path, busy_timeout_s=0.2)
    assert caught.value.hint
    assert str(path) in caught.value.message or str(path.parent) in caught.value.message
    return caught.value


async def test_acknowledged_work_is_there_after_a_restart(file: Path) -> None:
    store = await SqliteStore.open(file)
    assert (await store.list_jobs(JobFilter(), Page()))[1] == 200
    assert len(await store.list_runs(RunFilter(), 500)) == 200
    await store.close()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "everbell.db"
    path.write_bytes(b"these are my notes\n" * 500)
    assert isinstance(await refused(path), StoreCorrupt)
    assert path.read_bytes().startswith(b"these are my notes")


async def test_a_truncated_file_is_refused(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    assert isinstance(await refused(file), StoreCorrupt)


@pytest.mark.parametrize("place", [0.2, 0.4, 0.6, 0.8])
async def test_a_page_of_flipped_bits_is_refused(file: Path, place: float) -> None:
    data = bytearray(file.read_bytes())
    page = int(len(data) * place) // 4096 * 4096
    data[page : page + 64] = bytes(byte ^ 0xFF for byte in data[page : page + 64])
    file.write_bytes(data)
    assert isinstance(await refused(file), StoreCorrupt)


async def test_a_newer_schema_is_refused_and_told_what_to_do(file: Path) -> None:
    change(file, f"PRAGMA user_version = {migrations()[-1][0] + 1}")
    error = await refused(file)
    assert isinstance(error, StoreCorrupt)
    assert "newer everbell" in error.hint


async def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    change(path, "CREATE TABLE theirs (a)")
    error = await refused(path)
    assert isinstance(error, StoreCorrupt)
    assert "another program" in error.message


async def test_a_file_that_another_process_just_makes_is_not_taken_for_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two statements of the look at a new file, another process may make its tables."""
    looks = 0

    def meanwhile(_: object, sql: str, __: object) -> bool:
        nonlocal looks
        if "sqlite_schema" in sql and not looks:
            looks += 1
            other = apsw.Connection(str(tmp_path / "everbell.db"))
            with contextlib.suppress(apsw.BusyError):
                migrate(other)
            other.close()
        return True

    monkeypatch.setattr(apsw, "connection_hooks", [lambda db: db.set_exec_trace(meanwhile)])
    store = await SqliteStore.open(tmp_path / "everbell.db", inline=True)
    assert looks == 1
    await add_job(store)
    await store.close()


async def test_a_missing_directory_and_a_directory_as_file_are_said(tmp_path: Path) -> None:
    missing = await refused(tmp_path / "no" / "everbell.db")
    assert isinstance(missing, StoreUnavailable)
    assert "mkdir" in missing.hint
    assert isinstance(await refused(tmp_path), StoreUnavailable)


async def test_a_fresh_schema_is_the_replayed_one(file: Path) -> None:
    replayed = apsw.Connection(":memory:")
    for number, _ in migrations():
        migrate(replayed, upto=number)
    fresh = apsw.Connection(str(file))
    query = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY 1, 2"
    assert fresh.execute(query).fetchall() == replayed.execute(query).fetchall()
    assert fresh.pragma("user_version") == migrations()[-1][0]
    fresh.close()
    replayed.close()


async def test_opening_again_changes_nothing(file: Path) -> None:
    before = file.read_bytes()
    await (await SqliteStore.open(file)).close()
    assert file.read_bytes() == before


async def test_a_full_disk_loses_nothing_and_recovers(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "everbell.db", inline=True)
    job = await add_job(store)
    db = store._writer._transaction.db  # type: ignore[union-attr]
    pages = db.pragma("page_count")
    db.pragma("max_page_count", pages + 3)
    kept = []
    with pytest.raises(StoreUnavailable, match="full") as caught:
        for _ in range(10_000):
            kept.append(await claimed(store, job))  # noqa: PERF401
    assert caught.value.hint
    assert len(kept) > 10
    runs = await store.list_runs(RunFilter(), 10_000)
    assert [run.key for run in reversed(runs)] == [run.key for run in kept]
    assert (await store.get_job(job.id)).next_slot_us == kept[-1].key.slot_us + 60_000_000
    db.pragma("max_page_count", 1_000_000)
    assert (await claimed(store, job)).token == kept[-1].token + 1
    await store.close()


async def test_a_row_that_cannot_be_read_breaks_no_list(file: Path) -> None:
    change(file, """UPDATE definitions SET definition = '{"nonsense": 1}' WHERE job_id = 3""")
    store = await SqliteStore.open(file)
    jobs, total = await store.list_jobs(JobFilter(), Page(limit=5))
    assert total == 200
    assert [bool(job.quarantined) for job in jobs] == [False, False, True, False, False]
    bad = jobs[2]
    assert (bad.name, bad.definition.schedule) == ("j2", None)
    with pytest.raises(ConflictError, match="can't be read"):
        await store.change_job(bad, bad.version, NOW)
    given = decision(bad, quarantine=bad.quarantined)
    assert [it.outcome for it in await store.decide("n1", [given], NOW)] == ["done"]
    assert bad.id not in [job.id for job in await store.due(NOW * 2, 500)]
    mended = await store.get_job(3)
    new = definition("mended")
    await store.change_job(
        type(mended)(
            **{name: getattr(mended, name) for name in mended.__struct_fields__}
            | {"definition": new, "quarantined": ""}
        ),
        mended.version,
        NOW,
    )
    assert (await store.get_job(3)).definition == new
    await store.close()


async def test_calls_that_wait_together_fail_alone(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "everbell.db")
    names = ["a", "b", "a", "c", "b", "d"] * 30
    answers = await asyncio.gather(
        *(store.add_project(project(name)) for name in names), return_exceptions=True
    )
    stored = sorted(it.name for it in answers if not isinstance(it, BaseException))
    assert stored == ["a", "b", "c", "d"]
    assert all(isinstance(it, ConflictError) for it in answers if isinstance(it, BaseException))
    await store.close()


async def test_numbers_and_texts_that_sqlite_cannot_carry_are_refused(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "everbell.db")
    job = await add_job(store)
    for call in (
        store.add_project(project("half \ud800")),
        store.enqueue(new_run(job, due=2**64), NOW),
    ):
        with pytest.raises(ValidationError) as caught:
            await call
        assert caught.value.hint
    assert (await store.list_projects(None, Page()))[1] == 1
    await store.close()


async def test_after_close_calls_are_refused(tmp_path: Path) -> None:
    for inline in (False, True):
        store = await SqliteStore.open(tmp_path / "everbell.db", inline=inline)
        await store.close()
        with pytest.raises(EverbellError, match="closed"):
            await store.list_holds()
