"""Failed logins: counted, told now and then, and slowed down."""

import logging

import pytest

from everbell.api.limits import RateLimited
from everbell.api.refusals import LOG_EVERY_S, Refusals
from everbell.domain.errors import AuthenticationError, ForbiddenError, NotFoundError


def test_after_too_many_failures_an_address_waits_and_others_do_not():
    it = Refusals(3)
    for number in range(3):
        it.check("a", f"k{number}", 0.0)
        it.failed("a", f"k{number}", 0.0)
    with pytest.raises(RateLimited) as caught:
        it.check("a", "another", 20.0)
    assert caught.value.retry_after_s == 40.0
    it.check("b", "k0", 20.0)
    it.check("a", "another", 60.0)
    it.failed("a", "another", 60.0)
    it.check("a", "another", 61.0)
    assert it.throttled == 1


def test_a_key_that_was_good_goes_on_until_its_own_secret_is_guessed():
    it = Refusals(2)
    it.passed("a", "good")
    for _ in range(5):
        it.failed("a", "bad", 0.0)
    it.check("a", "good", 1.0)
    for _ in range(2):
        it.failed("a", "good", 1.0)
    with pytest.raises(RateLimited):
        it.check("a", "good", 2.0)


def test_without_a_limit_nobody_waits():
    it = Refusals(0)
    for _ in range(100):
        it.failed("a", "k", 0.0)
    it.check("a", "k", 0.0)


def test_refusals_are_counted_and_told_once_in_a_while(caplog):
    caplog.set_level(logging.WARNING, logger="everbell.api")
    it = Refusals(3)
    wrong = AuthenticationError("the API key or its secret is wrong")
    for number in range(5):
        it.note(wrong, "GET /jobs", "1.2.3.4", float(number))
    it.note(ForbiddenError("no"), "POST /jobs", "1.2.3.4", 5.0)
    it.note(NotFoundError("x"), "GET /jobs/9", "1.2.3.4", 5.0)
    assert [record.getMessage() for record in caplog.records] == [
        "refused GET /jobs from 1.2.3.4: the API key or its secret is wrong"
    ]
    it.note(ForbiddenError("no"), "POST /jobs", "1.2.3.4", LOG_EVERY_S)
    assert caplog.records[-1].getMessage().endswith("no (5 more since the last such line)")
    assert (it.unauthenticated, it.forbidden) == (5, 2)
