from hypothesis import given
from hypothesis import strategies as st

from everbell.executors.breaker import Breaker, Permit, Refusal


def opened(failures=3, open_s=10.0):
    breaker = Breaker(failures, open_s)
    for _ in range(failures):
        breaker.failed(breaker.ask(0.0), 0.0)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row():
    breaker = Breaker(3, 10.0)
    for verdict in (False, False, True, False, False):
        permit = breaker.ask(0.0)
        breaker.succeeded(permit) if verdict else breaker.failed(permit, 0.0)
    assert breaker.state == "closed"
    breaker.failed(breaker.ask(1.0), 1.0)
    assert breaker.state == "open"
    assert breaker.ask(4.0) == Refusal(7.0)


def test_one_probe_closes_it():
    breaker = opened()
    probe = breaker.ask(10.0)
    assert isinstance(probe, Permit)
    assert breaker.state == "half_open"
    assert breaker.ask(10.0) == Refusal(10.0)
    breaker.succeeded(probe)
    assert breaker.state == "closed"
    assert breaker.row == 0
    assert isinstance(breaker.ask(10.0), Permit)


def test_one_failed_probe_opens_it_again():
    breaker = opened()
    breaker.failed(breaker.ask(10.0), 12.0)
    assert breaker.state == "open"
    assert breaker.ask(13.0) == Refusal(9.0)


def test_a_probe_that_is_given_up_makes_room_for_the_next():
    breaker = opened()
    breaker.dropped(breaker.ask(10.0))
    assert isinstance(breaker.ask(10.0), Permit)


def test_what_began_before_a_change_counts_for_nothing():
    breaker = Breaker(2, 10.0)
    late = [breaker.ask(0.0) for _ in range(4)]
    breaker.failed(late[0], 0.0)
    breaker.failed(late[1], 0.0)
    breaker.succeeded(late[2])
    assert breaker.state == "open"
    probe = breaker.ask(10.0)
    breaker.failed(late[3], 10.0)
    assert breaker.state == "half_open"
    breaker.succeeded(probe)
    assert breaker.state == "closed"


STEP = st.tuples(
    st.sampled_from(["ask", "succeeded", "failed", "dropped"]),
    st.integers(0, 5),
    st.floats(0, 4, allow_nan=False),
)


@given(st.integers(1, 4), st.floats(0.5, 5), st.lists(STEP, max_size=60))
def test_whatever_happens(failures, open_s, steps):
    breaker, now, out, opened_at = Breaker(failures, open_s), 0.0, [], None
    for what, which, passed in steps:
        now += passed
        before = breaker.state
        if what == "ask":
            answer = breaker.ask(now)
            if isinstance(answer, Permit):
                assert before != "open" or now >= opened_at + open_s - 1e-6
                out.append(answer)
            else:
                assert before != "closed"
                assert 0 < answer.wait_s <= open_s + 1e-9  # sums of floats are rounded
        elif out:
            permit = out.pop(which % len(out))
            if what == "failed":
                breaker.failed(permit, now)
            else:
                getattr(breaker, what)(permit)
        if breaker.state == "open" and before != "open":
            opened_at = now
            assert before == "half_open" or breaker.row >= failures
        if breaker.state == "half_open":
            # At most one of those that are out can still decide.
            assert sum(permit.epoch == breaker._epoch for permit in out) <= 1
        if breaker.state == "closed":
            assert breaker.row < failures
    # It never locks for good: when all that is out is given up, time lets one pass.
    for permit in out:
        breaker.dropped(permit)
    assert isinstance(breaker.ask(now + open_s + 1), Permit)
