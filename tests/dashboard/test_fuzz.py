"""No address, however malformed, is an error of the server."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emailoffload.dashboard.filters import EmailFilter
from tests.dashboard.factories import make_email

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])

NAMES = [*EmailFilter.base_filters, "before", "after", "view", "kind", "coming", "part", "images", "unknown"]
NASTY = [
    "", " ", "0", "-1", "1.5", "1e9", "9" * 40, str(2**63), str(2**63 - 1), "٣", "²", "½", "\x00", "%", "_", "'", '"',
    "\\", "<script>", "null", "None", "failed", "delivered", "today", "24h", "2026-02-30", "0001-01-01",
    "9999-12-31", "1970-01-01", "@", "a@b", "a@b.c", "@@", "ada@example.org", "😀", "\ud800", "\u202e", "x" * 3000,
    "f" * 32, "0" * 20 + "1", "[]", "{}", "a\r\nSet-Cookie: x=1",
]  # fmt: skip
VALUES = st.sampled_from(NASTY) | st.text(max_size=60)
QUERIES = st.dictionaries(st.sampled_from(NAMES), st.lists(VALUES, min_size=1, max_size=3), max_size=5)
ADDRESSES = [
    *(
        "/emails/",
        "/emails/columns/",
        "/emails/views/",
        "/users/",
        "/users/15093/",
        "/runs/",
        "/coverage/",
        "/",
    ),
    "/login/",
]


def encodable(params: dict[str, list[str]]) -> dict[str, list[bytes]]:
    return {
        name: [value.encode("utf-8", "surrogatepass") for value in values] for name, values in params.items()
    }


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(address=st.sampled_from(ADDRESSES), params=QUERIES)
def test_no_query_string_breaks_a_page(support: Client, address: str, params: dict[str, Any]) -> None:
    response = support.get(address, encodable(params))
    assert response.status_code in {200, 302}


@pytest.mark.parametrize("name", NAMES)
def test_no_single_nasty_value_breaks_the_emails(support: Client, name: str) -> None:
    make_email()
    for value in NASTY:
        assert support.get("/emails/", encodable({name: [value]})).status_code == 200, value


def test_a_filter_that_cannot_be_used_says_so_beside_itself(support: Client) -> None:
    page = support.get("/emails/?user=abc&date_from=2026-02-30&state=nonsense").content.decode()
    assert "A filter cannot be used" in page
    assert "Enter a whole number." in page
    assert "Enter a valid date." in page
    assert "nonsense is not one of the available choices" in page
