from __future__ import annotations

import pytest

from everbell.domain.chain import LINKS_MAX, follower_key, followers, links
from everbell.domain.job import CommandAction, Definition, Then
from everbell.domain.run import RunKey

ON_SUCCESS = Then(job="report")
ON_FAILURE = Then(job="page", on="failure")
ALWAYS = Then(job="clean", on="always")
JOB = Definition(
    name="a", action=CommandAction(argv=("true",)), then=(ON_SUCCESS, ON_FAILURE, ALWAYS)
)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("succeeded", (ON_SUCCESS, ALWAYS)),
        ("failed", (ON_FAILURE, ALWAYS)),
        ("timed_out", (ON_FAILURE, ALWAYS)),
        ("lost", (ON_FAILURE, ALWAYS)),
        ("cancelled", (ALWAYS,)),
        ("skipped", ()),
    ],
)
def test_what_follows_each_end(state, expected):
    assert followers(JOB, state) == expected


def test_keys_are_stable_distinct_and_count_their_links():
    parent = RunKey(1_700_000_000_000_000, 7)
    key = follower_key(parent, ON_SUCCESS, 9)
    assert key == follower_key(parent, ON_SUCCESS, 9)
    assert (key.slot_us, key.job_id, links(key)) == (parent.slot_us, 9, 1)
    others = {
        follower_key(parent, ALWAYS, 9),
        follower_key(RunKey(parent.slot_us, 8), ON_SUCCESS, 9),
        follower_key(RunKey(parent.slot_us, 7, "m1"), ON_SUCCESS, 9),
    }
    assert key not in others
    assert len(others) == 3
    assert RunKey.parse(key.id) == key


def test_a_long_chain_counts_up_to_its_bound():
    key = RunKey(1, 1)
    for link in range(1, LINKS_MAX + 1):
        key = follower_key(key, ON_SUCCESS, 1)
        assert links(key) == link
    assert RunKey.parse(key.id) == key
