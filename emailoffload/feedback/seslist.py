"""The suppression list of the SES account, through boto3 (SES API v2).

SES mails nobody on it, whoever asks, and adds permanent bounces and complaints itself. It knows two reasons, BOUNCE and
COMPLAINT. Rights: ses:ListSuppressedDestinations, ses:GetSuppressedDestination, ses:PutSuppressedDestination and
ses:DeleteSuppressedDestination.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from django.utils.translation import gettext as _

from emailoffload.delivery import ses
from emailoffload.delivery.errors import THROTTLED, classify
from emailoffload.feedback import suppression
from emailoffload.feedback.models import Suppression

PAGE_SIZE = 1000
RIGHTS = (
    "ses:ListSuppressedDestinations, ses:GetSuppressedDestination, ses:PutSuppressedDestination and "
    "ses:DeleteSuppressedDestination"
)
REASONS = {"BOUNCE": Suppression.Reason.BOUNCE, "COMPLAINT": Suppression.Reason.COMPLAINT}
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"})
Answer = TypeVar("Answer")


class ListProblem(Exception):
    """SES's list cannot be used now. `cure` says what to do; `soon`: it goes away by itself."""

    def __init__(self, code: str, text: str, cure: str, *, soon: bool) -> None:
        super().__init__(text)
        self.code = code
        self.cure = cure
        self.soon = soon


@dataclass(frozen=True, slots=True)
class Entry:
    """An address on SES's list."""

    address: str = field(repr=False)
    """As our rows have it; to SES upper and lower case are the same."""
    reason: str
    """One of our own reasons, bounce or complaint."""
    at: datetime
    """When it was put there, or last put there again."""


def page(since: datetime | None = None, token: str = "") -> tuple[list[Entry], str]:
    """A page of the list, or of what was put there after `since`, and the token for the next one ('': none).

    Raises ListProblem.
    """
    wanted: dict[str, Any] = {"PageSize": PAGE_SIZE}
    if since is not None:
        wanted["StartDate"] = since
    if token:
        wanted["NextToken"] = token
    answer = _ask(lambda: ses.client().list_suppressed_destinations(**wanted))
    found = [_entry(each) for each in answer.get("SuppressedDestinationSummaries", [])]
    return found, answer.get("NextToken") or ""


def _entry(summary: Any) -> Entry:
    reason = REASONS.get(summary.get("Reason", ""), Suppression.Reason.BOUNCE)
    return Entry(suppression.key(summary["EmailAddress"]), reason.value, summary["LastUpdateTime"])


def find(address: str) -> bool:
    """Whether the list has the address at this moment. Raises ListProblem."""
    return _present(lambda: ses.client().get_suppressed_destination(EmailAddress=address))


def put(address: str, reason: str) -> None:
    """Put an address on the list; one that is there already stays. Raises ListProblem."""
    word = "COMPLAINT" if reason == Suppression.Reason.COMPLAINT else "BOUNCE"
    _ask(lambda: ses.client().put_suppressed_destination(EmailAddress=address, Reason=word))  # type: ignore[arg-type]


def delete(address: str) -> bool:
    """Take an address off the list; returns False if it was not there. Raises ListProblem."""
    return _present(lambda: ses.client().delete_suppressed_destination(EmailAddress=address))


def _present(work: Callable[[], object]) -> bool:
    try:
        _ask(work)
    except ListProblem as problem:
        if problem.code == "NotFoundException":
            return False
        raise
    return True


def _ask(work: Callable[[], Answer]) -> Answer:
    try:
        return work()
    except (ClientError, BotoCoreError) as error:
        raise _problem(error) from None


def _problem(error: ClientError | BotoCoreError) -> ListProblem:
    """What is wrong, in words; SES's own may quote an address, and are left out."""
    outcome = classify(error)
    code = outcome.code
    if code in _DENIED:
        text = _("The AWS credentials may not use the suppression list of the SES account (%(code)s).") % {
            "code": code
        }
        return ListProblem(
            code,
            text,
            _("Allow %(rights)s, or set SES_SUPPRESSION_SYNC=off.") % {"rights": RIGHTS},
            soon=False,
        )
    if code in THROTTLED or outcome.http_status == 429:
        return ListProblem(
            code,
            _("SES asked for patience (%(code)s).") % {"code": code},
            _("Nothing, unless it lasts."),
            soon=True,
        )
    if outcome.kind in {"account", "not_transmitted"}:
        return ListProblem(
            code,
            _("SES's suppression list cannot be asked (%(code)s).") % {"code": code},
            outcome.message,
            soon=False,
        )
    soon = outcome.kind == "unknown"
    cure = _("Nothing, unless it lasts.") if soon else _("Look at the address: SES does not take it.")
    return ListProblem(
        code,
        _("SES's suppression list did not answer as it should (%(code)s).") % {"code": code},
        cure,
        soon=soon,
    )
