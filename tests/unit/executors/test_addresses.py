import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everbell.executors.addresses import AddressPolicy, Kind, embedded, kind_of

TABLE = [
    # edge pairs around every IPv4 range
    ("0.255.255.255", Kind.NEVER),
    ("1.0.0.0", Kind.GLOBAL),
    ("8.8.8.8", Kind.GLOBAL),
    ("9.255.255.255", Kind.GLOBAL),
    ("10.0.0.0", Kind.PRIVATE),
    ("10.255.255.255", Kind.PRIVATE),
    ("11.0.0.0", Kind.GLOBAL),
    ("100.63.255.255", Kind.GLOBAL),
    ("100.64.0.0", Kind.PRIVATE),
    ("100.100.100.199", Kind.PRIVATE),
    ("100.100.100.200", Kind.SENSITIVE),
    ("100.100.100.201", Kind.PRIVATE),
    ("100.127.255.255", Kind.PRIVATE),
    ("100.128.0.0", Kind.GLOBAL),
    ("126.255.255.255", Kind.GLOBAL),
    ("127.0.0.0", Kind.PRIVATE),
    ("127.255.255.255", Kind.PRIVATE),
    ("128.0.0.0", Kind.GLOBAL),
    ("168.63.129.15", Kind.GLOBAL),
    ("168.63.129.16", Kind.SENSITIVE),
    ("169.253.255.255", Kind.GLOBAL),
    ("169.254.0.0", Kind.SENSITIVE),
    ("169.254.169.254", Kind.SENSITIVE),
    ("169.254.255.255", Kind.SENSITIVE),
    ("169.255.0.0", Kind.GLOBAL),
    ("172.15.255.255", Kind.GLOBAL),
    ("172.16.0.0", Kind.PRIVATE),
    ("172.31.255.255", Kind.PRIVATE),
    ("172.32.0.0", Kind.GLOBAL),
    ("191.255.255.255", Kind.GLOBAL),
    ("192.0.0.0", Kind.NEVER),
    ("192.0.0.192", Kind.SENSITIVE),
    ("192.0.1.0", Kind.GLOBAL),
    ("192.0.2.0", Kind.NEVER),
    ("192.0.3.0", Kind.GLOBAL),
    ("192.88.98.255", Kind.GLOBAL),
    ("192.88.99.1", Kind.NEVER),
    ("192.167.255.255", Kind.GLOBAL),
    ("192.168.0.0", Kind.PRIVATE),
    ("192.169.0.0", Kind.GLOBAL),
    ("198.17.255.255", Kind.GLOBAL),
    ("198.18.0.0", Kind.PRIVATE),
    ("198.20.0.0", Kind.GLOBAL),
    ("198.51.100.7", Kind.NEVER),
    ("203.0.112.255", Kind.GLOBAL),
    ("203.0.113.0", Kind.NEVER),
    ("223.255.255.255", Kind.GLOBAL),
    ("224.0.0.0", Kind.NEVER),
    ("240.0.0.0", Kind.NEVER),
    ("255.255.255.255", Kind.NEVER),
    # IPv6
    ("::", Kind.NEVER),
    ("::1", Kind.PRIVATE),
    ("::2", Kind.NEVER),
    ("1fff:ffff::1", Kind.NEVER),
    ("2001:4860:4860::8888", Kind.GLOBAL),
    ("2001:1ff::1", Kind.NEVER),
    ("2001:200::1", Kind.GLOBAL),
    ("2001:db7:ffff::1", Kind.GLOBAL),
    ("2001:db8::1", Kind.NEVER),
    ("2001:db9::1", Kind.GLOBAL),
    ("3ffe:ffff::1", Kind.GLOBAL),
    ("3fff:fff::1", Kind.NEVER),
    ("3fff:1000::1", Kind.GLOBAL),
    ("4000::1", Kind.NEVER),
    ("100::1", Kind.NEVER),
    ("64:ff9b:1::1", Kind.NEVER),
    ("fbff::1", Kind.NEVER),
    ("fc00::1", Kind.PRIVATE),
    ("fd00:ec2::254", Kind.SENSITIVE),
    ("fd00:ec3::254", Kind.PRIVATE),
    ("fd20:ce::254", Kind.SENSITIVE),
    ("fdff:ffff::1", Kind.PRIVATE),
    ("fe00::1", Kind.NEVER),
    ("fe7f::1", Kind.NEVER),
    ("fe80::1", Kind.SENSITIVE),
    ("febf::1", Kind.SENSITIVE),
    ("fec0::1", Kind.NEVER),
    ("ff02::1", Kind.NEVER),
    # IPv4 inside IPv6
    ("::ffff:8.8.8.8", Kind.GLOBAL),
    ("::ffff:127.0.0.1", Kind.PRIVATE),
    ("::ffff:169.254.169.254", Kind.SENSITIVE),
    ("::ffff:0.0.0.0", Kind.NEVER),
    ("::ffff:0:169.254.169.254", Kind.SENSITIVE),
    ("::127.0.0.1", Kind.PRIVATE),
    ("::169.254.169.254", Kind.SENSITIVE),
    ("64:ff9b::8.8.8.8", Kind.PRIVATE),
    ("64:ff9b::169.254.169.254", Kind.SENSITIVE),
    ("64:ff9b::224.0.0.1", Kind.NEVER),
    ("2002:808:808::1", Kind.PRIVATE),
    ("2002:a9fe:a9fe::1", Kind.SENSITIVE),
    ("2001:0:808:808::f7f7:f7f7", Kind.PRIVATE),  # Teredo: server and client 8.8.8.8
    ("2001:0:808:808::5601:5601", Kind.SENSITIVE),  # Teredo: client 169.254.169.254
    ("2001:0:a9fe:a9fe::f7f7:f7f7", Kind.SENSITIVE),  # Teredo: server 169.254.169.254
    ("2a00:1450::200:5efe:169.254.169.254", Kind.SENSITIVE),  # ISATAP
]


