"""How a program's jobs are tested: no waiting, no clock, no database."""

from shop import app, basket, restock

from everbell.testing.kit import freeze


def test_orders_are_sent_every_five_minutes():
    basket[:] = ["bell"]
    with freeze(app, "2026-03-02T08:58:00Z") as time:
        time.advance(minutes=12)
        assert time.ran("send_orders") == ["2026-03-02T09:00:00Z"]
        assert time.last("send_orders").reason == "nothing was ordered"
        assert time.runs("send_orders")[0].result == {"sent": 1}


def test_the_report_follows_the_clocks_of_stockholm():
    with freeze(app, "2026-03-23T00:00:00Z") as time:
        time.advance(weeks=2)
        time.assert_ran("weekly_report", at=["2026-03-23T21:00:00Z", "2026-03-30T20:00:00Z"])


def test_what_an_outage_does():
    with freeze(app, "2026-03-23T20:59:00Z") as time:
        time.outage(minutes=30)
        time.advance(seconds=1)
        time.assert_ran("weekly_report", times=1)


def test_by_hand():
    with freeze(app) as time:
        assert time.run_now(restock, item="bell", count=3).result == "3 x bell"
