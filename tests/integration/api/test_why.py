"""Why a job ran, or not, over the API."""

from everbell.domain.decision import Claim, Decision, Mark
from everbell.ports.store import Finish
from everbell.testing.contracts.making import node

T0 = 1_770_000_000_000_000
SEC = 1_000_000
MINUTE = 60 * SEC


async def decide(world, job_id, claims=(), marks=(), next_us=None, **ends):
    job = await world.store.get_job(job_id)
    decision = Decision(
        job_id=job.id,
        project_id=job.project_id,
        version=job.version,
        cursor_us=job.next_slot_us,
        next_slot_us=next_us,
        claims=tuple(
            Claim(slot_us=slot, due_us=slot, trigger="schedule", max_active=None) for slot in claims
        ),
        marks=tuple(marks),
    )
    (answer,) = await world.store.decide("n1", [decision], world.clock.us)
    for run in answer.runs:
        end = Finish(run=run, state="succeeded", started_us=run.due_us + 2500_000, finished_us=0)
        end = type(end)(**{**{f: getattr(end, f) for f in end.__struct_fields__}, **ends})
        await world.store.finish([end], world.clock.us)


async def asked(world, job_id, at=""):
    answer = await world.local.get(f"/jobs/{job_id}/why" + (f"?at={at}" if at else ""))
    assert answer.status == 200, answer.text
    return answer.data


async def test_what_became_of_slots(world):
    job = await world.job(name="m", schedule="@every 1m", timezone="Asia/Tokyo")
    job_id = job["id"]
    first = (await world.store.get_job(job_id)).next_slot_us
    slots = [first + n * MINUTE for n in range(40)]
    world.clock.us = slots[30]
    marks = [
        Mark(slot_us=slots[1], state="skipped", reason="overlap"),
        Mark(slot_us=slots[2], state="missed", reason="x", until_us=slots[20], count=19),
    ]
    await decide(
        world, job_id, [slots[0]], marks, slots[21], finished_us=slots[1] + SEC, state="failed",
        error="exit status 3", code=3,
    )  # fmt: skip
    got = await asked(world, job_id, "2026-02-02T02:41:00Z")
    assert got["verdict"] == "ran and failed (code 3), 2.5 s late: exit status 3"
    assert got["slot"]["local"] == "2026-02-02T11:41:00+09:00"
    assert (got["before"], got["version"]) == (None, 1)
    assert got["after"]["words"].startswith("skipped: an earlier run was still active")
    got = await asked(world, job_id, "2026-02-02T02:42:00Z")
    assert got["slot"]["run"]["reason"] == "overlap"
    assert f"run {job_id}-{first} was failed beside it" in got["facts"]
    got = await asked(world, job_id, "2026-02-02T02:50:00Z")
    assert "one row for 19 slots" in got["verdict"]
    assert "misfire policy `latest` runs only the newest, and within 3600 s" in got["verdict"]
    assert any("schedule `@every 1m` in Asia/Tokyo" in fact for fact in got["facts"])
    got = await asked(world, job_id, "2026-02-02T02:50:30Z")
    assert (got["slot"], got["verdict"]) == (None, "no slot at that time")
    assert got["before"]["at"] == "2026-02-02T02:50:00Z"
    assert got["after"]["at"] == "2026-02-02T02:51:00Z"


async def test_what_is_undecided_planned_or_never_was(world):
    job_id = (await world.job(name="m", schedule="@every 1m"))["id"]
    world.clock.us += 5 * MINUTE + SEC
    got = await asked(world, job_id)
    assert got["at"] == "2026-02-02T02:45:00Z"
    assert got["verdict"].startswith("undecided: no node is up")
    assert got["after"]["words"] == "planned"
    await world.store.heartbeat(node(lease=world.clock.us + MINUTE))
    assert "about to decide" in (await asked(world, job_id))["verdict"]
    await world.local.post(f"/jobs/{job_id}/hold", {"reason": "flood"})
    got = await asked(world, job_id)
    assert got["verdict"] == "undecided: hold 1 of local (scope job): flood"
    assert "but hold 1" in got["after"]["words"]
    held = {"scope": "all", "until": "2026-02-02T12:00:00Z", "then": "once"}
    await world.local.post("/holds/1/release", {"missed": "skip"})
    await world.local.post("/holds", held)
    got = await asked(world, job_id)
    assert got["facts"][0].endswith("(scope all), until 2026-02-02T12:00:00Z (then: once)")
    got = await asked(world, job_id, "2026-02-01T00:00:00Z")
    assert got["verdict"] == "the job did not exist yet"


async def test_the_definition_of_then_counts(world):
    job_id = (await world.job(name="m", schedule="@every 1m"))["id"]
    world.clock.us += 3 * MINUTE
    await world.local.post(f"/jobs/{job_id}/disable")
    world.clock.us += 3 * MINUTE
    got = await asked(world, job_id, "2026-02-02T02:45:00Z")
    assert got["verdict"] == "no slot at that time: the job was disabled"
    assert (got["before"]["at"], got["after"]) == ("2026-02-02T02:43:00Z", None)
    assert got["before"]["words"] == "skipped: the job was disabled before it could start"
    assert "now: the job is disabled" in got["facts"]
    got = await asked(world, job_id, "2026-02-02T02:42:00Z")
    assert got["version"] == 1
    assert any("changed 1 times since" in fact for fact in got["facts"])


async def test_a_gap_is_called_one(world):
    job_id = (await world.job(name="m", schedule="@every 1m"))["id"]
    first = (await world.store.get_job(job_id)).next_slot_us
    world.clock.us = first + 5 * MINUTE
    await decide(world, job_id, [first], next_us=first + 3 * MINUTE)
    got = await asked(world, job_id, "2026-02-02T02:42:00Z")
    assert got["verdict"].startswith("unaccounted for")
