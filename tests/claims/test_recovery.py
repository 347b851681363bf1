"""Recovery settles what was left half done long enough ago, as Moodle's rows tell, and touches nothing else."""

from __future__ import annotations

import datetime as dt
import logging
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from emailoffload.moodle import claims
from emailoffload.moodle.errors import MoodleProblem
from emailoffload.outbox import intents
from emailoffload.outbox.figures import CLAIMS, EMAILS
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import late_claims, recover_intents
from tests.claims.candidates import some
from tests.claims.test_settle import noted, states
from tests.conftest import Moodle

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
IDLE = dict.fromkeys(
    ("claimed", "dropped", "lost", "woken", "undone", "unclear", "released", "unreleased"), 0
)


def intended(moodle: Moodle, count: int) -> list[Claim]:
    """Claims that were intended an hour ago."""
    intents.intend(some(moodle, count), None)
    Claim.objects.update(created_at=timezone.now() - dt.timedelta(hours=1))
    return list(Claim.objects.order_by("pk"))


def make(*made: Claim) -> None:
    """Write the claims' values into Moodle's rows."""
    claims.apply("reengagement", [claims.swap_of(c.source, c.row_id, c.before, c.after) for c in made])


def gone(moodle: Moodle, claim: Claim) -> None:
    """Delete a claim's row so that nobody can tell who has mailed it (`traces`)."""
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE id = %s", [claim.row_id])
    past = timezone.now() - dt.timedelta(minutes=1)
    Claim.objects.filter(pk=claim.pk).update(due_at=past, completiontime=int(past.timestamp()))


def releasing(moodle: Moodle, count: int) -> list[Claim]:
    """Claims whose hand-back was cut off an hour ago, before Moodle's rows were touched."""
    mine = intended(moodle, count)
    make(*mine)
    ids = [claim.pk for claim in mine]
    intents.settle(ids, [])
    now = timezone.now()
    Claim.objects.update(state=ClaimState.RELEASING, settled_at=now - dt.timedelta(hours=1))
    Email.objects.update(lease="r1", leased_until=now + dt.timedelta(days=3650))
    return mine


def settled(**counts: int) -> dict[str, int]:
    return {**IDLE, **counts}


@contextmanager
def selects() -> Iterator[list[str]]:
    """The SELECT statements of a block on claims that are open, once it is over."""
    found: list[str] = []
    with CaptureQueriesContext(connection) as queries:
        yield found
    looks = r"SELECT .* FROM `emailoffload_claim` .*`state` = '(intended|dropped|releasing)'"
    found += [q["sql"] for q in queries if re.match(looks, q["sql"])]


def test_what_was_settled_is_said_once_by_numbers_and_nothing_is_said_of_nothing(
    moodle: Moodle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, recover_intents.__name__)
    made, _ = intended(moodle, 2)
    make(made)
    assert recover_intents.recover_intents() == settled(claimed=1, dropped=1)
    (record,) = caplog.records
    assert record.getMessage().endswith("left half done: claimed 1, dropped 1.")
    caplog.clear()
    assert recover_intents.recover_intents() == IDLE
    assert not caplog.records


