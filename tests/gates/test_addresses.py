"""Which addresses Moodle accepts: a table of cases, their answers taken from PHP 8.2."""

from __future__ import annotations

import pytest

from emailoffload.moodle.addresses import is_domain_name, valid_address

LONG_DOMAIN = ".".join(["l" * 60] * 3) + ".com"

VALID = [
    "gplain@lab.example",
    "a@b.c",
    "first.last+tag@sub.example.co.uk",
    "!#$%&'*+-/=?^_`{|}~@example.com",
    "UPPER@EXAMPLE.COM",
    '"quoted"@example.com',
    r'"with\ space"@example.com',
    r'"a\"b\\c"@example.com',
    '"a,b;c:d(e)[f]@g"@example.com',
    '""@example.com',
    'a."b".c@example.com',
    "a" * 64 + "@example.com",
    '"' + "a" * 64 + '"@example.com',
    '"' + r"\a" * 64 + '"@example.com',
    "a@" + "l" * 63 + ".com",
    "a" * 63 + "@" + LONG_DOMAIN + ".abc",
    "a@xn--bcher-kva.example",
    "a@1and1.com",
    "a@1.2.x",
    "a@b.c-d",
    "a@[192.0.2.1]",
    "a@[IPv6:2001:db8::1]",
    "a@[ipv6:1:2:3:4:5:6:7:8]",
    "a@[IPv6:::]",
    "a@[IPv6:::ffff:192.0.2.1]",
    "a@[IPv6:1:2:3:4:5:6:192.0.2.1]",
]
INVALID = [
    "",
    "not-an-address",
    "@example.com",
    "a@",
    "a@b",
    "a@localhost",
    "a@127.0.0.1",
    "a@b.c1@d.e",
    "a b@example.com",
    "a@exam ple.com",
    " a@example.com",
    "a@example.com ",
    "a@example.com\n",
    "a\r@example.com",
    ".a@example.com",
    "a.@example.com",
    "a..b@example.com",
    "a@.example.com",
    "a@example..com",
    "a@example.com.",
    "a@-example.com",
    "a@example-.com",
    "a@under_score.com",
    "a@example.1com",
    "a@example.123",
    "jörg@example.com",
    "a@bücher.example",
    "a<b@example.com",
    "Ann <a@example.com>",
    '"<"@example.com',
    '"a b"@example.com',
    '"a@example.com',
    '"a"b@example.com',
    "a\x7f@example.com",
    "a(comment)@example.com",
    "a,b@example.com",
    r"a\@example.com",
    "a" * 65 + "@example.com",
    '"' + "a" * 65 + '"@example.com',
    "a@" + "l" * 64 + ".com",
    "a" * 64 + "@" + LONG_DOMAIN + ".abcd",
    "a" * 64 + "@" + ".".join(["l" * 60] * 5) + ".com",
    "a@[192.0.2.256]",
    "a@[192.0.2.01]",
    "a@[192.0.2]",
    "a@[2001:db8::1]",
    "a@[IPv6:1:2:3:4:5:6:7]",
    "a@[IPv6:1:2:3:4:5:6:7::]",
    "a@[IPv6:1::2::3]",
    "a@[IPv6:12345::]",
    "a@[IPv6:1:2:3:4:5:192.0.2.1]",
    "a@[]",
    "a@[",
]


@pytest.mark.parametrize("address", VALID)
def test_an_address_that_php_accepts_is_valid(address: str) -> None:
    assert valid_address(address)


@pytest.mark.parametrize("address", INVALID)
def test_an_address_that_php_refuses_is_invalid(address: str) -> None:
    assert not valid_address(address)


@pytest.mark.parametrize("name", ["lab.example", "a-b.c.org"])
def test_a_host_with_a_dot_is_a_domain_name(name: str) -> None:
    assert is_domain_name(name)


@pytest.mark.parametrize("name", ["", "localhost", "*.lab.example", "a..b", "a_b.c", "ü.de"])
def test_other_texts_are_no_domain_names(name: str) -> None:
    assert not is_domain_name(name)
