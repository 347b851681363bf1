"""Uncertain mails at their deadline: by policy once more at most, and only what is still owed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.actions.settle import settle
from emailoffload.dashboard.known import Known
from emailoffload.dashboard.verdicts import verdict
from emailoffload.delivery import health
from emailoffload.delivery.errors import Outcome
from emailoffload.feedback import inbox, queuestate
from emailoffload.feedback.evidence import NotTaken
from emailoffload.outbox import switches
from emailoffload.outbox.models import Attempt, AuditEntry, Claim, Content, Email
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import dispatch, fallback, recover, uncertain
from tests.conftest import Moodle
from tests.dashboard.reported import make_event
from tests.fallback.sink import Sink
from tests.fallback.site import claimed, deadline_over, ends, rows
from tests.feedback import samples
from tests.outbox.factory import queue_email

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
DAY = timedelta(days=1)


def unanswered(moodle: Moodle, ses: SandboxSES, mode: str = "reset_after", **claim: Any) -> None:
    """One reminder that was sent and never answered, longer ago than evidence is waited for."""
    claimed(moodle, **claim)
    ses.fault(mode=mode)
    dispatch.run(budget=20)
    ses.clear_faults()
    assert [state for state, _ in ends()] == ["uncertain"]
    Email.objects.update(state_at=timezone.now() - DAY - timedelta(seconds=5))


@pytest.fixture(autouse=True)
def short_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass ends when all that is due was tried."""
    monkeypatch.setattr(dispatch, "SOON", timedelta(seconds=0.05))


@pytest.fixture(params=["resend", "smtp"])
def policy(request: pytest.FixtureRequest, settings: Any) -> str:
    settings.UNCERTAIN_POLICY = request.param
    return str(request.param)


def passes(count: int = 3) -> None:
    """Let recovery, the fallback and the dispatcher work."""
    for _ in range(count):
        recover.run()
        dispatch.run(budget=20)
        Email.objects.update(next_try_at=timezone.now())


def test_without_a_policy_nothing_is_sent_again(moodle: Moodle, ses: SandboxSES, sink: Sink) -> None:
    unanswered(moodle, ses)
    passes()
    assert ends()[0][0] == "uncertain"
    assert (ses.accepted, len(sink.taken), AuditEntry.objects.count()) == (1, 0, 0)
    assert "a person must find out" in verdict(Email.objects.get()).cure


def test_the_policy_sends_it_once_more(moodle: Moodle, ses: SandboxSES, sink: Sink, policy: str) -> None:
    unanswered(moodle, ses, "reset_before")
    ours = rows(moodle)
    assert "sent once more" in verdict(Email.objects.get()).cure
    passes()
    assert ends()[0][0] == {"resend": "accepted", "smtp": "sent_smtp"}[policy]
    assert (ses.accepted, len(sink.taken)) == {"resend": (1, 0), "smtp": (0, 1)}[policy]
    assert rows(moodle) == ours
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.details) == ("uncertain_policy", "worker", {"policy": policy})


def test_before_the_deadline_evidence_is_waited_for(
    moodle: Moodle, ses: SandboxSES, sink: Sink, policy: str
) -> None:
    unanswered(moodle, ses)
    Email.objects.update(state_at=timezone.now() - DAY + timedelta(minutes=5))
    passes()
    assert ends()[0][0] == "uncertain"
    says = verdict(Email.objects.get()).cure
    assert "0 h 04 min" in says and "Then it is sent once more" in says


def test_a_second_try_without_an_answer_is_the_last(
    moodle: Moodle, ses: SandboxSES, sink: Sink, policy: str
) -> None:
    unanswered(moodle, ses)
    ses.fault(mode="reset_after")
    sink.fault = "after_data"
    passes()
    for _ in range(3):
        Email.objects.update(state_at=timezone.now() - DAY - timedelta(seconds=5))
        passes(1)
    assert ends()[0][0] == "uncertain"
    assert ses.accepted + len(sink.taken) == 2
    assert list(Attempt.objects.order_by("number").values_list("outcome", flat=True)) == ["unknown"] * 2
    Email.objects.update(next_try_at=timezone.now() + uncertain.NEVER, state_at=timezone.now() - DAY)
    assert "a person must find out" in verdict(Email.objects.get()).cure


def completed(moodle: Moodle) -> None:
    moodle.execute("UPDATE mdl_user_enrolments SET status = 1")


NOT_AGAIN: dict[str, Callable[[Moodle], object]] = {
    "not owed any more": completed,
    "not ours any more": lambda moodle: Claim.objects.update(state="released"),
    "erased": lambda moodle: Content.objects.all().delete(),
}


