"""Three inboxes, a dispatcher, hand-backs and a recount at once: nothing is lost, counted twice, or stuck."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from emailoffload.feedback import inbox, reputation
from emailoffload.feedback.models import Event, ReputationHour
from emailoffload.outbox import deadlocks, transitions
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState
from emailoffload.worker import handback
from emailoffload.worker.patience import Patience
from emailoffload.worker.recover_intents import finish_releases
from tests.feedback import samples
from tests.feedback.test_inbox import about, outcome
from tests.outbox.factory import queue_emails

LATER = timedelta(minutes=5)


def test_three_inboxes_a_dispatcher_and_hand_backs_leave_what_one_after_the_other_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The lock of Moodle's cron is another matter.
    monkeypatch.setattr(handback._Locks, "bar", lambda *_: "")
    emails = queue_emails(250, due=timezone.now() - timedelta(seconds=1))
    messages = [
        message for number, email in enumerate(emails) if number % 5 for message in events(number, email)
    ]
    ended = threading.Event()

    def receive(seed: int) -> None:
        mine = random.Random(seed).sample(messages, len(messages))
        for start in range(0, len(mine), 50):
            inbox.receive(mine[start : start + 50])

    def hand_back() -> None:
        claims = [email.claim_id for email in emails[::3]]
        for start in range(0, len(claims), 10):
            part = claims[start : start + 10]
            reserved, _ = deadlocks.survive(lambda part=part: handback._reserve(part, handback._Locks()))  # type: ignore[misc]
            ids = [claim.pk for claim in reserved]
            deadlocks.survive(lambda ids=ids: finish_releases(ids[::2], ids[1::2], ""))  # type: ignore[misc]

    def look() -> None:
        while not ended.wait(0.01):
            inbox.look_again(now=timezone.now() + LATER)
            reputation.rebuild()

    jobs: list[Callable[[], None]] = [
        lambda: receive(1),
        lambda: receive(2),
        lambda: receive(3),
        dispatch,
        hand_back,
    ]
    together = threading.Barrier(len(jobs) + 1)

    def run(job: Callable[[], None]) -> None:
        try:
            together.wait(20)
            job()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(jobs) + 1) as pool:
        looking = pool.submit(run, look)
        try:
            for each in [pool.submit(run, job) for job in jobs]:
                each.result(60)
        finally:
            ended.set()
        looking.result(60)
    # What was in somebody's hands at that thread's look, which was one pause ahead, is due another pause later.
    inbox.look_again(now=timezone.now() + 3 * LATER)

    assert Event.objects.count() == len(messages)
    assert not Event.objects.filter(email=None).exists()
    told = Counter(Event.objects.values_list("type", flat=True))
    hours = ReputationHour.objects.values_list("sends", "deliveries", "permanent_bounces", "complaints")
    assert [sum(column) for column in zip(*hours, strict=True)] == [
        told["send"], told["delivery"], told["bounce"], told["complaint"]
    ]  # fmt: skip
    # Nobody is in anybody's hands any more, and no mail waits of which SES has told something.
    assert not Email.objects.filter(state=EmailState.SENDING).exists()
    assert not Email.objects.filter(state=EmailState.QUEUED, events__isnull=False).exists()
    # All events folded once more say what was said.
    reported = list(Email.objects.filter(events__isnull=False).distinct())
    before = [outcome(email) for email in reported]
    with transaction.atomic():
        inbox._apply(reported, timezone.now(), inbox.Received())
    after = [outcome(email) for email in reported]
    assert [both for both in zip(before, after, strict=True) if both[0] != both[1]] == []


def events(number: int, email: Email) -> list[inbox.Message]:
    """What SES reports of one mail; some go to the same bad addresses."""
    ending = "Bounce" if number % 25 == 3 else "Complaint" if number % 40 == 7 else "Delivery"
    at = samples.AT + timedelta(seconds=3)
    return [
        about(email, "Send", message_id=mid(email.pk)),
        about(email, ending, message_id=mid(email.pk), at=at),
    ]


def mid(email_id: int) -> str:
    """SES's id of a mail, the same in its answer and its events."""
    return f"m-{email_id}"


def dispatch() -> None:
    """Lease, mark and record in small windows, as a dispatcher does, until nothing is due."""
    ended: list[transitions.Ended] = []
    while True:
        now = timezone.now()
        ids = transitions.lease_due(10, "lease", now=now, until=now + LATER)
        if not ids and not ended:
            return
        won: set[int] = set()

        def write(ids: list[int] = ids, ended: list[transitions.Ended] = ended, won: set[int] = won) -> None:
            with transaction.atomic():
                now = timezone.now()
                transitions.record(ended, "lease", "holder", now=now)
                items = [(pk, 1) for pk in ids]
                won.clear()
                won.update(transitions.mark_sending(items, "lease", "holder", now=now, until=now + LATER))

        Patience().again(write)
        now = timezone.now()
        ended = [
            transitions.Ended(
                email_id=pk, state=EmailState.ACCEPTED, outcome="accepted", finished_at=now, next_try_at=now,
                message_id=mid(pk),
            )
            for pk in won
        ]  # fmt: skip


pytestmark = pytest.mark.django_db(transaction=True)
