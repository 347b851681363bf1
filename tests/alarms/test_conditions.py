"""Each condition: what is an alarm, and what just is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.delivery import health, rate
from emailoffload.delivery.errors import Outcome
from emailoffload.feedback import alarms, claimstop, queuestate
from emailoffload.feedback.models import Event, ReputationHour
from emailoffload.feedback.queuestate import QueueState
from emailoffload.outbox import guardstate, shared
from emailoffload.outbox.models import Lease, Run, State
from emailoffload.worker import alarm_conditions
from emailoffload.worker.alarm_conditions import CONDITIONS, TITLES, Seen
from tests.dashboard.factories import make_finding
from tests.docs.pages import first_column
from tests.outbox.factory import queue_emails

pytestmark = pytest.mark.django_db
NOW = timezone.now()
MINUTE = timedelta(minutes=1)


def seen() -> list[tuple[str, str]]:
    """All that is seen now: codes and subjects."""
    return [(each.code, each.subject) for each in all_seen()]


def all_seen() -> list[Seen]:
    return [each for condition in CONDITIONS for each in condition.look(NOW)]


def runs(kind: str, *outcomes: str, ago: timedelta = MINUTE) -> None:
    for outcome in outcomes:
        Run.objects.create(
            kind=kind, started_at=NOW - ago, finished_at=NOW - ago, outcome=outcome, message="why"
        )


def hour(bounces: int, *, company: int = 0, sends: int = 1000, identity: str = "") -> ReputationHour:
    return ReputationHour.objects.create(
        hour=NOW.replace(minute=0, second=0, microsecond=0), identity=identity, company_id=company, sends=sends,
        permanent_bounces=bounces,
    )  # fmt: skip


def breaker(code: str) -> None:
    health.trip(Outcome("account", code, "SES said so."))


def account(code: str) -> None:
    value = {"problem": {"kind": "account", "code": code, "message": "Check it."}}
    State.objects.create(name=rate.ACCOUNT, value=value)


def queue(**values: Any) -> Callable[[Any], None]:
    def set_up(settings: Any) -> None:
        settings.SES_EVENTS_QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/1/q"
        queuestate.save(QueueState(**values))

    return set_up


def accepted(ago: timedelta, *, event: timedelta | None = None, way: bool = True, route: str = "ses") -> Any:
    def set_up(settings: Any) -> None:
        settings.SNS_TOPICS = ["arn:aws:sns:eu-west-1:123456789012:t"] if way else []
        queue_emails(2, email={"state": "accepted", "accepted_at": NOW - ago, "route": route})
        if event is not None:
            Event.objects.create(key="k", type="send", at=NOW - event, received_at=NOW - event)

    return set_up


def away(count: int, state: str, reason: str, ago: timedelta = MINUTE) -> Callable[[Any], None]:
    def set_up(settings: Any) -> None:
        settings.ALARM_FALLBACKS = 3
        queue_emails(count, email={"state": state, "reason": reason, "state_at": NOW - ago})

    return set_up


TOPIC = "arn:aws:sns:eu-west-1:123456789012:t"


def subscribed(state: str, topics: Sequence[str] = (TOPIC,)) -> Callable[[Any], None]:
    def set_up(settings: Any) -> None:
        settings.SNS_TOPICS = list(topics)
        shared.put("webhook", {TOPIC: {"state": state, "since": NOW.isoformat(), "detail": ""}})

    return set_up


HOUR = timedelta(hours=1)
CASES: dict[str, tuple[Callable[[Any], object], list[tuple[str, str]]]] = {
    "nothing at all": (lambda _: None, []),
    "rates are good": (lambda _: hour(10), []),
    "too few mails": (lambda _: hour(100, sends=150), []),
    "bounces": (lambda _: hour(30), [("reputation_warning", "")]),
    "many bounces": (lambda _: hour(90), [("reputation_stop", "")]),
    "a company's bounces": (
        lambda _: [hour(90, company=4), hour(0, sends=9000)],
        [("reputation_stop", "company:4")],
    ),
    "some companies are warned of together": (
        lambda _: [hour(30, company=4), hour(30, company=5), hour(0, sends=9000)],
        [("reputation_warning", "companies")],
    ),
    "a domain's bounces": (
        lambda _: [hour(30, identity="a.example"), hour(0, sends=9000)],
        [("reputation_warning", "a.example")],
    ),
    "a worker that never ran": (lambda _: Lease.objects.create(name="x"), []),
    "a worker that ran just now": (lambda _: runs("recover", "ok"), []),
    "a worker that is silent": (lambda _: runs("recover", "ok", ago=6 * MINUTE), [("worker_silent", "")]),
    "a breaker": (lambda _: breaker("AccountSuspendedException"), [("breaker_open", "")]),
    "a breaker because of the credentials": (lambda _: breaker("ExpiredToken"), [("credentials", "")]),
    "credentials": (lambda _: account("UnrecognizedClientException"), [("credentials", "")]),
    "credentials that may only send": (lambda _: account("AccessDeniedException"), []),
    "an event queue that is read": (queue(polled_at=NOW, drained_at=NOW), []),
    "an event queue that was never read": (queue(), []),
    "an event queue that is not read": (queue(polled_at=NOW - 11 * MINUTE), [("events_late", "")]),
    "an event queue that cannot be read": (
        queue(polled_at=NOW - HOUR, error="It is gone.", cure="Make it.", error_at=NOW - 11 * MINUTE),
        [("events_late", "")],
    ),
    "an event queue that could not be read a moment ago": (
        queue(polled_at=NOW - 20 * MINUTE, error="It is gone.", cure="Make it.", error_at=NOW - 9 * MINUTE),
        [],
    ),
    "a backlog": (
        queue(polled_at=NOW, waiting=9, drained_at=NOW - 31 * MINUTE),
        [("events_late", "")],
    ),
    "a short backlog": (queue(polled_at=NOW, waiting=9, drained_at=NOW - 29 * MINUTE), []),
    "no event of any mail": (accepted(2 * HOUR), [("events_missing", "")]),
    "no event since": (accepted(2 * HOUR, event=3 * HOUR), [("events_missing", "")]),
    "events": (accepted(2 * HOUR, event=HOUR), []),
    "no event yet": (accepted(59 * MINUTE), []),
    "no events are wanted": (accepted(2 * HOUR, way=False), []),
    "what went by SMTP has no events": (accepted(2 * HOUR, route="smtp"), []),
    "fallbacks": (away(3, "released", "deadline"), [("fallbacks", "")]),
    "fallbacks by SMTP": (away(3, "sent_smtp", "identity"), [("fallbacks", "")]),
    "held mails": (away(3, "failed", "held:deadline"), [("fallbacks", "")]),
    "few fallbacks": (away(2, "released", "deadline"), []),
    "fallbacks long ago": (away(3, "released", "deadline", 61 * MINUTE), []),
    "what people did themselves": (away(3, "released", "drain"), []),
    "a subscription": (subscribed("active"), []),
    "a subscription that was never confirmed": (subscribed("refused"), []),
    "a subscription that ended": (subscribed("ended"), [("subscription_ended", TOPIC)]),
    "a subscription of no concern": (subscribed("ended", topics=[]), []),
    "a possible double": (lambda _: make_finding(verdict="possible_double"), [("findings", "")]),
    "a row that somebody changed": (lambda _: make_finding(verdict="touched"), [("findings", "")]),
    "a row that is gone, or waits": (
        lambda _: [make_finding(verdict="gone"), make_finding(verdict="waiting")],
        [],
    ),
    "what was dealt with": (lambda _: make_finding(verdict="possible_loss", closed_at=NOW), []),
    "failing reconciliations": (
        lambda _: runs("reconcile", "failed", "failed", "refused"),
        [("passes_failing", "reconcile")],
    ),
    "failing passes": (
        lambda _: runs("intercept", "ok", "failed", "refused", "refused"),
        [("passes_failing", "intercept")],
    ),
    "a pass that failed twice": (lambda _: runs("intercept", "ok", "failed", "failed"), []),
    "a pass that recovered": (lambda _: runs("recover", "failed", "failed", "failed", "ok"), []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_an_alarm_and_what_is_not(case: str, settings: Any) -> None:
    set_up, expected = CASES[case]
    set_up(settings)
    assert seen() == expected
    for each in all_seen():
        assert each.text and each.cure
        assert "@" not in f"{each.text}{each.cure}{each.details}"


def test_no_threshold_for_fallbacks_means_no_alarm(settings: Any) -> None:
    away(5, "released", "deadline")(settings)
    settings.ALARM_FALLBACKS = 0
    assert seen() == []


def test_the_figures_are_in_the_text() -> None:
    hour(30, company=9)
    hour(0, sends=1000)
    (one,) = alarm_conditions.reputation(NOW)
    assert "Company 9: Of 1000 mails since" in one.text
    assert "30 bounced for good (3.00 %; SES reviews an account at 5 %" in one.text


def test_the_pass_over_alarms_and_the_watch_over_iomads_queue_are_no_signs_of_life_of_the_worker() -> None:
    runs("recover", "ok", ago=HOUR)
    for name in (alarms.LEASE, guardstate.LEASE):
        Lease.objects.create(name=name, beat_at=NOW)
    assert seen() == [("worker_silent", "")]
    Lease.objects.create(name="recover", beat_at=NOW)
    assert seen() == []


def test_an_override_does_not_hide_that_the_rate_is_too_high() -> None:
    hour(90)
    claimstop.set_override(claimstop.Override(NOW + HOUR, "ann", "why"))
    assert seen() == [("reputation_stop", "")]


def test_findings_are_told_by_kind_and_what_may_have_harmed_somebody_is_critical() -> None:
    make_finding(verdict="touched")
    (one,) = alarm_conditions.findings(NOW)
    assert one.level == "warning"
    make_finding(verdict="possible_loss")
    (one,) = alarm_conditions.findings(NOW)
    assert one.level == "critical"
    assert one.text == "Claims do not agree with Moodle's rows: 1 possible loss, 1 changed by somebody else."


def test_looking_at_everything_takes_a_fixed_number_of_queries(django_assert_max_num_queries: Any) -> None:
    queue_emails(20, email={"state": "released", "reason": "deadline", "state_at": NOW})
    runs("intercept", "failed", "failed", "failed")
    with django_assert_max_num_queries(25):
        seen()


def test_every_code_has_a_title_and_a_line_in_the_documentation_that_says_what_to_do() -> None:
    codes = {code for condition in CONDITIONS for code in condition.codes}
    assert codes | {"test"} == set(TITLES)
    assert sorted(first_column("reputation.md", "Alarms")) == sorted(codes)


def test_the_pages_that_alarms_lead_to_exist() -> None:
    pages = {alarm_conditions.page(code) for code in TITLES}
    assert pages == {"/", "/reputation/", "/fallbacks/", "/reconciliation/", "/runs/"}
