import re
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from everbell.domain.decision import Decision, Mark
from everbell.domain.errors import NotFoundError, StoreUnavailable
from everbell.domain.job import US, CommandAction, HttpAction
from everbell.domain.run import Outcome, Run, RunKey
from everbell.ports.destinations import DestinationState
from everbell.ports.store import Decided, Finish, Finished
from everbell.telemetry.clock import SystemClock
from everbell.telemetry.metered import metered
from everbell.telemetry.metrics import (
    MAX_JOBS,
    Exposition,
    Metrics,
    Reading,
    destination_class,
)
from everbell.telemetry.tally import Histogram

SLOT = 1_800_000_000 * US
STORED, STALE = Finished(outcome="stored"), Finished(outcome="stale")


def reading():
    place = DestinationState(destination="http://a:80", breaker="open", failures=5, waiting=2)
    return Reading(
        live=3,
        waiting=4,
        timed=5,
        ending=6,
        workers=10,
        lease_age_s=1.5,
        lease_s=6.0,
        healthy={"firing": True, "finisher": False},
        throttled=False,
        destinations=[place],
    )


def end(job_id=1, state="succeeded", *, late_s=0.0, lasts_s=0.0, trigger="schedule", **more):
    run = Run(
        key=RunKey(SLOT, job_id), project_id=1, version=1, state="claimed",
        due_us=SLOT, trigger=trigger,
    )  # fmt: skip
    started = SLOT + round(late_s * US)
    values = {"started_us": started, "finished_us": started + round(lasts_s * US), **more}
    return Finish(run=run, state=state, **values)


def read(metrics, accept="", names=None):
    body, media = Exposition(metrics, reading, "1.2").text(accept, names or {})
    rows = {}
    if media.startswith("text/plain"):
        for family in text_string_to_metric_families(body.decode()):
            for one in family.samples:
                rows[one.name, tuple(sorted(one.labels.items()))] = one.value
    return rows, media, body


def value(rows, name, **labels):
    return rows[f"everbell_{name}", tuple(sorted(labels.items()))]


def test_runs_their_lateness_and_their_duration():
    metrics = Metrics()
    metrics.ended(
        [end(late_s=0.003, lasts_s=2), end(state="failed", trigger="manual")], [STORED] * 2
    )
    metrics.ended([end(next_due_us=SLOT), end()], [STORED, STALE])
    metrics.ended([end(state="cancelled", started_us=None, finished_us=SLOT)], [STORED])
    rows, _, _ = read(metrics)
    assert value(rows, "runs_total", state="succeeded", trigger="schedule") == 1
    assert value(rows, "runs_total", state="failed", trigger="manual") == 1
    assert value(rows, "runs_total", state="cancelled", trigger="schedule") == 1
    assert value(rows, "retries_total") == 1
    assert value(rows, "late_results_total") == 1
    assert value(rows, "lateness_seconds_bucket", le="0.002") == 2
    assert value(rows, "lateness_seconds_bucket", le="0.005") == 3
    assert value(rows, "lateness_seconds_count") == 3
    assert value(rows, "duration_seconds_sum") == pytest.approx(2)


def test_slots_decided_without_a_run():
    metrics = Metrics(by_job=True)
    marks = (
        Mark(slot_us=SLOT, state="missed", reason="misfire", count=40),
        Mark(slot_us=SLOT, state="skipped", reason="overlap"),
        Mark(slot_us=SLOT, state="queued", reason=""),
    )
    made = Decision(
        job_id=7, project_id=1, version=1, cursor_us=SLOT, next_slot_us=None, marks=marks
    )
    metrics.decided([made, made], [Decided(outcome="done"), Decided(outcome="stale")])
    rows, _, _ = read(metrics, names={7: ("ops", "nightly")})
    assert value(rows, "runs_total", state="missed", trigger="schedule") == 40
    assert value(rows, "runs_total", state="skipped", trigger="schedule") == 1
    assert value(rows, "job_runs_total", project="ops", job="nightly", state="missed") == 40


def test_the_number_of_jobs_counted_by_themselves_is_bounded():
    metrics = Metrics(by_job=True)
    count = MAX_JOBS + 50
    metrics.ended([end(job_id=n) for n in range(1, count + 1)], [STORED] * count)
    names = {n: ("ops", f"j{n}") for n in metrics.jobs()}
    rows, _, _ = read(metrics, names=names)
    assert value(rows, "job_runs_total", project="", job="other", state="succeeded") == 50
    assert sum(1 for name, _ in rows if name == "everbell_job_runs_total") == MAX_JOBS + 1


