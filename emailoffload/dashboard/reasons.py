"""Reason codes as words for people, and the cure where a person can do something.

A reason is a code of a source, of a gate or of rendering (`sources.reasons.meaning`), one of the worker's own, or
what SES or its SDK answered (`delivery.errors`), with `account:` before it where it concerned the whole account.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _

from emailoffload.delivery import errors
from emailoffload.feedback.fold import ALSO_BY_SES
from emailoffload.outbox.states import ADDRESS_SUPPRESSED
from emailoffload.sources import reasons as source_reasons

WORKER: Final[Mapping[str, Promise]] = {
    "deadline": gettext_lazy("it did not get through before its deadline"),
    "identity": gettext_lazy("Amazon SES has not verified its sender"),
    "interrupted": gettext_lazy("the process that was sending it ended without a word"),
    "stopped": gettext_lazy("the dispatcher was stopped before it sent this"),
    "moodle_unreachable": gettext_lazy("Moodle could not be asked whether it is still owed"),
    "moodle_outdated": gettext_lazy("Moodle's database is older than our last claims, so it is not believed"),
    "recheck_failed": gettext_lazy("the check whether it is still owed failed"),
    "paused": gettext_lazy("sending was paused for longer than its deadline"),
    "drain": gettext_lazy("the worker was about to be stopped"),
    "smtp_unreachable": gettext_lazy("the SMTP server could not be reached"),
    "smtp_certificate": gettext_lazy("the certificate of the SMTP server was not accepted"),
    "smtp_login": gettext_lazy("the SMTP server refused the login, or has no encryption"),
    "smtp_sender": gettext_lazy("the SMTP server takes no mail from Moodle's sender"),
    "smtp_recipient": gettext_lazy("the SMTP server refused the recipient"),
    "smtp_refused": gettext_lazy("the SMTP server refused the mail"),
    "smtp_busy": gettext_lazy("the SMTP server asked to try again later"),
    "smtp_no_answer": gettext_lazy("the SMTP server took the mail and never answered"),
    "claim_unclear": gettext_lazy("it cannot be seen whether Moodle has sent it"),
    "settled_by_person": gettext_lazy("a person found out that it arrived"),
    "stopped_unsure": gettext_lazy("it may have left before a person stopped it"),
    "dealt_with": gettext_lazy("a person dealt with it in another way"),
    "bounced_permanent": gettext_lazy("the recipient's mail server refuses it for good"),
    "bounced_transient": gettext_lazy("the recipient's mail server did not take it, and Amazon SES gave up"),
    "ses_suppression_list": gettext_lazy("Amazon SES has the address on its suppression list"),
    "ses_rejected": gettext_lazy("Amazon SES found something harmful in it, most likely a virus"),
    "rendering_failed": gettext_lazy("Amazon SES could not fill in its template"),
    "delivery_delayed": gettext_lazy("the recipient's mail server does not take it for now"),
    "also_by_ses": gettext_lazy("Amazon SES had taken it as well, although it did not answer at the time"),
    "sent_twice": gettext_lazy("Amazon SES took it more than once, so the recipient may have it twice"),
    ADDRESS_SUPPRESSED: gettext_lazy("its address is suppressed: it gets no mail"),
    "content_missing": gettext_lazy("its content is no longer stored"),
    "content_key": gettext_lazy("its content was encrypted with a key that is not among CONTENT_KEYS"),
    "content_damaged": gettext_lazy("its stored content is damaged"),
    "refused": gettext_lazy("Amazon SES refused the mail"),
    "MessageRejected": gettext_lazy("Amazon SES refused the mail"),
    "BadRequestException": gettext_lazy("Amazon SES refused the form of the mail"),
    "ParamValidationError": gettext_lazy("the request for it was not as Amazon SES wants it"),
    "message_too_large": gettext_lazy("it is larger than Amazon SES takes"),
    "DailyQuota": gettext_lazy("the 24-hour quota of the Amazon SES account is used up"),
    "SendingDisabled": gettext_lazy("sending is disabled for the Amazon SES account"),
    "NoSendQuota": gettext_lazy("what answers in place of Amazon SES does not answer like it"),
    "SSLError": gettext_lazy("the encrypted connection to Amazon SES failed"),
}
CURES: Final[Mapping[str, Promise]] = {
    "claim_unclear": gettext_lazy(
        "A process was killed, and Moodle went on with its row. Ask the recipient, or look into the log of "
        "Moodle's mail server; then send it, or mark it as dealt with."
    ),
    "smtp_login": gettext_lazy("Check user and password in EMAIL_URL."),
    "smtp_recipient": gettext_lazy("Check the address in the user's Moodle profile."),
    ADDRESS_SUPPRESSED: gettext_lazy(
        "The page Suppressions says why. If the address works again, lift the suppression there, then send the mail "
        "again."
    ),
    "deadline": gettext_lazy("Its attempts say what stood in the way."),
    "identity": gettext_lazy(
        "Verify the sender's domain in Amazon SES, in the region of AWS_REGION, or correct the sender of the "
        "company's template in IOMAD; then send it again."
    ),
    "content_key": gettext_lazy("Add the former key to the setting CONTENT_KEYS, after the present one."),
    "refused": gettext_lazy("Its last attempt names what SES refuses."),
    "MessageRejected": gettext_lazy("Its last attempt names what SES refuses: correct that first."),
    "BadRequestException": gettext_lazy("Its last attempt names what SES refuses: correct that first."),
}
ANSWERS: Final[Mapping[str, str]] = {
    **errors.UNKNOWN,
    **errors.NOT_TRANSMITTED,
    **errors.LOCAL,
    **errors.ACCOUNT,
    **errors.QUOTA,
    **errors.IDENTITY,
    **errors.PERMANENT,
}
"""Codes of SES and its SDK: what happened, then how to cure it."""


_CODE: Final = re.compile(r"[A-Za-z0-9_]+(:[A-Za-z0-9_]+)*")
HELD: Final = "held:"
"""Before the cause of what waits for a person, because no route took it."""


NO_CLAUSES: Final = frozenset({source_reasons.TOO_LATE, source_reasons.QUEUED_TOO_LONG})
"""Reasons whose words are no sentence of their own."""


def _bare(code: str) -> str:
    return code.removeprefix(HELD).removeprefix("account:")


def meaning(code: str) -> str:
    """The reason in words, without a full stop; a code that nobody names as its own words."""
    if code.startswith(HELD):
        return _("%(cause)s, and no other route took it") % {"cause": meaning(code.removeprefix(HELD))}
    code = _bare(code)
    if code in WORKER:
        return str(WORKER[code])
    if code in ANSWERS:
        return _(ANSWERS[code]).partition(". ")[0].rstrip(".")
    if code in errors.THROTTLED:
        return _("Amazon SES asked to send more slowly")
    if code != code.lower() or code.isdigit():
        return _("the answer was %(code)s") % {"code": code}
    return source_reasons.meaning(code)


def because(sentence: SafeString | str, code: str) -> SafeString:
    """A sentence without its full stop, and the reason behind it, as one says it on the phone."""
    if not code:
        return format_html("{}.", sentence)
    words, bare = meaning(code), _bare(code.removeprefix(HELD))
    if (
        bare in ANSWERS
        and bare not in WORKER
        and words[1:2].islower()
        and (get_language() or "").startswith("en")
    ):
        words = (
            words[:1].lower() + words[1:]
        )  # "The account …", but "SES …"; other languages have rules of their own
    if bare in NO_CLAUSES or (bare in ANSWERS and bare not in WORKER):
        return format_html("{}: {}.", sentence, words)
    return format_html(_("{sentence}, because {reason}."), sentence=sentence, reason=words)


def own(reason: str, detail: str) -> tuple[str, str]:
    """(reason, detail) as they were before SES turned out to have taken the mail as well (`feedback.fold`)."""
    if reason != ALSO_BY_SES:
        return reason, written(detail)
    head, _colon, rest = detail.partition(": ")
    return (head, written(rest)) if _CODE.fullmatch(head) else ("", written(detail))


def text(code: str) -> str:
    """The reason as a sentence of its own."""
    return _("Reason: %(reason)s.") % {"reason": meaning(code)}


def cure(code: str) -> str:
    """What a person can do about it; empty where nothing is known."""
    code = _bare(code)
    if code in CURES:
        return str(CURES[code])
    return written(ANSWERS.get(code, "")).partition(". ")[2]


def written(text: str) -> str:
    """What was written down in English when it happened (an outcome's message), in the viewer's language if it is one
    of our own sentences."""
    return _(text) if text else ""
