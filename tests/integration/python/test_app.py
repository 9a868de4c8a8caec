"""Jobs of a program's code: declared, made one with the store, run, asked for, looked at."""

import asyncio
import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest

from everbell import Context, Everbell, Skip, context, cron, every, on, stopping
from everbell.domain.errors import (
    ConflictError,
    LimitError,
    ScheduleError,
    ValidationError,
)
from everbell.domain.job import OnFailure, PythonAction
from everbell.services import holds, jobs
from everbell.services.context import LOCAL
from everbell.services.validate import Draft


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def make(name="shop", **more):
        settings = {"node.heartbeat": 0.5, "execution.shutdown_grace": 1}
        return Everbell(name, database="sqlite:///shop.db", settings=settings, **more)

    return make


async def stored(app):
    async with app.running():
        page, _ = await app.services.store.list_jobs(jobs.JobFilter(), jobs.Page(limit=100))
        return {job.name: job for job in page}


# --- declaring -----------------------------------------------------------------------------------


def test_policies_in_python_words(make):
    app = make(timezone="Europe/Stockholm", tags="shop")

    @app.job(
        on.monday.at("10:00PM"),
        retry=3,
        misfire="all",
        timeout=timedelta(minutes=2),
        on_failure=5,
        overlap="queue",
        start=datetime(2030, 1, 1, tzinfo=UTC),
        then="other",
        data={"deep": (1, 2)},
    )
    def report():
        """Count the
        day's sales.

        More.
        """

    told = report.draft.definition
    assert (report.name, report.schedule) == ("report", "monday at 10:00PM")
    assert told.description == "Count the day's sales."
    assert (told.timezone, told.tags) == ("Europe/Stockholm", ("shop",))
    assert (told.retry.max, told.misfire.policy, told.timeout_s) == (3, "all", 120.0)
    assert told.on_failure == OnFailure(park_after=5)
    assert told.start_us == 1_893_456_000_000_000
    assert told.then[0].job == "other"
    assert told.data == {"deep": [1, 2]}
    assert report.function.__name__ == "report"
    assert report() is None


@pytest.mark.parametrize(
    ("schedule", "options", "words"),
    [
        ("61 * * * *", {}, "0 to 59"),
        ("now and then", {}, None),
        (every.minute, {"timezone": "Mars/Olympus"}, "Mars"),
        (every.minute, {"timeout": -1}, "more than 0"),
        (every.minute, {"limits": "a b"}, "letters"),
        (None, {"timezone": "Mars/Olympus"}, "Mars"),
        (every.minute, {"retries": 3}, "did you mean"),
        (every.minute, {"overlap": "never"}, "never"),
        (every.minute, {"args": (object(),)}, "JSON"),
        (every.minute, {"mode": "fiber"}, "fiber"),
        (every.minute, {"mode": "subprocess"}, "top of a module"),
    ],
)
def test_what_is_wrong_is_told_at_the_decorator(make, schedule, options, words):
    app = make()
    with pytest.raises((ValidationError, ScheduleError)) as caught:
        app.job(schedule, **options)(lambda: None)
    if words:
        told = f"{caught.value} {caught.value.hint} " + " ".join(
            f"{one.message} {one.hint}" for one in caught.value.problems
        )
        assert words in told


def test_a_name_stands_once(make):
    app = make()
    app.add(print, name="one")
    with pytest.raises(ValidationError, match="already"):
        app.add(print, name="one")


def test_the_default_name_is_the_module():
    assert Everbell().name == __name__


# --- made one with the store ---------------------------------------------------------------------


async def test_the_same_again_changes_nothing(make):
    def jobs_of(app):
        app.add(print, every(10).minutes, name="a", args=(1, [2]), kwargs={"sep": "-"}, data=(1,))
        app.add(print, cron("0 2 * * *", "Asia/Tokyo"), name="b", retry=3, then={"job": "a"})
        app.add(print, None, name="c", timeout=5, check=bool, exclude="sat,sun")
        return app

    first = await stored(jobs_of(make()))
    assert sorted(first) == ["a", "b", "c"]
    again = jobs_of(make())
    second = await stored(again)
    assert again.report.unchanged == 3
    assert first == second


async def test_changes_of_the_code_are_taken_over_and_decisions_of_people_stay(make):
    app = make()
    app.add(print, every.hour, name="a")
    async with app.running():
        job = await app.jobs["a"].stored()

        def people(now):
            changed = {**{f: getattr(now.definition, f) for f in now.definition.__struct_fields__}}
            changed["override"] = "0 3 * * *"
            return Draft(definition=type(now.definition)(**changed), enabled=False)

        await jobs.change(app.services, LOCAL, job.id, people)
    app = make()
    app.add(print, every(2).hours, name="a", retry=1)
    after = (await stored(app))["a"]
    assert app.report.changed == ("a",)
    assert after.definition.schedule == "every 2 hours"
    assert after.definition.override == "0 3 * * *"
    assert after.definition.retry.max == 1
    assert not after.enabled


async def test_jobs_that_the_code_lost_are_disabled_with_the_reason_and_come_back(make):
    app = make()
    app.add(print, every.hour, name="a")
    await stored(app)
    after = (await stored(app := make()))["a"]
    assert app.report.retired == ("a",)
    assert not after.enabled
    assert "no longer has" in after.definition.action.retired
    await stored(app := make())
    assert app.report.retired == ()
    app = make()
    app.add(print, every.hour, name="a")
    after = (await stored(app))["a"]
    assert after.enabled
    assert after.definition.action.retired == ""
    assert (await stored(make(retire=False)))["a"].enabled


