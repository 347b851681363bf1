"""Settling touches the claims it is given, of those what is still open, and says so to whoever counts."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from emailoffload.outbox import intents
from emailoffload.outbox.figures import CLAIMS, EMAILS, LEFT, HourChange, LeftRow
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from tests.claims.candidates import some
from tests.conftest import Moodle

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def intended(moodle: Moodle, count: int) -> list[Claim]:
    """Claims that are intended, of so many rows."""
    stored = intents.intend(some(moodle, count), None)
    return list(Claim.objects.filter(pk__in=[claim.pk for claim in stored.claims.values()]).order_by("pk"))


def noted() -> set[str]:
    """What has hours that are to be counted anew; forgotten by that."""
    kinds = set(HourChange.objects.values_list("kind", flat=True))
    HourChange.objects.all().delete()
    return kinds


def states() -> tuple[list[str], list[str]]:
    """The states of all claims, and of all mails, in their order."""
    return (
        list(Claim.objects.order_by("pk").values_list("state", flat=True)),
        list(Email.objects.order_by("claim_id").values_list("state", flat=True)),
    )


def test_a_claim_that_is_won_says_when_and_so_does_its_mail(moodle: Moodle) -> None:
    (claim,) = intended(moodle, 1)
    noted()
    long_ago = timezone.now() - dt.timedelta(days=1)
    Email.objects.update(state_at=long_ago)
    before = timezone.now()
    with CaptureQueriesContext(connection) as queries:
        assert intents.settle([claim.pk], []) == 1
    claim.refresh_from_db()
    assert claim.claimed_at is not None
    assert claim.claimed_at >= before
    # Where all are won, as nearly always, no claim is looked at one by one.
    assert not [q for q in queries if "'dropped'" in q["sql"]]
    (mails,) = [q["sql"] for q in queries if q["sql"].startswith("UPDATE `emailoffload_email`")]
    assert "emailoffload_claim" not in mails
    assert Email.objects.get().state_at == claim.claimed_at
    assert noted() == {CLAIMS, EMAILS}


def test_what_was_settled_or_belongs_to_others_is_left_as_it_is(moodle: Moodle) -> None:
    won, dropped, lost, _others = intended(moodle, 4)
    Claim.objects.filter(pk=lost.pk).update(state=ClaimState.LOST)
    intents.drop([dropped.pk], "")
    with CaptureQueriesContext(connection) as queries:
        assert intents.settle([won.pk, lost.pk], []) == 1
    assert states() == (
        ["claimed", "dropped", "lost", "intended"],
        ["queued", "prepared", "prepared", "prepared"],
    )
    # Whoever wakes a dropped claim holds it, so that recovery cannot forget its mails meanwhile.
    (look,) = [q["sql"] for q in queries if q["sql"].startswith("SELECT") and "'dropped'" in q["sql"]]
    assert look.endswith("FOR UPDATE")

    claimed_at = Claim.objects.get(pk=won.pk).claimed_at
    Email.objects.filter(claim=won).update(state=EmailState.ACCEPTED)
    assert intents.settle([won.pk], []) == 0
    assert states()[1][0] == "accepted"
    assert Claim.objects.get(pk=won.pk).claimed_at == claimed_at


def test_a_claim_that_is_lost_takes_what_was_prepared_with_it_and_nothing_else(moodle: Moodle) -> None:
    open_, claimed = intended(moodle, 2)
    intents.settle([claimed.pk], [])
    noted()
    before = timezone.now()
    assert intents.settle([], [open_.pk, claimed.pk]) == 0
    assert states() == (["lost", "claimed"], ["queued"])
    open_.refresh_from_db()
    assert open_.settled_at is not None
    assert open_.settled_at >= before
    assert open_.intent_key is None
    assert noted() == {CLAIMS, EMAILS}


def left(claim: Claim, **more: Any) -> LeftRow:
    """The record that this claim's row was left to Moodle."""
    now = timezone.now()
    values = {"source": claim.source, "row_id": claim.row_id, "due_at": claim.due_at, **more}
    return LeftRow.objects.create(reason="claims_paused", first_seen=now, last_seen=now, **values)


def test_a_row_that_is_claimed_is_no_longer_told_as_left_to_moodle_and_every_other_still_is(
    moodle: Moodle,
) -> None:
    won, other, lost = intended(moodle, 3)
    Claim.objects.filter(pk=lost.pk).update(state=ClaimState.LOST)
    intents.settle([other.pk], [])
    gone = left(won)
    stay = [
        left(won, source="iomad_queue"),
        left(won, due_at=won.due_at - dt.timedelta(seconds=60)),
        left(other),
        left(lost),
    ]
    noted()
    with CaptureQueriesContext(connection) as queries:
        intents.settle([won.pk, lost.pk], [])
    assert not LeftRow.objects.filter(pk=gone.pk).exists()
    assert set(LeftRow.objects.values_list("pk", flat=True)) == {row.pk for row in stay}
    assert LEFT in noted()
    # However many records there are, only those of the source's rows in question are read.
    (look,) = [q["sql"] for q in queries if q["sql"].startswith("SELECT") and "leftrow" in q["sql"]]
    assert "`source` = 'reengagement'" in look
    assert f"`row_id` IN ({won.row_id})" in look


def test_where_no_row_was_left_nothing_is_deleted(moodle: Moodle) -> None:
    (claim,) = intended(moodle, 1)
    noted()
    with CaptureQueriesContext(connection) as queries:
        intents.settle([claim.pk], [])
    assert not [q for q in queries if q["sql"].startswith("DELETE") and "leftrow" in q["sql"]]
    assert LEFT not in noted()


