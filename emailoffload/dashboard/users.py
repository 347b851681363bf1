"""Users: find one, then read whether they got their mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.dashboard import (
    access,
    companies,
    known,
    links,
    paging,
    people,
    personal,
    reach,
    suppressed,
    untaken,
)
from emailoffload.dashboard import coming as coming_mails
from emailoffload.dashboard.sentences import Verdict
from emailoffload.dashboard.verdicts import user_verdict, verdict
from emailoffload.dashboard.views import Page
from emailoffload.feedback.models import Suppression
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email, RowError
from emailoffload.outbox.states import OPEN

MAILS_SHOWN = 25
OTHERS_SHOWN = 5


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
        """Our records in some thirty queries, and Moodle's answers as far as they are there."""
        user_id: int = kwargs["user_id"]
        viewer, params = self.request.user, self.request.GET
        whole_site = not scope.is_bound(viewer)
        about_them = scope.emails_for(viewer).filter(user_id=user_id).select_related("claim")
        to_user = about_them.filter(role="user")
        found = paging.page(to_user, params, MAILS_SHOWN)
        newest = to_user.order_by("-pk").first()
        # A reminder for tomorrow says nothing about today's: the newest that is due is judged.
        judged = to_user.filter(due_at__lte=timezone.now()).order_by("-pk").first() or newest
        about_others = list(about_them.exclude(role="user").order_by("-pk")[: OTHERS_SHOWN + 1])
        latest = newest or (about_others[0] if about_others else None)
        about_user = about(user_id, viewer, mailed=latest is not None)
        person = about_user.person.value
        reach_of = reach.of(user_id) if person else people.Answer(None, about_user.person.reachable)
        addresses = _addresses(person, reach_of.value, judged)
        of_others = _of_others(user_id, addresses, viewer)
        left = untaken.of(user_id, viewer, members=about_user.coming)
        shown = {email.pk: email for email in (*found.rows, *about_others, *of_others)}
        shown |= {judged.pk: judged} if judged else {}
        told = known.gather(list(shown.values()), viewer)

        def lines(emails: Sequence[Email]) -> list[tuple[Email, Verdict]]:
            return [(email, verdict(email, told[email.pk])) for email in emails]

        newest_left = left[0] if left and (judged is None or left[0].due_at > judged.due_at) else None
        mailed = user_verdict(
            judged, user_id, told[judged.pk] if judged else known.NOTHING, bound=not whole_site
        )
        return super().get_context_data(
            answer=about_user.person,
            reach=reach_of.value,
            companies=companies.listed(
                [name or companies.label(company, {}) for company, name in about_user.companies.items()]
            ),
            claim=latest.claim if latest else None,
            judged=judged,
            judged_early=judged is not None and judged.due_at > timezone.now(),
            waiting=newest if newest and newest != judged and newest.state in OPEN else None,
            newest_left=newest_left,
            verdict=newest_left.verdict if newest_left else mailed,
            before=mailed if newest_left and judged else None,
            mails=lines(found.rows),
            page=found,
            older=links.with_key(params, "before", found.older_than),
            newer=links.with_key(params, "after", found.newer_than),
            about_others=lines(about_others[:OTHERS_SHOWN]),
            more_about=len(about_others) > OTHERS_SHOWN,
            of_others=lines(of_others[:OTHERS_SHOWN]),
            more_of=[address for address in addresses if len(of_others) > OTHERS_SHOWN],
            left=left,
            suppression=_suppression(person, judged, viewer),
            row_errors=_row_errors(user_id) if whole_site else [],
            coming=_coming(user_id, about_user, viewer, reach_of.value, asked=params.get("coming") == "1"),
            whole_site=whole_site,
            erased=personal.erased(user_id) if whole_site or latest else None,
            moodle_link=links.moodle_user(user_id),
            title=_("User %(id)d") % {"id": user_id},
            **kwargs,
        )


def _addresses(person: people.Person | None, how: reach.Reach | None, judged: Email | None) -> Sequence[str]:
    """The user's own addresses: of the profile, where reminders go, where the newest mail went."""
    found = [person.address if person else "", how.address if how else "", judged.address if judged else ""]
    return list(dict.fromkeys(filter(None, found)))


def _of_others(user_id: int, addresses: Sequence[str], viewer: scope.Person) -> Sequence[Email]:
    """The newest mails about other people that went to one of these addresses: as a manager, as a copy.

    One query for each address, by its index; mails that name another recipient at the address are not theirs.
    """
    found: dict[int, Email] = {}
    for address in addresses:
        mails = scope.emails_for(viewer).filter(address=address).exclude(user_id=user_id)
        theirs = mails.filter(Q(recipient_id=user_id) | Q(recipient_id=None)).select_related("claim")
        found |= {email.pk: email for email in theirs.order_by("-pk")[: OTHERS_SHOWN + 1]}
    return [found[pk] for pk in sorted(found, reverse=True)][: OTHERS_SHOWN + 1]


def _suppression(
    person: people.Person | None, judged: Email | None, viewer: scope.Person
) -> Suppression | None:
    """Why the user's address of today gets no mail, if so; where Moodle cannot be asked, that of the newest mail."""
    address = person.address if person else judged.address if judged else ""
    return suppressed.of(address, viewer)


def _row_errors(user_id: int) -> list[RowError]:
    """The newest errors with rows of this user; records of the whole site, one query."""
    return list(RowError.objects.filter(user_id=user_id).order_by("-last_seen")[:5])


def _coming(
    user_id: int, about_user: Known, viewer: scope.Person, how: reach.Reach | None, *, asked: bool
) -> coming_mails.Coming | None:
    """What is coming; None where it takes long to find out and was not asked for."""
    if not about_user.person.reachable:
        return coming_mails.Coming(reachable=False)
    if about_user.person.value is None:
        return coming_mails.Coming()
    if not (asked or coming_mails.is_quick()):
        return None
    among = scope.companies_of(viewer)
    return coming_mails.of(
        user_id,
        reminders=about_user.coming,
        companies=among,
        deleted=about_user.person.value.deleted,
        unreached=how.why_not if how else "",
    )