@pytest.mark.parametrize("why", list(NOT_AGAIN))
def test_what_must_not_be_sent_stays_uncertain_for_a_person(
    moodle: Moodle, ses: SandboxSES, sink: Sink, policy: str, why: str
) -> None:
    unanswered(moodle, ses)
    NOT_AGAIN[why](moodle)
    recover.run()
    recover.run()
    dispatch.run(budget=20)
    assert ends()[0][0] == "uncertain"
    assert (ses.accepted, len(sink.taken)) == (1, 0)
    assert uncertain.ruled_out(Email.objects.get())
    assert "a person must find out" in verdict(Email.objects.get()).cure


def test_while_moodle_cannot_be_asked_it_waits(
    moodle: Moodle, ses: SandboxSES, sink: Sink, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emailoffload.sources import registry

    def away(name: str) -> Any:
        raise ConnectionError

    unanswered(moodle, ses)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "get", away)
        assert uncertain.run() == {"uncertain_resent": 0}
    email = Email.objects.get()
    assert email.state == "uncertain" and not uncertain.ruled_out(email)
    Email.objects.update(next_try_at=timezone.now())
    assert uncertain.run() == {"uncertain_resent": 1}


def test_while_the_way_is_closed_it_waits(
    moodle: Moodle, ses: SandboxSES, sink: Sink, policy: str, settings: Any
) -> None:
    unanswered(moodle, ses)
    switches.set_pause(switches.Pause(sends=True, by="anna"))
    assert uncertain.run() == {"uncertain_resent": 0}
    switches.set_pause(switches.Pause())
    if policy == "smtp":
        settings.SMTP_ROUTE = False
    else:
        health.trip(Outcome("account", "SendingPausedException", "paused"))
    assert uncertain.run() == {"uncertain_resent": 0}
    settings.SMTP_ROUTE = True
    health.close()
    assert uncertain.run() == {"uncertain_resent": 1}


NOW = timezone.now()
SILENCE = NotTaken(NOW - 2 * DAY, NOW - DAY, NOW - DAY)
DECIDED: list[
    tuple[timedelta, int, NotTaken | None, tuple[uncertain.Next, uncertain.Next, uncertain.Next]]
] = [
    # since its deadline, tries without an answer, evidence that none was taken: by hold, by resend, by smtp
    (-timedelta(seconds=1), 1, None, ("wait", "wait", "wait")),
    (-timedelta(seconds=1), 1, SILENCE, ("wait", "wait", "wait")),
    (timedelta(), 1, None, ("hold", "resend", "smtp")),
    (timedelta(), 1, SILENCE, ("resend", "resend", "resend")),
    (DAY, 2, None, ("hold", "hold", "hold")),
    (DAY, 2, SILENCE, ("resend", "resend", "resend")),
]


@pytest.mark.parametrize(("since", "tries", "silence", "decided"), DECIDED)
def test_what_is_done_with_an_uncertain_mail_follows_from_time_evidence_and_policy(
    settings: Any, since: timedelta, tries: int, silence: NotTaken | None, decided: tuple[str, str, str]
) -> None:
    known = uncertain.Evidence(NOW - since, tries, silence)
    for name, expected in zip(("hold", "resend", "smtp"), decided, strict=True):
        settings.UNCERTAIN_POLICY = name
        assert uncertain.decide(known, NOW) == expected


def mail() -> Email:
    """The mail without an answer; others only bear witness."""
    return Email.objects.earliest("pk")


