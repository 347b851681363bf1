"""The verdict answers in its first word, is told in plain words, and never says more than was observed."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from emailoffload.dashboard import known, observed, reasons, sentences
from emailoffload.dashboard.sentences import plain
from emailoffload.dashboard.verdicts import BY_STATE, Verdict, user_verdict, verdict
from emailoffload.feedback import fold
from emailoffload.feedback.evidence import NotTaken
from emailoffload.feedback.models import EventType as T
from emailoffload.feedback.models import Suppression
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.outbox.states import ADDRESS_SUPPRESSED
from emailoffload.outbox.states import EmailState as S
from emailoffload.sources.reasons import ROW_RESTORED
from emailoffload.worker import reconcile_words as w
from tests.dashboard.conftest import make_user
from tests.dashboard.factories import make_email, make_finding, make_suppression
from tests.dashboard.reported import OF_STATE, make_event, no_mailbox, pairs
from tests.dashboard.world import FOREIGN, OWN, bind
from tests.queries import counted

pytestmark = pytest.mark.django_db

TABLE = {
    S.PREPARED: ("Not yet", "wait", "about to take it over"),
    S.QUEUED: ("Not yet", "wait", "waits in our outbox until it is due, on"),
    S.SENDING: ("Not yet", "wait", "being handed to Amazon SES at this moment"),
    S.UNCERTAIN: ("Unknown", "warn", "may or may not have gone out"),
    S.ACCEPTED: ("Sent", "good", "Amazon SES took the mail for ada@example.org on"),
    S.DELAYED: ("Not yet", "warn", "Amazon SES goes on trying, until about"),
    S.DELIVERED: ("Yes", "good", "delivered to ada@example.org on"),
    S.OPENED: ("Yes", "good", "as Amazon SES reports; opened on"),
    S.CLICKED: ("Yes", "good", ", and a link in it followed on"),
    S.BOUNCED: ("No", "bad", "The mail to ada@example.org came back on"),
    S.COMPLAINED: ("Yes", "bad", "the recipient marked it as spam on"),
    S.REJECTED: ("No", "bad", "found something harmful in it"),
    S.SUPPRESSED: ("No", "quiet", "because the user is no longer an active learner of the course"),
    S.SENT_SMTP: ("Sent", "good", "the SMTP server took the mail"),
    S.RELEASED: ("Moodle has it", "quiet", "because it did not get through before its deadline"),
    S.FAILED: ("No", "bad", "because Amazon SES refused the mail"),
    S.CANCELLED: ("No", "quiet", "a person stopped it"),
}


@pytest.fixture(autouse=True)
def events(settings: Any) -> None:
    """Events come to this site, unless a test says otherwise."""
    settings.SES_EVENTS_QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"


@pytest.fixture
def viewer() -> User:
    return make_user("Support staff", "sam")


def of(email: Email, viewer: User) -> Verdict:
    """The verdict as pages show it, with all that is known."""
    email.refresh_from_db()
    return verdict(email, known.gather([email], viewer)[email.pk])


def test_every_state_has_a_verdict() -> None:
    assert set(BY_STATE) == set(S) == set(TABLE) == set(OF_STATE)


@pytest.mark.parametrize("state", list(S))
def test_the_verdict_of_a_state_answers_with_its_evidence(state: S) -> None:
    answer, tone, words = TABLE[state]
    found = verdict(make_email(state))
    assert (found.answer, found.tone) == (answer, tone)
    assert words in plain(found.sentence)
    assert found.evidence
    assert found.at is not None
    assert str(found) == f"{found.answer}: {plain(found.sentence)}"


def test_every_reason_of_every_state_is_told_in_plain_words() -> None:
    emails = {state: make_email(state) for state in S}
    for state, reason in pairs():
        email = emails[state]
        email.reason, email.attempts = reason, 1 if reason else email.attempts
        found = verdict(email)
        told = " ".join(map(plain, (str(found), found.evidence, found.cure)))
        # A code that is an ordinary word ("deadline") may be in the sentence; one that only we know may not.
        for code in re.split(r"[:]", reason):
            if re.search(r"[_A-Z]", code):
                assert code not in told, (state, reason, told)
        assert re.match(r"(Yes|Sent|Not yet|No|Moodle has it|Unknown): [A-Za-z]", str(found)), told
        assert str(found).endswith("."), told
        assert not re.search(r"\.\.|[{}]|None|because because|because[a-z ]+because", told), told
        assert found.evidence and found.at, (state, reason)


def test_only_a_report_of_arrival_is_a_yes() -> None:
    yes = {state for state in S if verdict(make_email(state)).answer == "Yes"}
    assert yes == {S.DELIVERED, S.OPENED, S.CLICKED, S.COMPLAINED}


def test_a_time_in_a_sentence_is_shown_in_the_viewers_zone_and_what_others_wrote_is_escaped() -> None:
    email = make_email(S.DELIVERED, address='"<b>"@example.org', detail="<i>words</i>")
    found = verdict(email)
    assert "data-when" in found.sentence
    assert "&lt;b&gt;" in found.sentence and "<b>" not in found.sentence
    assert "<i>" not in found.evidence


# --- What SES reported ---

CAUSES = [
    # kind, sub-type, status code, what is said
    ("permanent", "NoEmail", "", "the mailbox does not exist"),
    ("permanent", "General", "5.1.1", "the mailbox does not exist"),
    ("permanent", "General", "5.1.2", "what stands behind the @"),
    ("permanent", "General", "5.1.3", "not written correctly"),
    ("permanent", "General", "5.1.10", "takes no mail"),
    ("permanent", "General", "5.2.1", "switched off"),
    ("permanent", "General", "5.2.2", "the mailbox is full"),
    ("transient", "MailboxFull", "4.2.2", "the mailbox is full"),
    ("transient", "General", "4.4.1", "cannot be reached"),
    ("transient", "General", "4.4.7", "did not take it in time"),
    ("permanent", "General", "5.7.1", "by its own rules"),
    ("permanent", "General", "5.7.26", "SPF, DKIM or DMARC"),
    ("transient", "ContentRejected", "5.7.1", "does not like what the mail contains"),
    ("transient", "AttachmentRejected", "", "does not take its attachment"),
    ("transient", "MessageTooLarge", "5.3.4", "too large"),
    ("permanent", "Suppressed", "", "other senders"),
    ("permanent", "OnAccountSuppressionList", "", "this account's suppression list"),
    ("permanent", "General", "", "refuses it for good"),
    ("transient", "General", "", "did not take it"),
    ("undetermined", "Undetermined", "", "did not take it"),
    ("permanent", "SomethingNew", "5.99.99", "refuses it for good"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "subkind", "status", "words"), CAUSES)
def test_a_bounce_is_told_in_words_with_the_servers_own_as_evidence(
    viewer: User, kind: str, subkind: str, status: str, words: str
) -> None:
    reason = fold.BOUNCED_PERMANENT if kind == fold.PERMANENT else fold.BOUNCED_TRANSIENT
    reason = fold.SES_LIST if subkind in fold.ON_SES_LIST else reason
    email = make_email(S.BOUNCED, reason=reason)
    make_event(
        T.BOUNCE, email, kind=kind, subkind=subkind, status=status, diagnostic="smtp; 550 says <the> server"
    )
    found = of(email, viewer)
    assert words in plain(found.sentence)
    assert "550 says <the> server" in plain(found.evidence)
    assert subkind in found.evidence
    assert found.answer == "No"


def test_every_cause_is_a_clause_and_its_cure_a_sentence() -> None:
    causes = [value for value in vars(observed).values() if isinstance(value, observed.Cause)]
    assert len(causes) > 20
    assert {*observed.SUBTYPES.values(), *observed.STATUSES.values()} <= set(causes)
    for cause in causes:
        assert re.match(r"[a-zA]", str(cause.text)) and not str(cause.text).endswith("."), cause
        assert not cause.cure or str(cause.cure).endswith("."), cause


def test_a_missing_mailbox_says_since_when_the_address_is_suppressed(viewer: User) -> None:
    email = make_email(S.BOUNCED)
    event = no_mailbox(email)
    make_suppression(email, event=event)
    found = of(email, viewer)
    assert str(found).startswith("No: the mailbox does not exist. The mail to ada@example.org came back on ")
    assert "The address has been suppressed since " in plain(found.sentence)
    assert "Moodle profile" in found.cure
    assert plain(found.evidence).startswith("Amazon SES reported: permanent bounce (NoEmail, 5.1.1).")


def test_a_bounce_after_delivery_says_both(viewer: User) -> None:
    email = make_email(S.BOUNCED, delivered_at=timezone.now() - timedelta(minutes=3))
    make_event(T.DELIVERY, email)
    no_mailbox(email)
    assert "It had seemed to be delivered before." in of(email, viewer).sentence


def test_delivered_and_opened_is_one_sentence_with_its_times(viewer: User) -> None:
    email = make_email(S.OPENED)
    make_event(T.DELIVERY, email, diagnostic="250 2.0.0 accepted")
    make_event(T.OPEN, email)
    found = of(email, viewer)
    assert re.fullmatch(
        r"Yes: delivered to ada@example\.org on .+, as Amazon SES reports; opened on [^.]+\.", str(found)
    )
    assert "250 2.0.0 accepted" in found.evidence
    assert "not proof" in found.evidence


def test_a_delivered_mail_that_cannot_be_found_has_advice(viewer: User) -> None:
    assert "spam folder" in of(make_email(S.DELIVERED), viewer).cure


def test_a_delay_says_why_and_what_follows(viewer: User) -> None:
    email = make_email(S.DELAYED)
    make_event(T.DELIVERY_DELAY, email, subkind="MailboxFull", status="4.2.2", diagnostic="452 full")
    found = of(email, viewer)
    assert "the mailbox is full. Amazon SES goes on trying, until about" in plain(found.sentence)
    Email.objects.filter(pk=email.pk).update(accepted_at=timezone.now() - timedelta(days=1))
    assert "should have given up" in of(email, viewer).sentence


def test_accepted_names_the_message_id_as_its_evidence() -> None:
    email = make_email(S.ACCEPTED)
    assert email.message_id in verdict(email).evidence


def test_accepted_and_silent_for_hours_leads_to_the_events() -> None:
    email = make_email(S.ACCEPTED, accepted_at=timezone.now() - timedelta(hours=5))
    found = verdict(email)
    assert (found.answer, found.tone) == ("Sent", "warn")
    assert "nothing was reported about it" in found.sentence
    assert "page Events" in found.cure


def test_without_events_acceptance_is_all_that_is_known_and_the_way_to_more_is_named(settings: Any) -> None:
    settings.SES_EVENTS_QUEUE_URL, settings.SNS_TOPICS = "", []
    found = verdict(make_email(S.ACCEPTED, accepted_at=timezone.now() - timedelta(hours=5)))
    assert "this site gets no delivery reports" in found.sentence
    assert "docs/events.md" in found.cure
    assert found.tone == "good"


@pytest.mark.parametrize("state", [S.ACCEPTED, S.DELIVERED, S.OPENED, S.COMPLAINED])
def test_a_mail_that_ses_took_twice_says_so(state: S) -> None:
    found = verdict(make_email(state, reason=fold.SENT_TWICE))
    assert "The recipient may have it twice: Amazon SES took it more than once." in found.sentence


@pytest.mark.parametrize("state", [S.SENT_SMTP, S.RELEASED])
def test_a_mail_that_went_two_ways_is_a_possible_double(state: S) -> None:
    email = make_email(
        state, reason=fold.ALSO_BY_SES, detail="deadline: no answer", delivered_at=timezone.now()
    )
    found = verdict(email)
    assert (found.answer, found.tone) == ("Yes", "warn")
    assert "It also went another way" in found.sentence
    assert "So the recipient may have it twice." in found.sentence
    assert "before its deadline" in found.sentence
    assert "deadline: no answer" not in str(found)


@pytest.mark.parametrize("state", [S.SUPPRESSED, S.CANCELLED])
def test_a_mail_that_was_stopped_too_late_is_no_double(state: S) -> None:
    found = verdict(
        make_email(state, reason=fold.ALSO_BY_SES, detail="not_enrolled", accepted_at=timezone.now())
    )
    assert found.answer == "Sent"
    assert "We had stopped it by then, but it was on its way." in found.sentence
    assert "twice" not in found.sentence


def test_a_double_that_came_back_is_none(viewer: User) -> None:
    email = make_email(S.SENT_SMTP, reason=fold.ALSO_BY_SES, detail="deadline", bounced_at=timezone.now())
    found = of(email, viewer)
    assert found.answer == "Sent"
    assert "that mail came back on" in found.sentence


def test_an_uncertain_mail_that_ses_did_not_report_most_likely_did_not_go_out() -> None:
    now = timezone.now()
    silence = NotTaken(now - timedelta(hours=1), now, now - timedelta(minutes=20))
    found = verdict(make_email(S.UNCERTAIN), known.Known(not_taken=silence))
    assert found.answer == "Unknown"
    assert "Most likely it did not go out" in found.sentence
    assert "none of this one" in found.evidence


# --- What we did ---


def test_moodle_has_what_was_handed_back_and_the_reason_is_told() -> None:
    found = verdict(make_email(S.RELEASED, reason="account:SendingPausedException"))
    assert str(found).startswith("Moodle has it: we handed it back on ")
    assert "sending is paused for the account" in found.sentence
    assert "Moodle sends it with its own cron" in found.sentence


AFTERWARDS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    # what was found in Moodle: answer, tone, what is said, the observations that lead to it
    w.DOUBLE: (
        "Unknown", "bad", "cannot be told",
        (w.ROW_BACK, w.OVERWRITTEN, w.NOTICE, w.QUEUE_OVERWRITTEN, w.QUEUE_SPANNED),
    ),
    w.LOSS: (
        "Unknown", "bad", "cannot be told", (w.STILL_OURS, w.TOO_LATE, w.NO_NOTICE, w.NO_MAIL, w.WITHHELD),
    ),
    w.OVERDUE: ("Not yet", "bad", "although it was its turn", (w.NOT_RUN, w.RUN_FAILED, w.PASSED_OVER)),
    w.TOUCHED: ("Unknown", "warn", "cannot be told", (w.OTHER_VALUES,)),
    w.GONE: ("Unknown", "warn", "cannot be told", (w.USER_DELETED, w.ACTIVITY_GONE, w.ROW_GONE, w.LAST_GONE)),
    w.WAITING: ("Moodle has it", "quiet", "Moodle sends it with its own cron", (w.NOT_YET,)),
    w.PICKED_UP: (
        "Moodle sent it itself", "good", "we handed it back on",
        (w.COUNTED, w.NOTIFIED, w.LAST_REMOVED, w.QUEUE_SENT),
    ),
}  # fmt: skip


def test_every_finding_about_a_mail_that_was_handed_back_is_told_with_what_was_seen(viewer: User) -> None:
    assert {*AFTERWARDS, w.AGREES} == set(w.VERDICTS)
    assert {detail for *_, details in AFTERWARDS.values() for detail in details} == set(w.DETAILS)
    email = make_email(S.RELEASED)
    finding = make_finding(email.claim)
    for code, (answer, tone, words, details) in AFTERWARDS.items():
        for finding.detail in details:
            finding.verdict = code
            finding.save()
            found = of(email, viewer)
            told = " ".join(map(plain, (str(found), found.cure)))
            assert (found.answer, found.tone) == (answer, tone), code
            assert words in plain(found.sentence)
            assert "because it did not get through before its deadline" in plain(found.sentence)
            assert found.evidence == str(w.DETAILS[finding.detail].meaning)
            assert found.at == finding.first_seen
            assert code in (w.WAITING, w.PICKED_UP) or str(w.DETAILS[finding.detail].cure) in told
            assert not re.search(r"\.\.|[{}]|None", told), told


def test_of_several_findings_the_open_one_counts_and_none_that_turned_out_to_agree(viewer: User) -> None:
    email = make_email(S.RELEASED)
    now = timezone.now()
    make_finding(email.claim, verdict=w.OVERDUE, detail=w.NOT_RUN)
    make_finding(email.claim, verdict=w.PICKED_UP, detail=w.COUNTED, closed_at=now, closed_because="changed")
    make_finding(email.claim, verdict=w.LOSS, detail=w.TOO_LATE, closed_at=now, closed_because="agrees")
    assert of(email, viewer).answer == "Not yet"
    ReconcileFinding.objects.filter(verdict=w.OVERDUE).update(closed_at=now, closed_because="dealt_with")
    assert of(email, viewer).answer == "Not yet"
    ReconcileFinding.objects.update(closed_at=now, closed_because="agrees")
    assert of(email, viewer).answer == "Moodle has it"


def test_a_row_that_was_set_back_is_moodles_again() -> None:
    assert verdict(make_email(S.SUPPRESSED, reason=ROW_RESTORED)).answer == "Moodle has it"


@pytest.mark.parametrize("state", [S.SUPPRESSED, S.PREPARED])
def test_a_mail_to_a_suppressed_address_says_since_when_and_how_to_end_it(viewer: User, state: S) -> None:
    email = make_email(state, reason=ADDRESS_SUPPRESSED)
    row = make_suppression(email)
    found = of(email, viewer)
    assert "it was not sent. The address has been suppressed since " in plain(found.sentence)
    assert "page Suppressions" in found.cure
    assert plain(found.sentence).count("The address has been suppressed") == 1
    Suppression.objects.filter(pk=row.pk).update(active_key=None, removed_at=timezone.now())
    found = of(email, viewer)
    assert "was suppressed at the time" in found.sentence
    assert "gets mail again by now" in found.cure


@pytest.mark.parametrize(
    ("reason", "until", "words"),
    [
        ("bounce", False, "because mail to it comes back"),
        ("complaint", False, "because the recipient marked a mail as spam"),
        ("transient", True, "because several mails to it came back"),
        ("person", False, "as a person decided"),
    ],
)
def test_why_an_address_is_suppressed_is_told(reason: str, until: bool, words: str) -> None:
    now = timezone.now()
    row = Suppression(reason=reason, since=now, until=now + timedelta(days=3) if until else None)
    assert words in sentences.suppressed(row)
    assert ("until" in plain(sentences.suppressed(row))) == until


def test_staff_of_a_company_learn_that_an_address_is_suppressed_but_not_what_others_had_with_it(
    viewer: User,
) -> None:
    bind(viewer, OWN)
    theirs = make_email(S.BOUNCED, company_id=FOREIGN)
    own = make_email(S.SUPPRESSED, company_id=OWN, reason=ADDRESS_SUPPRESSED)
    make_suppression(theirs, detail="550 what they said")
    found = of(own, viewer)
    assert "The address has been suppressed since " in plain(found.sentence)
    assert "comes back" not in found.sentence
    assert "what they said" not in found.evidence


def test_a_queued_mail_that_was_tried_says_that_the_try_failed() -> None:
    email = make_email(S.QUEUED, reason="TooManyRequestsException", detail="Maximum sending rate exceeded.")
    Email.objects.filter(pk=email.pk).update(attempts=2)
    email.refresh_from_db()
    found = verdict(email)
    assert "last try did not get through" in found.sentence
    assert "asked to send more slowly" in found.sentence
    assert "The next try follows by itself on" in found.sentence
    assert found.tone == "warn"


@pytest.mark.parametrize(
    ("code", "meaning", "cure"),
    [
        ("deadline", "before its deadline", "attempts"),
        ("ReadTimeoutError", "SES did not answer in time", ""),
        ("account:SendingPausedException", "Sending is paused", "Resume it in SES."),
        ("NoCredentialsError", "no AWS credentials", "AWS_ACCESS_KEY_ID"),
        ("TooManyRequestsException", "send more slowly", ""),
        ("content_key", "not among CONTENT_KEYS", "Add the former key"),
        ("SomethingNewException", "the answer was SomethingNewException", ""),
        ("not_enrolled", "no longer an active learner", ""),
    ],
)
def test_a_reason_is_told_in_words_with_its_cure(code: str, meaning: str, cure: str) -> None:
    assert meaning in reasons.text(code)
    assert cure in reasons.cure(code) if cure else not reasons.cure(code)


def test_an_unknown_reason_is_shown_in_its_own_words() -> None:
    assert "moon in wrong phase" in verdict(make_email(S.FAILED, reason="moon_in_wrong_phase")).sentence


@pytest.mark.parametrize(
    ("reason", "detail", "own"),
    [
        (fold.ALSO_BY_SES, "held:deadline: two days are over", ("held:deadline", "two days are over")),
        (fold.ALSO_BY_SES, "not_enrolled", ("not_enrolled", "")),
        (fold.ALSO_BY_SES, "What a person wrote: this.", ("", "What a person wrote: this.")),
        ("deadline", "x: y", ("deadline", "x: y")),
    ],
)
def test_the_reason_from_before_the_report_is_found_again(
    reason: str, detail: str, own: tuple[str, str]
) -> None:
    assert reasons.own(reason, detail) == own


def test_a_user_without_mails_is_unknown_not_no() -> None:
    found = user_verdict(None, 15093)
    assert str(found).startswith("Unknown: no mail to user 15093")


# --- What is known ---


def test_the_event_that_a_state_rests_on_is_the_earliest_of_its_rank(viewer: User) -> None:
    email = make_email(S.BOUNCED)
    at = email.due_at
    make_event(T.BOUNCE, email, at=at + timedelta(minutes=9), kind="transient", subkind="MailboxFull")
    make_event(T.BOUNCE, email, at=at + timedelta(minutes=5), kind="permanent", subkind="General")
    first = no_mailbox(email, at=at + timedelta(minutes=2))
    make_event(T.DELIVERY, email, at=at + timedelta(minutes=1))
    assert known.gather([email], viewer)[email.pk].event == first


def test_what_is_known_of_many_mails_costs_no_more_than_of_one(viewer: User) -> None:
    def reported(state: S) -> Email:
        email = make_email(state, address=f"{state}{Email.objects.count()}@example.org")
        if state in (S.BOUNCED, S.UNCERTAIN):
            make_suppression(email, event=no_mailbox(email) if state == S.BOUNCED else None)
        return email

    few = [reported(state) for state in S]
    many = [*few, *(reported(state) for _ in range(3) for state in S)]
    costs = []
    scope.is_bound(viewer)  # asked once for each request
    for emails in (few, many):
        with counted() as queries:
            known.gather(emails, viewer)
        costs.append(queries["default"])
    assert costs[0] == costs[1] <= 6
