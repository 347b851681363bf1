"""Rows left to Moodle: which, why, page by page, whose."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from emailoffload.dashboard import left
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.states import ClaimState
from tests.dashboard.conftest import SignIn
from tests.dashboard.factories import make_claim
from tests.dashboard.test_overview import count, make_left

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])


def text(client: Client, address: str = "/left/") -> str:
    response = client.get(address)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def test_a_row_says_whose_it_is_when_it_was_due_and_why_it_stayed(support: Client) -> None:
    make_left(detail="Nothing to add", template="user_create", source="iomad_queue", row_id=4711)
    page = text(support)
    assert "1 row found" in page and 'href="/users/15093/"' in page and "Row 4711" in page
    assert "The user is no longer an active learner of the course" in page
    assert "Nothing to add" in page and "New account" in page


def test_reasons_are_listed_with_their_numbers_and_lead_to_their_rows(support: Client) -> None:
    for _number in range(3):
        make_left(reason="too_late")
    make_left()
    count()
    page = text(support)
    first, second = page.index("more than two days overdue"[1:]), page.index("no longer an active learner")
    assert first < second and '?reason=too_late"' in page
    only = text(support, "/left/?reason=too_late")
    assert "3 rows found" in only and "Show all reasons" in only and 'aria-current="true"' in only


def test_the_list_is_of_the_moments_that_the_address_names(support: Client) -> None:
    now = timezone.now()
    for hours in (1, 5, 30):
        make_left(first_seen=now - timedelta(hours=hours))
    assert "2 rows found" in text(support)
    assert "3 rows found" in text(support, "/left/?when=7d")
    since = f"{now - timedelta(hours=6):%Y-%m-%dT%H:%M}Z"
    until = f"{now - timedelta(hours=4):%Y-%m-%dT%H:%M}Z"
    assert "1 row found" in text(support, f"/left/?since={since}&until={until}")
    assert "2 rows found" in text(support, "/left/?since=nonsense&until=9999999999999999")
    ends = "since=0001-01-01T00:00:00%2B14:00&until=9999-12-31T23:59:59-14:00"
    assert "2 rows found" in text(support, f"/left/?{ends}")


def test_rows_go_by_key_from_page_to_page(support: Client) -> None:
    rows = [make_left(user_id=70_000 + number) for number in range(120)]
    first = text(support)
    assert "120 rows found" in first and "User 70119" in first and "User 70069" not in first
    second = text(support, f"/left/?before={rows[70].pk}")
    assert "User 70069" in second and "User 70070" not in second


def test_rows_that_moodle_took_first_are_a_list_of_their_own(support: Client) -> None:
    make_claim(state=ClaimState.LOST, row_id=815, user_name="Ada Lovelace")
    make_claim()
    make_left()
    page = text(support, "/left/?show=lost")
    assert "1 row found" in page and "Row 815" in page and "Moodle was faster" in page


@pytest.mark.parametrize(
    ("address", "words"),
    [("/left/", "No row was left to Moodle in this period."), ("/left/?reason=x", "for this reason"),
     ("/left/?show=lost", "Moodle was never faster")],
)  # fmt: skip
def test_an_empty_list_says_so_and_what_to_do(support: Client, address: str, words: str) -> None:
    assert words in text(support, address) and "Choose other days above" in text(support, address)


def test_people_of_companies_see_rows_of_those_only(bound: Client) -> None:
    make_left(user_id=15093)
    make_left(company_id=5, user_id=40_001)
    make_left(company_id=None, user_id=40_002)
    make_claim(state=ClaimState.LOST, company_id=5, user_id=40_003)
    count()
    page = text(bound)
    assert "1 row found" in page and "User 15093" in page and "4000" not in page
    assert "0 rows found" in text(bound, "/left/?company=5")
    assert "4000" not in text(bound, "/left/?show=lost")


def test_who_may_not_see_the_rows_sees_their_number_without_a_link(sign_in: SignIn) -> None:
    from django.contrib.auth.models import Group, Permission

    make_left()
    count()
    staff = Group.objects.get(name="Support staff")
    staff.permissions.remove(Permission.objects.get(codename="view_leftrow"))
    client = sign_in("Support staff")
    assert "Left to Moodle" in text(client, "/") and 'href="/left/' not in text(client, "/")
    refused = client.get("/left/")
    assert refused.status_code == 403 and "what was left to Moodle" in refused.content.decode()


def test_the_page_costs_the_same_however_many_rows_there_are(
    support: Client, django_assert_num_queries: Any, django_assert_max_num_queries: Any
) -> None:
    make_left()
    text(support)
    with django_assert_max_num_queries(18) as first:
        text(support)
    now = timezone.now()
    LeftRow.objects.bulk_create(
        LeftRow(
            source="reengagement",
            row_id=5000 + n,
            due_at=now,
            reason="too_late",
            first_seen=now,
            last_seen=now,
        )
        for n in range(200)
    )
    with django_assert_num_queries(len(first)):
        text(support)


def test_of_a_long_period_a_page_looks_at_a_bounded_number_of_rows(
    support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left, "WALK", 4)
    old = make_left(reason="too_late")
    others = [make_left() for _number in range(8)]
    count()
    page = support.get("/left/?reason=too_late")
    assert page.context["count"].value == 1 and not page.context["page"].rows
    assert "Only rows seen first since" in page.content.decode()
    assert page.context["older"] == f"?reason=too_late&before={others[-1].pk - 3}"
    steps, address = 0, page.context["older"]
    while not page.context["page"].rows:
        page, steps = support.get(f"/left/{address}"), steps + 1
        address = page.context["older"]
    assert [row.pk for row in page.context["page"].rows] == [old.pk]
    assert steps == 2 and not address
    back = support.get(f"/left/?reason=too_late&after={old.pk}")
    assert back.context["newer"] == f"?reason=too_late&after={old.pk + 4}"
    assert len(support.get("/left/").context["page"].rows) == 4
