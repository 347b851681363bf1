"""Sending a mail again to the address that the learner has in Moodle today: only the recipient changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError

from emailoffload.actions import present as places
from emailoffload.actions.present import present
from emailoffload.actions.resend import Resent, resend
from emailoffload.moodle.models import User
from emailoffload.outbox import content
from emailoffload.outbox.models import AuditEntry, Claim, Content, Email
from emailoffload.outbox.states import EmailState
from tests.conftest import Moodle
from tests.dashboard.factories import make_suppression
from tests.outbox.factory import queue_email

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
S = EmailState
LEARNER = 3
"""A user of the real site."""


def stored(**columns: Any) -> Email:
    """A bounced email about a user whom Moodle has, at an address that they had once."""
    email = queue_email(
        email={"state": S.BOUNCED, "recipient_id": LEARNER, "address": "once@example.org", **columns}
    )
    Claim.objects.filter(pk=email.claim_id).update(user_id=LEARNER)
    return email


def now_in_moodle() -> tuple[str, str]:
    return User.objects.filter(pk=LEARNER).values_list("email", "firstname")[0]


def moved(email: Email, agreed: str = "") -> Resent:
    (outcome,) = resend([email.pk], actor="sam", reason="new address", to_present={email.pk: agreed})
    return outcome


def test_the_copy_goes_to_the_present_address_and_says_what_the_first_said() -> None:
    email, (address, firstname) = stored(), now_in_moodle()
    copy = Email.objects.get(pk=moved(email, address.upper()).new_id)
    assert (copy.address, copy.state, copy.resend_of_id) == (address, S.QUEUED, email.pk)
    assert copy.name.startswith(firstname)
    first, second = (content.open_(Content.objects.get(pk=pk)) for pk in (email.pk, copy.pk))
    assert (second.to_address, second.to_name) == (copy.address, copy.name)
    for part in ("from_address", "from_name", "reply_to_address", "subject", "text", "html", "attachments"):
        assert getattr(first, part) == getattr(second, part)


def test_the_audit_log_says_that_it_went_elsewhere_and_names_no_address() -> None:
    email = stored()
    outcome = moved(email)
    entry = AuditEntry.objects.get()
    assert entry.details == {"new_email": outcome.new_id, "to": "present"}
    assert now_in_moodle()[0] not in json.dumps(entry.details)


def test_an_address_that_changed_once_more_is_not_written_to_unseen() -> None:
    email = stored()
    assert "changed once more meanwhile" in moved(email, "seen@example.org").why_not
    assert not Email.objects.filter(resend_of=email).exists()


def test_a_suppressed_former_address_does_not_bar_the_present_one() -> None:
    email = stored()
    make_suppression(address=email.address)
    (same,) = resend([email.pk], actor="sam", reason="x")
    assert "suppressed" in same.why_not
    assert moved(email).new_id


def test_a_suppressed_present_address_bars() -> None:
    email = stored()
    make_suppression(address=now_in_moodle()[0].lower())
    assert "suppressed" in moved(email).why_not


@pytest.mark.parametrize("role", ["manager", "thirdparty", "copy"])
def test_only_the_mail_to_the_learner_follows_them(role: str) -> None:
    assert "Only the mail to the learner" in moved(stored(role=role)).why_not


def test_a_second_click_makes_no_second_copy() -> None:
    email = stored()
    moved(email)
    assert "being sent again already" in moved(email).why_not
    assert Email.objects.filter(resend_of=email).count() == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("UPDATE mdl_user SET deleted = 1 WHERE id = 3", "not in Moodle any more"),
        ("DELETE FROM mdl_user WHERE id = 3", "not in Moodle any more"),
        ("UPDATE mdl_user SET email = '' WHERE id = 3", "none that a mail can go to"),
        ("UPDATE mdl_user SET email = 'a@b.invalid' WHERE id = 3", "none that a mail can go to"),
        ("UPDATE mdl_user SET email = 'a@b.org, c@d.org' WHERE id = 3", "none that a mail can go to"),
        ("REPLACE INTO mdl_config (name, value) VALUES ('divertallemailsto', 'x@example.org')", "diverts"),
    ],
)
def test_where_there_is_no_present_address_it_says_why(moodle: Moodle, change: str, why: str) -> None:
    email = stored()
    moodle.execute(change)
    assert why in moved(email).why_not
    assert not Email.objects.filter(resend_of=email).exists()


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError])
def test_while_moodle_is_away_no_present_address_is_known(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def away() -> None:
        raise kind("gone")

    monkeypatch.setattr(places, "load_site", away)
    email = stored()
    assert "Moodle does not answer now" in moved(email).why_not
    (same,) = resend([email.pk], actor="sam", reason="x")
    assert same.new_id


def test_many_are_looked_up_with_few_queries(django_assert_max_num_queries: Any) -> None:
    emails = [stored() for _ in range(5)]
    with django_assert_max_num_queries(25, using="moodle"):
        assert len({place.address for place in present(emails).values()}) == 1
