"""Fault, policy, recipients left, Moodle's row: for each where the mail ends, how often it left, and the row."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.delivery import ses as product
from emailoffload.moodle import cronlock
from emailoffload.outbox import switches
from emailoffload.outbox.models import Attempt, AuditEntry, Claim, Email
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import dispatch, fallback, recover, smtp_route
from tests.conftest import Moodle
from tests.fallback.sink import Sink
from tests.fallback.site import claimed, deadline_over, ends, rows, tried

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def at_the_deadline() -> None:
    """The dispatcher's last try, then the fallback."""
    deadline_over()
    dispatch.run()
    fallback.run()


NOTHING_LEFT = {
    "throttle": "deadline",
    "reject": "MessageRejected",
    "pause": "account:SendingPausedException",
    "quota": "account:DailyQuota",
    "denied": "account:AccessDeniedException",
    "refused": "deadline",
}
MAY_HAVE_LEFT = [
    "hang_before",
    "hang_after",
    "reset_before",
    "reset_after",
    "error500",
    "error500_after",
    "garbage",
]


def break_ses(ses: SandboxSES, fault: str, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.SES_READ_TIMEOUT_SECONDS = 0.3
    if fault == "refused":
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", "http://127.0.0.1:9")
    else:
        ses.fault(mode=fault)
    product.forget_client()


@pytest.mark.parametrize("fault", list(NOTHING_LEFT))
@pytest.mark.parametrize("policy", ["moodle", "smtp", "hold"])
def test_what_was_not_transmitted_goes_the_way_of_its_policy(
    moodle: Moodle, ses: SandboxSES, sink: Sink, policy: str, fault: str,
    monkeypatch: pytest.MonkeyPatch, settings: Any,
) -> None:  # fmt: skip
    before = claimed(moodle, policy=policy)
    ours = rows(moodle)
    break_ses(ses, fault, monkeypatch, settings)
    at_the_deadline()
    cause = NOTHING_LEFT[fault]
    ((state, reason),) = ends()
    assert state == {"moodle": "released", "smtp": "sent_smtp", "hold": "failed"}[policy]
    assert reason == (f"held:{cause}" if policy == "hold" else cause)
    assert (ses.accepted, len(sink.taken)) == (0, 1 if policy == "smtp" else 0)
    assert rows(moodle) == (before if policy == "moodle" else ours)
    assert Email.objects.get().route == {"moodle": "moodle", "smtp": "smtp", "hold": "ses"}[policy]


@pytest.mark.parametrize("fault", MAY_HAVE_LEFT)
def test_what_may_have_left_is_uncertain_and_goes_no_other_way(
    moodle: Moodle, ses: SandboxSES, sink: Sink, fault: str, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    claimed(moodle)
    ours = rows(moodle)
    break_ses(ses, fault, monkeypatch, settings)
    at_the_deadline()
    ses.clear_faults()
    dispatch.run()
    fallback.run(at_once=True)
    assert ends()[0][0] == "uncertain"
    assert sink.taken == []
    assert rows(moodle) == ours
    assert Attempt.objects.count() == 1


@pytest.mark.parametrize("policy", ["moodle", "smtp"])
@pytest.mark.usefixtures("no_smtp")
def test_without_smtp_what_cannot_go_back_is_held(moodle: Moodle, ses: SandboxSES, policy: str) -> None:
    before = claimed(moodle, policy=policy)
    tried()
    fallback.run()
    assert ends() == [
        ("released", "EndpointConnectionError")
        if policy == "moodle"
        else ("failed", "held:EndpointConnectionError")
    ]
    assert (rows(moodle) == before) is (policy == "moodle")


@pytest.mark.parametrize("smtp", [True, False])
def test_a_claim_of_which_a_mail_has_left_is_completed_by_smtp_or_held(
    moodle: Moodle, ses: SandboxSES, sink: Sink, settings: Any, smtp: bool
) -> None:
    settings.SMTP_ROUTE = smtp
    claimed(moodle, copies=2)
    ours = rows(moodle)
    ses.fault(mode="throttle", match="hr0@")
    ses.fault(mode="throttle", match="hr1@")
    at_the_deadline()
    states = dict(Email.objects.values_list("address", "state"))
    rest = "sent_smtp" if smtp else "failed"
    assert states.pop("hr0@example.org") == states.pop("hr1@example.org") == rest
    assert list(states.values()) == ["accepted"]
    assert (ses.accepted, len(sink.taken)) == (1, 2 if smtp else 0)
    assert rows(moodle) == ours
    assert "left" in Email.objects.exclude(state="accepted").first().detail or smtp  # type: ignore[union-attr]


CHANGES: dict[str, Callable[[Moodle], object]] = {
    "changed": lambda moodle: moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailsent = emailsent + 1, emailtime = emailtime + 5"
    ),
    "completed": lambda moodle: moodle.execute("UPDATE mdl_reengagement_inprogress SET completed = 1"),
    "gone": lambda moodle: moodle.execute("DELETE FROM mdl_reengagement_inprogress"),
    "too late": lambda moodle: Claim.objects.update(due_at=timezone.now() - timedelta(days=2)),
}


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.usefixtures("no_smtp")
def test_a_row_that_moodle_would_not_send_from_is_not_handed_back(
    moodle: Moodle, ses: SandboxSES, change: str
) -> None:
    claimed(moodle)
    CHANGES[change](moodle)
    after = rows(moodle)
    tried()
    fallback.run()
    assert ends() == [("failed", "held:EndpointConnectionError")]
    assert Email.objects.get().detail != ""
    assert rows(moodle) == after


@pytest.mark.parametrize("due", [-60, 300])
def test_a_queue_mail_goes_back_while_iomads_cron_runs(
    moodle: Moodle, ses: SandboxSES, sink: Sink, due: int
) -> None:
    before = claimed(moodle, 3, source="iomad_queue", due=due)
    tried()
    target = cronlock.task_of("local_email")
    with cronlock.CronLock(target) as lock:
        assert lock.acquired
        fallback.run()
    assert {state for state, _ in ends()} == {"released"}
    assert rows(moodle, "iomad_queue") == before


def test_a_row_that_no_run_can_have_read_goes_back_while_moodles_cron_runs(
    moodle: Moodle, ses: SandboxSES
) -> None:
    before = claimed(moodle)
    tried()
    with cronlock.CronLock(cronlock.reengagement_lock_target()):
        fallback.run()
    assert ends()[0][0] == "released"
    assert rows(moodle) == before


@pytest.mark.parametrize("why", ["its completion is due", "its next reminder is due"])
def test_another_waits_until_the_run_is_over(moodle: Moodle, ses: SandboxSES, sink: Sink, why: str) -> None:
    before = claimed(moodle)
    claim = Claim.objects.get()
    if why == "its completion is due":
        claim.completiontime = int(time.time()) - 5
    else:
        claim.after["emailtime"] = int(time.time()) - 5
        moodle.execute("UPDATE mdl_reengagement_inprogress SET emailtime = %s", [claim.after["emailtime"]])
    claim.save()
    ours = rows(moodle)
    tried()
    with cronlock.CronLock(cronlock.reengagement_lock_target()):
        fallback.run()
        assert ends() == [("queued", "EndpointConnectionError")]
        assert rows(moodle) == ours
        Email.objects.update(deadline_at=timezone.now() - timedelta(hours=1))
        fallback.run()
    # It does not wait for ever: after a second deadline the next route takes it.
    assert (ends()[0][0], len(sink.taken), rows(moodle)) == ("sent_smtp", 1, ours)
    Email.objects.update(state="queued", lease="", route="ses")
    tried()
    fallback.run()
    assert (ends()[0][0], rows(moodle)) == ("released", before)


@pytest.mark.usefixtures("no_smtp")
def test_a_lock_that_cannot_be_shared_leaves_it_to_a_person(
    moodle: Moodle, ses: SandboxSES, settings: Any
) -> None:
    claimed(moodle)
    Claim.objects.update(completiontime=1)
    settings.MOODLE_LOCK_FACTORY = "file"
    tried()
    fallback.run()
    assert ends() == [("failed", "held:EndpointConnectionError")]
    assert "lock" in Email.objects.get().detail


def test_reminders_of_one_row_go_back_together(moodle: Moodle, ses: SandboxSES) -> None:
    before = claimed(moodle)
    old = Claim.objects.get()
    # The next reminder of the same row, claimed ahead on the values that the first claim wrote.
    after = {"emailsent": 9, "emailtime": old.after["emailtime"] + 600}
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailsent = 9, emailtime = emailtime + 600")
    email = Email.objects.get()
    later = Claim.objects.get()
    later.pk, later.ref, later.intent_key = None, uuid.uuid4(), "later"
    later.before, later.after = {**old.before, **old.after}, after
    later.due_at = timezone.now() + timedelta(minutes=5)
    later.save()
    email.pk, email.claim, email.due_at = None, later, later.due_at
    email.ref = uuid.uuid4()
    email.next_try_at = email.deadline_at = later.due_at
    email.save()
    Email.objects.filter(claim=old).update(
        deadline_at=timezone.now(), next_try_at=timezone.now(), attempts=1, reason="x"
    )
    fallback.run()
    assert {state for state, _ in ends()} == {"released"}
    assert rows(moodle) == before


class TestTime:
    """Nothing goes another way before its time, and everything does at its time."""

    def test_before_the_deadline_ses_is_tried(self, moodle: Moodle, ses: SandboxSES, sink: Sink) -> None:
        claimed(moodle)
        Email.objects.update(attempts=2, reason="EndpointConnectionError")
        fallback.run()
        assert ends() == [("queued", "EndpointConnectionError")]

    def test_what_nobody_tried_is_sent_by_ses_when_the_worker_is_back(
        self, moodle: Moodle, ses: SandboxSES
    ) -> None:
        claimed(moodle)
        deadline_over()
        fallback.run()
        dispatch.run()
        assert ends() == [("accepted", "")]

    def test_after_a_second_deadline_what_nobody_tried_goes_another_way(
        self, moodle: Moodle, ses: SandboxSES
    ) -> None:
        before = claimed(moodle)
        Email.objects.update(deadline_at=timezone.now() - timedelta(hours=1))
        assert recover.run().counts["handed_back"] == 1
        assert ends() == [("released", "deadline")]
        assert rows(moodle) == before

    @pytest.mark.parametrize("policy", ["moodle", "smtp", "hold"])
    def test_when_ses_refuses_the_account_only_what_would_be_held_waits_for_its_deadline(
        self, moodle: Moodle, ses: SandboxSES, sink: Sink, policy: str
    ) -> None:
        claimed(moodle, 2, policy=policy)
        ahead = Email.objects.order_by("pk").last()
        assert ahead
        later = timezone.now() + timedelta(minutes=3)
        Email.objects.filter(pk=ahead.pk).update(due_at=later, next_try_at=later)
        ses.fault(mode="pause")
        assert dispatch.run().opened
        fallback.run()
        first, second = (state for state, _ in ends())
        assert first == {"moodle": "released", "smtp": "sent_smtp", "hold": "queued"}[policy]
        assert second == "queued", "what is not due yet may still go by the cloud"

    @pytest.mark.parametrize("policy", ["moodle", "smtp", "hold"])
    def test_while_a_person_has_paused_sending_nothing_is_sent_or_held(
        self, moodle: Moodle, ses: SandboxSES, sink: Sink, policy: str
    ) -> None:
        claimed(moodle, policy=policy)
        tried()
        switches.set_pause(switches.Pause(sends=True, by="anna"))
        fallback.run()
        assert ends()[0] == (
            ("released", "paused") if policy == "moodle" else ("queued", "EndpointConnectionError")
        )
        assert sink.taken == []

    def test_a_pause_in_the_middle_of_a_pass_by_smtp_stops_its_next_batch(
        self, moodle: Moodle, ses: SandboxSES, sink: Sink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claimed(moodle, 3, policy="smtp")
        tried()
        monkeypatch.setattr(smtp_route, "BATCH", 1)

        def pause(name: str) -> None:
            if name == "smtp_after_send":
                switches.change(claims=None, sends=True, by="anna", reason="")

        monkeypatch.setattr("emailoffload.worker.killpoints.reached", pause)
        fallback.run()
        assert len(sink.taken) == 1
        assert sorted(state for state, _ in ends()) == ["queued", "queued", "sent_smtp"]

    def test_what_failed_long_ago_is_left_alone(self, moodle: Moodle, ses: SandboxSES, sink: Sink) -> None:
        claimed(moodle)
        Email.objects.update(state="failed", reason="deadline", state_at=timezone.now() - timedelta(days=3))
        fallback.run()
        assert ends() == [("failed", "deadline")]

    def test_while_moodles_database_is_away_nothing_is_held(
        self, moodle: Moodle, ses: SandboxSES, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from emailoffload.moodle.errors import MoodleProblem

        def away() -> None:
            raise MoodleProblem("it is away", "wait")

        settings.SMTP_ROUTE = False
        claimed(moodle)
        tried()
        monkeypatch.setattr(fallback, "check_reachable", away)
        fallback.run()
        assert ends() == [("queued", "EndpointConnectionError")]
        monkeypatch.undo()
        fallback.run()
        assert ends()[0][0] == "released"


class TestBySmtp:
    """What the SMTP server says is what becomes of the mail."""

    @pytest.mark.parametrize(
        ("fault", "state", "reason", "taken"),
        [
            ("recipient", "failed", "smtp_recipient", 0),
            ("content", "failed", "smtp_refused", 0),
            ("greylist", "queued", "EndpointConnectionError", 0),
            ("login", "queued", "EndpointConnectionError", 0),
            ("before_data", "queued", "EndpointConnectionError", 0),
            ("after_data", "uncertain", "smtp_no_answer", 1),
            ("hang", "uncertain", "smtp_no_answer", 1),
        ],
    )
    def test_each_answer_has_its_state(
        self, moodle: Moodle, ses: SandboxSES, sink: Sink, settings: Any,
        fault: str, state: str, reason: str, taken: int,
    ) -> None:  # fmt: skip
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = "x"
        claimed(moodle, policy="smtp")
        tried()
        sink.fault = fault
        fallback.run()
        assert ends() == [(state, reason)]
        assert len(sink.taken) == taken
        assert dispatch.run().sent == 0, "what is set aside for SMTP is out of the dispatcher's reach"

    @pytest.mark.parametrize("fault", ["greylist", "login"])
    def test_what_smtp_does_not_take_until_a_second_deadline_is_held(
        self, moodle: Moodle, ses: SandboxSES, sink: Sink, settings: Any, fault: str
    ) -> None:
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = "x"
        claimed(moodle, policy="smtp")
        tried()
        sink.fault = fault
        fallback.run()
        deadline_over()
        fallback.run()
        assert ends() == [("failed", "held:EndpointConnectionError")]

    def test_what_smtp_could_not_take_is_sent_by_it_when_it_is_back(
        self, moodle: Moodle, ses: SandboxSES, sink: Sink
    ) -> None:
        claimed(moodle, 3, policy="smtp")
        tried()
        sink.fault, sink.one_shot = "greylist", True
        fallback.run()
        assert sorted(state for state, _ in ends()) == ["queued", "sent_smtp", "sent_smtp"]
        Email.objects.filter(state="queued").update(next_try_at=timezone.now())
        fallback.run()
        assert {state for state, _ in ends()} == {"sent_smtp"}
        assert (len(set(sink.refs())), len(sink.taken)) == (3, 3)
        assert sorted(Attempt.objects.values_list("route", flat=True)) == ["smtp"] * 4

    def test_a_learner_who_is_no_longer_owed_the_mail_gets_none(
        self, moodle: Moodle, ses: SandboxSES, sink: Sink
    ) -> None:
        claimed(moodle, policy="smtp")
        tried()
        moodle.execute("UPDATE mdl_user SET deleted = 1 WHERE id = %s", [Claim.objects.get().user_id])
        fallback.run()
        assert ends()[0][0] == "suppressed"
        assert sink.taken == []

    def test_a_mail_whose_content_is_gone_can_go_back_but_not_by_smtp(
        self, moodle: Moodle, ses: SandboxSES, sink: Sink
    ) -> None:
        claimed(moodle, policy="smtp")
        Email.objects.update(state="failed", reason="content_missing")
        fallback.run()
        assert ends() == [("failed", "held:content_missing")]

    def test_without_the_route_what_was_set_aside_for_it_is_held(
        self, moodle: Moodle, ses: SandboxSES, sink: Sink, settings: Any
    ) -> None:
        claimed(moodle, policy="smtp")
        tried()
        sink.stop()
        fallback.run()
        settings.SMTP_ROUTE = False
        fallback.run()
        assert ends() == [("failed", "held:EndpointConnectionError")]


def test_what_goes_another_way_is_in_the_audit_log_as_the_workers_with_its_cause(
    moodle: Moodle, ses: SandboxSES
) -> None:
    claimed(moodle)
    tried()
    fallback.run()
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.reason) == (
        "worker", "release", "fallback: EndpointConnectionError"
    )  # fmt: skip


def test_a_pass_with_nothing_to_do_leaves_no_record(moodle: Moodle, ses: SandboxSES) -> None:
    from emailoffload.outbox.models import Run

    assert fallback.run().as_dict()["handed_back"] == 0
    assert not Run.objects.filter(kind="fallback").exists()


def test_passes_over_many_claims_need_a_bounded_number_of_queries(
    moodle: Moodle, ses: SandboxSES, django_assert_max_num_queries: Any
) -> None:
    claimed(moodle, 40)
    tried()
    with django_assert_max_num_queries(45):
        assert fallback.run().counts["handed_back"] == 40