@pytest.mark.parametrize(("text", "kind"), TABLE)
def test_kind(text, kind):
    assert kind_of(ipaddress.ip_address(text)) is kind


@pytest.mark.parametrize(
    ("private", "allow", "text", "allowed"),
    [
        (True, (), "127.0.0.1", True),
        (False, (), "127.0.0.1", False),
        (False, ("127.0.0.0/8",), "127.0.0.1", True),
        (False, ("127.0.0.0/8",), "::ffff:127.0.0.1", True),
        (False, (), "8.8.8.8", True),
        (True, (), "169.254.169.254", False),
        (True, ("169.254.169.254",), "169.254.169.254", True),
        (True, ("169.254.169.254",), "169.254.169.253", False),
        (True, ("fe80::/10",), "fe80::1", True),
        (True, ("0.0.0.0/0", "::/0"), "0.0.0.0", False),
        (True, ("0.0.0.0/0", "::/0"), "ff02::1", False),
        (False, ("8.8.8.8",), "2001:0:808:808::f7f7:f7f7", True),
        (False, ("8.8.8.8",), "2001:0:808:808::f7f7:f7f6", False),
    ],
)
def test_policy(private, allow, text, allowed):
    policy = AddressPolicy(private=private, allow=allow)
    assert (policy.problem(ipaddress.ip_address(text)) == "") is allowed


def test_a_bad_network_is_refused():
    with pytest.raises(ValueError, match="10"):
        AddressPolicy(private=True, allow=("10.0.0/8",))


@given(st.integers(0, 2**32 - 1))
def test_mapped_is_judged_as_what_it_carries(number):
    plain = ipaddress.IPv4Address(number)
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | number)
    assert kind_of(mapped) is kind_of(plain)
    assert embedded(mapped) == [plain]


@given(st.integers(0, 2**32 - 1))
def test_nothing_that_the_library_calls_private_is_global_here(number):
    address = ipaddress.IPv4Address(number)
    # The library counts 192.0.0.0/29 .. as private; ours refuses the whole /24.
    if address.is_private or address.is_multicast or address.is_reserved:
        assert kind_of(address) is not Kind.GLOBAL
