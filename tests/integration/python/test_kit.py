"""The kit for users' own tests: a year in seconds, the real planner, no surprises."""

import asyncio

import pytest

from everbell import Everbell, Skip, context, cron, every, on
from everbell.domain.errors import UserError
from everbell.services import holds
from everbell.services.context import LOCAL
from everbell.testing.kit import freeze


@pytest.fixture
def app():
    app = Everbell("shop", timezone="Europe/Stockholm")

    @app.job(on.monday.at("10:00PM"))
    def report(day="today"):
        print("counting", day)
        return {"slot": context().slot.isoformat()}

    @app.job(cron("30 2 * * *"), misfire="all")
    async def backup():
        await asyncio.sleep(90)

    @app.job(retry={"max": 2, "delay": 60})
    def flaky(times=1):
        if context().attempt <= times:
            raise OSError("away")
        return context().attempt

    return app


def test_slots_are_those_of_the_zone(app):
    with freeze(app, "2026-03-27T00:00:00+01:00") as time:
        time.advance(days=4)
        # The clocks go forward on 29 March: 02:30 does not exist, and runs once right after.
        assert time.ran("backup") == [
            "2026-03-27T01:30:00Z", "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z",
        ]  # fmt: skip
        time.assert_ran("report", at=["2026-03-30T20:00:00Z"])
        assert time.last("report").result == {"slot": "2026-03-30T20:00:00+00:00"}
        assert time.last("report").output == "counting today\n"


def test_just_before_and_at_the_instant(app):
    with freeze(app, "2026-03-02T20:59:59Z") as time:
        time.assert_not_ran("report")
        time.advance(seconds=0.9)
        time.assert_not_ran("report")
        time.advance(seconds=0.1)
        time.assert_ran("report", times=1)
        with pytest.raises(AssertionError, match="ran 1 times"):
            time.assert_ran("report", times=2)
        with pytest.raises(AssertionError, match=r"did not run up to .* next slot is 2026-03-03"):
            time.assert_ran("backup")
        with pytest.raises(ValueError, match="is over"):
            time.advance(hours=-1)
        with pytest.raises(UserError) as caught:
            time.runs("reprot")
        assert "report" in caught.value.hint


def test_many_slots():
    app = Everbell("shop")

    @app.job(every(10).seconds)
    def tick():
        pass

    with freeze(app, "2026-01-01") as time:
        time.advance(hours=1)
        assert len(time.ran("tick")) == 360


def test_waiting_is_virtual_and_a_run_lasts(app):
    with freeze(app, "2026-06-01T00:00:00Z") as time:
        time.advance(minutes=30)
        assert time.last("backup").state in {"claimed", "running"}
        time.advance(seconds=89)
        assert time.ran("backup") == []
        time.advance(seconds=2)
        time.assert_ran("backup", times=1)


def test_retries_wait(app):
    with freeze(app) as time:
        run = time.run_now("flaky")
        assert (run.state, run.attempt) == ("claimed", 2)
        time.advance(seconds=59)
        assert time.last("flaky").state == "claimed"
        time.advance(seconds=1)
        assert (time.last("flaky").state, time.last("flaky").result) == ("succeeded", 2)
        time.run_now("flaky", times=9)
        time.advance(minutes=5)
        assert time.last("flaky").error == "OSError: away"


def test_parameters(app):
    with freeze(app) as time:
        assert time.run_now(app.jobs["report"], day="monday").output == "counting monday\n"


def test_an_outage_is_made_up_for_by_the_misfire_policy(app):
    with freeze(app, "2026-06-01T00:00:00Z") as time:
        time.advance(hours=1)
        time.outage(hours=48)
        time.advance(hours=1)
        assert time.ran("backup") == ["2026-06-01T00:30:00Z", "2026-06-03T00:30:00Z"]
        missed = [run for run in time.runs("backup") if run.state == "missed"]
        assert len(missed) == 1


def test_holds(app):
    with freeze(app, "2026-06-01T00:00:00Z") as time:
        time.perform(holds.add(time.services, LOCAL, "all", reason="pause"))
        time.advance(days=2)
        time.assert_not_ran("backup")


def test_checks_and_skips():
    app = Everbell("shop")
    open_now = []

    def is_open():
        return bool(open_now)

    @app.job(every.hour, check=is_open)
    def sell():
        return "sold"

    @app.job(every.hour)
    def idle():
        raise Skip("nothing")

    def has_rights():
        raise Skip("on holiday")

    @app.job(every.hour, check=has_rights)
    def deploy():
        return "deployed"

    with freeze(app, "2026-01-01") as time:
        time.advance(hours=1)
        assert [(run.state, run.reason) for run in time.runs(deploy)] == [("skipped", "on holiday")]
        assert [(run.state, run.reason) for run in time.runs(sell)] == [
            ("skipped", "nothing_to_do")
        ]
        assert [(run.state, run.reason) for run in time.runs(idle)] == [("skipped", "nothing")]
        open_now.append(1)
        time.advance(hours=1)
        time.assert_ran(sell, times=1)


async def test_inside_of_an_async_test(app):
    with freeze(app, "2026-06-01T00:00:00Z") as time:
        time.advance(days=1)
        time.assert_ran("backup", times=1)


def test_threads_are_called_on_the_spot():
    app = Everbell("shop")

    @app.job
    async def work():
        return await asyncio.to_thread(sum, [1, 2])

    with freeze(app) as time:
        assert time.run_now(work).result == 3


def test_the_same_program_twice(app):
    for _ in range(2):
        with freeze(app, "2026-06-01T00:00:00Z") as time:
            time.advance(days=1)
            time.assert_ran("backup", times=1)
    assert app.node is None
