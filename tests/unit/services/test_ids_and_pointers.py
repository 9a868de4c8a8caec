"""Identifiers, and pointers in the words of the caller."""

from uuid import UUID

import pytest

from everbell.services.context import as_key
from everbell.services.ids import api_key, api_secret, short_id, uuid7
from everbell.services.validate import as_given


class Fixed:
    def __init__(self, byte=0xFF, us=1_770_000_000_123_456):
        self.byte = byte
        self.us = us

    def token_bytes(self, length):
        return bytes([self.byte]) * length

    def now_us(self):
        return self.us


@pytest.mark.parametrize("byte", [0, 0x5A, 0xFF])
def test_uuid7_holds_version_variant_and_time(byte):
    value = UUID(uuid7(Fixed(byte), Fixed(byte)))
    assert value.version == 7
    assert value.variant == "specified in RFC 4122"
    assert value.int >> 80 == 1_770_000_000_123


def test_uuid7_rises_with_time():
    early = uuid7(Fixed(us=1_000_000), Fixed(0xFF))
    late = uuid7(Fixed(us=2_000_000), Fixed(0))
    assert early < late


def test_keys_and_secrets_have_their_shape():
    assert api_key(Fixed(1)) == "eb_" + "01" * 12
    assert len(api_secret(Fixed())) == 43
    assert len(short_id(Fixed())) == 16


@pytest.mark.parametrize(
    ("text", "key"),
    [("12", 12), (12, 12), ("012", 12), ("-1", "-1"), ("1" * 19, "1" * 19), ("a", "a"), ("١", "١")],
)
def test_only_plain_digits_are_ids(text, key):
    assert as_key(text) == key


@pytest.mark.parametrize(
    ("pointer", "given", "shown"),
    [
        ("/schedule", {}, "/schedule"),
        ("/schedule", {"schedule": "spec"}, "/spec"),
        ("/action/url", {"action": "callback_url"}, "/callback_url"),
        ("/action/text", {"action": "script", "action/text": "script"}, "/script"),
        ("/action/interpreter", {"action": "script", "action/interpreter": "interpreter"},
         "/interpreter"),
        ("/retry/max", {"retry/max": "retryMax"}, "/retryMax"),
        ("/retry/delay", {"retry/max": "retryMax"}, "/retry/delay"),
    ],
)  # fmt: skip
def test_pointers_name_what_the_caller_sent(pointer, given, shown):
    assert as_given(pointer, given) == shown


def test_a_secret_is_no_option():
    assert api_secret(Fixed(0xFB)) == "0_v7" + "-_v7" * 9 + "-_s"
