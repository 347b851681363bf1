"""The list of emails: every filter, chips, and what htmx gets of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.utils import timezone

from emailoffload.dashboard import walk
from emailoffload.dashboard.filters import GROUPS
from emailoffload.outbox.states import EmailState
from tests.dashboard.factories import make_claim, make_email

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
HTMX = {"HX-Request": "true", "HX-Target": "results"}


def shown(client: Client, query: str) -> list[int]:
    response = client.get(f"/emails/?{query}")
    assert response.status_code == 200
    return [email.pk for email in response.context["page"].rows]


def test_each_state_belongs_to_one_group() -> None:
    states = [state for _label, states in GROUPS.values() for state in states]
    assert sorted(states) == sorted(EmailState)
    assert not set(GROUPS) & set(EmailState)


@pytest.mark.parametrize("group", list(GROUPS))
def test_a_group_of_states_is_a_filter(support: Client, group: str) -> None:
    emails = {state: make_email(state).pk for state in EmailState}
    assert set(shown(support, f"state={group}")) == {emails[state] for state in GROUPS[group][1]}


def test_a_route_is_a_filter(support: Client) -> None:
    make_email()
    mine = make_email(route="smtp")
    assert shown(support, "route=smtp") == [mine.pk]


@pytest.mark.parametrize(
    "write", ["{0:%Y-%m-%dT%H:%M:%S}Z", "{0:%Y-%m-%dT%H:%M:%S}+00:00", "{0:%Y-%m-%d %H:%M}"]
)
@pytest.mark.parametrize("encoded", [True, False])
def test_links_of_charts_show_the_emails_of_their_hour_alone(
    support: Client, write: str, encoded: bool
) -> None:
    hour = (timezone.now() - timedelta(days=3)).replace(minute=0, second=0, microsecond=0)
    make_email(created_at=hour - timedelta(seconds=1))
    first, last = make_email(created_at=hour), make_email(created_at=hour + timedelta(minutes=59))
    make_email(created_at=hour + timedelta(hours=1))
    params = {"since": write.format(hour), "until": write.format(hour + timedelta(hours=1))}
    query = urlencode(params) if encoded else "&".join(f"{name}={value}" for name, value in params.items())
    assert shown(support, query) == [last.pk, first.pk]


def test_yesterday_ends_at_midnight(support: Client) -> None:
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    make_email(created_at=midnight)
    mine = make_email(created_at=midnight - timedelta(seconds=1))
    make_email(created_at=midnight - timedelta(days=2))
    assert shown(support, "when=yesterday") == [mine.pk]


@pytest.mark.parametrize("kind", ["course", "activity"])
def test_a_course_and_an_activity_are_found_by_name_and_by_number(support: Client, kind: str) -> None:
    mine = make_email(claim=make_claim(**{f"{kind}_id": 4711, f"{kind}_name": "Ladder <safety>"}))
    make_email()
    assert shown(support, f"{kind}=4711") == shown(support, f"{kind}=ladder") == [mine.pk]
    page = support.get(f"/emails/?{kind}=ladder").content.decode()
    assert f"Mails of Ladder &lt;safety&gt; ({kind} 4711)." in page
    nothing = support.get(f"/emails/?{kind}=zzzz").content.decode()
    assert f"No {kind} has “zzzz” in its name." in nothing


def test_every_filter_that_is_set_has_a_chip_that_takes_it_away(support: Client) -> None:
    make_email()
    response = support.get("/emails/?q=Please&state=problem&state=accepted&role=user&when=7d&before=999999")
    chips = {(chip.label, chip.value): chip.without for chip in response.context["chips"]}
    assert chips == {
        ("Search", "Please"): "?when=7d&role=user&state=problem&state=accepted",
        ("Rendered", "in the last 7 days"): "?q=Please&role=user&state=problem&state=accepted",
        ("Recipient", "Learner"): "?q=Please&when=7d&state=problem&state=accepted",
        ("State", "Problem"): "?q=Please&when=7d&role=user&state=accepted",
        ("State", "accepted"): "?q=Please&when=7d&role=user&state=problem",
    }
    only = support.get("/emails/?role=user").context["chips"]
    assert [chip.without for chip in only] == ["?view=0"]


def test_a_search_that_looked_at_a_part_says_so_and_leads_further(
    support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = make_claim()
    old = make_email(claim=claim, subject="Ladder check")
    for _ in range(6):
        make_email(claim=claim)
    monkeypatch.setattr(walk, "SWEEP", 3)
    response = support.get("/emails/?q=ladder")
    page = response.content.decode()
    assert "were looked at" in page
    assert "Look further back" in page
    assert "0 emails found so far" in page
    for _page in range(2):
        response = support.get("/emails/" + response.context["older"])
    assert [email.pk for email in response.context["page"].rows] == [old.pk]
    assert "Look further back" not in response.content.decode()


def test_htmx_gets_the_results_the_number_and_a_tidy_address(support: Client) -> None:
    make_email(EmailState.FAILED)
    make_email()
    response = support.get("/emails/?q=&state=failed&when=&route=", headers=HTMX)
    page = response.content.decode()
    assert response["HX-Push-Url"] == "/emails/?state=failed"
    assert "<html" not in page
    assert '<form class="filters' not in page
    assert page.count('class="subject"') == 1
    assert 'id="found" hx-swap-oob="innerHTML">1 email found\n</p>' in page
    assert support.get("/emails/?q=", headers=HTMX)["HX-Push-Url"] == "/emails/?view=0"


def test_htmx_is_told_which_filter_cannot_be_used(support: Client) -> None:
    page = support.get("/emails/?user=abc", headers=HTMX).content.decode()
    assert "About user (id): Enter a whole number." in page


def test_the_number_of_results_is_announced(support: Client) -> None:
    make_email()
    assert (
        '<p class="count" id="found" role="status">1 email\n</p>' in support.get("/emails/").content.decode()
    )


@pytest.mark.parametrize(
    "query",
    [
        "q=Please",
        "q=company:+north",
        "state=problem&state=arrived",
        "role=user&since=2026-01-01T00:00:00Z",
        "course=fire",
    ],
)
def test_a_list_costs_a_bounded_number_of_queries_whatever_it_finds(
    support: Client, query: str, django_assert_max_num_queries: Any
) -> None:
    for _ in range(60):
        make_email(claim=make_claim())
    with django_assert_max_num_queries(26):
        support.get(f"/emails/?{query}")


@pytest.mark.parametrize(
    "wrong", ["since=yesterday", "until=0001-01-01T00:00:00Z", "since=9999-12-31T23:59:59-12:00"]
)
def test_a_moment_that_is_none_is_an_error_of_the_form(support: Client, wrong: str) -> None:
    assert "A filter cannot be used." in support.get(f"/emails/?{wrong}").content.decode()
