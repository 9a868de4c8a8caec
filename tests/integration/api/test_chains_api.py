"""Followers and checks as the API takes, shows and refuses them."""

import pytest


def then(*names):
    return [{"job": name} for name in names]


async def test_what_was_given_is_shown_and_can_be_sent_back(world):
    check = {"kind": "http", "url": "http://example.com/any", "method": "GET"}
    follow = [{"job": "next", "on": "failure", "delay": 5}]
    made = await world.job(check=check, then=follow, limits=["db"])
    assert made["check"]["url"] == check["url"]
    assert made["then"] == follow
    assert made["limits"] == ["db"]
    again = await world.local.put(f"/jobs/{made['id']}", made)
    assert again.status == 200, again.text
    assert (again.data["check"], again.data["then"]) == (made["check"], made["then"])
    got = await world.local.patch(
        f"/jobs/{made['id']}", {"check": None, "then": None, "limits": None}
    )
    assert (got.data["check"], got.data["then"], got.data["limits"]) == (None, [], [])


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"then": [{"job": ""}]}, "/then/0/job"),
        ({"then": [{"job": "b", "delay": -1}]}, "/then/0/delay"),
        ({"then": [{"job": "b", "on": "never"}]}, "/then/0/on"),
        ({"then": then("b", "b")}, "/then/1"),
        ({"then": then(*(f"j{k}" for k in range(17)))}, "/then"),
        ({"limits": ["a b"]}, "/limits/0"),
        ({"limits": ["a", "a"]}, "/limits/1"),
        ({"check": {"kind": "http", "url": "http://169.254.169.254/"}}, "/check"),
        ({"check": {"kind": "http", "url": "http://a.com/", "batch": True}}, "/check/batch"),
        ({"check": {"kind": "command", "argv": []}}, "/check/argv"),
        ({"check": {"kind": "command", "argv": ["absent-program"]}}, "/check"),
    ],
)
async def test_what_is_wrong_is_named(world, fields, pointer):
    body = {"name": "a", "action": {"kind": "http", "url": "http://example.com/"}, **fields}
    got = await world.local.post("/jobs", body)
    assert got.status == 422, got.text
    assert pointer in [one["pointer"] for one in got.json()["errors"]]


async def test_circles_are_refused_however_they_are_made(world):
    async def refused(method, path, body):
        got = await world.local.request(method, path, body)
        assert got.status == 422, got.text
        assert "runs in a circle" in got.json()["detail"]
        return got.json()["errors"][0]

    hook = {"kind": "http", "url": "http://example.com/hook"}
    a = await world.job(name="a", then=then("b"))
    b = await world.job(name="b", then=then("c"))
    c = await world.job(name="c")
    wrong = await refused("PATCH", f"/jobs/{c['id']}", {"then": then("a")})
    assert wrong["pointer"] == "/then/0/job"
    assert "c > a > b > c" in wrong["message"]
    await refused("PATCH", f"/jobs/{c['id']}", {"then": then("x", b["uuid"])})
    await refused("PATCH", f"/jobs/{c['id']}", {"then": then(str(c["id"]))})
    await refused("PATCH", f"/jobs/{a['id']}", {"then": then("a")})
    # By an id, while the job gets another name; by a name that a job is about to get.
    d = await world.job(name="d", then=then(str(c["id"])))
    await refused("PATCH", f"/jobs/{c['id']}", {"name": "z", "then": then("d")})
    await world.job(name="e", then=then("later"))
    f = await world.job(name="f", then=then("e"))
    await refused("PATCH", f"/jobs/{f['id']}", {"name": "later"})
    both = [
        {"name": name, "action": hook, "then": then(other)}
        for name, other in (("p", "q"), ("q", "p"))
    ]
    await refused("POST", "/jobs", both)
    # What was c is not c any more: the way back is cut.
    assert (await world.local.patch(f"/jobs/{c['id']}", {"name": "z"})).status == 200
    assert (await world.local.patch(f"/jobs/{d['id']}", {"then": then("a")})).status == 200
