"""What verdicts are made of: the sentence with its times, and the words that several of them share."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from django.utils.html import format_html, strip_tags
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from emailoffload.dashboard.tags import when
from emailoffload.feedback.fold import SENT_TWICE
from emailoffload.feedback.models import Suppression
from emailoffload.outbox.models import Email

Tone = Literal["good", "wait", "warn", "bad", "quiet"]
Reason = Suppression.Reason


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sentence with its first word apart, the tone of its colour, and what it rests on.

    `at` is when the observation was made (aware), `evidence` what was observed, `cure` what a person can do;
    both texts may be empty. The texts may be HTML: a time in them is shown in the viewer's zone.
    """

    answer: str
    sentence: str
    tone: Tone
    evidence: str
    at: datetime | None
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.answer}: {plain(self.sentence)}"


def plain(text: str) -> str:
    """A text of a verdict without its markup, as it is read aloud."""
    return html.unescape(strip_tags(text)) if isinstance(text, SafeString) else text


def say(text: str, **values: Any) -> SafeString:
    """Fill `{names}` in a translated text: times as the viewer's own, everything else escaped."""
    return format_html(
        text,
        **{name: when(value) if isinstance(value, datetime) else value for name, value in values.items()},
    )


def joined(*parts: str) -> SafeString:
    """Sentences one after the other, without the empty ones."""
    found = SafeString("")
    for part in parts:
        if part:
            found = format_html("{} {}", found, part) if found else format_html("{}", part)
    return found


def twice(email: Email) -> str:
    """That the recipient may have the mail twice, where that is so."""
    if email.reason != SENT_TWICE:
        return ""
    return _("The recipient may have it twice: Amazon SES took it more than once.")


def suppressed(row: Suppression | None) -> str:
    """That an address gets no more mail, why and since when, as a sentence; '' where it does."""
    if row is None:
        return ""
    since: dict[str, Any] = {"since": row.since, "until": row.until}
    if row.reason == Reason.BOUNCE:
        return say(
            _("The address has been suppressed since {since}, because mail to it comes back."), **since
        )
    if row.reason == Reason.COMPLAINT:
        return say(
            _("The address has been suppressed since {since}, because the recipient marked a mail as spam."),
            **since,
        )
    if row.reason == Reason.PERSON:
        return say(_("The address has been suppressed since {since}, as a person decided."), **since)
    if row.until:
        return say(
            _(
                "The address has been suppressed since {since}, until {until}, because several mails to it came back."
            )
            if row.reason
            else _("The address has been suppressed since {since}, until {until}."),
            **since,
        )
    return say(_("The address has been suppressed since {since}."), **since)


def with_suppression(verdict: Verdict, row: Suppression | None) -> Verdict:
    """The verdict, and that nothing more goes to its address, where that is so."""
    return replace(verdict, sentence=joined(verdict.sentence, suppressed(row))) if row else verdict
