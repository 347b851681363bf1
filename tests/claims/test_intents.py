"""Intent before claim, settlement after it, and recovery from every crash between them (design §3.4)."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from emailoffload.moodle import claims
from emailoffload.moodle.targets import TARGETS
from emailoffload.outbox import bulk, intents
from emailoffload.outbox.figures import CLAIMS, EMAILS, HourChange
from emailoffload.outbox.models import Claim, Content, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.sources import reasons
from emailoffload.worker.recover_intents import recover_intents
from tests.claims.candidates import candidate, some
from tests.conftest import Moodle

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def later(seconds: int = 3600) -> dt.datetime:
    return timezone.now() + dt.timedelta(seconds=seconds)


def swaps(stored: intents.Intended) -> list[claims.Swap]:
    return [claims.swap_of(c.source, c.row_id, c.before, c.after) for c in stored.claims.values()]


def states() -> tuple[set[str], set[str]]:
    return (
        set(Claim.objects.values_list("state", flat=True)),
        set(Email.objects.values_list("state", flat=True)),
    )


def test_an_intent_promises_nothing_until_it_is_settled(moodle: Moodle) -> None:
    stored = intents.intend(some(moodle, 20), None)
    assert states() == ({"intended"}, {"prepared"})
    assert Content.objects.count() == 20
    ids = [claim.pk for claim in stored.claims.values()]
    assert intents.settle(ids[:15], ids[15:]) == 15
    assert Email.objects.filter(state=EmailState.QUEUED).count() == 15
    assert Email.objects.count() == Content.objects.count() == 15
    assert Claim.objects.filter(state=ClaimState.LOST, intent_key=None).count() == 5


def test_two_processes_cannot_intend_the_same_mail(moodle: Moodle) -> None:
    found = some(moodle, 3)
    intents.intend(found[:2], None)
    second = intents.intend(found, None)
    assert set(second.claims) == {found[2].row_id}
    assert set(second.left.values()) == {reasons.CLAIM_IN_PROGRESS}


def test_a_reminder_that_was_handed_back_is_not_claimed_again_but_the_next_one_is(moodle: Moodle) -> None:
    (first,) = some(moodle, 1)
    stored = intents.intend([first], None)
    Claim.objects.update(state=ClaimState.RELEASED, intent_key=None)
    assert stored.claims
    assert intents.intend([first], None).left == {first.row_id: reasons.HANDED_BACK}
    following = candidate((first.row_id, 1, first.due + 86400, 0))
    assert set(intents.intend([following], None).claims) == {first.row_id}


def test_killed_after_the_intent_nothing_happened_and_the_row_can_be_claimed_again(moodle: Moodle) -> None:
    found = some(moodle, 5)
    intents.intend(found, None)
    assert recover_intents()["dropped"] == 0, "an intent younger than the lease belongs to a living process"
    assert recover_intents(later())["dropped"] == 5
    assert states()[0] == {"dropped"}
    assert len(intents.intend(found, None).claims) == 5


def test_killed_after_the_claim_the_mails_are_queued(moodle: Moodle) -> None:
    stored = intents.intend(some(moodle, 5), None)
    claims.apply("reengagement", swaps(stored))
    assert recover_intents(later())["claimed"] == 5
    assert states() == ({"claimed"}, {"queued"})
    assert recover_intents(later())["claimed"] == 0


def test_the_next_reminder_of_a_row_waits_until_an_interrupted_claim_of_the_row_is_settled(
    moodle: Moodle,
) -> None:
    (first,) = some(moodle, 1)
    stored = intents.intend([first], None)
    claims.apply("reengagement", swaps(stored))
    sent, due, completed = (first.after[name] or 0 for name in TARGETS["reengagement"].compared)
    following = candidate((first.row_id, sent, due, completed))
    assert intents.intend([following], None).left == {first.row_id: reasons.CLAIM_IN_PROGRESS}
    assert recover_intents(later())["claimed"] == 1
    assert not intents.intend([following], None).left


def test_killed_between_and_moodle_was_faster_the_claim_is_lost(moodle: Moodle) -> None:
    found = some(moodle, 2)
    intents.intend(found, None)
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailsent = emailsent + 1, emailtime = emailtime + 86700 WHERE id = %s",
        [found[0].row_id],
    )
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE id = %s", [found[1].row_id])
    assert recover_intents(later())["lost"] == 2
    assert states() == ({"lost"}, set())


def test_a_process_that_wakes_up_after_its_intent_was_dropped_still_gets_its_mail_out(moodle: Moodle) -> None:
    stored = intents.intend(some(moodle, 3), None)
    recover_intents(later())
    claims.apply("reengagement", swaps(stored))  # … and is killed again before it settles
    assert recover_intents()["woken"] == 3
    assert states() == ({"claimed"}, {"queued"})


def test_of_a_sleeper_and_its_successor_exactly_one_holds_the_row(moodle: Moodle) -> None:
    found = some(moodle, 1)
    sleeper = intents.intend(found, None)
    recover_intents(later())
    successor = intents.intend(found, None)
    row_id = found[0].row_id
    # The sleeper wakes and claims; the successor's claim then finds the very values that it would write.
    assert claims.apply("reengagement", swaps(sleeper)) == {row_id}
    assert claims.apply("reengagement", swaps(successor)) == {row_id}
    intents.settle([sleeper.claims[row_id].pk], [])
    intents.settle([successor.claims[row_id].pk], [])
    assert Claim.objects.filter(state=ClaimState.CLAIMED).count() == 1
    assert Email.objects.filter(state=EmailState.QUEUED).count() == 1
    assert Email.objects.count() == 1


@pytest.mark.parametrize("order", ["sleeper first", "successor first"])
def test_a_sleeper_that_claimed_with_other_values_keeps_the_row(moodle: Moodle, order: str) -> None:
    found = some(moodle, 1)
    row_id = found[0].row_id
    sleeper = intents.intend(found, None)
    recover_intents(later())
    other = candidate((row_id, 0, found[0].due, 0), delay=999)
    successor = intents.intend([other], None)
    assert claims.apply("reengagement", swaps(sleeper)) == {row_id}
    assert claims.apply("reengagement", swaps(successor)) == set()
    steps: list[Callable[[], int]] = [
        lambda: intents.settle([sleeper.claims[row_id].pk], []),
        lambda: intents.settle([], [successor.claims[row_id].pk]),
    ]
    for step in steps if order == "sleeper first" else reversed(steps):
        step()
    assert Claim.objects.get(state=ClaimState.CLAIMED).pk == sleeper.claims[row_id].pk
    assert Email.objects.filter(state=EmailState.QUEUED).count() == 1


def test_mails_of_dropped_claims_are_forgotten_after_an_hour(moodle: Moodle) -> None:
    intents.intend(some(moodle, 3), None)
    recover_intents(later())
    assert Email.objects.count() == 3
    recover_intents(later(7300))
    assert Email.objects.count() == 0


def test_intents_cost_the_same_number_of_queries_for_any_number_of_rows(
    moodle: Moodle, django_assert_max_num_queries: Any
) -> None:
    found = some(moodle, 300)
    for part in (found[:10], found[10:]):
        with django_assert_max_num_queries(9):
            stored = intents.intend(part, None)
        with django_assert_max_num_queries(8):
            intents.settle([claim.pk for claim in stored.claims.values()], [])


def test_mails_larger_together_than_a_server_takes_in_one_statement_are_stored(moodle: Moodle) -> None:
    import os
    from dataclasses import replace

    from tests.claims.candidates import MAIL

    found = some(moodle, 12)
    large = [replace(c, mails=(replace(MAIL, html=os.urandom(750_000).hex()),)) for c in found]
    stored = intents.intend(large, None)
    assert len(stored.claims) == Content.objects.count() == 12
    assert (
        sum(len(body) for body in Content.objects.values_list("body", flat=True)) > 2 * intents.MAX_STATEMENT
    )


def test_an_intent_that_others_store_between_every_look_and_every_write_is_left_to_them(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = some(moodle, 2)
    intents.intend(found[:1], None)
    looks: list[int] = []

    def blind(candidates: object) -> dict[int, str]:
        looks.append(1)
        return {}

    monkeypatch.setattr(intents, "taken_by_others", blind)
    stored = intents.intend(found, None)
    assert len(looks) == 3
    assert stored.claims == {}
    assert stored.left == {each.row_id: reasons.CLAIM_IN_PROGRESS for each in found}
    assert Claim.objects.count() == Email.objects.count() == Content.objects.count() == 1


def test_beside_a_mail_that_is_held_the_others_of_a_batch_are_stored_at_once(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = some(moodle, 2)
    held = intents.intend([first], None)
    intents.settle([claim.pk for claim in held.claims.values()], [])
    looks: list[int] = []
    look = intents.taken_by_others
    monkeypatch.setattr(intents, "taken_by_others", lambda found: looks.append(1) or look(found))  # type: ignore[func-returns-value]
    stored = intents.intend([first, second], None)
    assert (set(stored.claims), stored.left) == ({second.row_id}, {first.row_id: reasons.CLAIM_IN_PROGRESS})
    assert looks == [1]


@pytest.mark.parametrize("state", [ClaimState.INTENDED, ClaimState.RELEASING, ClaimState.RELEASED])
def test_claims_of_other_rows_and_of_other_sources_keep_none_back(moodle: Moodle, state: ClaimState) -> None:
    first, second = some(moodle, 2)
    intents.intend([first], None)
    Claim.objects.update(state=state, intent_key=None)
    other = Claim.objects.get()
    other.pk, other.ref, other.source, other.row_id = None, uuid.uuid4(), "iomad_queue", second.row_id
    other.before = {"sent": None, "modifiedtime": 1}
    other.save()
    stored = intents.intend([second], None)
    assert (set(stored.claims), stored.left) == ({second.row_id}, {})


def test_what_was_sealed_before_is_what_is_stored(moodle: Moodle) -> None:
    (found,) = some(moodle, 1)
    sealed = intents.seal([found])
    intents.intend([found], None, sealed)
    ((key_id, body),) = sealed[found.row_id]
    stored = Content.objects.get()
    assert (stored.key_id, bytes(stored.body)) == (key_id, body)


@pytest.mark.parametrize(
    ("most", "sizes"), [(20, [2, 2, 1]), (19, [1] * 5), (9, [1] * 5), (0, [1] * 5), (30, [3, 2]), (50, [5])]
)
def test_what_mails_say_is_stored_in_statements_of_a_bounded_size(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch, most: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(intents, "MAX_STATEMENT", most)
    inserted: list[int] = []
    insert = bulk.insert

    def counted(model: Any, rows: Any) -> None:
        inserted.append(len(rows))
        insert(model, rows)

    monkeypatch.setattr(bulk, "insert", counted)
    found = some(moodle, 5)
    intents.intend(found, None, {each.row_id: [("key", b"0123456789")] for each in found})
    assert inserted == sizes
    assert Content.objects.count() == 5


def test_an_intent_is_stored_with_its_mails_and_what_they_say_or_not_at_all(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OperationalError(1114, "The table is full")

    monkeypatch.setattr(intents, "store_emails", full)
    with pytest.raises(OperationalError):
        intents.intend(some(moodle, 2), None)
    assert not Claim.objects.exists()


def test_the_hours_of_new_claims_and_mails_are_counted_anew_and_of_none_no_hour(moodle: Moodle) -> None:
    assert intents.intend([], None) == intents.Intended({}, {})
    assert not HourChange.objects.exists()
    stored = intents.intend(some(moodle, 2), None)
    assert set(HourChange.objects.values_list("kind", flat=True)) == {CLAIMS, EMAILS}
    ids = [claim.pk for claim in stored.claims.values()]
    for work in (
        lambda: intents.settle(ids[:1], []),
        lambda: intents.settle([], ids[1:]),
        lambda: intents.drop(ids, ""),
    ):
        HourChange.objects.all().delete()
        work()
        assert CLAIMS in HourChange.objects.values_list("kind", flat=True)
