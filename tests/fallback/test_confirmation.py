"""Before a group of mails is acted upon, a page says exactly what will happen to how many; afterwards, what did."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from emailoffload.actions import fallbacks, release
from emailoffload.dashboard import fallbacks as pages
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from tests.dashboard.conftest import SignIn, sign_in, support
from tests.dashboard.factories import make_claim, make_email
from tests.queries import counted

__all__ = ["sign_in", "support"]
pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
ADDRESS = "/fallbacks/failed/?reason=held:deadline"


def failed(**changes: Any) -> Email:
    return make_email(EmailState.FAILED, **{"body": {}, "reason": "held:deadline"} | changes)


def confirmation(client: Client, action: str, *emails: Email) -> str:
    given = {"action": action, "email": [email.pk for email in emails]}
    return client.post(ADDRESS, given).content.decode()


def test_mails_of_the_same_claims_that_nobody_chose_are_told_of(support: Client) -> None:
    claim = make_claim()
    chosen, _sibling = failed(claim=claim), failed(claim=claim, role="copy", address="hr@example.org")
    page = confirmation(support, "moodle", chosen)
    assert "This concerns 1 mail." in page
    assert "1 more mail of the same claims goes back with them" in page


def test_afterwards_the_mails_that_went_along_are_told_of_too(
    support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = make_claim()
    chosen, _sibling = failed(claim=claim), failed(claim=claim, role="copy", address="hr@example.org")
    monkeypatch.setattr(
        release, "release", lambda ids, **given: [release.Released(number, True) for number in ids]
    )
    given = {"action": "moodle", "ids": str(chosen.pk), "confirm": "1", "reason": "SES refuses them"}
    page = support.post(ADDRESS, given).content.decode()
    assert "Done with 1 mail. 1 more mail of the same claims went back with them." in page


def test_what_cannot_go_back_is_told_of_before_with_the_reason(support: Client) -> None:
    claim = make_claim()
    barred, free = failed(claim=claim), failed()
    make_email(EmailState.ACCEPTED, claim, role="copy")
    page = confirmation(support, "moodle", barred, free)
    assert "This concerns 2 mails." in page
    assert "it will be done with 1 mail. Left alone are:" in page
    assert "1 · A mail of this claim has left, and Moodle would send it a second time." in page
    assert "more mail" not in page


def test_where_nothing_can_be_done_there_is_no_form_but_a_way_back(support: Client) -> None:
    page = confirmation(support, "retry", failed(body=None))
    assert "1 · What it said is no longer stored." in page
    assert 'name="confirm"' not in page
    assert "Back to the list" in page


@pytest.mark.parametrize("name", [name for name in fallbacks.ACTIONS if name != "moodle"])
def test_what_is_expected_is_what_happens(name: str, settings: Any) -> None:
    settings.SMTP_ROUTE = True
    state = next(iter(fallbacks.ACTIONS[name].states & {"failed", "uncertain"}))
    fine, empty = make_email(state, body={}), make_email(state)
    gone = make_email(state, body={})
    Claim.objects.filter(pk=gone.claim_id).update(state=ClaimState.RELEASED)
    held = make_email(state, body={}, lease="d1")
    moved = make_email(EmailState.DELIVERED, body={})
    ids = [email.pk for email in (fine, empty, gone, held, moved)]
    expected = fallbacks.expect(name, ids)
    done = fallbacks.act(name, ids, actor="anna", reason="x")
    assert (expected.done, sum(expected.refused.values())) == (done.done, sum(done.refused.values()))
    assert expected.done


def test_mails_that_moved_on_between_the_pages_are_counted_and_not_touched(support: Client) -> None:
    one, two = failed(), failed()
    ids = f"{one.pk},{two.pk}"
    Email.objects.filter(pk=two.pk).update(state=EmailState.QUEUED)
    later = failed()
    page = support.post(ADDRESS, {"action": "dismiss", "ids": ids, "confirm": "1", "reason": "told them"})
    text = page.content.decode()
    assert "Done with 1 mail." in text
    assert "1 · It has moved on meanwhile." in text
    later.refresh_from_db()
    assert later.state == "failed"


def test_a_form_that_is_sent_twice_says_that_nothing_is_done(support: Client) -> None:
    given = {"action": "dismiss", "ids": str(failed().pk), "confirm": "1", "reason": "told them"}
    support.post(ADDRESS, given)
    assert "the chosen mails have moved on meanwhile" in support.post(ADDRESS, given).content.decode()


def test_a_group_larger_than_one_request_says_that_more_stay(
    support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fallbacks, "MOST", 2)
    for _ in range(3):
        failed()
    page = support.post(ADDRESS, {"action": "retry", "all": "1"}).content.decode()
    assert "This concerns 2 mails." in page
    assert "the others stay on the list" in page


def test_numbers_beyond_the_cap_are_not_said_to_be_exact(
    support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "CAP", 2)
    for _ in range(3):
        failed()
    page = support.get("/fallbacks/").content.decode()
    assert "at least 3" in page
    assert "or before" in page
    assert 'href="/emails/?state=failed"' in page


def test_what_is_expected_of_many_costs_a_fixed_number_of_queries() -> None:
    ids = [failed().pk for _ in range(12)]
    with counted() as queries:
        assert fallbacks.expect("moodle", ids).done == 12
    assert queries["default"] <= 4


def test_without_fallbacks_the_page_leads_on(support: Client) -> None:
    make_email(EmailState.BOUNCED)
    page = support.get("/fallbacks/").content.decode()
    assert "Every mail went by the cloud" not in page
    assert "/emails/?state=problem&amp;state=not_sent" in page


@pytest.mark.parametrize(("role", "seen"), [("Support staff", True), ("Auditors", False)])
def test_a_mail_that_waits_for_a_person_can_be_decided_from_its_own_page(
    sign_in: SignIn, role: str, seen: bool
) -> None:
    client, email = sign_in(role), failed()
    page = client.get(f"/emails/{email.pk}/").content.decode()
    address = 'action="/fallbacks/failed/?reason=held%3Adeadline"'
    assert (address in page, "Mark as dealt with…" in page) == (seen, seen)
    if seen:
        given = {"action": "dismiss", "email": email.pk}
        asked = client.post("/fallbacks/failed/?reason=held%3Adeadline", given).content.decode()
        assert "This concerns 1 mail." in asked
        done = client.post(
            ADDRESS, {"action": "dismiss", "ids": email.pk, "confirm": "1", "reason": "told them"}
        )
        assert f'href="/emails/{email.pk}/"' in done.content.decode()


@pytest.mark.parametrize("state", ["queued", "delivered", "released", "cancelled"])
def test_a_mail_that_waits_for_nobody_offers_no_such_decision(support: Client, state: str) -> None:
    page = support.get(f"/emails/{make_email(state).pk}/").content.decode()
    assert "Mark as dealt with" not in page
