"""Handing back: the exact reverse of a claim, only while nothing of it has left."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from emailoffload.actions.release import release
from emailoffload.moodle import claims
from emailoffload.outbox import intents
from emailoffload.outbox.models import AuditEntry, Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker.recover_intents import recover_intents
from tests.claims.candidates import some
from tests.conftest import Moodle

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def claimed(moodle: Moodle, count: int) -> list[Claim]:
    stored = intents.intend(some(moodle, count), None)
    claims.apply(
        "reengagement",
        [claims.swap_of(c.source, c.row_id, c.before, c.after) for c in stored.claims.values()],
    )
    intents.settle([claim.pk for claim in stored.claims.values()], [])
    return list(Claim.objects.order_by("pk"))


def holds(claim: Claim, values: dict[str, int]) -> bool:
    return claims.values("reengagement", [claim.row_id])[claim.row_id] == (
        values["emailsent"],
        values["emailtime"],
        values["completed"],
    )


def test_a_released_row_holds_its_old_values_and_its_mails_are_moodles(moodle: Moodle) -> None:
    found = claimed(moodle, 3)
    outcomes = release([claim.pk for claim in found], actor="tester", reason="test")
    assert all(outcome.released for outcome in outcomes)
    assert all(holds(claim, claim.before) for claim in found)
    assert set(Email.objects.values_list("state", "route")) == {("released", "moodle")}
    assert set(Claim.objects.values_list("state", "intent_key")) == {("released", None)}
    assert AuditEntry.objects.filter(action="release", actor="tester", reason="test").count() == 3


@pytest.mark.parametrize(
    "state", [EmailState.SENDING, EmailState.UNCERTAIN, EmailState.ACCEPTED, EmailState.SENT_SMTP]
)
def test_a_claim_of_which_a_mail_has_or_may_have_left_is_not_released(
    moodle: Moodle, state: EmailState
) -> None:
    (claim,) = claimed(moodle, 1)
    Email.objects.update(state=state)
    (outcome,) = release([claim.pk], actor="tester", reason="")
    assert not outcome.released
    assert "left" in outcome.why_not
    assert holds(claim, claim.after)
    assert Claim.objects.get().state == ClaimState.CLAIMED


def test_a_mail_that_a_dispatcher_holds_is_not_released(moodle: Moodle) -> None:
    (claim,) = claimed(moodle, 1)
    Email.objects.update(lease="somebody", leased_until=timezone.now() + dt.timedelta(seconds=30))
    assert not release([claim.pk], actor="tester", reason="")[0].released
    assert Email.objects.get().lease == "somebody"


def test_a_row_that_somebody_changed_stays_ours_and_says_so(moodle: Moodle) -> None:
    (claim,) = claimed(moodle, 1)
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailsent = 9 WHERE id = %s", [claim.row_id])
    (outcome,) = release([claim.pk], actor="tester", reason="")
    assert not outcome.released
    assert "does not hold our values" in outcome.why_not
    assert Claim.objects.get().state == ClaimState.CLAIMED
    assert Email.objects.get().lease == ""
    assert AuditEntry.objects.get().action == "release_refused"


def test_what_moodle_would_drop_as_two_days_old_is_not_handed_back(moodle: Moodle) -> None:
    (claim,) = claimed(moodle, 1)
    Claim.objects.update(due_at=timezone.now() - dt.timedelta(days=2))
    assert "two days" in release([claim.pk], actor="tester", reason="")[0].why_not


@pytest.mark.parametrize("written", [True, False])
def test_a_release_that_was_cut_off_is_settled_by_moodles_row(moodle: Moodle, written: bool) -> None:
    (claim,) = claimed(moodle, 1)
    Claim.objects.update(state=ClaimState.RELEASING, settled_at=timezone.now())
    Email.objects.update(lease="r1", leased_until=timezone.now() + dt.timedelta(days=3650))
    if written:
        claims.apply(
            "reengagement", [claims.swap_of(claim.source, claim.row_id, claim.before, claim.after).reversed()]
        )
    recover_intents(timezone.now() + dt.timedelta(hours=1))
    expected = (
        (ClaimState.RELEASED, EmailState.RELEASED) if written else (ClaimState.CLAIMED, EmailState.QUEUED)
    )
    assert (Claim.objects.get().state, Email.objects.get().state) == expected
    assert Email.objects.get().lease == ""


def test_one_command_hands_back_many_with_a_bounded_number_of_queries(
    moodle: Moodle, django_assert_max_num_queries: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    found = claimed(moodle, 120)
    with django_assert_max_num_queries(26):
        release([claim.pk for claim in found[:100]], actor="tester", reason="")
    call_command("release", *[str(claim.pk) for claim in found[100:]], "--json")
    assert '"released": 20' in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1"):
        call_command("release", str(found[0].pk))
    assert "released, not claimed" in capsys.readouterr().out