async def test_programs_do_not_touch_each_other(make):
    one, two = make("one"), make("two")
    one.add(print, every.hour, name="a")
    two.add(print, every.hour, name="b")
    await stored(one)
    assert {name: job.enabled for name, job in (await stored(two)).items()} == {
        "a": True,
        "b": True,
    }
    three = make("three")
    three.add(print, every.hour, name="a")
    with pytest.raises(ConflictError, match="of other making") as caught:
        await stored(three)
    assert caught.value.hint
    four = make("three", project="fresh")
    four.add(print, every.hour, name="a")
    await stored(four)
    assert four.report.created == ("a",)


async def test_people_of_other_processes_may_change_what_they_cannot_run(make):
    app = make()
    app.add(print, every.hour, name="a")
    await stored(app)
    async with make("other", retire=False).running() as other:
        job = await jobs.find(other.services, LOCAL, "a")
        await jobs.set_enabled(other.services, LOCAL, job.id, False)

        def edit(now):
            import msgspec

            return Draft(definition=msgspec.structs.replace(now.definition, override="0 4 * * *"))

        changed = await jobs.change(other.services, LOCAL, job.id, edit)
        assert changed.definition.override == "0 4 * * *"
        with pytest.raises(ValidationError) as caught:
            await jobs.create(
                other.services,
                LOCAL,
                [
                    Draft(
                        definition=type(job.definition)(
                            name="evil", action=PythonAction(function="os:system", args=("id",))
                        )
                    )
                ],
            )
        assert "python.allow" in caught.value.hint


# --- running -------------------------------------------------------------------------------------


async def test_a_run_its_result_output_and_context(make):
    app = make()

    @app.job
    async def add(a, b=1, *, it: Context):
        print("adding", it.run_id == context().run_id)
        logging.getLogger("shop").warning("careful")
        return {"sum": a + b, "trigger": it.trigger, "attempt": it.attempt, "job": it.job}

    async with app.running():
        run = await add.run_now(a=4)
        assert await run.result(5) == {"sum": 5, "trigger": "manual", "attempt": 1, "job": "add"}
        output = await run.output()
        assert "adding True" in output
        assert "careful" in output
        assert (await add.runs())[0].id == run.id
    with pytest.raises(LookupError):
        context()


async def test_from_a_thread(make):
    app = make()

    @app.job
    def double(n):
        return 2 * n

    def work():
        return double.run_now_sync(n=21).result_sync(5)

    with pytest.raises(ConflictError, match="does not run"):
        work()
    async with app.running():
        assert await asyncio.to_thread(work) == 42
        with pytest.raises(ConflictError, match="wait for the loop"):
            work()


async def test_failures_skips_and_timeouts(make):
    app = make()

    @app.job
    def bad():
        raise ValueError("no stock")

    @app.job
    def idle():
        raise Skip("shop is closed")

    @app.job(timeout=0.2)
    def slow():
        while not stopping():
            threading.Event().wait(0.01)

    @app.job
    async def forever():
        await asyncio.Event().wait()

    async with app.running():
        run = await (await bad.run_now()).wait(5)
        assert (run.state, run.error) == ("failed", "ValueError: no stock")
        run = await (await idle.run_now()).wait(5)
        assert (run.state, run.reason) == ("skipped", "shop is closed")
        run = await (await slow.run_now()).wait(5)
        assert run.state == "timed_out"
        with pytest.raises(ConflictError, match="timed_out"):
            await (await slow.run_now()).result(5)
        handle = await forever.run_now()
        with pytest.raises(TimeoutError):
            await handle.wait(0.3)
        await handle.cancel()
        assert (await handle.wait(5)).state == "cancelled"
        with pytest.raises(LimitError):
            await bad.run_now(x="x" * 300_000)
        with pytest.raises(ValidationError):
            await bad.run_now(x=object())


async def test_a_retry_has_the_parameters_of_its_run(make):
    from everbell.services import runs

    app = make()

    @app.job
    def echo(word="none"):
        return word

    async with app.running():
        run = await echo.run_now(word="bell")
        assert await run.result(5) == "bell"
        again = await runs.retry(app.services, LOCAL, run.id)
        from everbell.integrations.job import RunHandle

        assert await RunHandle(app, again.key).result(5) == "bell"


async def test_slots_run_and_holds_hold(make):
    app = make()
    seen = []

    @app.job(every(1).seconds)
    def tick(it: Context):
        seen.append(it.slot)

    async with app.running():
        async with asyncio.timeout(20):
            while len(seen) < 2:
                await asyncio.sleep(0.05)
        await holds.add(app.services, LOCAL, "all", reason="pause")
        count = len(seen)
        await asyncio.sleep(1.5)
        assert len(seen) <= count + 1
    assert len(set(seen)) == len(seen)


async def test_it_runs_once_in_a_process(make):
    app = make()
    async with app.running():
        with pytest.raises(ConflictError, match="already"):
            async with app.running():
                pass
    async with app.running():
        assert app.node is not None


async def test_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = Everbell("shop", database="memory:")

    @app.job
    def one():
        return 1

    async with app.running():
        assert await (await one.run_now()).result(5) == 1
    assert list(tmp_path.iterdir()) == []


async def test_a_lost_secrets_file_is_not_replaced(make, tmp_path):
    app = make()
    await stored(app)
    (tmp_path / ".everbell").unlink()
    with pytest.raises(ValidationError.__base__) as caught:
        await stored(make())
    assert "backup" in caught.value.hint
