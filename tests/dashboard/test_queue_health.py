"""The overview's line about the watch over IOMAD's queue."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from emailoffload.dashboard import health_cards
from emailoffload.outbox import guardstate
from emailoffload.outbox.models import Lease

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])


def line(**values: object) -> health_cards.Health:
    now = timezone.now()
    guardstate.save(guardstate.Guard(**{"mode": "tick", "last_look": now, **values}))  # type: ignore[arg-type]
    (found,) = health_cards.queue(now)
    return found


def test_a_site_that_nobody_watches_has_no_line_about_the_queue(support: Client) -> None:
    assert health_cards.queue(timezone.now()) == []
    assert "IOMAD&#x27;s queue" not in support.get("/").content.decode()


@pytest.mark.parametrize(
    ("mode", "words"), [("off", "Watched."), ("tick", "just before each run"), ("hold", "has its turn")]
)
def test_the_line_says_how_the_queue_is_watched(mode: str, words: str) -> None:
    found = line(mode=mode)
    assert found.tone == "good" and words in found.text


def test_a_held_lock_is_shown_with_its_time() -> None:
    since = timezone.now() - timedelta(minutes=20)
    found = line(mode="hold", held_since=since)
    assert found.tone == "good" and found.at == since and "is ours. It was taken" in found.text


@pytest.mark.parametrize(
    ("why", "tone", "words"),
    [
        ("claims_paused", "warn", "IOMAD's own cron sends meanwhile"),
        ("delivery_unhealthy", "warn", "IOMAD's own cron sends meanwhile"),
        ("local_email 2031010100 is not a version whose behaviour is known.", "warn", "2031010100"),
        ("lock_unavailable", "good", "what is due already stays with IOMAD"),
    ],
)
def test_the_line_says_why_nothing_is_claimed(why: str, tone: str, words: str) -> None:
    found = line(why_not=why)
    assert found.tone == tone and words in found.text + found.cure


def test_a_watch_that_has_fallen_silent_is_a_warning_and_no_sign_of_a_living_worker() -> None:
    now = timezone.now()
    assert line(last_look=now - timedelta(minutes=10)).tone == "warn"
    Lease.objects.create(name=guardstate.LEASE, beat_at=now)
    assert health_cards.worker(now).tone == "warn"


def test_staff_of_the_whole_site_see_the_line_and_staff_of_one_company_do_not(
    support: Client, bound: Client
) -> None:
    line(mode="tick")
    assert "IOMAD&#x27;s queue" in support.get("/").content.decode()
    assert "IOMAD&#x27;s queue" not in bound.get("/").content.decode()