def restored(ids: list[int]) -> tuple[set[int], list[int]]:
    """Give claims up: those that are others' by now, and those whose row was to be put back."""
    asked: list[int] = []
    return intents.give_up(ids, asked.extend), asked


def test_who_gives_up_puts_back_the_rows_that_are_its_own_and_loses_no_other_claim(moodle: Moodle) -> None:
    first, dropped, claimed, others = intended(moodle, 4)
    intents.drop([dropped.pk], "")
    intents.settle([claimed.pk], [])
    with CaptureQueriesContext(connection) as queries:
        assert restored([dropped.pk, first.pk, claimed.pk]) == ({claimed.pk}, [first.pk, dropped.pk])
    assert states() == (["lost", "lost", "claimed", "intended"], ["queued", "prepared"])
    assert Claim.objects.get(pk=others.pk).intent_key
    # Held until the rows are put back, in the order that every process keeps.
    looks = [q["sql"] for q in queries if q["sql"].startswith("SELECT")]
    assert looks[0].endswith("ORDER BY `emailoffload_claim`.`id` ASC FOR UPDATE")
    assert all(sql.endswith("FOR UPDATE") for sql in looks if "intent_key` = " in sql)


@pytest.mark.parametrize("successor", [True, False])
def test_a_dropped_row_is_put_back_unless_another_process_claims_it_with_the_same_values(
    moodle: Moodle, successor: bool
) -> None:
    (unrelated, dropped) = intended(moodle, 2)
    # Another row's claim, made earlier, with the same values: it says nothing about this row.
    Claim.objects.filter(pk=unrelated.pk).update(after=dropped.after)
    intents.drop([dropped.pk], "")
    if successor:
        intents.intend(some(moodle, 2)[1:], None)
    assert restored([dropped.pk]) == (set(), [] if successor else [dropped.pk])


def test_of_two_processes_with_the_same_values_the_one_with_the_key_has_the_row(moodle: Moodle) -> None:
    (dropped,) = intended(moodle, 1)
    intents.drop([dropped.pk], "")
    (successor,) = intended(moodle, 1)
    with CaptureQueriesContext(connection) as queries:
        assert intents.settle([dropped.pk], []) == 0
    assert states() == (["lost", "intended"], ["prepared"])
    dropped.refresh_from_db()
    assert (dropped.note, dropped.claimed_at) == ("another process holds this row", None)
    assert Claim.objects.get(pk=successor.pk).intent_key
    (look,) = [q["sql"] for q in queries if q["sql"].startswith("SELECT") and "intent_key` = " in q["sql"]]
    assert look.endswith("FOR UPDATE")


def test_a_claim_that_wakes_has_its_key_again_and_is_changed_in_nothing_else(moodle: Moodle) -> None:
    (claim,) = intended(moodle, 1)
    intents.drop([claim.pk], "nobody at work")
    dropped = Claim.objects.get()
    assert (dropped.note, dropped.intent_key) == ("nobody at work", None)
    with CaptureQueriesContext(connection) as queries:
        assert intents.settle([claim.pk], []) == 1
    woken = Claim.objects.get()
    assert (woken.state, woken.intent_key, woken.settled_at) == ("claimed", claim.intent_key, None)
    assert woken.note == "claimed by a process that was thought dead"
    assert woken.claimed_at is not None
    updates = [q["sql"] for q in queries if q["sql"].startswith("UPDATE `emailoffload_claim`")]
    assert not [sql for sql in updates if "`before` =" in sql]


def test_only_what_is_intended_is_dropped_and_its_hour_counted_with_it_or_not_at_all(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(ids: object) -> None:
        raise RuntimeError

    open_, claimed = intended(moodle, 2)
    intents.settle([claimed.pk], [])
    with monkeypatch.context() as patch:
        patch.setattr(intents.hourchanges, "claims", broken)
        with pytest.raises(RuntimeError):
            intents.drop([open_.pk], "")
    assert states()[0] == ["intended", "claimed"]
    assert intents.drop([open_.pk, claimed.pk], "") == 1
    assert states()[0] == ["dropped", "claimed"]


def test_of_claims_dropped_long_ago_what_was_prepared_is_forgotten_and_its_hour_counted_anew(
    moodle: Moodle,
) -> None:
    old, young, odd, open_ = intended(moodle, 4)
    intents.drop([old.pk, young.pk, odd.pk], "")
    now = timezone.now()
    Claim.objects.filter(pk__in=[old.pk, odd.pk]).update(settled_at=now - dt.timedelta(hours=2))
    Claim.objects.filter(pk=open_.pk).update(settled_at=now - dt.timedelta(hours=2))
    Email.objects.filter(claim=odd).update(state=EmailState.FAILED)
    noted()
    assert intents.forget_dropped(now - dt.timedelta(hours=1)) == 1
    assert not Email.objects.filter(claim=old).exists()
    assert Email.objects.count() == 3
    assert noted() == {EMAILS}


def test_a_mail_that_is_queued_while_its_claim_is_being_forgotten_stays(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten, woken = intended(moodle, 2)
    intents.drop([forgotten.pk, woken.pk], "")
    note = intents.hourchanges.emails

    def wake(ids: list[int]) -> None:
        assert connection.in_atomic_block, "a count between this note and the deletion would miss it"
        Email.objects.filter(claim=woken).update(state=EmailState.QUEUED)
        note(ids)

    monkeypatch.setattr(intents.hourchanges, "emails", wake)
    intents.forget_dropped(timezone.now())
    assert Email.objects.get().claim_id == woken.pk


def test_what_is_forgotten_at_once_is_bounded(moodle: Moodle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intents, "_FORGET_AT_ONCE", 2)
    intents.drop([claim.pk for claim in intended(moodle, 3)], "")
    assert intents.forget_dropped(timezone.now()) == 2
    assert Email.objects.count() == 1