class TestEvidence:
    """A site with an event queue: SES's silence about a mail, where it is well founded, has it sent once more."""

    @pytest.fixture(autouse=True)
    def unanswered(self, moodle: Moodle, ses: SandboxSES, sink: Sink) -> None:
        unanswered(moodle, ses, "reset_before")

    @pytest.fixture(autouse=True)
    def events(self, unanswered: None, settings: Any) -> None:
        settings.SES_EVENTS_QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"
        settings.SES_CONFIGURATION_SET = "email-offload"

    def silence(self) -> None:
        """Another mail that left after the last try was reported, and the queue was empty after that."""
        Attempt.objects.update(started_at=timezone.now() - DAY, finished_at=timezone.now() - DAY)
        other = queue_email(email={"state": "accepted"})
        make_event("send", other, at=timezone.now() - DAY / 2)
        queuestate.save(queuestate.QueueState(drained_at=timezone.now()))

    def look(self) -> int:
        Email.objects.update(next_try_at=timezone.now())
        return uncertain.run()["uncertain_resent"]

    @pytest.mark.parametrize("policy", ["hold", "resend", "smtp"])
    def test_it_is_sent_once_more_by_ses_whatever_the_policy(
        self, ses: SandboxSES, sink: Sink, settings: Any, policy: str
    ) -> None:
        settings.UNCERTAIN_POLICY = policy
        self.silence()
        passes(1)
        assert mail().state == "accepted"
        assert (ses.accepted, len(sink.taken)) == (1, 0)
        entry = AuditEntry.objects.get()
        assert (entry.action, entry.actor) == ("uncertain_not_taken", "worker")
        assert set(entry.details) == {"tried_at", "drained_at", "witness_at"}

    def test_one_evidence_is_good_for_one_try(self, ses: SandboxSES) -> None:
        self.silence()
        ses.fault(mode="reset_before")
        passes(1)
        assert mail().state == "uncertain"
        Email.objects.update(state_at=timezone.now() - DAY - timedelta(seconds=5))
        assert self.look() == 0
        self.silence()
        assert self.look() == 1
        assert [entry.action for entry in AuditEntry.objects.all()] == ["uncertain_not_taken"] * 2

    def test_without_evidence_the_policy_decides(self, settings: Any) -> None:
        assert self.look() == 0
        settings.UNCERTAIN_POLICY = "resend"
        assert self.look() == 1
        assert AuditEntry.objects.get().action == "uncertain_policy"

    def test_evidence_that_comes_late_still_counts_for_some_days(self) -> None:
        assert uncertain.run() == {"uncertain_resent": 0}
        email = mail()
        assert not uncertain.ruled_out(email)
        assert timezone.now() < email.next_try_at <= timezone.now() + uncertain.LOOK_AGAIN
        self.silence()
        assert self.look() == 1

    def test_after_that_a_person_decides(self) -> None:
        Email.objects.update(state_at=timezone.now() - DAY - uncertain.LATE_EVIDENCE - timedelta(seconds=5))
        assert self.look() == 0
        assert uncertain.ruled_out(mail())

    def test_an_event_of_the_mail_settles_it_instead(self) -> None:
        self.silence()
        event = samples.event("Send", to=mail().address, ref=mail().ref.hex, message_id="m-2")
        inbox.receive([inbox.Message(samples.body(event))])
        assert self.look() == 0
        assert mail().state == "accepted"

    def test_while_ses_takes_nothing_it_waits(self, settings: Any) -> None:
        self.silence()
        settings.UNCERTAIN_POLICY = "smtp"
        health.trip(Outcome("account", "SendingPausedException", "paused"))
        assert self.look() == 0
        assert not uncertain.ruled_out(mail())
        health.close()
        assert self.look() == 1
        assert mail().route == "ses"

    def test_the_page_says_what_follows(self) -> None:
        silence = Known(not_taken=SILENCE)
        email = mail()
        assert "So it is sent once more by Amazon SES" in verdict(email, silence).cure
        assert "a person must find out" in verdict(email).cure
        email.state_at = timezone.now() - DAY / 2
        assert "If no report of it comes until then" in verdict(email, silence).cure
        assert "If it shows by then that Amazon SES did not take it" in verdict(email).cure
        email.state_at, email.next_try_at = timezone.now() - 4 * DAY, timezone.now() + uncertain.NEVER
        assert "a person must find out" in verdict(email, silence).cure


class TestNotTransmitted:
    """A mail that was sent once more, and nothing was transmitted: may it go back to Moodle?"""

    def again(self, by_person: bool, settings: Any) -> None:
        settings.SMTP_ROUTE = False
        if by_person:
            settle([Email.objects.get().pk], decision="resend", actor="anna", reason="SES has no such mail")
        else:
            settings.UNCERTAIN_POLICY = "resend"
            assert uncertain.run() == {"uncertain_resent": 1}

    @pytest.mark.parametrize("by_person", [False, True])
    def test_only_if_a_person_found_out_that_it_had_not_left(
        self, moodle: Moodle, ses: SandboxSES, settings: Any, by_person: bool
    ) -> None:
        unanswered(moodle, ses)
        ours = rows(moodle)
        self.again(by_person, settings)
        ses.fault(mode="throttle")
        deadline_over()
        dispatch.run(budget=20)
        fallback.run()
        assert ends() == [("released", "deadline") if by_person else ("failed", "held:deadline")]
        assert (rows(moodle) == ours) is not by_person
        if not by_person:
            assert "may have left" in Email.objects.get().detail
