"""What did not go by the cloud: grouped by cause, with what a person can do about one, many or all of a group.

A list shows at most the newest CAP mails of a state, through an index; nothing here counts without a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django import forms
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from emailoffload.actions import fallbacks as actions
from emailoffload.dashboard import access, links, paging, walk
from emailoffload.dashboard.emails import load
from emailoffload.dashboard.views import PAGE_SIZE, Page
from emailoffload.delivery import smtp
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState
from emailoffload.worker import uncertain

S = EmailState
CAP = 10_000
CAP_BOUND = 5_000
"""The same for people bound to companies: mails of other companies lie between theirs."""
SOON = timedelta(minutes=5)
"""Mails whose next try lies further ahead are not due yet: no other way is looked for."""
STATES: Final[dict[str, Promise]] = {
    S.FAILED: _("Waiting for a person"),
    S.UNCERTAIN: _("Uncertain: sent without an answer"),
    S.QUEUED: _("Past the deadline, and on another way"),
    S.SENT_SMTP: _("Sent by SMTP"),
    S.RELEASED: _("Handed back to Moodle"),
}


@dataclass(frozen=True, slots=True)
class Group:
    """Mails in one state for one cause (a reason code)."""

    state: str
    reason: str
    count: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Section:
    """The groups of one state among its newest `cap` mails; `more`: there are older ones that are not counted."""

    state: str
    title: Promise
    groups: Sequence[Group]
    more: bool
    cap: int


def mails(user: scope.Person, state: str, reason: str | None = None) -> QuerySet[Email]:
    """The mails of a state that did not go by the cloud and that `user` may see, of one cause if it is given."""
    return scope.emails_for(user).filter(_beside(state, reason), state=state)


def _beside(state: str, reason: str | None) -> Q:
    """What a mail of a state must be, beside its state."""
    found = Q() if reason is None else Q(reason=reason)
    if state == S.QUEUED:
        now = timezone.now()
        found &= (Q(deadline_at__lte=now) | Q(route="smtp")) & Q(next_try_at__lte=now + SOON)
    return found


def wanted(user: scope.Person, state: str, reason: str) -> walk.Wanted:
    """The same mails of one cause, for a page of them: of states with millions of mails, a part is looked at."""
    found = walk.Wanted({"state": (state,)}, _beside(state, reason))
    companies = scope.companies_of(user)
    if companies is not None:
        found.narrow("company_id", sorted(companies))
        found.private = True
    return found


def section(user: scope.Person, state: str) -> Section:
    """The groups of a state, the largest first; one query."""
    groups: dict[str, list[datetime]] = {}
    cap = min(CAP, CAP_BOUND) if scope.is_bound(user) else CAP
    rows = mails(user, state).order_by("-pk").values_list("reason", "state_at")[: cap + 1]
    for reason, at in rows:
        groups.setdefault(reason, []).append(at)
    found = [Group(state, reason, len(times), min(times)) for reason, times in groups.items()]
    total = sum(group.count for group in found)
    return Section(state, STATES[state], sorted(found, key=lambda group: -group.count), total > cap, cap)


def offered(state: str) -> dict[str, actions.Action]:
    """The actions for mails of a state; SMTP only where there is that route."""
    return {
        name: action
        for name, action in actions.ACTIONS.items()
        if state in action.states and (name != "smtp" or smtp.configured())
    }


class FallbacksPage(Page):
    """Every cause with its number of mails and since when."""

    template_name = "offload/fallbacks.html"
    permissions = (access.VIEW_EMAIL,)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The sections that have anything; one query for each state."""
        found = [section(self.request.user, state) for state in STATES]
        return super().get_context_data(
            sections=[each for each in found if each.groups], smtp=smtp.configured(), **kwargs
        )


@dataclass(frozen=True, slots=True)
class Chosen:
    """The mails that a request means: their ids, at most `actions.MOST`."""

    ids: Sequence[int]
    more: bool = False
    """The group has still more of them."""
    gone: int = 0
    """So many were in the group when they were chosen, and are no more."""


