"""One pass of the dispatcher, on real MariaDB against a fake SES."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.models import F
from django.utils import timezone

from emailoffload.delivery import health, rate
from emailoffload.moodle.errors import MoodleUnreachable
from emailoffload.outbox import content
from emailoffload.outbox.models import Attempt, Content, Email, Run
from emailoffload.outbox.states import EmailState
from emailoffload.outbox.switches import Pause, set_pause
from emailoffload.sources.protocol import Recheck
from emailoffload.worker import dispatch, lease, outcomes, stopping
from tests.fake_ses import FakeSes, Reply
from tests.outbox.factory import parts, queue_email, queue_emails
from tests.settings import SERVER
from tests.worker.conftest import Source

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.mariadb,
    pytest.mark.usefixtures("source"),
]


def states() -> dict[str, int]:
    counts: dict[str, int] = {}
    for state in Email.objects.values_list("state", flat=True):
        counts[state] = counts.get(state, 0) + 1
    return counts


@pytest.fixture
def stop() -> Iterator[Callable[[], None]]:
    """Asks the pass to end: what is in flight is still recorded."""
    yield stopping._here.set
    stopping._here.clear()


def run(**options: Any) -> dispatch.DispatchResult:
    return dispatch.run(**{"budget": 20.0} | options)


def test_due_mails_are_accepted_with_everything_on_record(ses: FakeSes) -> None:
    emails = queue_emails(150)
    result = run()
    assert (result.sent, result.failed, result.refused) == (150, 0, "")
    assert ses.times() == {email.ref.hex: 1 for email in emails}
    email = Email.objects.get(pk=emails[0].pk)
    assert (
        email.state == EmailState.ACCEPTED and email.message_id and email.accepted_at and email.attempts == 1
    )
    assert (email.lease, email.leased_until) == ("", None)
    attempt = Attempt.objects.get(email=email)
    assert (attempt.outcome, attempt.number, attempt.http_status) == ("accepted", 1, 200)
    assert attempt.message_id == email.message_id and attempt.request_id and attempt.holder
    assert attempt.finished_at is not None and attempt.started_at <= attempt.finished_at
    assert Email.objects.values("message_id").distinct().count() == 150
    assert Run.objects.get(kind="dispatch").counts["sent"] == 150


def test_what_leaves_is_what_was_rendered(ses: FakeSes) -> None:
    email = queue_email(subject="Sübject", text="the text", html="<b>html</b>")
    run()
    (request,) = ses.sent
    simple = request.body["Content"]["Simple"]
    assert simple["Subject"]["Data"] == "Sübject"
    assert simple["Body"]["Text"]["Data"] == "the text" and simple["Body"]["Html"]["Data"] == "<b>html</b>"
    assert request.body["Destination"]["ToAddresses"] == [f'"Anna Ahlberg" <{email.address}>']
    assert {"Name": "email-offload-id", "Value": email.ref.hex} in request.body["EmailTags"]


def test_mails_that_are_not_due_stay(ses: FakeSes) -> None:
    queue_emails(3, due=timezone.now() + timedelta(minutes=5))
    result = run()
    assert (result.sent, result.more, states()) == (0, False, {"queued": 3})


def test_a_pass_stays_on_and_sends_within_a_second_of_the_due_time(ses: FakeSes) -> None:
    queue_emails(3, due=timezone.now() + timedelta(seconds=1.2))
    assert run().sent == 3
    for email in Email.objects.all():
        assert email.accepted_at is not None
        assert timedelta(0) <= email.accepted_at - email.due_at < timedelta(seconds=1.5)


def test_a_pass_ends_with_its_budget_and_says_that_more_falls_due(ses: FakeSes) -> None:
    queue_email(due=timezone.now() + timedelta(seconds=60))
    started = time.monotonic()
    result = run(budget=0.3)
    assert result.more and time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("reply", "outcome", "state", "reason"),
    [
        (
            Reply(429, "TooManyRequestsException", "slow down"),
            "throttled",
            "queued",
            "TooManyRequestsException",
        ),
        (Reply(400, "MessageRejected", "bad content"), "permanent", "failed", "MessageRejected"),
        (Reply(400, "BadRequestException", "bad domain"), "permanent", "failed", "BadRequestException"),
        (Reply(500, "InternalFailure"), "unknown", "uncertain", "InternalFailure"),
        (Reply(503, ""), "unknown", "uncertain", "503"),
        (Reply(reset=True), "unknown", "uncertain", "ConnectionClosedError"),
        (Reply(raw=b"<html>login</html>"), "unknown", "uncertain", "NoMessageId"),
        (Reply(raw=b"{}"), "unknown", "uncertain", "NoMessageId"),
    ],
)
def test_each_outcome_leads_to_its_state(
    ses: FakeSes, stop: Callable[[], None], reply: Reply, outcome: str, state: str, reason: str
) -> None:
    email = queue_email()

    def answer(request: Any) -> Reply:
        stop()
        return reply

    ses.behave = answer
    run()
    email.refresh_from_db()
    assert (email.state, email.reason) == (state, reason)
    assert len(ses.sent) == 1
    attempt = Attempt.objects.get()
    assert (attempt.outcome, attempt.error_code) == (outcome, reason)


def test_an_unanswered_send_is_uncertain_and_never_sent_again(ses: FakeSes, settings: Any) -> None:
    settings.SES_READ_TIMEOUT_SECONDS = 0.3
    email = queue_email()
    ses.behave = lambda request: Reply(hang=True)
    assert run().uncertain == 1
    ses.behave = lambda request: None
    run()
    email.refresh_from_db()
    assert (email.state, email.reason, len(ses.sent)) == ("uncertain", "ReadTimeoutError", 1)


def test_a_refused_connection_is_tried_again_and_then_succeeds(ses: FakeSes, monkeypatch: Any) -> None:
    email = queue_email()
    rate.known()  # read while SES could be reached
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", "http://127.0.0.1:9")
    dispatch.ses.forget_client()
    assert run(budget=2.0).retried >= 1
    email.refresh_from_db()
    assert (email.state, email.reason) == ("queued", "EndpointConnectionError")
    assert email.state_at < email.next_try_at <= email.deadline_at
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", ses.url)
    dispatch.ses.forget_client()
    Email.objects.update(next_try_at=timezone.now())
    assert run().sent == 1
    outcomes_in_order = list(Attempt.objects.order_by("number").values_list("number", "outcome"))
    assert outcomes_in_order[0] == (1, "not_transmitted")
    assert outcomes_in_order[-1] == (email.attempts + 1, "accepted")


def test_after_the_deadline_a_mail_that_cannot_be_transmitted_fails_visibly(ses: FakeSes) -> None:
    email = queue_email(due=timezone.now() - timedelta(hours=1))
    ses.behave = lambda request: Reply(429, "TooManyRequestsException", "slow down")
    assert run().failed == 1
    email.refresh_from_db()
    assert (email.state, email.reason) == ("failed", "deadline")


def test_retries_wait_longer_each_time_and_are_spread() -> None:
    waits = [
        [outcomes.delay("not_transmitted", attempt).total_seconds() for _ in range(200)]
        for attempt in (1, 3, 9)
    ]
    assert all(1.0 <= wait <= 3.0 for wait in waits[0])
    assert all(4.0 <= wait <= 12.0 for wait in waits[1])
    assert all(30.0 <= wait <= 90.0 for wait in waits[2])
    assert len(set(waits[0])) > 100


def test_a_refusal_of_the_account_stops_the_pass_at_once_and_gives_the_mails_back(ses: FakeSes) -> None:
    queue_emails(500)
    ses.behave = lambda request: Reply(400, "SendingPausedException", "paused")
    result = run()
    assert "SendingPausedException" in result.refused and "Resume" in result.cure
    assert states() == {"queued": 500}
    assert len(ses.sent) <= 128
    assert Email.objects.filter(reason="account:SendingPausedException").count() == len(ses.sent)
    assert not Attempt.objects.filter(outcome="in_flight").exists()
    assert not Email.objects.exclude(lease="").exists()
    healthy, why = health.healthy()
    assert not healthy and "SendingPausedException" in why
    assert "tried again in" in run().refused
    assert len(ses.sent) <= 128


def test_after_a_refusal_one_mail_tries_first_and_opens_the_way(ses: FakeSes) -> None:
    queue_emails(20)
    ses.behave = lambda request: Reply(400, "SendingPausedException", "paused")
    run()
    health.State.objects.filter(name=health.BREAKER).update(
        value={"code": "x", "why": "y", "open_until": time.time() - 1, "times": 1}
    )
    Email.objects.update(next_try_at=timezone.now())
    before = len(ses.sent)
    run()
    assert len(ses.sent) == before + 1 and not health.healthy()[0]
    breaker = health.breaker()
    assert breaker is not None and breaker.times == 2
    health.State.objects.filter(name=health.BREAKER).update(
        value={"code": "x", "why": "y", "open_until": time.time() - 1, "times": 2}
    )
    Email.objects.update(next_try_at=timezone.now())
    ses.behave = lambda request: None
    assert run().sent == 20
    assert health.breaker() is None and health.healthy()[0]


def test_an_ses_that_answers_nothing_makes_few_mails_uncertain_not_all(ses: FakeSes, settings: Any) -> None:
    settings.DISPATCH_THREADS = 8
    queue_emails(200)
    ses.behave = lambda request: Reply(503, "")
    result = run()
    assert result.refused and result.uncertain <= 32
    assert states()["queued"] == 200 - result.uncertain


def longer_ago(seconds: float) -> None:
    """All tries so far were made so much earlier."""
    by = timedelta(seconds=seconds)
    Attempt.objects.update(started_at=F("started_at") - by, finished_at=F("finished_at") - by)


def one_more() -> dispatch.DispatchResult:
    """One more mail, in a pass of its own."""
    queue_email()
    return run()


def test_an_ses_that_answers_nothing_is_noticed_over_passes_of_one_mail_each(ses: FakeSes) -> None:
    ses.behave = lambda request: Reply(503, "")
    for _ in range(2):
        assert one_more().refused == ""
        longer_ago(31)
    assert health.breaker() is None
    assert one_more().opened and not health.healthy()[0]
    assert "tried again in" in one_more().refused
    assert len(ses.sent) == 3


def test_failures_are_no_reason_to_stop_when_few_came_at_once_or_some_mail_was_taken_meanwhile(
    ses: FakeSes,
) -> None:
    ses.behave = lambda request: Reply(503, "")
    for _ in range(3):
        one_more()
    assert health.breaker() is None, "three within seconds"
    longer_ago(100)
    ses.behave = lambda request: None
    assert one_more().sent == 1
    ses.behave = lambda request: Reply(503, "")
    for _ in range(2):
        longer_ago(100)
        one_more()
    assert health.breaker() is None, "two since the last answer"
    longer_ago(2 * health.NO_ANSWER_IS_OLD)
    for _ in range(2):
        one_more()
    assert health.breaker() is None, "the others are of long ago"


def test_tries_that_ended_for_reasons_of_ours_and_those_by_smtp_say_nothing_about_ses(ses: FakeSes) -> None:
    ses.behave = lambda request: Reply(503, "")
    for _ in range(3):
        one_more()
        longer_ago(40)
    for changes in (
        {"error_code": "interrupted"}, {"error_code": "stopped", "outcome": "not_transmitted"},
        {"error_code": "content_key", "outcome": "not_transmitted"}, {"route": "smtp"},
        {"outcome": "in_flight", "finished_at": None}, {"outcome": "accepted", "http_status": 200},
    ):  # fmt: skip
        before = list(Attempt.objects.values("pk", *changes))
        Attempt.objects.update(**changes)
        assert not health.unanswered(), changes
        for row in before:
            Attempt.objects.filter(pk=row.pop("pk")).update(**row)
        assert health.unanswered()


def test_who_is_no_longer_eligible_gets_nothing_and_the_reason_is_kept(ses: FakeSes, source: Source) -> None:
    emails = queue_emails(4, roles=("user", "thirdparty"))
    all_roles, one_role = emails[0].claim_id, emails[2].claim_id
    source.bar = lambda views: [
        Recheck(all_roles, "not_enrolled"),
        Recheck(one_role, "user_suspended", roles=("user",)),
    ]
    result = run()
    assert (result.sent, result.suppressed) == (5, 3)
    assert set(Email.objects.filter(claim=all_roles).values_list("state", "reason")) == {
        ("suppressed", "not_enrolled")
    }
    assert dict(Email.objects.filter(claim=one_role).values_list("role", "state")) == {
        "user": "suppressed",
        "thirdparty": "accepted",
    }
    view = next(view for view in source.seen if view.claim_id == all_roles)
    assert set(view.roles) == {"user", "thirdparty"} and view.after == {"emailsent": 1}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MoodleUnreachable("down", "start it"), "moodle_unreachable"),
        (OperationalError(2013, "Lost connection"), "moodle_unreachable"),
        (TypeError("a bug"), "recheck_failed"),
    ],
)
def test_while_moodle_cannot_be_asked_mails_wait_and_after_their_deadline_they_are_sent(
    ses: FakeSes, source: Source, stop: Callable[[], None], error: Exception, reason: str
) -> None:
    def fail(views: Any) -> Any:
        stop()
        raise error

    source.bar = fail
    email = queue_email()
    assert run().retried == 1
    email.refresh_from_db()
    assert (email.state, email.reason, email.attempts, ses.sent) == ("queued", reason, 0, [])
    assert email.next_try_at >= email.due_at + timedelta(seconds=5)
    stopping._here.clear()
    Email.objects.update(next_try_at=timezone.now(), deadline_at=timezone.now() - timedelta(seconds=1))
    assert run().sent == 1


def test_a_mail_that_ses_could_never_take_fails_without_being_transmitted(ses: FakeSes) -> None:
    email = queue_email(to_address="two@example.org,more@example.org")
    assert run().failed == 1
    email.refresh_from_db()
    assert (email.state, email.reason, ses.sent) == ("failed", "address_invalid", [])


def test_a_mail_whose_content_was_erased_fails_with_that_reason(ses: FakeSes) -> None:
    email = queue_email()
    Content.objects.all().delete()
    assert run().failed == 1
    email.refresh_from_db()
    assert (email.state, email.reason) == ("failed", "content_missing")


def test_a_mail_whose_key_is_missing_waits_and_the_others_leave(ses: FakeSes) -> None:
    first, _ = queue_emails(2)
    Content.objects.filter(email=first).update(key_id="0123456789ab")
    result = run(budget=2.0)
    assert result.sent == 1 and result.retried >= 1
    first.refresh_from_db()
    assert (first.state, first.reason) == ("queued", "content_key") and "0123456789ab" in first.detail


def test_a_host_with_foreign_keys_sends_nothing(ses: FakeSes, settings: Any) -> None:
    content.ensure_keys()
    queue_email()
    settings.CONTENT_KEYS = [Fernet.generate_key().decode()]
    assert "CONTENT_KEYS" in run().refused
    assert states() == {"queued": 1}


def test_a_mail_that_was_taken_away_after_it_was_leased_is_not_sent(ses: FakeSes, source: Source) -> None:
    kept, taken = queue_emails(2)

    def take(views: Any) -> list[Recheck]:
        Email.objects.filter(pk=taken.pk).update(lease="rsomebody")
        return []

    source.bar = take
    assert run().sent == 1
    assert ses.times() == {kept.ref.hex: 1}
    assert states() == {"accepted": 1, "queued": 1}
    assert Attempt.objects.filter(email=taken).count() == 0


def test_an_event_that_overtakes_its_answer_is_not_pulled_back(ses: FakeSes) -> None:
    email = queue_email()
    other = SERVER.connect(str(connection.settings_dict["NAME"]))

    def deliver(request: Any) -> None:
        # The event of the delivery is processed while the dispatcher still waits for the answer.
        with other.cursor() as cursor:
            cursor.execute("UPDATE emailoffload_email SET state = 'delivered'")

    ses.behave = deliver
    run()
    email.refresh_from_db()
    assert email.state == "delivered" and email.message_id and email.accepted_at
    assert Attempt.objects.get().outcome == "accepted"


def test_sending_is_paused_and_resumed_by_the_switch(ses: FakeSes) -> None:
    queue_email()
    set_pause(Pause(sends=True, by="anna"))
    assert "anna" in run().refused and not ses.sent
    set_pause(Pause())
    assert run().sent == 1


def test_a_pass_that_finds_no_free_slot_does_nothing(ses: FakeSes, settings: Any) -> None:
    settings.DISPATCH_SLOTS = 1
    queue_email()
    with lease.hold("dispatch-1"):
        assert run().busy
    assert states() == {"queued": 1}


def test_a_stop_ends_the_pass_with_nothing_half_done(
    ses: FakeSes, settings: Any, stop: Callable[[], None]
) -> None:
    settings.DISPATCH_THREADS = 4
    emails = queue_emails(300)
    ses.delay = 0.02

    def stop_after_forty(request: Any) -> None:
        if len(ses.sent) == 40:
            stop()

    ses.behave = stop_after_forty
    result = run()
    stopping._here.clear()
    assert 40 <= result.sent < 60 and states() == {"accepted": result.sent, "queued": 300 - result.sent}
    assert not Email.objects.exclude(lease="").exists()
    assert lease.running(["dispatch-1"]) == set()
    assert Run.objects.get(kind="dispatch").outcome == "interrupted"
    run()
    assert ses.times() == {email.ref.hex: 1 for email in emails}


def test_a_deadlock_while_recording_is_survived(ses: FakeSes, monkeypatch: Any) -> None:
    queue_emails(5)
    record, failures = dispatch.transitions.record, [OperationalError(1213, "Deadlock found")]

    def sometimes(*args: Any, **options: Any) -> None:
        if failures:
            raise failures.pop()
        record(*args, **options)

    monkeypatch.setattr(dispatch.transitions, "record", sometimes)
    assert run().sent == 5 and states() == {"accepted": 5}


def test_a_pass_over_any_number_of_mails_costs_a_bounded_number_of_queries(
    ses: FakeSes, django_assert_max_num_queries: Any
) -> None:
    queue_emails(1000)
    with django_assert_max_num_queries(600):
        assert run().sent == 1000


def test_the_command_prints_its_stable_keys_and_ends_well(ses: FakeSes) -> None:
    queue_emails(2)
    out = io.StringIO()
    call_command("dispatch", "--json", "--until-empty", stdout=out)
    result = json.loads(out.getvalue())
    assert {"sent", "suppressed", "retried", "uncertain", "failed", "seconds"} <= result.keys()
    assert result["sent"] == 2


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"AWS_ENDPOINT_URL_SESV2": "http://127.0.0.1:9"}, "AWS_ENDPOINT_URL_SESV2"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_CONFIG_FILE": "/dev/null"}, "AWS_DEFAULT_REGION"),
        (
            {
                "AWS_ACCESS_KEY_ID": "",
                "AWS_SECRET_ACCESS_KEY": "",
                "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            },
            "AWS_ACCESS_KEY_ID",
        ),
        ({"AWS_PROFILE": "nobody"}, "AWS_PROFILE"),
    ],
)
def test_the_command_names_a_bad_aws_setup_with_its_cure_and_ends_with_status_one(
    ses: FakeSes, monkeypatch: Any, environment: dict[str, str], says: str
) -> None:
    for name, value in environment.items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name)
    dispatch.ses.forget_client()
    queue_email()
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("dispatch", stdout=out)
    assert ended.value.code == 1 and says in out.getvalue()
    assert states() == {"queued": 1}
    assert not Attempt.objects.exists()


def test_no_record_of_a_pass_or_an_attempt_holds_an_address_or_a_body(ses: FakeSes) -> None:
    queue_email(text="secret words")
    ses.behave = lambda request: Reply(400, "MessageRejected", "Address anna@example.org is bad")
    run()
    stored = json.dumps(list(Attempt.objects.values()) + list(Run.objects.values()), default=str)
    assert "anna@example.org" not in stored and "secret words" not in stored


def test_a_rendered_mail_opens_the_same_in_another_process(ses: FakeSes) -> None:
    email = queue_email(text="across processes")
    assert content.open_(Content.objects.get(email=email)) == parts(
        to_address=email.address, text="across processes"
    )
