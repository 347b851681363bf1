"""Reason codes as sentences for people, and the cure where a person can do something.

Sources, gates and rendering name their own reasons (`sources.reasons.meaning`); delivery's are named here,
where they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.sources.reasons import meaning as source_meaning

DELIVERY: Final[Mapping[str, Promise]] = {
    "not_transmitted": gettext_lazy("Amazon SES could not be reached"),
    "throttled": gettext_lazy("Amazon SES asked to send more slowly"),
    "permanent": gettext_lazy("Amazon SES refuses this mail for good"),
    "account": gettext_lazy("Amazon SES refuses mail of the whole account for now"),
    "unknown": gettext_lazy("Amazon SES did not answer"),
    "unknown_answer": gettext_lazy("Amazon SES did not answer"),
    "deadline": gettext_lazy("it could not be sent before its deadline"),
    "deadline_passed": gettext_lazy("it could not be sent before its deadline"),
    "bad_address": gettext_lazy("the address cannot receive mail"),
    "content": gettext_lazy("its content is no longer stored"),
    "content_key": gettext_lazy("its content was encrypted with a key that is not among CONTENT_KEYS"),
    "content_damaged": gettext_lazy("its stored content is damaged"),
}
CURES: Final[Mapping[str, Promise]] = {
    "permanent": gettext_lazy("Its last attempt names what SES refuses: correct that first."),
    "account": gettext_lazy(
        "Look at the account's state in the AWS console: sending paused, identity, quota."
    ),
    "deadline": gettext_lazy("Its attempts say what stood in the way."),
    "deadline_passed": gettext_lazy("Its attempts say what stood in the way."),
    "bad_address": gettext_lazy("Correct the address in the user's Moodle profile."),
    "content_key": gettext_lazy("Add the former key to the setting CONTENT_KEYS, after the present one."),
}


def meaning(code: str) -> str:
    """The reason in words, without capital and full stop; a code that nobody names as its own words."""
    return str(DELIVERY[code]) if code in DELIVERY else source_meaning(code)


def text(code: str) -> str:
    """The reason as a sentence of its own."""
    return _("Reason: %(reason)s.") % {"reason": meaning(code)}


def cure(code: str) -> str:
    """What a person can do about it; empty where nothing is known."""
    return str(CURES[code]) if code in CURES else ""