class ActionForm(forms.Form):
    """What is to be done with which mails, and why."""

    action = forms.ChoiceField(choices=[(name, name) for name in actions.ACTIONS])
    ids = forms.CharField(required=False, widget=forms.HiddenInput)
    reason = forms.CharField(
        label=_("Why?"),
        max_length=500,
        help_text=_("Kept in the audit log, with your name."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class GroupPage(Page):
    """The mails of one group; a POST asks for confirmation, and with it does what it said."""

    template_name = "offload/fallback_group.html"
    permissions = (access.VIEW_EMAIL,)
    http_method_names = ("get", "head", "post", "options")

    def group(self) -> tuple[str, str]:
        """State and cause that the address names. Raises Http404 for a state that has no fallbacks."""
        state = str(self.kwargs["state"])
        if state not in STATES:
            raise Http404
        return state, self.request.GET.get("reason", "")[:60]

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of the group's mails, and the actions that its state allows."""
        state, reason = self.group()
        params = self.request.GET
        user = self.request.user
        before, after = paging.key(params, "before"), paging.key(params, "after")
        found = walk.find(wanted(user, state, reason), PAGE_SIZE, before, after)
        emails = load(user, found.ids)
        may = self.request.user.has_perm(access.HANDLE_FALLBACK)
        return super().get_context_data(
            title=STATES[state],
            reason=reason,
            lines=[(email, uncertain.deadline(email) if state == S.UNCERTAIN else None) for email in emails],
            count=found.count,
            looked_to=walk.moment(found.cut) if found.cut is not None else None,
            most=actions.MOST,
            actions=offered(state) if may else {},
            older=links.with_key(params, "before", found.older_than),
            newer=links.with_key(params, "after", found.newer_than),
            newest=links.without_keys(params),
            **(kwargs | {"state": state}),
        )

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Without `confirm`, say what will happen to how many; with it and a reason, do it and say what happened."""
        state, reason = self.group()
        if not request.user.has_perm(access.HANDLE_FALLBACK):
            words = str(access.NEEDED[access.HANDLE_FALLBACK])
            raise PermissionDenied(words % {"permission": access.HANDLE_FALLBACK})
        name = request.POST.get("action", "")
        if name not in offered(state):
            raise Http404
        chosen = self._chosen(request, state, reason)
        form = ActionForm(request.POST if "confirm" in request.POST else None)
        values: dict[str, Any] = {
            "state": state, "reason": reason, "name": name, "action": actions.ACTIONS[name], "chosen": chosen,
            "number": len(chosen.ids), "ids": ",".join(map(str, chosen.ids)), "form": form, "acted": None,
            "title": STATES[state],
        }  # fmt: skip
        status = 200
        if chosen.ids and form.is_valid():
            acted = actions.act(
                name, chosen.ids, actor=request.user.get_username(), reason=form.cleaned_data["reason"]
            )
            if chosen.gone:
                acted.refused[str(_("It has moved on meanwhile."))] += chosen.gone
            values["acted"] = acted
        elif chosen.ids:
            values["expected"] = actions.expect(name, chosen.ids)
            status = 400 if form.is_bound else 200
        return TemplateResponse(request, "offload/fallback_confirm.html", values, status=status)

    def _chosen(self, request: HttpRequest, state: str, reason: str) -> Chosen:
        """The mails that are meant, only those of this group that the person may see."""
        rows = mails(request.user, state, reason).order_by("pk").values_list("pk", flat=True)
        if request.POST.get("all") and "confirm" not in request.POST:
            found = list(rows[: actions.MOST + 1])
            return Chosen(found[: actions.MOST], more=len(found) > actions.MOST)
        given = request.POST.getlist("email") + request.POST.get("ids", "").split(",")
        numbers = {int(text[:19]) for text in given if text.isascii() and text.isdigit()}
        wanted = sorted(number for number in numbers if number <= paging.MAX_ID)[: actions.MOST]
        ids = list(rows.filter(pk__in=wanted))
        # Of others' mails nobody is told that they exist.
        others = scope.emails_for(request.user).filter(pk__in=set(wanted) - set(ids))
        return Chosen(ids, gone=others.count())
