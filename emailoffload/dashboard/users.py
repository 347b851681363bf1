"""Users: find one, then read whether they got their mail."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.dashboard import access, links, paging, people
from emailoffload.dashboard.verdicts import user_verdict, verdict
from emailoffload.dashboard.views import Page
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
        found = people.search(text[:200]) if len(text) >= 2 else None
        context = {
            "text": text,
            "too_short": len(text) == 1,
            "found": found,
            "mailed": _mailed(text) if found is not None else [],
            "most": people.FOUND_MOST,
        }
        return self.render_to_response(self.get_context_data(**context, **kwargs))


def _mailed(text: str) -> list[Email]:
    """The newest mail about each user who was mailed at exactly this address; one query through its index."""
    if "@" not in text:
        return []
    newest: dict[int, Email] = {}
    for email in (
        Email.objects.filter(address__in={text, text.lower()}).select_related("claim").order_by("-pk")[:200]
    ):
        newest.setdefault(email.user_id, email)
    return list(newest.values())[: people.FOUND_MOST]


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
        """Our records in six queries, and Moodle's answer as far as it is there."""
        user_id: int = kwargs["user_id"]
        params = self.request.GET
        mails = Email.objects.filter(user_id=user_id).select_related("claim")
        found = paging.page(mails, params, MAILS_SHOWN)
        to_user = mails.filter(role="user").order_by("-pk")
        newest = to_user.first()
        # A reminder for tomorrow says nothing about today's: the newest that is due is judged.
        judged = to_user.filter(due_at__lte=timezone.now()).first() or newest
        latest_claim = newest.claim if newest else (found.rows[0].claim if found.rows else None)
        asked = params.get("coming") == "1"
        show_coming = asked or people.coming_is_quick()
        return super().get_context_data(
            answer=people.person(user_id),
            claim=latest_claim,
            judged=judged,
            waiting=newest if newest and newest != judged and newest.state in OPEN else None,
            verdict=user_verdict(judged, user_id),
            mails=[(email, verdict(email)) for email in found.rows],
            page=found,
            older=links.with_key(params, "before", found.older_than),
            newer=links.with_key(params, "after", found.newer_than),
            row_errors=list(RowError.objects.filter(user_id=user_id).order_by("-last_seen")[:5]),
            coming=people.coming(user_id) if show_coming else None,
            moodle_link=links.moodle_user(user_id),
            title=_("User %(id)d") % {"id": user_id},
            **kwargs,
        )
