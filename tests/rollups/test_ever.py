"""How many there ever were: added up once a day, whatever the years that a site has run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from emailoffload.outbox import rollups as figures
from emailoffload.outbox.figures import CLAIMS, EMAILS, CountSum, HourCount
from emailoffload.outbox.models import Claim, Email
from emailoffload.worker import rollups
from tests.queries import counted
from tests.rollups.rows import store_emails

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """A noon of UTC that has been, at which everything here happens."""
    moment = (timezone.now() - DAY).astimezone(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    set_clock(monkeypatch, moment)
    return moment


def set_clock(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    """Let the pass take a moment for now."""
    monkeypatch.setattr(rollups.timezone, "now", lambda: moment)


def settle() -> None:
    """Passes until all is counted."""
    while rollups.run().more:
        pass


def store_history(noon: datetime) -> None:
    """Mails of one source on five days and of another on one."""
    for days in (0, 1, 2, 30, 200):
        store_emails(2, noon - days * DAY)
    store_emails(3, noon - 40 * DAY, source="iomad_queue")


def test_it_is_every_mail_and_claim_there_is_by_source(noon: datetime) -> None:
    store_history(noon)
    settle()
    assert figures.ever(EMAILS, noon) == {"reengagement": 10, "iomad_queue": 3}
    assert sum((figures.ever(CLAIMS, noon) or {}).values()) == Claim.objects.count()


def test_it_is_unknown_until_all_hours_of_the_past_are_counted(noon: datetime) -> None:
    assert figures.ever(EMAILS, noon) is None
    store_history(noon)
    assert rollups.run(budget=0).more
    assert figures.ever(EMAILS, noon) is None


def test_days_that_pass_are_added_to_what_is_remembered(
    noon: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_history(noon)
    settle()
    later = noon + 3 * DAY
    set_clock(monkeypatch, later)
    store_emails(4, noon + DAY)
    store_emails(5, later)
    settle()
    assert figures.ever(EMAILS, later) == {"reengagement": 19, "iomad_queue": 3}
    set_clock(monkeypatch, noon)
    settle()
    assert figures.ever(EMAILS, later) == {"reengagement": 19, "iomad_queue": 3}


def test_a_pass_reads_no_more_than_the_last_days_of_the_sums(noon: datetime) -> None:
    store_history(noon)
    settle()
    CountSum.objects.filter(begins__lt=noon - 10 * DAY).delete()
    HourCount.objects.filter(hour__lt=noon - 10 * DAY).delete()
    with counted() as queries:
        assert figures.ever(EMAILS, noon) == {"reengagement": 10, "iomad_queue": 3}
    assert sum(queries.values()) == 2


def test_where_counts_were_repaired_all_is_added_up_anew(noon: datetime) -> None:
    store_history(noon)
    settle()
    gone = Email.objects.filter(created_at__lt=noon - 100 * DAY)
    Email.objects.filter(pk__in=list(gone.values_list("pk", flat=True))).update(
        created_at=noon - 50 * DAY, source="iomad_queue"
    )
    rollups.run(rebuild=True)
    settle()
    assert figures.ever(EMAILS, noon) == {"reengagement": 8, "iomad_queue": 5}


def test_hours_that_a_pass_had_no_time_for_are_not_missing_from_what_is_remembered(
    noon: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker was away for days while mails were written down: its first pass cannot count everything."""
    store_history(noon)
    settle()
    later = noon + 3 * DAY
    set_clock(monkeypatch, later)
    for hours in (24, 25, 26):
        store_emails(2, noon + timedelta(hours=hours))
    assert rollups.run(budget=0).left
    settle()
    assert figures.ever(EMAILS, later) == {"reengagement": 16, "iomad_queue": 3}
