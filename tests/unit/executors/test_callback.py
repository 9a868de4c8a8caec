import base64
import hashlib
import hmac

import msgspec
import pytest

from everbell.domain.errors import ValidationError
from everbell.domain.job import HttpAction
from everbell.executors import callback
from everbell.testing.executor_contract import SECRET, SLOT_US, assignment

WORK = assignment(HttpAction(url="http://x/"), data={"b": [1, None, "é"], "a": 2})


def test_body():
    assert msgspec.json.decode(callback.body_of(WORK)) == {
        "job": {
            "id": "01939f7e-0000-7000-8000-000000000017",
            "name": "backup",
            "project": "ops",
            "data": {"b": [1, None, "é"], "a": 2},
        },
        "run": {
            "id": f"17-{SLOT_US}",
            "slot": "2025-11-21T08:00:00Z",
            "attempt": 2,
            "token": 42,
            "trigger": "schedule",
            "scheduled_at": "2025-11-21T08:00:00Z",
        },
    }


def test_signature_of_the_standard_webhooks_example():
    # Test vector of the Standard Webhooks reference libraries.
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signature = callback.sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_headers():
    headers = callback.headers_of(WORK, {"X-A": "b"}, b"{}", 1000)
    signed = hmac.digest(SECRET, f"17-{SLOT_US}.1000.{{}}".encode(), hashlib.sha256)
    assert headers == {
        "X-A": "b",
        "content-type": "application/json",
        "webhook-id": f"17-{SLOT_US}",
        "webhook-timestamp": "1000",
        "webhook-signature": "v1," + base64.b64encode(signed).decode(),
        "idempotency-key": f"17-{SLOT_US}",
        "everbell-slot": "2025-11-21T08:00:00Z",
        "everbell-attempt": "2",
        "everbell-token": "42",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Host", "evil"),
        ("CONTENT-LENGTH", "1"),
        ("transfer-encoding", "chunked"),
        ("Webhook-Id", "x"),
        ("everbell-token", "9"),
        ("Connection", "close"),
        ("", "x"),
        ("a b", "x"),
        ("a:", "x"),
        ("x", "a\r\nb: c"),
        ("x", "a\x00"),
        ("x", "é"),
        ("x\n", "a"),
    ],
)
def test_bad_headers(name, value):
    with pytest.raises(ValidationError) as caught:
        callback.check_headers({"fine": "ok", name: value})
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("patterns", "status", "good"),
    [
        (("2xx",), 200, True),
        (("2XX",), 299, True),
        (("2xx",), 300, False),
        (("200-204",), 204, True),
        (("200-204",), 205, False),
        (("404",), 404, True),
        (("404",), 200, False),
        (("2xx", "304"), 304, True),
    ],
)
def test_success(patterns, status, good):
    assert callback.success_test(patterns)(status) is good


@pytest.mark.parametrize(
    "text", ["", "2x", "6xx", "099", "204-200", "200-", "ok", "2xx-3xx", "٢00"]
)
def test_bad_success(text):
    with pytest.raises(ValidationError):
        callback.success_test((text,))


def test_success_must_name_a_status():
    with pytest.raises(ValidationError):
        callback.success_test(())
