"""Several processes on one file: races, kill -9, locks."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from everbell.domain.errors import StoreUnavailable
from everbell.domain.run import RunKey
from everbell.ports.store import RunFilter
from everbell.stores.sqlite import SqliteStore
from everbell.testing.contracts.making import NOW, add_job, add_jobs, claimed, new_job, node
from everbell.testing.contracts.processes import (
    assign_together,
    decide_together,
    hold_lock,
    race,
    work_until_killed,
)

SPAWN = multiprocessing.get_context("spawn")


async def test_of_several_processes_one_wins_each_slot(tmp_path: Path) -> None:
    path = str(tmp_path / "everbell.db")
    store = await SqliteStore.open(path)
    await add_jobs(store, *(new_job(f"j{number}") for number in range(50)))
    start = SPAWN.Barrier(4)
    pipes = [SPAWN.Pipe() for _ in range(4)]
    workers = [
        SPAWN.Process(target=decide_together, args=(path, f"n{number}", start, there))
        for number, (_, there) in enumerate(pipes)
    ]
    for worker in workers:
        worker.start()
    won = [run_id for here, _ in pipes for run_id in here.recv()]
    for worker in workers:
        worker.join()
    runs = await store.list_runs(RunFilter(), 100)
    assert len(won) == 50
    assert sorted(won) == sorted(run.id for run in runs)
    assert len({run.token for run in runs}) == 50
    await store.close()


async def test_a_new_file_may_be_opened_by_several_processes_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "everbell.db")
    start = SPAWN.Barrier(4)
    pipes = [SPAWN.Pipe() for _ in range(4)]
    workers = [
        SPAWN.Process(target=decide_together, args=(path, f"n{number}", start, there))
        for number, (_, there) in enumerate(pipes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert [here.recv() for here, _ in pipes] == [[], [], [], []]


async def test_kill_9_in_the_middle_of_commits_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = str(tmp_path / "everbell.db")
    store = await SqliteStore.open(path)
    job = await add_job(store)
    await store.close()
    heard: dict[str, tuple[str, int]] = {}
    for round_ in range(3):
        here, there = SPAWN.Pipe(duplex=False)
        worker = SPAWN.Process(target=work_until_killed, args=(path, job.id, there))
        worker.start()
        there.close()
        for _ in range(200 + 50 * round_):
            state, run_id, token = here.recv()
            heard[run_id] = (state, token)
        worker.kill()
        worker.join()
        try:
            while True:
                state, run_id, token = here.recv()
                heard[run_id] = (state, token)
        except (EOFError, OSError):
            here.close()
        store = await SqliteStore.open(path)
        for run_id, (state, token) in heard.items():
            run = await store.get_run(RunKey.parse(run_id))
            assert run.token == token
            assert state == "claimed" or run.state == "succeeded"
        await store.close()
    assert len(heard) >= 300


async def test_a_lock_of_another_process_is_said_and_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "everbell.db")
    store = await SqliteStore.open(path, busy_timeout_s=0.2)
    job = await add_job(store)
    here, there = SPAWN.Pipe()
    worker = SPAWN.Process(target=hold_lock, args=(path, there))
    worker.start()
    assert here.recv() == "locked"
    with pytest.raises(StoreUnavailable, match="locked") as caught:
        await claimed(store, job)
    assert caught.value.hint
    with pytest.raises(StoreUnavailable):
        await store.heartbeat(node())
    assert await store.get_job(job.id) == job  # reading goes on
    assert await store.change_counter() > 0
    here.send("let go")
    assert here.recv() == "free"
    worker.join()
    run = await claimed(store, job)
    assert await store.get_run(run.key) == run
    await store.close()


async def test_the_change_counter_differs_when_somebody_else_wrote(tmp_path: Path) -> None:
    first = await SqliteStore.open(tmp_path / "everbell.db")
    second = await SqliteStore.open(tmp_path / "everbell.db")
    before = await first.change_counter()
    await first.heartbeat(node(lease=NOW))
    assert await first.change_counter() == before
    await second.heartbeat(node("n2"))
    assert await first.change_counter() != before
    await first.close()
    await second.close()


async def test_of_processes_that_assign_one_is_followed_by_each(tmp_path: Path) -> None:
    path = str(tmp_path / "everbell.db")
    store = await SqliteStore.open(path)
    assert sorted(await race(path, assign_together)) == list(range(1, 11))
    found = await store.get_assignment()
    assert (found.epoch, len(set(found.owners)), len(found.owners)) == (10, 1, 1024)
    await store.close()
