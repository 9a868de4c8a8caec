from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everbell.domain.errors import RefusedError, ValidationError
from everbell.executors.addresses import AddressPolicy
from everbell.executors.targets import check_literal, parse_target, refuse_unless_allowed

GOOD = [
    "http://example.com",
    "https://example.com:8443/a%20b?q=1#f",
    "http://localhost:3000/callback",
    "http://my_service:80/",
    "http://127.0.0.1:1/",
    "http://[::1]:8080/x",
    "http://[2001:db8::1]/",
    "http://example.com./",
    "http://bücher.example/",
    "http://1password.com/",
    "http://0xbeef.example/",
    "http://a.b-c.example/@at",
]

BAD = [
    "",
    "example.com",
    "//example.com",
    "ftp://example.com",
    "file:///etc/passwd",
    "gopher://x/",
    "javascript:alert(1)",
    "http://",
    "http:///path",
    "http://:80/",
    "http://?q",
    "http://user@example.com/",
    "http://user:pw@example.com/",
    "http://:@example.com/",
    "http://@example.com/",
    "http://good.example@127.0.0.1/",
    "http://good.example\\@127.0.0.1/",
    "http://exa mple.com/",
    "http://example.com/a b",
    "http://example.com/\r\nX: y",
    "http://example.com/\x00",
    " http://example.com",
    "http://example.com\t",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0x7F.0.0.0x1/",
    "http://0177.0.0.1/",
    "http://127.0.0.01/",
    "http://127.0.0.1./",
    "http://1.2.3.4.5/",
    "http://256.1.1.1/",
    "http://example.0x/",
    "http://example.123/",
    "http://１２７.0.0.1/",
    "http://127。0。0。1/",
    "http://①.1.1.1/",
    "http://ex%61mple.com/",
    "http://%31%32%37.0.0.1/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[::1/",
    "http://[v1.x]/",
    "http://[127.0.0.1]/",
    "http://example.com:0/",
    "http://example.com:00/",
    "http://example.com:99999/",
    "http://example.com:-1/",
    "http://example.com:8o/",
    "http://exam!ple.com/",
    "http://-/",
    "http://a..b/",
    "http://.example.com/",
    "http://" + "a" * 300 + "/",
    "http://example.com/" + "a" * 9000,
]


@pytest.mark.parametrize("url", GOOD)
def test_good(url):
    parse_target(url)


@pytest.mark.parametrize("url", BAD)
def test_bad_urls_are_refused_with_a_hint(url):
    with pytest.raises(ValidationError) as caught:
        parse_target(url)
    assert caught.value.hint


@given(st.text(max_size=40))
def test_nothing_but_a_validation_error_comes_out(tail):
    try:
        target = parse_target("http://" + tail)
    except ValidationError:
        return
    assert target.raw_host


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest",
        "http://[::ffff:169.254.169.254]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://0.0.0.0:9091/",
        "http://[::]:9091/",
        "http://255.255.255.255/",
    ],
)
def test_literals_that_are_never_reached_unless_listed(url):
    with pytest.raises(RefusedError) as caught:
        check_literal(parse_target(url), AddressPolicy(private=True))
    assert "callbacks.allow" in caught.value.hint or "no setting" in caught.value.hint


def test_private_literals_follow_the_policy():
    target = parse_target("http://10.1.2.3/")
    check_literal(target, AddressPolicy(private=True))
    with pytest.raises(RefusedError, match="private"):
        check_literal(target, AddressPolicy(private=False))
    check_literal(target, AddressPolicy(private=False, allow=("10.0.0.0/8",)))


def test_the_hint_offers_no_setting_that_would_not_help():
    policy = AddressPolicy(private=True)
    with pytest.raises(RefusedError) as caught:
        refuse_unless_allowed("0.0.0.0", [ip_address("0.0.0.0")], policy)
    assert "no setting allows it" in caught.value.hint
    with pytest.raises(RefusedError) as caught:
        refuse_unless_allowed("x", [ip_address("169.254.169.254")], policy)
    assert "callbacks.allow" in caught.value.hint
