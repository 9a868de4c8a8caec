"""Both clients against a real node."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from everbell.client import (
    AsyncClient,
    Client,
    CommandAction,
    Conflict,
    End,
    Forbidden,
    HttpAction,
    Invalid,
    InvalidSchedule,
    JobIn,
    JobPatch,
    NotFound,
    Output,
    ScriptAction,
    Unauthenticated,
    VersionMismatch,
    WaitTimeout,
)

pytestmark = pytest.mark.timeout(120)
TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
TRUE = CommandAction(argv=("true",))


def fresh(word: str = "job") -> str:
    return f"{word}-{uuid4().hex[:8]}"


def script(text: str, **more: Any) -> JobIn:
    return JobIn(name=fresh(), action=ScriptAction(text=text), **more)


def test_a_job_is_known_by_id_uuid_name_and_record(face: Any) -> None:
    owner = face.do(lambda c: c.projects.create(fresh("project")))
    name = fresh("naïve name, 100% & more?#")
    made = face.do(lambda c: c.jobs.create(JobIn(name=name, project=owner.uuid, action=TRUE)))
    for key in (made.id, made.uuid, name, made):
        assert face.do(lambda c, key=key: c.jobs.get(key)) == made
    assert face.do(lambda c: c.jobs.get(name, project=owner)) == made
    face.do(lambda c: c.jobs.delete(made, if_match=made.etag))
    with pytest.raises(NotFound) as caught:
        face.do(lambda c: c.jobs.get(made))
    assert caught.value.code == "not_found"
    assert caught.value.request_id
    face.do(lambda c: c.projects.delete(owner))


def test_many_jobs_and_all_pages_of_them(face: Any) -> None:
    owner = face.do(lambda c: c.projects.create(fresh("project")))
    jobs = [JobIn(name=fresh(), project=owner.id, action=TRUE) for _ in range(7)]
    made = face.do(lambda c: c.jobs.create(jobs))
    assert [one.name for one in made] == [one.name for one in jobs]
    assert face.do(lambda c: c.jobs.list(project=owner, limit=3)) == made
    pages = face.do(lambda c: c.jobs.list(project=owner, limit=3).pages())
    assert [(len(p.items), p.offset, p.total) for p in pages] == [(3, 0, 7), (3, 3, 7), (1, 6, 7)]
    first = face.do(lambda c: c.jobs.list(project=owner, limit=3, offset=6).first())
    assert first.items == made[6:]
    assert face.do(lambda c: c.jobs.list(project=owner, enabled=False)) == []


def test_changes_are_meant_for_a_version(face: Any) -> None:
    made = face.do(lambda c: c.jobs.create(script("true", timeout=5, tags=["a"])))
    changed = face.do(
        lambda c: c.jobs.change(made, JobPatch(timeout=60, tags=None), if_match=made.etag)
    )
    assert (changed.timeout, changed.tags) == (60, ())
    assert changed.action == made.action
    with pytest.raises(VersionMismatch) as caught:
        face.do(lambda c: c.jobs.disable(made, if_match=made.etag))
    assert "read the job again" in str(caught.value)
    assert not face.do(lambda c: c.jobs.disable(made)).enabled
    assert face.do(lambda c: c.jobs.enable(made)).enabled
    again = face.do(lambda c: c.jobs.replace(made, made))
    assert (again.timeout, again.tags) == (5, ("a",))
    assert face.do(lambda c: c.jobs.resolve(made)).parked == ""


def test_projects_have_etags_too(face: Any) -> None:
    made = face.do(lambda c: c.projects.create(fresh("project"), description="old"))
    seen = face.do(lambda c: c.projects.get(made.name))
    new = face.do(lambda c: c.projects.change(seen, description="new", if_match=seen.etag))
    assert (new.name, new.description) == (made.name, "new")
    with pytest.raises(VersionMismatch):
        face.do(lambda c: c.projects.replace(seen, "other", if_match=seen.etag))
    (listed,) = [p for p in face.do(lambda c: c.projects.list()) if p.id == made.id]
    with pytest.raises(ValueError, match="get"):
        face.do(lambda c: c.projects.delete(listed, if_match=listed.etag))
    with pytest.raises(Conflict):
        face.do(lambda c: c.projects.create(made.name))
    face.do(lambda c: c.projects.delete(made, if_match=new.etag))


def test_a_run_is_followed_to_its_end(face: Any) -> None:
    text = "for i in 1 2 3; do echo line $i ü; sleep 0.1; done; echo oops >&2; exit 3"
    job = face.do(lambda c: c.jobs.create(script(text)))
    run = face.do(lambda c: c.jobs.run(job, reason="by hand"))
    *pieces, end = face.do(lambda c: c.runs.follow(run))
    assert "".join(p.text for p in pieces if p.stream == "out") == (
        "line 1 ü\nline 2 ü\nline 3 ü\n"
    )
    assert isinstance(end, End)
    assert (end.run.state, end.run.code, end.run.reason) == ("failed", 3, "by hand")
    rest = face.do(lambda c: c.runs.follow(run, after=pieces[0].id))
    assert [p for p in rest if isinstance(p, Output)] == pieces[1:]
    whole = face.do(lambda c: c.runs.output(run))
    assert whole.decode() == "line 1 ü\nline 2 ü\nline 3 ü\noops\n"
    assert face.do(lambda c: c.runs.output(run.id, offset=10)) == whole[10:]
    assert face.do(lambda c: c.runs.wait(run)).ended
    with pytest.raises(Conflict):
        face.do(lambda c: c.runs.cancel(run))


def test_all_attempts_are_followed(face: Any) -> None:
    job = face.do(
        lambda c: c.jobs.create(script("echo try; exit 1", retry={"max": 1, "delay": 0.2}))
    )
    run = face.do(lambda c: c.jobs.run(job))
    done = face.do(lambda c: c.runs.wait(run, timeout=20))
    assert done.attempt == 2
    assert len(done.attempts) >= 1
    events = face.do(lambda c: c.runs.follow(run))
    assert [(e.attempt, e.text) for e in events[:-1]] == [(1, "try\n"), (2, "try\n")]
    events = face.do(lambda c: c.runs.follow(run, attempt=1))
    assert [(e.attempt, e.text) for e in events[:-1]] == [(1, "try\n")]


def test_runs_are_found_cancelled_and_run_again(face: Any) -> None:
    job = face.do(lambda c: c.jobs.create(script("sleep 60")))
    run = face.do(lambda c: c.jobs.run(job))
    with pytest.raises(WaitTimeout):
        face.do(lambda c: c.runs.wait(run, timeout=0.3))
    face.do(lambda c: c.runs.cancel(run))
    assert face.do(lambda c: c.runs.wait(run, timeout=20)).state == "cancelled"
    again = face.do(lambda c: c.runs.retry(run))
    assert again.id != run.id
    face.do(lambda c: c.runs.cancel(again))
    face.do(lambda c: c.runs.wait(again, timeout=20))
    found = face.do(lambda c: c.runs.list(job=job, state=["cancelled"], limit=1))
    assert {one.id for one in found} == {run.id, again.id}
    since = datetime.now(UTC)
    assert face.do(lambda c: c.runs.list(job=job, start=since, trigger="manual")) == []


def test_a_key_of_the_caller_makes_one_run(face: Any) -> None:
    job = face.do(lambda c: c.jobs.create(script("true")))
    key = uuid4().hex
    first, second = (face.do(lambda c: c.jobs.run(job, idempotency_key=key)) for _ in range(2))
    assert first.id == second.id


def test_holds_and_slots_by_hand(face: Any) -> None:
    job = face.do(lambda c: c.jobs.create(script("true", schedule="0 5 * * *")))
    hold = face.do(lambda c: c.jobs.hold(job, reason="repairs"))
    assert (hold.scope, hold.target_id, hold.reason) == ("job", job.id, "repairs")
    assert hold in face.do(lambda c: c.holds.list())
    face.do(lambda c: c.holds.release(hold, "skip"))
    hold = face.do(lambda c: c.holds.create("job", job, until=TOMORROW, then="once"))
    assert hold.until == TOMORROW
    face.do(lambda c: c.holds.release(hold.id, "skip"))
    first, *_ = face.do(lambda c: c.jobs.next(job, n=3))
    skipped = face.do(lambda c: c.jobs.skip_next(job, reason="holiday"))
    assert (skipped.skipped.slot, skipped.skipped.state) == (first.at, "skipped")
    replaced = face.do(lambda c: c.jobs.run_instead(job))
    assert replaced.instead is not None
    assert face.do(lambda c: c.runs.wait(replaced.instead, timeout=20)).state == "succeeded"


def test_what_a_schedule_means(face: Any) -> None:
    seen = face.do(
        lambda c: c.schedules.preview(
            "30 2 * * *", timezone="Europe/Berlin", n=1, after=datetime(2027, 3, 27, 12, tzinfo=UTC)
        )
    )
    assert [(s.at.isoformat(), s.mark) for s in seen.next] == [
        ("2027-03-28T01:00:00+00:00", "after_gap")
    ]
    assert seen.clock_changes[0].after == 7200
    with pytest.raises(InvalidSchedule) as caught:
        face.do(lambda c: c.schedules.preview("0 25 * * *"))
    error = caught.value
    assert (error.position, error.text, error.where) == (2, "0 25 * * *", ("/schedule",))
    assert error.hint == "use 0 to 23"


def test_wrong_fields_are_named(face: Any) -> None:
    bad = {"name": " x", "action": {"kind": "http", "url": "ftp://x"}, "timeout": -1}
    with pytest.raises(Invalid) as caught:
        face.do(lambda c: c.jobs.create(bad))
    assert len(caught.value.where) == len(caught.value.fields) >= 2
    assert all(one.message for one in caught.value.fields)


def test_keys(face: Any, make_face: Any, node: Any) -> None:
    url = f"http://127.0.0.1:{node.port}"
    made = face.do(lambda c: c.credentials.create(name="ci", scopes=["read"], expires_in=3600))
    assert made.api_secret
    assert made.api_secret not in repr(made)
    reader = make_face(url, made.api_key, made.api_secret)
    assert made.api_secret not in repr(reader.client) + repr(vars(reader.client))
    assert reader.do(lambda c: c.jobs.list()) is not None
    with pytest.raises(Forbidden):
        reader.do(lambda c: c.projects.create(fresh("project")))
    turned = face.do(lambda c: c.credentials.rotate(made.id, grace=0))
    assert turned.api_secret != made.api_secret
    face.do(lambda c: c.credentials.revoke(made.uuid))
    with pytest.raises(Unauthenticated):
        reader.do(lambda c: c.jobs.list())
    assert face.do(lambda c: c.credentials.get(made.id)).archived
    assert made.id in {one.id for one in face.do(lambda c: c.credentials.list(limit=2))}


def test_the_node_about_itself(face: Any) -> None:
    assert face.do(lambda c: c.health.live()).status == "ok"
    assert face.do(lambda c: c.health.ready()).status == "ready"
    assert face.do(lambda c: c.health.openapi())["openapi"] == "3.1.0"
    (one,) = face.do(lambda c: c.nodes.list())
    assert one.state
    job = face.do(lambda c: c.jobs.create(script("true")))
    entry = face.do(lambda c: c.audit.list(limit=1).first()).items[0]
    assert (entry.what, entry.target) == ("job.create", str(job.id))


def test_threads_share_a_client(node: Any) -> None:
    keys = (node.headers["x-api-key"], node.headers["x-secret-key"])
    seen: list[str] = []
    with Client(f"http://127.0.0.1:{node.port}", *keys) as client:
        work = lambda: seen.extend(client.health.live().status for _ in range(20))
        threads = [threading.Thread(target=work) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert seen == ["ok"] * 80


def test_the_environment_tells_who_and_where(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERBELL_SERVER", f"127.0.0.1:{node.port}")
    monkeypatch.setenv("EVERBELL_API_KEY", node.headers["x-api-key"])
    monkeypatch.setenv("EVERBELL_API_SECRET", node.headers["x-secret-key"])
    with Client() as client:
        assert client.projects.list().first().limit > 0
    # A key of the caller's never travels with the environment's secret.
    with pytest.raises(ValueError, match="belong together"):
        Client(api_key="mine")


@pytest.mark.parametrize("name", ["", ".", "..", "a/enable"])
def test_names_that_no_address_can_carry_are_refused(face: Any, name: str) -> None:
    with pytest.raises(ValueError, match="use the id"):
        face.do(lambda c: c.jobs.get(name))


@pytest.mark.parametrize("name", ["AsyncClient", "JobIn"])
def test_the_asynchronous_client_needs_no_urllib3(name: str) -> None:
    program = (
        "import sys; sys.modules['urllib3'] = None\n"
        f"from everbell.client import {name}\n"
        "import everbell.client\n"
        "try: everbell.client.Client\n"
        "except ImportError as error: print(error)\n"
        "print([m for m in sys.modules if m.startswith('everbell.') and 'client' not in m])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ}
    )
    assert done.stdout.splitlines() == [
        "Client needs urllib3: pip install 'everbell[client]'",
        "[]",
    ], done.stderr


def test_an_unknown_action_is_kept(node: Any) -> None:
    from everbell.client.shapes import Action, OtherAction
    from everbell.client.wire import _decode_action, _encode_other

    value = {"kind": "quantum", "bits": 3}
    action = _decode_action(Action, value)
    assert action == OtherAction(value)
    assert action.kind == "quantum"
    assert _encode_other(action) == value


def test_both_clients_have_a_name_for_their_server() -> None:
    assert repr(Client("https://bell.example/base/api/v1/", "k", "s")) == (
        "Client('https://bell.example/base/api/v1')"
    )
    assert repr(AsyncClient("h:1")) == "AsyncClient('http://h:1/api/v1')"
    assert HttpAction(url="x").method == "POST"


def test_limits_that_jobs_share(face: Any) -> None:
    name = fresh("database")
    face.do(lambda c: c.jobs.create(script("true", limits=[name])))
    assert face.do(lambda c: c.limits.set(name, 3, project="default")).most == 3
    seen = face.do(lambda c: c.limits.get(name, project="default"))
    assert (seen.most, seen.jobs, seen.active) == (3, 1, 0)
    assert seen in face.do(lambda c: c.limits.list(project="default"))
    face.do(lambda c: c.limits.delete(name, project="default"))


def test_jobs_that_are_applied(face: Any) -> None:
    owner = fresh("owner")
    jobs = [script("true", schedule="0 5 * * *"), script("true")]
    plan = face.do(lambda c: c.jobs.apply(jobs, owner=owner, plan=True, days=2))
    assert (plan.applied, plan.added, [step.what for step in plan.steps]) == (False, 2, ["add"] * 2)
    assert face.do(lambda c: c.jobs.apply(jobs, owner=owner)).applied
    assert face.do(lambda c: c.jobs.apply(jobs, owner=owner)).unchanged == 2
    assert face.do(lambda c: c.jobs.apply(jobs[:1], owner=owner)).removed == 1
    assert face.do(lambda c: c.jobs.get(jobs[0].name)).owner == owner


def test_what_the_ledger_says(face: Any) -> None:
    job = face.do(lambda c: c.jobs.create(script("true", schedule="@every 1h")))
    why = face.do(lambda c: c.jobs.why(job))
    assert (why.job, why.verdict != "") == (job.name, True)
    assert why.after is not None
    part = face.do(lambda c: c.runs.verify(job=job))
    assert (part.jobs, part.unexplained, part.next) == (1, 0, None)
    assert part.start < part.end


def test_an_outage_is_tried_and_the_past_is_filled(face: Any) -> None:
    job = face.do(lambda c: c.jobs.create(JobIn(name=fresh(), action=TRUE, schedule="0 3 * * *")))
    day = TOMORROW.date()
    told = face.do(lambda c: c.jobs.simulate("02:00-05:00", date=day, job=job, takes=60))
    (outage,), (fate,) = told.outages, told.jobs
    assert (outage.start.hour, told.takes, told.next) == (2, 60, None)
    assert fate.job == job.name
    assert sum(fate.counts.values()) >= 3
    end = TOMORROW - timedelta(days=2)
    ends = {"start": end - timedelta(days=3, seconds=-1), "end": end}
    dry = face.do(lambda c: c.jobs.backfill(job, dry_run=True, **ends))
    assert (dry.started, len(dry.slots), {one.run for one in dry.slots}) == (False, 3, {None})
    filled = face.do(lambda c: c.jobs.backfill(job, max=2, reason="new", **ends))
    assert (filled.started, len(filled.slots), filled.more) == (True, 2, 1)
    for slot in filled.slots:
        assert face.do(lambda c, run=slot.run: c.runs.wait(run, timeout=30)).state == "succeeded"