def test_where_moodles_rows_cannot_be_relied_on_nothing_is_settled(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older() -> None:
        raise MoodleProblem("It is older than what we wrote.", "Wait.")

    intended(moodle, 1)
    monkeypatch.setattr(recover_intents.trust, "require", older)
    with pytest.raises(MoodleProblem):
        recover_intents.recover_intents()
    assert states()[0] == ["intended"]


def test_claims_that_are_settled_are_not_judged_by_their_rows_again(moodle: Moodle) -> None:
    mine = intended(moodle, 5)
    ids = [claim.pk for claim in mine]
    intents.settle(ids, [])
    for claim in mine:
        gone(moodle, claim)
    rest = (ClaimState.CLAIMED, ClaimState.LOST, ClaimState.RELEASED, ClaimState.CLAIMED, ClaimState.RELEASED)
    for pk, state in zip(ids, rest, strict=True):
        Claim.objects.filter(pk=pk).update(
            state=state, settled_at=timezone.now() - dt.timedelta(hours=1), created_at="2026-01-01T00:00Z"
        )
    before = states()
    assert recover_intents.recover_intents() == IDLE
    assert states() == before


def test_each_look_is_at_a_bounded_number_the_oldest_first(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recover_intents, "BATCH", 2)
    intended(moodle, 3)
    with selects() as looks:
        assert recover_intents.recover_intents() == settled(dropped=2)
    assert states()[0] == ["dropped", "dropped", "intended"]
    assert len(looks) == 3
    for look, state in zip(looks, ("intended", "dropped", "releasing"), strict=True):
        assert f"`state` = '{state}'" in look
        assert look.endswith("ORDER BY `emailoffload_claim`.`id` ASC LIMIT 2")


def test_of_doubtful_intents_only_those_whose_row_was_written_are_undone(moodle: Moodle) -> None:
    written, untouched = intended(moodle, 2)
    now = int(timezone.now().timestamp())
    for claim in (written, untouched):
        claim.after["emailtime"] = now + 90000
        claim.completiontime, claim.note = now + 90000, late_claims.DOUBTFUL
        claim.due_at = timezone.now() - dt.timedelta(minutes=1)
        claim.save()
    make(written)
    assert recover_intents.recover_intents() == settled(claimed=0, undone=1, dropped=1)
    assert states()[0] == ["lost", "dropped"]
    assert claims.values(written.source, [written.row_id])[written.row_id] == claims.values_of(
        written.source, written.before
    )


@pytest.mark.parametrize("begun", ["intended", "releasing"])
def test_what_nobody_can_tell_is_settled_and_held_for_a_person_at_once_or_not_at_all(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    def broken(ids: set[int]) -> None:
        if ids:
            raise RuntimeError

    (claim,) = intended(moodle, 1) if begun == "intended" else releasing(moodle, 1)
    gone(moodle, claim)
    with monkeypatch.context() as patch:
        patch.setattr(recover_intents, "_leave_to_a_person", broken)
        with pytest.raises(RuntimeError):
            recover_intents.recover_intents()
    assert states()[0] == [begun]
    before = timezone.now()
    noted()
    unclear = settled(unclear=1, claimed=1) if begun == "intended" else settled(unclear=1, unreleased=1)
    assert recover_intents.recover_intents() == unclear
    email = Email.objects.get()
    assert (email.state, email.reason, email.lease) == ("failed", recover_intents.UNCLEAR, "")
    assert email.state_at >= before
    assert noted() == {CLAIMS, EMAILS}


def test_held_for_a_person_is_what_waits_of_these_claims_and_in_nobodys_hands(moodle: Moodle) -> None:
    waits, failed, leased, sent, lost, others = intended(moodle, 6)
    mine = [claim.pk for claim in (waits, failed, leased, sent, lost)]
    intents.settle([*mine, others.pk], [])
    Claim.objects.filter(pk=lost.pk).update(state=ClaimState.LOST)
    Email.objects.filter(claim=failed).update(state=EmailState.FAILED)
    Email.objects.filter(claim=sent).update(state=EmailState.DELIVERED)
    Email.objects.filter(claim=leased).update(lease="worker")
    noted()
    recover_intents._leave_to_a_person(mine)
    assert states()[1] == ["failed", "failed", "queued", "delivered", "queued", "queued"]
    held = Email.objects.filter(reason=recover_intents.UNCLEAR).values_list("claim_id", flat=True)
    assert set(held) == {waits.pk, failed.pk}
    assert noted() == {EMAILS}


def test_a_dropped_claim_is_watched_for_an_hour_and_not_longer(moodle: Moodle) -> None:
    early, late = intended(moodle, 2)
    intents.drop([early.pk, late.pk], "")
    now = timezone.now()
    ages = {early: dt.timedelta(minutes=61), late: dt.timedelta(minutes=59)}
    for claim, age in ages.items():
        Claim.objects.filter(pk=claim.pk).update(settled_at=now - age)
    make(early, late)
    assert recover_intents.recover_intents(now) == settled(woken=1)
    assert states() == (["dropped", "claimed"], ["queued"])


def test_a_hand_back_in_progress_belongs_to_its_process_and_one_cut_off_is_ended_by_the_row(
    moodle: Moodle,
) -> None:
    running, _, back = releasing(moodle, 3)
    Claim.objects.filter(pk=running.pk).update(settled_at=timezone.now())
    claims.apply(
        "reengagement", [claims.swap_of(back.source, back.row_id, back.before, back.after).reversed()]
    )
    assert recover_intents.recover_intents() == settled(released=1, unreleased=1)
    assert states() == (["releasing", "claimed", "released"], ["queued", "queued", "released"])
    assert list(Email.objects.order_by("claim_id").values_list("lease", flat=True)) == ["r1", "", ""]


def test_what_is_handed_back_is_moodles_with_all_that_waited_and_nothing_else_changes(moodle: Moodle) -> None:
    back, others, settled_since = releasing(moodle, 3)
    delivered = Email.objects.get(claim=back)
    delivered.pk, delivered.ref, delivered.state = None, uuid.uuid4(), EmailState.DELIVERED
    delivered.save()
    Claim.objects.filter(pk=settled_since.pk).update(state=ClaimState.CLAIMED)
    noted()
    before = timezone.now()
    assert recover_intents.finish_releases([back.pk, settled_since.pk], [], "") == 1
    assert states()[0] == ["released", "releasing", "claimed"]
    back.refresh_from_db()
    assert back.settled_at is not None
    assert back.settled_at >= before
    assert back.intent_key is None
    email = Email.objects.get(claim=back, state=EmailState.RELEASED)
    assert (email.route, email.lease, email.leased_until) == ("moodle", "", None)
    assert email.state_at >= before
    delivered.refresh_from_db()
    assert (delivered.state, delivered.lease) == ("delivered", "r1")
    assert set(Email.objects.filter(claim__in=[others, settled_since]).values_list("state", "lease")) == {
        ("queued", "r1")
    }
    assert noted() == {CLAIMS, EMAILS}


def test_what_stays_ours_waits_for_a_dispatcher_again_and_nothing_else_changes(moodle: Moodle) -> None:
    kept, others, settled_since = releasing(moodle, 3)
    delivered = Email.objects.get(claim=kept)
    delivered.pk, delivered.ref, delivered.state = None, uuid.uuid4(), EmailState.DELIVERED
    delivered.save()
    Claim.objects.filter(pk=settled_since.pk).update(state=ClaimState.CLAIMED, note="theirs")
    noted()
    assert recover_intents.finish_releases([], [kept.pk, settled_since.pk], "cut off") == 0
    assert list(Claim.objects.order_by("pk").values_list("state", "note")) == [
        ("claimed", "cut off"), ("releasing", ""), ("claimed", "theirs")
    ]  # fmt: skip
    assert Claim.objects.get(pk=kept.pk).settled_at is None
    email = Email.objects.get(claim=kept, state=EmailState.QUEUED)
    assert (email.lease, email.leased_until) == ("", None)
    delivered.refresh_from_db()
    assert delivered.lease == "r1"
    assert set(Email.objects.filter(claim__in=[others, settled_since]).values_list("lease", flat=True)) == {
        "r1"
    }
    assert CLAIMS in noted()


def test_the_end_of_a_hand_back_and_the_note_for_its_hour_are_one(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(ids: object) -> None:
        raise RuntimeError

    (back,) = releasing(moodle, 1)
    monkeypatch.setattr(recover_intents.hourchanges, "claims", broken)
    with pytest.raises(RuntimeError):
        recover_intents.finish_releases([back.pk], [], "")
    assert states() == (["releasing"], ["queued"])
