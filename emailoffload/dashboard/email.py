"""The page of one email: did they get it, who and why, what happened, what else belongs to it, what can be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _

from emailoffload.actions.fallbacks import Action
from emailoffload.dashboard import (
    access,
    deeds,
    fallbacks,
    known,
    lineage,
    links,
    paging,
    preview,
    suppressed,
    words,
)
from emailoffload.dashboard.offers import offers
from emailoffload.dashboard.timeline import entries, reports
from emailoffload.dashboard.verdicts import Verdict, verdict
from emailoffload.dashboard.views import Page
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState

ATTEMPTS_SHOWN = 200
MOST_OTHERS = 200
"""Other mails of the same claim that are looked at; a claim has a handful."""


def visible(viewer: scope.Person, number: int) -> Email:
    """The email of that number with its claim, if the person may see it. Raises Http404."""
    rows = scope.emails_for(viewer).select_related("claim")
    return get_object_or_404(rows, pk=number if number <= paging.MAX_ID else 0)


def others_of(email: Email, viewer: scope.Person) -> list[Email]:
    """The other mails of its claim, in the order in which they were made; one query."""
    mine = scope.emails_for(viewer).filter(claim_id=email.claim_id).exclude(pk=email.pk)
    found = list(mine.order_by("pk")[:MOST_OTHERS])
    for other in found:
        other.claim = email.claim
    return found


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another recipient's mail of the same claim, with its own verdict."""

    email: Email
    verdict: Verdict


def why_this_recipient(email: Email) -> str:
    """Why this person or address got the mail, as a sentence."""
    if email.role == "user":
        return _("The mail is theirs: it is about their own account or course.")
    if email.origin:
        return _("Because of: %(origin)s.") % {"origin": email.origin}
    if email.role == "manager":
        return _("The activity or the template writes to the learner's managers too.")
    if email.role == "thirdparty":
        return _("The activity names this address as a third party.")
    return _("A copy that the site asked for.")


OF_ONE: Final = frozenset({"retry", "accepted", "again", "dismiss"})
"""What is decided about a mail among the fallbacks and has no page of its own."""


def decisions(email: Email, viewer: scope.Person) -> dict[str, Action]:
    """What a person can decide about a mail that waits for one, by the names that the page of its group takes."""
    if email.state not in (EmailState.FAILED, EmailState.UNCERTAIN):
        return {}
    if not viewer.has_perm(access.HANDLE_FALLBACK):  # type: ignore[union-attr]
        return {}
    return {name: action for name, action in fallbacks.offered(email.state).items() if name in OF_ONE}


class EmailPage(Page):
    """One email: the verdict, who and what, its siblings, its timeline, what can be done."""

    template_name = "offload/email.html"
    permissions = (access.VIEW_EMAIL,)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The email with its claim, siblings, attempts, events and deeds; two dozen queries, however many of these."""
        viewer = self.request.user
        email = visible(viewer, self.kwargs["pk"])
        others = others_of(email, viewer)
        family = lineage.family(email, others)
        attempts = list(email.tries.order_by("number")[:ATTEMPTS_SHOWN])
        told = reports(email)
        of_them = known.gather([email, *family.siblings], viewer)
        of_it = of_them[email.pk]
        secret = preview.is_secret(email)
        shown = suppressed.of(email.address, viewer) if of_it.suppression else None
        return super().get_context_data(
            email=email,
            claim=email.claim,
            verdict=verdict(email, of_it),
            reported=bool(email.accepted_at and email.route == "ses") or bool(told.events),
            tree=family.tree,
            siblings=_siblings(family.siblings, of_them),
            suppression=shown,
            sensitive=secret,
            looks=deeds.looks(email, viewer),
            timeline=entries(email, attempts, told, of_it, deeds.of(email)),
            links=links.moodle(email.claim),
            reminder=words.reminder(email.claim.ordinal, email.claim.is_last),
            why_recipient=why_this_recipient(email),
            decisions=decisions(email, viewer),
            offers=offers(email, others, of_it.suppression, shown, viewer, secret=secret),
            **kwargs,
        )


def _siblings(emails: Sequence[Email], of_them: dict[int, known.Known]) -> list[Sibling]:
    return [Sibling(email, verdict(email, of_them[email.pk])) for email in emails]
