"""The verdict answers in its first word, and never says more than was observed."""

from __future__ import annotations

import pytest

from emailoffload.dashboard import reasons
from emailoffload.dashboard.verdicts import BY_STATE, user_verdict, verdict
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState as S
from tests.dashboard.factories import make_email

pytestmark = pytest.mark.django_db

TABLE = {
    S.PREPARED: ("Not yet", "wait", "about to be claimed"),
    S.QUEUED: ("Not yet", "wait", "waits in the outbox until it is due"),
    S.SENDING: ("Not yet", "wait", "being sent at this moment"),
    S.UNCERTAIN: ("Unknown", "warn", "may or may not have gone out"),
    S.ACCEPTED: ("Sent", "good", "Amazon SES accepted the mail for ada@example.org"),
    S.DELAYED: ("Not yet", "warn", "SES goes on trying"),
    S.DELIVERED: ("Yes", "good", "mail server of ada@example.org took the mail"),
    S.OPENED: ("Yes", "good", "was opened"),
    S.CLICKED: ("Yes", "good", "a link in it was followed"),
    S.BOUNCED: ("No", "bad", "came back"),
    S.COMPLAINED: ("Yes", "bad", "marked it as spam"),
    S.REJECTED: ("No", "bad", "refused to deliver"),
    S.SUPPRESSED: ("No", "quiet", "the user is no longer an active learner of the course"),
    S.SENT_SMTP: ("Sent", "good", "SMTP server accepted"),
    S.RELEASED: ("Unknown", "quiet", "handed back to Moodle"),
    S.FAILED: ("No", "bad", "Amazon SES refused the mail"),
    S.CANCELLED: ("No", "quiet", "a person stopped the mail"),
}


def test_every_state_has_a_verdict() -> None:
    assert set(BY_STATE) == set(S) == set(TABLE)


@pytest.mark.parametrize("state", list(S))
def test_the_verdict_of_a_state_answers_with_its_evidence(state: S) -> None:
    answer, tone, words = TABLE[state]
    found = verdict(make_email(state))
    assert (found.answer, found.tone) == (answer, tone)
    assert words in found.sentence
    assert found.evidence
    assert found.at is not None
    assert str(found) == f"{found.answer}: {found.sentence}"


def test_only_a_report_of_arrival_is_a_yes() -> None:
    yes = {state for state in S if verdict(make_email(state)).answer == "Yes"}
    assert yes == {S.DELIVERED, S.OPENED, S.CLICKED, S.COMPLAINED}


def test_accepted_names_the_message_id_as_its_evidence() -> None:
    email = make_email(S.ACCEPTED)
    assert email.message_id in verdict(email).evidence


def test_a_queued_mail_that_was_tried_says_that_the_try_failed() -> None:
    email = make_email(S.QUEUED, reason="TooManyRequestsException", detail="Maximum sending rate exceeded.")
    Email.objects.filter(pk=email.pk).update(attempts=2)
    email.refresh_from_db()
    found = verdict(email)
    assert "last try did not get through" in found.sentence
    assert "asked to send more slowly" in found.sentence
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


def test_a_user_without_mails_is_unknown_not_no() -> None:
    found = user_verdict(None, 15093)
    assert str(found).startswith("Unknown: no mail to user 15093")
