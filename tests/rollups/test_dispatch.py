"""What a dispatcher sends is counted: it notes the hours of many mails at once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from emailoffload.outbox.figures import EMAILS, HourChange, HourCount
from emailoffload.outbox.models import Email
from emailoffload.worker import dispatch, rollups
from tests.fake_ses import FakeSes
from tests.outbox.factory import queue_emails
from tests.rollups.rows import in_the_counts, in_the_rows
from tests.worker.conftest import source

__all__ = ["source"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("source")
def test_what_was_sent_is_counted_by_the_next_pass(ses: FakeSes) -> None:
    queue_emails(20)
    late = queue_emails(3)
    Email.objects.filter(pk__in=[email.pk for email in late]).update(
        created_at=timezone.now() - timedelta(days=2)
    )
    rollups.run()
    assert dispatch.run(until_empty=True).sent == 23
    assert HourChange.objects.filter(kind=EMAILS).values("hour").distinct().count() == 2
    assert rollups.run().repaired == 0
    assert in_the_counts() == in_the_rows()
    assert set(HourCount.objects.filter(kind=EMAILS).values_list("key", "number")) == {
        ("accepted", 20),
        ("accepted", 3),
    }
