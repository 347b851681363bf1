"""Users: find one, then read whether they got their mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.dashboard import access, companies, known, links, paging, people, suppressed
from emailoffload.dashboard.verdicts import user_verdict, verdict
from emailoffload.dashboard.views import Page
from emailoffload.feedback.models import Suppression
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email, RowError
from emailoffload.outbox.states import OPEN

MAILS_SHOWN = 25


class UsersPage(Page):
    """The search for a user. A number leads straight to the user with that id."""

    template_name = "offload/users.html"
    permissions = (access.VIEW_EMAIL,)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The list of people found, or the way to the one whose id was typed."""
        text = request.GET.get("q", "").strip()
        if text.isascii() and text.isdigit() and 0 < int(text[:20]) <= paging.MAX_ID:
            return redirect("user", int(text))
        among = scope.companies_of(request.user)
        found = people.search(text[:200], among) if len(text) >= 2 else None
        context = {
            "text": text,
            "too_short": len(text) == 1,
            "found": found,
            "mailed": _mailed(text, scope.emails_for(request.user)) if found is not None else [],
            "whole_site": among is None,
            "most": people.FOUND_MOST,
        }
        return self.render_to_response(self.get_context_data(**context, **kwargs))


def _mailed(text: str, emails: QuerySet[Email]) -> list[Email]:
    """The newest of `emails` about each user who was mailed at exactly this address; one query by its index."""
    if "@" not in text:
        return []
    newest: dict[int, Email] = {}
    rows = emails.filter(address__in={text, text.lower()})
    for email in rows.select_related("claim").order_by("-pk")[:200]:
        newest.setdefault(email.user_id, email)
    return list(newest.values())[: people.FOUND_MOST]


@dataclass(frozen=True, slots=True)
class Known:
    """What a person may know of a user from Moodle.

    To people bound to companies a user exists who is a member of one of these or has a visible mail, and what
    is coming is theirs where the user's mails belong to one of these: to the first company (facts §1.3).
    """

    person: people.Answer[people.Person | None]
    companies: Mapping[int, str]
    coming: bool


def about(user_id: int, viewer: scope.Person, *, mailed: bool) -> Known:
    """Ask Moodle about a user, as far as `viewer` may know; `mailed` is whether they see a mail about them."""
    asked = people.memberships(user_id)
    if not asked.reachable:
        return Known(people.Answer(None, False), {}, False)
    among = scope.companies_of(viewer)
    if among is None:
        return Known(people.person(user_id), asked.value, True)
    theirs = {company: name for company, name in asked.value.items() if company in among}
    first = next(iter(asked.value), None)
    if theirs or mailed:
        return Known(people.person(user_id), theirs, first in among)
    return Known(people.Answer(None, True), {}, False)


class UserPage(Page):
    """One user: who it is, the verdict, every mail to and about them, what is coming."""

    template_name = "offload/user.html"
    permissions = (access.VIEW_EMAIL,)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Refuse ids that no user of Moodle can have as not found."""
        kwargs["user_id"] = kwargs["user_id"] if kwargs["user_id"] <= paging.MAX_ID else 0
        self.kwargs = kwargs
        response: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Our records in a dozen queries, and Moodle's answer as far as it is there."""
        user_id: int = kwargs["user_id"]
        viewer, params = self.request.user, self.request.GET
        whole_site = not scope.is_bound(viewer)
        mails = scope.emails_for(viewer).filter(user_id=user_id).select_related("claim")
        found = paging.page(mails, params, MAILS_SHOWN)
        to_user = mails.filter(role="user").order_by("-pk")
        newest = to_user.first()
        # A reminder for tomorrow says nothing about today's: the newest that is due is judged.
        judged = to_user.filter(due_at__lte=timezone.now()).first() or newest
        latest = newest or mails.order_by("-pk").first()
        about_user = about(user_id, viewer, mailed=latest is not None)
        shown = {email.pk: email for email in (*found.rows, *([judged] if judged else []))}
        about_mail = known.gather(list(shown.values()), viewer)
        return super().get_context_data(
            answer=about_user.person,
            companies=companies.listed(
                [name or companies.label(company, {}) for company, name in about_user.companies.items()]
            ),
            claim=latest.claim if latest else None,
            judged=judged,
            waiting=newest if newest and newest != judged and newest.state in OPEN else None,
            verdict=user_verdict(
                judged, user_id, about_mail[judged.pk] if judged else known.NOTHING, bound=not whole_site
            ),
            mails=[(email, verdict(email, about_mail[email.pk])) for email in found.rows],
            page=found,
            older=links.with_key(params, "before", found.older_than),
            newer=links.with_key(params, "after", found.newer_than),
            suppression=_suppression(about_user.person.value, judged, viewer),
            row_errors=_row_errors(user_id) if whole_site else [],
            coming=_coming(user_id, about_user, asked=params.get("coming") == "1"),
            whole_site=whole_site,
            moodle_link=links.moodle_user(user_id),
            title=_("User %(id)d") % {"id": user_id},
            **kwargs,
        )


def _suppression(
    person: people.Person | None, judged: Email | None, viewer: scope.Person
) -> Suppression | None:
    """Why the user's address of today gets no mail, if so; where Moodle cannot be asked, that of the newest mail."""
    address = person.address if person else judged.address if judged else ""
    return suppressed.of(address, viewer)


def _row_errors(user_id: int) -> list[RowError]:
    """The newest errors with rows of this user; records of the whole site, one query."""
    return list(RowError.objects.filter(user_id=user_id).order_by("-last_seen")[:5])


def _coming(user_id: int, about_user: Known, *, asked: bool) -> people.Answer[Sequence[people.Coming]] | None:
    """What is coming; None where it takes long to find out and was not asked for."""
    if not (about_user.coming and about_user.person.reachable):
        return people.Answer([], about_user.person.reachable)
    return people.coming(user_id) if asked or people.coming_is_quick() else None
