import pytest
from hypothesis import given
from hypothesis import strategies as st

from everbell.executors.budget import Budget


def test_a_burst_then_the_rate():
    budget = Budget(2.0, 3, 0.0)
    assert [budget.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert budget.wait_s(0.0) == 0.5
    assert budget.take(0.5)
    assert not budget.take(0.5)


def test_first_come_first_served():
    budget = Budget(1.0, 1, 0.0)
    assert budget.take(0.0)
    for name in "abc":
        budget.join(name)
    assert not budget.take(5.0), "nobody passes those who wait"
    assert budget.wait_s(0.0) >= 3.0
    assert budget.grant(5.0) == ["a"]
    assert budget.next_s(5.0) == pytest.approx(1.0)
    assert budget.grant(5.5) == []
    assert budget.grant(6.0) == ["b"]


def test_who_leaves_makes_room():
    budget = Budget(1.0, 1, 0.0)
    assert budget.take(0.0)
    for name in "abc":
        budget.join(name)
    budget.leave("a")
    budget.leave("nobody")
    assert budget.grant(1.0) == ["b"]
    budget.leave("c")
    assert budget.next_s(1.0) is None
    assert len(budget) == 0


def test_time_that_goes_back_gives_nothing():
    budget = Budget(1.0, 1, 10.0)
    assert budget.take(10.0)
    assert not budget.take(0.0)
    assert not budget.take(10.5)
    assert budget.take(11.0)


STEP = st.tuples(st.sampled_from(["ask", "leave"]), st.integers(0, 9), st.floats(0, 2))


@given(st.floats(0.1, 1000), st.integers(1, 20), st.lists(STEP, max_size=80))
def test_never_more_than_burst_and_rate_and_always_in_order(rate, burst, steps):
    budget, now, granted, waiting, taken = Budget(rate, burst, 0.0), 0.0, [], [], 0
    for number, (what, which, passed) in enumerate(steps):
        now += passed
        for name in budget.grant(now):
            assert name == waiting.pop(0)
            granted.append(name)
        if what == "leave":
            if waiting:
                budget.leave(waiting.pop(which % len(waiting)))
        elif budget.take(now):
            assert not waiting
            taken += 1
        else:
            budget.join(number)
            waiting.append(number)
        assert len(granted) + taken <= burst + rate * now + 1e-3
    assert granted == sorted(granted)
    # Following ``next_s`` serves everyone, each in about one token's time.
    for _ in range(len(waiting)):
        now += budget.next_s(now)
        assert budget.grant(now)[:1] == [waiting.pop(0)] or not waiting
    assert len(budget) == 0 or waiting


@given(st.floats(0.1, 1000), st.integers(1, 20), st.integers(1, 60))
def test_the_wait_that_was_told_is_the_wait(rate, burst, count):
    budget, told = Budget(rate, burst, 0.0), {}
    for name in range(count):
        if not budget.take(0.0):
            told[name] = budget.wait_s(0.0)
            budget.join(name)
    now = 0.0
    while (wait := budget.next_s(now)) is not None:
        now += wait
        for name in budget.grant(now):
            assert now == pytest.approx(told[name], rel=1e-3, abs=1e-3)
