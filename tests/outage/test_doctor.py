"""The doctor on databases, breaker, outbox and rules: each finding with its cause and its cure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from emailoffload.actions.diagnosis import background, ours, outbox, rules
from emailoffload.actions.diagnosis.finding import Finding
from emailoffload.delivery import health
from emailoffload.delivery.errors import Outcome
from emailoffload.outbox.models import Claim, Email, Run, State
from emailoffload.outbox.switches import Pause, set_pause
from emailoffload.policy.models import CopyRule, RoutingRule
from tests.conftest import Moodle
from tests.doctor.conftest import examine, ses_sandbox, site
from tests.outbox.factory import queue_emails

__all__ = ["examine", "ses_sandbox", "site"]
Examine = Callable[[str], Finding]
pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
]
SHUT = Outcome("account", "AccountSuspendedException", "The account is suspended: see the SES console.")


def test_an_open_breaker_is_a_problem_with_its_time_and_ses_s_words(site: Moodle, examine: Examine) -> None:
    assert examine("ses.breaker").verdict == "ok"
    health.trip(SHUT)
    found = examine("ses.breaker")
    assert found.verdict == "problem" and "AccountSuspendedException" in found.text
    assert f"open since {timezone.now():%Y-%m-%d %H:%M}" in found.text
    assert found.cure == SHUT.message


def test_a_breaker_that_is_half_open_is_a_warning_with_the_time_of_the_first(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "SHORTEST", -1.0)
    first = health.trip(SHUT)
    again = health.trip(SHUT)
    assert (again.times, again.since) == (2, first.since)
    verdict, text, cure = outbox.breaker()
    assert verdict == "warning" and "2 times in a row" in text and cure


def test_mails_that_are_due_while_nobody_sends_are_a_problem(db: None) -> None:
    assert outbox.draining()[0] == "ok"
    queue_emails(1)
    Email.objects.update(next_try_at=timezone.now() - timedelta(minutes=10))
    verdict, text, cure = outbox.draining()
    assert verdict == "problem" and "nothing is sent" in text and "Start the worker" in cure
    set_pause(Pause(sends=True))
    assert outbox.draining()[2].startswith("Sending is paused")
    set_pause(Pause())
    health.trip(SHUT)
    assert "see the breaker" in outbox.draining()[2]


def test_uncertain_mails_are_a_finding_when_their_time_is_over(db: None, settings: Any) -> None:
    queue_emails(2)
    Email.objects.update(state="uncertain", state_at=timezone.now())
    assert outbox.uncertain()[0] == "ok"
    Email.objects.update(state_at=timezone.now() - timedelta(seconds=settings.UNCERTAIN_AFTER_SECONDS + 1))
    verdict, text, cure = outbox.uncertain()
    assert verdict == "warning" and text.startswith("2 mails are uncertain") and "manage.py settle" in cure


def test_mails_that_no_route_took_are_a_finding(db: None) -> None:
    queue_emails(2)
    Email.objects.update(state="failed", reason="content_missing")
    assert outbox.by_person()[0] == "ok"
    Email.objects.update(reason="held:deadline")
    verdict, text, cure = outbox.by_person()
    assert verdict == "warning" and text.startswith("2 mails went no way") and "Fallbacks" in cure


@pytest.mark.parametrize("state", ["intended", "releasing"])
def test_claims_that_stay_half_done_are_a_finding(db: None, state: str) -> None:
    queue_emails(1)
    Claim.objects.update(state=state, settled_at=timezone.now())
    assert outbox.releases()[0] == "ok"
    past = timezone.now() - timedelta(hours=2)
    Claim.objects.update(created_at=past, settled_at=past)
    verdict, text, cure = outbox.releases()
    assert verdict == "warning" and text.startswith("1 claim has been half made") and cure


def test_counts_stop_somewhere(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST", 2)
    queue_emails(4)
    Email.objects.update(state="failed", reason="held:deadline")
    assert outbox.by_person()[1].startswith("More than 2 mails")


@pytest.mark.parametrize("kind", ["intercept", "dispatch", "recover"])
def test_a_worker_that_lives_and_does_not_get_on_is_a_finding(db: None, kind: str) -> None:
    now = timezone.now()
    for name in ("intercept", "dispatch", "recover"):
        Run.objects.create(kind=name, started_at=now, finished_at=now, outcome="ok")
    assert background.lag()[0] == "ok"
    Run.objects.filter(kind=kind).update(started_at=now - timedelta(minutes=20))
    verdict, text, cure = background.lag()
    assert verdict == "warning" and f"The last {kind} pass began 20 minutes ago" in text and cure


@pytest.mark.parametrize(
    ("code", "words"),
    [(1114, "is full"), (1290, "is read-only"), (1205, "is locked"), (2006, "does not answer"),
     (1064, "takes no row")],
)  # fmt: skip
def test_why_our_database_takes_no_row_is_named(
    db: None, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise OperationalError(code, "detail")

    monkeypatch.setattr(State.objects, "update_or_create", fail)
    verdict, text, cure = ours.writable()
    assert verdict == "problem" and words in text and cure


def test_a_pause_is_told_with_its_time(db: None, settings: Any) -> None:
    set_pause(Pause(claims=True, by="eve", reason="holidays"))
    verdict, text, _cure = ours.switched_on()
    assert verdict == "warning" and f"Last changed at {timezone.now():%Y-%m-%d}" in text
    assert "eve" not in text


def test_rules_that_name_what_moodle_does_not_have_are_a_finding(site: Moodle, examine: Examine) -> None:
    RoutingRule.objects.create(name="fits", activity_id=13)
    assert examine("rules.named").verdict == "ok"
    RoutingRule.objects.create(name="a", activity_id=999_001)
    RoutingRule.objects.create(name="b", course_id=999_002)
    RoutingRule.objects.create(name="c", company_id=999_003)
    RoutingRule.objects.create(name="d", source="gone")
    CopyRule.objects.create(name="e", course_id=999_004, kind="fixed", value="hr@example.org")
    RoutingRule.objects.create(name="off", enabled=False, course_id=999_005)
    found = examine("rules.named")
    assert found.verdict == "warning" and found.cure
    for words in ("a: activity 999001", "b: course 999002", "c: company 999003", "d: source gone",
                  "e: course 999004"):  # fmt: skip
        assert words in found.text
    assert "999005" not in found.text and "example.org" not in found.text


def test_only_a_few_of_many_such_rules_are_named(moodle: Moodle) -> None:
    for number in range(8):
        RoutingRule.objects.create(name=f"rule {number}", course_id=999_000 + number)
    assert "and 3 more" in rules.named()[1]


def test_a_default_that_says_smtp_needs_a_server(site: Moodle, examine: Examine, settings: Any) -> None:
    assert examine("smtp.server").verdict == "ok"
    settings.DEFAULT_FALLBACK = "smtp"
    found = examine("smtp.server")
    assert found.verdict == "warning" and "EMAIL_URL" in found.cure