def test_without_the_setting_no_job_is_named():
    metrics = Metrics()
    metrics.ended([end()], [STORED])
    assert b"job_runs" not in read(metrics)[2]


def test_actions_and_callbacks_by_class():
    metrics = Metrics()
    metrics.called(CommandAction(argv=("x",)), Outcome(state="failed", code=1))
    metrics.called(HttpAction(url="http://10.0.0.1/x"), Outcome(state="succeeded", code=204))
    metrics.called(HttpAction(url="https://example.com/"), Outcome(state="timed_out"))
    rows, _, _ = read(metrics)
    assert value(rows, "actions_total", kind="command", state="failed") == 1
    assert value(rows, "callbacks_total", destination="private", answer="2xx") == 1
    assert value(rows, "callbacks_total", destination="name", answer="none") == 1


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://127.0.0.1:80/a", "loopback"),
        ("http://localhost/a", "loopback"),
        ("http://a.localhost:1/a", "loopback"),
        ("http://[::1]:9/", "loopback"),
        ("http://192.168.1.9/", "private"),
        ("http://[fd00::1]/", "private"),
        ("http://9.9.9.9/", "public"),
        ("https://example.com/hook", "name"),
        ("http://[bad", "name"),
        ("nothing", "name"),
    ],
)
def test_classes_of_destinations(url, kind):
    assert destination_class(url) == kind


def test_what_a_node_is_now_and_what_its_api_answered():
    metrics = Metrics()
    metrics.answered("GET", "/jobs/{id}", 404)
    metrics.claimed([])
    rows, media, _ = read(metrics)
    assert media.startswith("text/plain")
    assert value(rows, "live_runs") == 3
    assert value(rows, "queue_length", **{"for": "worker"}) == 4
    assert value(rows, "service_healthy", service="finisher") == 0
    assert value(rows, "destinations", breaker="open") == 1
    assert value(rows, "callbacks_waiting") == 2
    assert value(rows, "node_info", version="1.2") == 1
    assert value(rows, "api_requests_total", method="GET", route="/jobs/{id}", status="404") == 1
    assert ("process_open_fds", ()) in rows


def test_openmetrics_is_spoken_to_those_who_ask_for_it():
    accept = "application/openmetrics-text;version=1.0.0"
    _, media, body = read(Metrics(), accept)
    assert media.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


class OneVerb:
    closed = False

    async def next_due_us(self):
        return 5

    async def get_job(self, key):
        raise NotFoundError("no job")

    async def finish(self, finishes, now_us):
        raise StoreUnavailable("away")

    def audited(self, entry):
        return OneVerb()


async def test_calls_of_the_store_are_timed_and_stay_the_same():
    metrics = Metrics()
    store = metered(OneVerb(), SystemClock(), metrics)
    assert await store.next_due_us() == 5
    assert await store.audited(None).next_due_us() == 5
    with pytest.raises(NotFoundError):
        await store.get_job(1)
    with pytest.raises(StoreUnavailable):
        await store.finish([], 0)
    assert store.closed is False
    rows, _, _ = read(metrics)
    assert value(rows, "store_seconds_count", verb="next_due_us") == 2
    assert value(rows, "store_errors_total", verb="finish") == 1
    assert ("everbell_store_errors_total", (("verb", "get_job"),)) not in rows


def test_buckets_hold_their_bound():
    histogram = Histogram((1.0, 2.0))
    for one in (0.0, 1.0, 1.5, 2.0, 9.0):
        histogram.add(one)
    assert histogram.buckets() == [("1", 2.0), ("2", 4.0), ("+Inf", 5.0)]


def test_counting_an_end_costs_a_few_microseconds():
    metrics = Metrics()
    batch, answers = [end(late_s=0.01, lasts_s=0.5)] * 1000, [STORED] * 1000
    best = 1.0
    for _ in range(10):
        begun = time.process_time()
        metrics.ended(batch, answers)
        best = min(best, time.process_time() - begun)
    assert best / 1000 < 10e-6


def test_every_metric_is_in_the_reference():
    metrics = Metrics(by_job=True)
    metrics.ended([end()], [STORED])
    page = (Path(__file__).parents[3] / "docs" / "reference" / "metrics.md").read_text()
    body, _ = Exposition(metrics, reading, "1").text("", {})
    families = [one.name for one in text_string_to_metric_families(body.decode())]
    own = [name for name in families if name.startswith("everbell_")]
    assert len(own) > 20
    assert [name for name in own if not re.search(rf"`{name}(_total)?`", page)] == []
    named = set(re.findall(r"`(everbell_\w+?)(?:_total)?`", page))
    assert sorted(named - set(own)) == []
