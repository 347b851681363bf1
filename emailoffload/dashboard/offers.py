"""What a person can do with one mail now; what they cannot is not hidden, but says why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.actions import cancel, release, resend, smtp
from emailoffload.dashboard import access
from emailoffload.dashboard.suppressed import line
from emailoffload.dashboard.suppressions import NOT_YOURS, may_add
from emailoffload.feedback.models import Suppression
from emailoffload.outbox import scope
from emailoffload.outbox.models import Content, Email
from emailoffload.outbox.states import OPEN


@dataclass(frozen=True, slots=True)
class Offer:
    """One action: the address of its page, or why it cannot be done now ('' where it can)."""

    title: str
    address: str
    why_not: str = ""


NOT_ALLOWED: Final[Mapping[str, Promise]] = {
    access.RESEND_EMAIL: gettext_lazy("Your account may not send mails again."),
    access.CANCEL_EMAIL: gettext_lazy("Your account may not stop mails."),
    access.HANDLE_FALLBACK: gettext_lazy("Your account may not decide which way a mail goes."),
    access.ADD_SUPPRESSION: gettext_lazy("Your account may not suppress addresses."),
    access.LIFT_SUPPRESSION: gettext_lazy("Your account may not let suppressed addresses get mail again."),
}
WHOLE_SITE: Final = gettext_lazy(
    "An address is suppressed for the whole site, so ask somebody who sees all companies."
)


def offers(
    email: Email,
    others: Sequence[Email],
    barred: Suppression | None,
    shown: Suppression | None,
    viewer: scope.Person,
    *,
    secret: bool,
) -> list[Offer]:
    """All five, in the order of how often they are needed; three queries at most.

    `others` are the other mails of its claim (already loaded), `barred` says that the address gets no mail now,
    `shown` is that row as far as the viewer may see it, `secret` that it carries credentials.
    """
    stored = Content.objects.filter(pk=email.pk).exists()
    unsure = release.unanswered([email, *others])
    return [
        _offer(_("Send it again…"), "email-resend", email, viewer, access.RESEND_EMAIL,
               _resend(email, others, barred is not None, stored, secret)),
        _offer(_("Stop it…"), "email-cancel", email, viewer, access.CANCEL_EMAIL,
               cancel.refusal(email.state, email.claim.state)),
        _offer(_("Hand it back to Moodle…"), "email-hand-back", email, viewer, access.HANDLE_FALLBACK,
               release.why_not(email.claim, [email, *others], unsure)),
        _offer(_("Send it by SMTP…"), "email-smtp", email, viewer, access.HANDLE_FALLBACK,
               smtp.why_not(email, email.claim.state, stored=stored)),
        suppression(email, barred, shown, viewer),
    ]  # fmt: skip


def _offer(title: str, page: str, email: Email, viewer: scope.Person, needed: str, why_not: str) -> Offer:
    """An action whose page needs a permission; without it, that is all there is to say."""
    if not viewer.has_perm(needed):  # type: ignore[union-attr]
        why_not = str(NOT_ALLOWED[needed])
    return Offer(title, reverse(page, args=[email.pk]), why_not)


def _resend(email: Email, others: Collection[Email], barred: bool, stored: bool, secret: bool) -> str:
    now = timezone.now()
    pending = next(
        (
            other.pk
            for other in others
            if other.resend_of_id == email.pk
            and (other.state in OPEN or other.created_at > now - resend.AGAIN)
        ),
        None,
    )
    # A learner whose address is suppressed may have another one by now: the page looks.
    barred = barred and email.role != "user"
    facts = resend.Facts(email.claim.state, stored, pending, barred, secret)
    return resend.refusal(email, facts)


def suppression(
    email: Email, barred: Suppression | None, shown: Suppression | None, viewer: scope.Person
) -> Offer:
    """To suppress the address, or to let it get mail again, whichever its state asks for."""
    page = reverse("email-suppress", args=[email.pk])
    if barred is None:
        title, needed = _("Suppress its address…"), access.ADD_SUPPRESSION
        why_not = "" if may_add(viewer) else str(WHOLE_SITE)
        if not email.address:
            why_not = _("Its address is erased.")
    else:
        title, needed = _("Let its address get mail again…"), access.LIFT_SUPPRESSION
        why_not = "" if shown is not None and line(shown, viewer).mine else str(NOT_YOURS)
    if not viewer.has_perm(needed):  # type: ignore[union-attr]
        why_not = str(NOT_ALLOWED[needed])
    return Offer(title, page, why_not)
