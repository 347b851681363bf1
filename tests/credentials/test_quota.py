"""Where the 24-hour quota does not suffice for all that is due, credentials leave first."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from emailoffload.delivery import rate
from emailoffload.outbox import transitions
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState
from emailoffload.worker import dispatch
from tests.fake_ses import FakeSes
from tests.outbox.factory import queue_emails

pytestmark = pytest.mark.django_db(transaction=True)


def limit(ses: FakeSes, left: int) -> None:
    """SES allows so many more mails today."""
    ses.account["SendQuota"] |= {"Max24HourSend": 1000.0, "SentLast24Hours": 1000.0 - left}
    rate.forget()


def outbox() -> None:
    """Thirty ordinary mails, then ten with credentials: those are due last."""
    now = timezone.now()
    queue_emails(30, due=now - timedelta(minutes=10))
    queue_emails(10, due=now - timedelta(minutes=1), email={"sensitive": True})


def test_credentials_leave_first_when_the_quota_is_short(ses: FakeSes, source: Any) -> None:
    outbox()
    limit(ses, 15)
    assert dispatch.run(budget=5).sent == 15
    assert Email.objects.filter(sensitive=True, state=EmailState.ACCEPTED).count() == 10
    assert Email.objects.filter(sensitive=False, state=EmailState.ACCEPTED).count() == 5
    assert Email.objects.filter(state=EmailState.QUEUED, lease="").count() == 25


def test_no_more_is_sent_than_the_quota_allows(ses: FakeSes, source: Any) -> None:
    outbox()
    limit(ses, 7)
    result = dispatch.run(budget=5)
    assert (result.sent, len(ses.sent)) == (7, 7)
    assert "24-hour quota" in result.cure


def test_where_the_quota_suffices_the_longest_due_leave_first(
    ses: FakeSes, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox()
    limit(ses, 40)
    asked = []
    lease_due = transitions.lease_due

    def watched(*args: Any, **options: Any) -> list[int]:
        asked.append(options["sensitive_first"])
        return lease_due(*args, **options)

    monkeypatch.setattr(transitions, "lease_due", watched)
    assert dispatch.run(until_empty=True).sent == 40
    assert not any(asked)


def test_leasing_credentials_first_takes_the_oldest_of_them_and_locks_nothing_else() -> None:
    now = timezone.now()
    outbox()
    secret = list(Email.objects.filter(sensitive=True).order_by("next_try_at").values_list("pk", flat=True))
    with CaptureQueriesContext(connection) as queries:
        ids = transitions.lease_due(4, "a", now=now, until=now + timedelta(minutes=1), sensitive_first=True)
    assert set(ids) <= set(secret) and len(ids) == 4
    assert not any("FOR UPDATE" in query["sql"] for query in queries)
    more = transitions.lease_due(36, "b", now=now, until=now + timedelta(minutes=1), sensitive_first=True)
    assert set(more[:6]) == set(secret) - set(ids)
    assert len(more) == 36
