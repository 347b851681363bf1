"""An address is suppressed on evidence, in any order; a person, time or a delivery ends it; nothing old revives it."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from emailoffload.feedback import inbox, suppression
from emailoffload.feedback.judgement import Fact, judge
from emailoffload.feedback.models import Event, Suppression
from emailoffload.outbox.models import AuditEntry
from offloadsite import env
from tests.feedback import samples
from tests.outbox.factory import queue_email

pytestmark = pytest.mark.django_db
LADDER = env.ladder("3 in 7d: 3d, 5 in 30d: 30d")
T0 = datetime(2026, 11, 1, 8, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_numbers = itertools.count(1)
ADDRESS = "anna@example.org"


def event(type_: str, at: datetime, kind: str = "", subkind: str = "General", **values: Any) -> Event:
    """A stored event about ADDRESS."""
    number = next(_numbers)
    columns = {
        "key": f"key-{number}", "type": type_, "at": at, "received_at": at, "address": ADDRESS, "kind": kind,
        "subkind": subkind, "diagnostic": "smtp; 550 5.1.1 user unknown",
    }  # fmt: skip
    return Event.objects.create(**columns | values)


def told(*events: Event, now: datetime | None = None) -> int:
    return suppression.consider(list(events), now=now or max(each.at for each in events) + HOUR)


def row() -> Suppression:
    return Suppression.objects.get(active_key=ADDRESS)


@pytest.mark.parametrize(
    ("type_", "kind", "subkind", "reason", "agreement"),
    [
        ("bounce", "permanent", "General", "bounce", "to_add"),
        ("bounce", "permanent", "NoEmail", "bounce", "to_add"),
        ("bounce", "permanent", "Suppressed", "bounce", "to_add"),
        ("bounce", "permanent", "OnAccountSuppressionList", "bounce", "agreed"),
        ("bounce", "undetermined", "OnAccountSuppressionList", "bounce", "agreed"),
        ("complaint", "abuse", "", "complaint", "to_add"),
        ("complaint", "", "", "complaint", "to_add"),
        ("complaint", "", "OnAccountSuppressionList", "complaint", "agreed"),
    ],
)
def test_permanent_bounces_and_complaints_suppress_with_their_evidence(
    type_: str, kind: str, subkind: str, reason: str, agreement: str
) -> None:
    email = queue_email()
    seen = event(type_, T0, kind, subkind, email=email)
    assert told(seen) == 1
    found = row()
    assert (found.reason, found.agreement, found.origin) == (reason, agreement, "event")
    assert (found.event, found.email, found.since, found.until) == (seen, email, T0, None)
    assert found.detail == "smtp; 550 5.1.1 user unknown"
    assert set(suppression.suppressed(["Anna@Example.org ", "b@example.org"])) == {ADDRESS}


@pytest.mark.parametrize(
    ("type_", "kind", "subkind"),
    [
        ("bounce", "transient", "MailboxFull"), ("bounce", "undetermined", "Undetermined"),
        ("complaint", "not-spam", ""), ("delivery", "", ""), ("reject", "", ""),
        ("delivery_delay", "", "MailboxFull"), ("send", "", ""),
    ],
)  # fmt: skip
def test_nothing_else_suppresses_by_itself(type_: str, kind: str, subkind: str) -> None:
    assert told(event(type_, T0, kind, subkind)) == 0
    assert not Suppression.objects.exists()


def test_an_event_without_an_address_or_of_a_test_mail_suppresses_nobody() -> None:
    assert told(event("bounce", T0, "permanent", address="")) == 0
    assert told(event("bounce", T0, "permanent", noted=True)) == 0
    assert not Suppression.objects.exists()


def test_a_complaint_is_the_stronger_reason_whichever_came_first() -> None:
    bounce = event("bounce", T0 + HOUR, "permanent")
    told(bounce)
    complaint = event("complaint", T0 + 2 * HOUR)
    assert told(complaint) == 0
    found = row()
    assert (found.reason, found.event, found.since) == ("complaint", complaint, T0 + HOUR)


def test_transient_bounces_climb_the_ladder_and_end_by_themselves() -> None:
    for number in range(2):
        told(event("bounce", T0 + number * DAY, "transient"))
    assert suppression.suppressed([ADDRESS], T0 + 2 * DAY) == {}
    told(event("bounce", T0 + 2 * DAY, "transient"))
    found = row()
    assert (found.reason, found.until, found.agreement) == ("transient", T0 + 5 * DAY, "ours")
    assert set(suppression.suppressed([ADDRESS], T0 + 5 * DAY - HOUR)) == {ADDRESS}
    assert suppression.suppressed([ADDRESS], T0 + 5 * DAY) == {}
    assert suppression.expire(T0 + 6 * DAY) == 1
    found.refresh_from_db()
    assert (found.removed_at, found.removed_by, found.removal_reason) == (T0 + 5 * DAY, "", "expired")
    for number in (10, 11):
        told(event("bounce", T0 + number * DAY, "transient"))
    assert row().until == T0 + 41 * DAY


def test_a_mail_that_arrives_ends_the_wait_and_begins_the_count_anew() -> None:
    for number in range(3):
        told(event("bounce", T0 + number * HOUR, "transient"))
    assert row().reason == "transient"
    told(event("delivery", T0 + 4 * HOUR))
    assert suppression.suppressed([ADDRESS], T0 + 5 * HOUR) == {}
    assert Suppression.objects.get().removal_reason == "delivered"
    assert told(event("bounce", T0 + 6 * HOUR, "transient")) == 0


def test_an_autoresponder_s_bounce_of_a_mail_that_arrived_never_counts() -> None:
    for number in range(5):
        told(event("bounce", T0 + number * HOUR, "transient", noted=True))
    assert not Suppression.objects.exists()


def test_a_permanent_bounce_makes_a_wait_final() -> None:
    for number in range(3):
        told(event("bounce", T0 + number * HOUR, "transient"))
    told(event("bounce", T0 + 4 * HOUR, "permanent"))
    found = row()
    assert (found.reason, found.until, found.agreement) == ("bounce", None, "to_add")


def test_without_a_ladder_transient_bounces_keep_nobody_from_mails(settings: Any) -> None:
    settings.TRANSIENT_BOUNCES = ()
    for number in range(9):
        told(event("bounce", T0 + number * HOUR, "transient"))
    assert not Suppression.objects.exists()


# --- In any order ---

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["permanent", *["transient"] * 6, "complaint", "delivery", "delivery", "listed", "lift"]
        ),
        st.integers(0, 60),
        st.integers(0, 40),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(steps=STEPS, seed=st.randoms(use_true_random=False))
def test_events_that_come_late_twice_or_out_of_order_end_in_the_same(steps: Any, seed: Any) -> None:
    """`steps`: what happened, after how many hours, and how many hours later an event was stored."""
    Suppression.objects.all().delete()
    Event.objects.all().delete()
    happened = [(what, T0 + at * HOUR, T0 + (at + late) * HOUR) for what, at, late in steps]
    lifts: list[datetime] = []
    queue: list[tuple[datetime, float, str, datetime]] = []
    for number, (what, at, stored) in enumerate(happened):
        at += timedelta(seconds=number)  # no two at the same moment
        queue.append((at if what == "lift" else stored + timedelta(seconds=number), seed.random(), what, at))
        if what != "lift":
            queue.append((stored + 5 * HOUR, seed.random(), f"again:{what}", at))
    kinds = {
        "permanent": ("bounce", "permanent", "General"), "transient": ("bounce", "transient", "MailboxFull"),
        "complaint": ("complaint", "abuse", ""), "delivery": ("delivery", "", ""),
        "listed": ("bounce", "permanent", "OnAccountSuppressionList"),
    }  # fmt: skip
    stored_events: dict[tuple[str, datetime], Event] = {}
    facts: list[Fact] = []
    delivered: list[datetime] = []
    end = T0
    for moment, _order, what, at in sorted(queue):
        end = moment
        if what == "lift":
            active = Suppression.objects.filter(suppression.active(moment)).first()
            if active is not None:
                suppression.lift(active.pk, actor="sam", reason="works", now=moment)
                # SES's list follows at once.
                Suppression.objects.filter(pk=active.pk).update(agreement="agreed", checked_at=moment)
                lifts.append(moment)
            continue
        name = what.removeprefix("again:")
        if (name, at) not in stored_events:
            type_, kind, subkind = kinds[name]
            stored_events[name, at] = seen = event(type_, at, kind, subkind)
            facts.append(Fact(seen.key, at, type_, kind, subkind))
            delivered += [at] * (name == "delivery")
        suppression.consider([stored_events[name, at]], now=moment)
    expected = judge(
        [fact for fact in facts if fact.type != "delivery"],
        LADDER,
        arrived=max(delivered, default=None),
        lifted=max(lifts, default=None),
        listed_after=max(lifts, default=None),
    )
    if expected and expected.until and expected.until <= end:
        expected = None
    found = Suppression.objects.filter(suppression.active(end)).first()
    seen_now = found and (found.reason, found.event and found.event.key, found.since, found.until)
    assert seen_now == (expected and (expected.reason, expected.evidence, expected.since, expected.until))


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_the_judgement_is_the_same_for_any_permutation(data: Any) -> None:
    facts = data.draw(
        st.lists(
            st.builds(
                Fact,
                st.uuids().map(lambda value: value.hex),
                st.integers(0, 800).map(lambda hours: T0 + hours * HOUR),
                st.sampled_from(["bounce", "complaint"]),
                st.sampled_from(["permanent", "transient", "undetermined", "not-spam"]),
                st.sampled_from(["General", "MailboxFull", "OnAccountSuppressionList", "Suppressed"]),
            ),
            max_size=10,
        )
    )
    arrived = data.draw(st.none() | st.integers(0, 800).map(lambda hours: T0 + hours * HOUR))
    mixed = data.draw(st.permutations(facts))
    assert judge(mixed, LADDER, arrived=arrived) == judge(facts, LADDER, arrived=arrived)


# --- People ---


def test_lifting_needs_a_reason_is_audited_and_leaves_ses_s_list_to_follow() -> None:
    told(event("bounce", T0, "permanent"))
    with pytest.raises(suppression.Refused, match="reason"):
        suppression.lift(row().pk, actor="sam", reason=" ")
    lifted = suppression.lift(row().pk, actor="sam", reason="the mailbox was made anew")
    assert (lifted.removed_by, lifted.removal_reason) == ("sam", "the mailbox was made anew")
    assert (lifted.active_key, lifted.agreement) == (None, "to_remove")
    assert suppression.suppressed([ADDRESS]) == {}
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.object_id) == ("sam", "lift_suppression", str(lifted.pk))
    assert ADDRESS not in str(entry.details)
    with pytest.raises(suppression.Refused, match="not suppressed any more"):
        suppression.lift(lifted.pk, actor="sam", reason="again")


def test_an_old_bounce_that_comes_after_the_lift_changes_nothing_and_a_new_one_does() -> None:
    told(event("bounce", T0, "permanent"))
    suppression.lift(row().pk, actor="sam", reason="works", now=T0 + DAY)
    assert told(event("bounce", T0 + HOUR, "permanent"), now=T0 + 2 * DAY) == 0
    # SES's list still had it: that is no news until it was taken off there.
    assert (
        told(event("bounce", T0 + DAY + HOUR, "permanent", "OnAccountSuppressionList"), now=T0 + 2 * DAY) == 0
    )
    assert told(event("bounce", T0 + 3 * DAY, "permanent")) == 1
    assert row().since == T0 + 3 * DAY
    assert Suppression.objects.count() == 2


def test_adding_needs_an_address_and_a_reason_and_happens_once() -> None:
    added = suppression.add(" Eve@Example.ORG ", actor="ann", reason="left the company")
    assert (added.address, added.reason, added.agreement, added.added_by) == (
        "eve@example.org", "person", "to_add", "ann",
    )  # fmt: skip
    assert AuditEntry.objects.get().action == "suppress"
    for address, reason, words in (
        ("eve@example.org", "again", "already"),
        ("nobody", "x", "not an email address"),
        ("", "x", "not an email address"),
        ("ä@example.org", "x", "not an email address"),
        ("a" * 250 + "@example.org", "x", "not an email address"),
        ("bob@example.org", "  ", "reason"),
    ):
        with pytest.raises(suppression.Refused, match=words):
            suppression.add(address, actor="ann", reason=reason)
    assert Suppression.objects.count() == AuditEntry.objects.count() == 1


def test_a_person_makes_a_wait_final_and_no_event_changes_a_person_s_decision() -> None:
    for number in range(3):
        told(event("bounce", timezone.now() - number * HOUR, "transient"))
    waiting = row()
    added = suppression.add(ADDRESS, actor="ann", reason="asked us to stop")
    assert (added.pk, added.until, added.reason) == (waiting.pk, None, "person")
    told(event("delivery", timezone.now()), event("complaint", timezone.now()))
    assert row().reason == "person"


def test_an_address_with_a_domain_in_other_letters_is_found_as_ses_writes_it() -> None:
    told(event("bounce", T0, "permanent", address="jo@xn--mnchen-3ya.de"))
    assert list(suppression.suppressed(["Jo@MÜNCHEN.de"])) == ["jo@xn--mnchen-3ya.de"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.mariadb
def test_of_processes_that_store_bounces_of_one_address_at_once_each_stores_and_one_suppresses() -> None:
    ready = threading.Barrier(4)

    def store(number: int) -> int:
        try:
            ready.wait(10)
            body = samples.body(
                samples.event("Bounce", to=ADDRESS, message_id=f"m-{number}", ref=None, at=samples.AT)
            )
            return inbox.receive([inbox.Message(body)]).events
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(store, range(4))) == [1] * 4
    assert Event.objects.count() == 4
    assert row().reason == "bounce"


# --- The setting ---


def test_the_ladder_is_read_as_steps() -> None:
    assert env.ladder("3 in 7d: 3d, 5 in 30d:30d") == (
        (3, 7 * DAY, 3 * DAY), (5, 30 * DAY, 30 * DAY),
    )  # fmt: skip
    assert env.ladder("2 in 12h: 6h") == ((2, 12 * HOUR, 6 * HOUR),)
    assert env.ladder(" ") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("often", "'3 in 7d: 3d'.*'often'"),
        ("3 in 7: 3d", "units h and d"),
        ("0 in 7d: 3d", "at least 1 bounce"),
        ("3 in 0d: 3d", "1h to 365d"),
        ("3 in 7d: 366d", "1h to 365d"),
        ("3 in 7d: 3d, 3 in 30d: 30d", "more bounces"),
        ("3 in 7d: 3d, 5 in 30d: 1d", "no shorter time"),
    ],
)
def test_a_ladder_that_makes_no_sense_is_refused_with_what_is_expected(text: str, words: str) -> None:
    with pytest.raises(env.Malformed, match=words):
        env.ladder(text)


def test_automatic_replies_to_mails_of_other_senders_suppress_nothing() -> None:
    """The mail is not known here, so nothing but its delivery tells that its "bounce" is a reply."""
    for number in range(3):
        told(event("delivery", T0 + number * HOUR, message_id=f"m-{number}"))
    for number in range(3):
        told(event("bounce", T0 + (number + 3) * HOUR, "transient", message_id=f"m-{number}"))
    assert suppression.suppressed([ADDRESS], T0 + 6 * HOUR) == {}


def test_a_bounce_that_finds_its_mail_later_is_the_evidence_of_that_mail() -> None:
    now = timezone.now()
    bounce = samples.body(samples.event("Bounce", to=ADDRESS, at=now - HOUR, ref="f" * 32))
    inbox.receive([inbox.Message(bounce)], now=now)
    assert row().email is None
    email = queue_email(email={"state": "accepted", "message_id": samples.MESSAGE_ID, "address": ADDRESS})
    inbox.look_again(now=now + HOUR)
    assert row().email_id == email.pk


def test_a_new_bounce_after_the_time_of_the_old_ones_is_judged_afresh() -> None:
    told(*(event("bounce", T0 + n * HOUR, "transient", "MailboxFull") for n in range(3)))
    over = row()
    assert over.until is not None
    later = over.until + HOUR
    told(event("bounce", later, "permanent"), now=later + HOUR)
    over.refresh_from_db()
    assert over.active_key is None
    assert (row().pk, row().until, row().reason) != (over.pk, over.until, over.reason)
    assert (row().reason, row().until) == ("bounce", None)
