"""What goes before a run, follows it, or may not go on beside it, by the command line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest


@pytest.fixture
def ready(cli):
    assert cli("init") == 0
    return cli


def job(cli, key="a"):
    assert cli("job", "get", key, "--json") == 0
    return json.loads(cli.out)["data"]


def create(cli, *options):
    return cli("job", "create", "a", *options, "--", "true")


def test_check_then_and_limit_reach_the_job_and_are_shown(ready):
    options = [
        "--check", "test -e 'a file'", "--then", "b", "--then", "c:failure",
        "--then", "d:e:always:5m", "--limit", "db", "--limit", "net",
    ]  # fmt: skip
    assert create(ready, *options) == 0, ready.err
    made = job(ready)
    assert made["check"]["argv"] == ["test", "-e", "a file"]
    assert made["then"] == [
        {"job": "b", "on": "success", "delay": 0},
        {"job": "c", "on": "failure", "delay": 0},
        {"job": "d:e", "on": "always", "delay": 300},
    ]
    assert made["limits"] == ["db", "net"]
    assert ready("job", "get", "a") == 0
    for heading in ("CHECK", "THEN", "LIMITS"):
        assert f"\n{heading} " in ready.out


def test_an_edit_changes_and_clears_them(ready):
    assert create(ready, "--check", "true", "--then", "b", "--limit", "db") == 0
    edited = ("--check-url", "http://example.com/work", "--then", "c", "--limit", "net")
    assert ready("job", "edit", "a", *edited) == 0, ready.err
    changed = job(ready)
    assert (changed["check"]["url"], changed["check"]["method"]) == (edited[1], "GET")
    assert [one["job"] for one in changed["then"]] == ["c"]
    assert changed["limits"] == ["net"]
    assert ready("job", "edit", "a", "--no-check", "--no-then", "--no-limit") == 0
    changed = job(ready)
    assert (changed["check"], changed["then"], changed["limits"]) == (None, [], [])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--check", "true", "--check-url", "http://x"], "both say what to check"),
        (["--check", "a 'b"], "no closing quotation"),
        (["--check", " "], "--check is empty"),
        (["--then", "b:failed"], "not `b:failed`"),
        (["--then", "b:always:soon"], "`soon` is no duration"),
        (["--then", ""], "--then needs"),
        (["--limit", "a b"], "/limits/0"),
        (["--then", "a"], "leads back to this job: a > a"),
    ],
)
def test_what_is_wrong_is_named(ready, options, said):
    assert create(ready, *options) == 2
    assert said in ready.err


def test_an_option_and_its_opposite_are_refused(ready):
    assert create(ready) == 0
    assert ready("job", "edit", "a", "--no-limit", "--limit", "db") == 2
    assert "--no-limit and --limit contradict each other" in ready.err


def test_limits_are_set_listed_and_forgotten(ready):
    assert create(ready, "--limit", "db") == 0
    assert ready("limit", "list", "--json") == 0
    [listed] = json.loads(ready.out)["data"]
    assert (listed["name"], listed["most"], listed["jobs"]) == ("db", 1, 1)
    assert ready("limit", "set", "db", "3") == 0, ready.err
    assert ready("limit", "get", "db", "--json") == 0
    assert json.loads(ready.out)["data"]["most"] == 3
    assert ready("list", "limits") == 0
    assert ready("limit", "delete", "db") == 0
    assert "run one at a time" in ready.err
    assert ready("limit", "delete", "db") == 5
    assert "`everbell limit list` shows what is there" in ready.err
    assert ready("limit", "set", "db", "0") == 2


def test_a_run_shows_what_it_follows_and_what_follows_it(ready):
    from everbell.domain.chain import follower_key
    from everbell.domain.job import Then
    from everbell.domain.run import RunKey
    from everbell.ports.store import NewRun
    from everbell.stores.sqlite import SqliteStore

    assert create(ready, "--then", "b") == 0
    assert ready("job", "create", "b", "--", "true") == 0
    assert ready("job", "run", "a", "--json") == 0
    parent = json.loads(ready.out)["data"]["id"]
    key = follower_key(RunKey.parse(parent), Then(job="b"), 2)

    async def follow():
        [path] = Path().glob("*.db")
        store = await SqliteStore.open(path)
        new = NewRun(
            key=key, project_id=1, version=1, trigger="chain", due_us=1,
            reason=f"succeeded of {parent}",
        )  # fmt: skip
        await store.enqueue(new, 1)
        await store.close()

    asyncio.run(follow())
    assert ready("run", "show", parent) == 0
    assert f"THEN       {key.id} (b, queued)" in ready.out
    assert ready("run", "show", key.id) == 0
    assert f"FOLLOWS    {parent} (a, queued)" in ready.out
    assert f"REASON     succeeded of {parent}" in ready.out
