"""What a person may know of suppressed addresses.

An address belongs to no company, so people who are bound to companies see those addresses that mails of theirs go to,
and nothing of what others did with them: evidence, reasons and names only where the evidence is a mail of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from emailoffload.feedback import suppression
from emailoffload.feedback.models import Suppression
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email

Agreement = Suppression.Agreement
TONES: Final[Mapping[str, str]] = {
    "bounce": "bad",
    "complaint": "bad",
    "transient": "warn",
    "person": "quiet",
}
ENDS: Final[Mapping[str, Promise]] = {
    suppression.EXPIRED: _("Its time was over."),
    suppression.DELIVERED: _("A mail arrived there again."),
    suppression.GONE_AT_SES: _("Somebody removed it from the suppression list of the SES account."),
}


def visible(user: scope.Person) -> QuerySet[Suppression]:
    """The rows that a person may see."""
    rows = Suppression.objects.select_related("email", "event__email")
    companies = scope.companies_of(user)
    if companies is None:
        return rows
    mailed = Email.objects.filter(address=OuterRef("address"), company_id__in=companies)
    return rows.filter(Q(Exists(mailed)) | _of_companies(companies))


def _of_companies(companies: frozenset[int]) -> Q:
    return Q(email__company_id__in=companies) | Q(event__email__company_id__in=companies)


def of(address: str, user: scope.Person) -> Suppression | None:
    """Why an address gets no mail now, if so, as far as the person may know; one query."""
    key = suppression.key(address)
    return visible(user).filter(suppression.active(), active_key=key).first() if key else None


@dataclass(frozen=True, slots=True)
class Line:
    """A row as a person may see it."""

    row: Suppression
    mine: bool
    """Whether evidence, reasons and names are shown."""

    @property
    def evidence(self) -> Email | None:
        """The mail that led here."""
        if not self.mine:
            return None
        return self.row.email or (self.row.event.email if self.row.event else None)

    @property
    def active(self) -> bool:
        """Whether the address gets no mail now."""
        over = self.row.until is not None and self.row.until <= timezone.now()
        return self.row.active_key is not None and not over

    @property
    def tone(self) -> str:
        """The colour of the reason."""
        return TONES.get(self.row.reason, "quiet") if self.active else "quiet"

    @property
    def agreement(self) -> str:
        """Whether SES's own list has the address; '' where it is over and nothing is left to do."""
        over = self.row.active_key is None and self.row.agreement != Agreement.TO_REMOVE
        return "" if over else str(Agreement(self.row.agreement).label)

    @property
    def pending(self) -> bool:
        """Whether SES's list is still to follow."""
        return self.row.agreement in (Agreement.TO_ADD, Agreement.TO_REMOVE)

    @property
    def end(self) -> str:
        """Why it ended."""
        code = self.row.removal_reason
        if code in ENDS and self.row.removed_by in ("", suppression.SES):
            return str(ENDS[code])
        return code if self.mine else ""

    @property
    def by(self) -> str:
        """Who ended it; '' where it ended by itself, and for those whom it does not concern."""
        return self.row.removed_by if self.mine or self.row.removed_by == suppression.SES else ""


def line(row: Suppression, user: scope.Person) -> Line:
    """The row for this person."""
    companies = scope.companies_of(user)
    if companies is None:
        return Line(row, True)
    mails = [row.email, row.event.email if row.event else None]
    return Line(row, any(mail is not None and mail.company_id in companies for mail in mails))
