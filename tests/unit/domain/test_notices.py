"""What nodes of one cluster do not agree on."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from everbell.domain.job import US
from everbell.domain.notices import notices
from everbell.testing.contracts.making import NOW, node

ME = replace(node("me"), name="one", tzdata="2026a", schema=7)
OTHER = replace(node("other"), name="two", tzdata="2026a", schema=7)


def test_nodes_that_agree_have_nothing_to_say() -> None:
    assert notices(ME, [ME, OTHER], NOW) == {}


@pytest.mark.parametrize(
    ("changes", "subject", "text"),
    [
        ({"version": "2"}, "version", "this node runs 1.0, node two runs 2: finish the upgrade"),
        (
            {"schema": 8},
            "schema",
            "this node is made for schema 7, node two for 8: upgrade this one",
        ),
        (
            {"tzdata": "2024b"},
            "tzdata",
            "time zone rules are 2026a here and 2024b on two: install the same tzdata on both",
        ),
        (
            {"name": "one", "host": "far", "pid": 7},
            "name",
            (
                "another living process (far, pid 7) has the name 'one' too: give each its own"
                " node.name"
            ),
        ),
    ],
)
def test_what_they_do_not_agree_on(changes: dict[str, object], subject: str, text: str) -> None:
    other = replace(OTHER, **changes)
    assert notices(ME, [other, ME], NOW) == {subject: text}
    assert notices(ME, [replace(other, state="dead")], NOW) == {}
    assert notices(ME, [replace(other, lease_until_us=NOW - 1)], NOW) == {}


def test_a_killed_node_is_no_namesake_of_its_successor() -> None:
    old = replace(ME, id="old", started_us=NOW - 9 * US, heartbeat_us=NOW - 3 * US)
    new = replace(ME, started_us=NOW - 2 * US, heartbeat_us=NOW)
    assert notices(new, [old], NOW) == {}
    assert set(notices(new, [replace(old, heartbeat_us=NOW)], NOW)) == {"name"}


def test_a_cluster_in_which_nobody_works_or_schedules_says_so() -> None:
    alone = replace(ME, roles=("scheduler", "api"))
    worker = replace(OTHER, roles=("worker",))
    text = "no living node has the role worker: runs wait in the queue, see node.roles"
    assert notices(alone, [alone], NOW) == {"roles": text}
    assert notices(alone, [alone, worker], NOW) == {}
    assert notices(alone, [alone, replace(worker, state="left")], NOW) == {"roles": text}
    text = "no living node has the role scheduler: no slot is decided, see node.roles"
    assert notices(worker, [worker], NOW) == {"roles": text}
