"""Stopping mails while dispatchers send: each is either stopped and never transmitted, or sent and the stop refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from emailoffload.actions.cancel import Cancelled, cancel
from emailoffload.outbox.models import Attempt, AuditEntry, Email, Lease
from emailoffload.worker import dispatch
from emailoffload.worker.recover_sends import recover_sends
from tests.fake_ses import FakeSes
from tests.outbox.factory import queue_emails
from tests.worker.test_races import dispatcher

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.mariadb,
    pytest.mark.race,
    pytest.mark.usefixtures("source"),
]
MAILS = 120


def at_once(pool: ThreadPoolExecutor, start: Barrier, work: Callable[[], Any]) -> Future[Any]:
    """Do it in a thread with a connection of its own, when all are ready."""

    def run() -> Any:
        start.wait()
        try:
            return work()
        finally:
            connections.close_all()

    return pool.submit(run)


def stop_when_some_have_left(ses: FakeSes, ids: list[int]) -> list[Cancelled]:
    """Ask to stop them one by one, from the middle of what is under way outwards."""
    end = time.monotonic() + 30
    while len(ses.times()) < MAILS // 6 and time.monotonic() < end:
        time.sleep(0.002)
    return [outcome for pk in ids for outcome in cancel([pk], actor="sam", reason="wrong course")]


def test_a_mail_is_stopped_and_never_transmitted_or_sent_and_the_stop_refused(
    ses: FakeSes, settings: Any
) -> None:
    settings.DISPATCH_THREADS = 2
    emails = queue_emails(MAILS)
    ses.delay = 0.02
    # Two people: one goes after what is just being sent, one comes from the end.
    near = [email.pk for email in emails[MAILS // 6 : MAILS]]
    far = [email.pk for email in reversed(emails)]
    start = Barrier(3)
    with ThreadPoolExecutor(3) as pool:
        sending = at_once(pool, start, lambda: dispatch.run(until_empty=True))
        people = [
            at_once(pool, start, lambda ids=ids: stop_when_some_have_left(ses, ids))  # type: ignore[misc]
            for ids in (near, far[: MAILS // 2])
        ]
        sending.result()
        outcomes = [outcome for person in people for outcome in person.result()]
    sent = ses.times()
    stopped = [outcome.email_id for outcome in outcomes if outcome.cancelled]
    states = dict(Email.objects.values_list("pk", "state"))
    refs = {email.pk: email.ref.hex for email in emails}
    assert Counter(stopped).most_common(1)[0][1] == 1
    assert set(stopped) == {pk for pk, state in states.items() if state == "cancelled"}
    assert {refs[pk] for pk in stopped}.isdisjoint(sent)
    assert {refs[pk] for pk, state in states.items() if state == "accepted"} == set(sent)
    assert set(states.values()) == {"cancelled", "accepted"}
    assert max(sent.values()) == 1
    for outcome in outcomes:
        assert outcome.cancelled or outcome.why_not.endswith(".")
    assert AuditEntry.objects.filter(action="cancel").count() == len(stopped)
    assert not Attempt.objects.filter(email__state="cancelled").exists()


def test_what_a_killed_dispatcher_had_begun_cannot_be_called_unsent(ses: FakeSes) -> None:
    emails = queue_emails(12)
    process = dispatcher(ses, OFFLOAD_KILL_AT="after_send:3", DISPATCH_THREADS="2")
    assert process.wait(timeout=60) == -9
    ids = [email.pk for email in emails]
    begun = set(Email.objects.filter(state="sending").values_list("pk", flat=True))
    assert begun
    first = {outcome.email_id: outcome for outcome in cancel(ids, actor="sam", reason="x")}
    assert {pk for pk, outcome in first.items() if "being handed over" in outcome.why_not} == begun
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    recover_sends(timezone.now() + timedelta(minutes=5))
    assert all(outcome.cancelled for outcome in cancel(list(begun), actor="sam", reason="x"))
    assert set(Email.objects.filter(pk__in=begun).values_list("state", "reason")) == {
        ("cancelled", "stopped_unsure")
    }
    before = ses.times()
    dispatch.run(until_empty=True)
    assert ses.times() == before
