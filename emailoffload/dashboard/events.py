# mypy: allow-untyped-calls
# django-tables2 has no types.
"""Events: everything that SES reported, matched with its mail or not, and the messages that could not be read.

People bound to companies see the events of their mails. `event_search` finds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import django_tables2 as tables
from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views import View
from django.views.decorators.cache import never_cache

from emailoffload.dashboard import access, event_search, links, observed, paging
from emailoffload.dashboard.known import events_expected
from emailoffload.dashboard.tags import when
from emailoffload.dashboard.timeline import LATE
from emailoffload.dashboard.views import PAGE_SIZE, Page
from emailoffload.feedback import queuestate
from emailoffload.feedback.models import Event, EventProblem, EventType
from emailoffload.feedback.testmail import is_test
from emailoffload.outbox import content, scope
from emailoffload.outbox.models import AuditEntry

MATCHED, SEARCHED, GIVEN_UP, NOTED = "matched", "searched", "given_up", "noted"
REASONS: Mapping[str, Any] = {
    "too_large": _("larger than any event"),
    "encoding": _("no text"),
    "not_json": _("no JSON"),
    "unknown_shape": _("JSON, but no event of SES's"),
    "not_subscribed": _("a question of SNS's, no event"),
    "nested": _("wrapped too often"),
    "unknown_type": _("a kind of event that is not known here"),
    "no_mail": _("an event that names no mail"),
    "no_time": _("an event without a time"),
    "too_many": _("an event about too many recipients"),
    "error": _("it could not be handled"),
}
"""Why a message is no event (`feedback.parse`), in words."""
ORIGINS: Mapping[str, Any] = {"queue": _("queue"), "webhook": _("webhook")}
BODY_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox"


class EventForm(forms.Form):
    """Which events are shown."""

    q = forms.CharField(
        label=_("Search"),
        required=False,
        max_length=300,
        strip=True,
        help_text=_("Address, SES message id or our id, in full"),
        widget=forms.TextInput(attrs={"type": "search", "autocomplete": "off"}),
    )
    type = forms.ChoiceField(label=_("Kind"), required=False, choices=[("", _("all")), *EventType.choices])
    match = forms.ChoiceField(
        label=_("Mail"),
        required=False,
        choices=[
            ("", _("all")),
            (MATCHED, _("found, and counts")),
            (NOTED, _("noted only")),
            (SEARCHED, _("not found yet")),
            (GIVEN_UP, _("not found, given up")),
        ],
    )


@dataclass(frozen=True, slots=True)
class Supply:
    """Whether events come in, for the whole site."""

    expected: bool
    newest_at: datetime | None
    queue: queuestate.QueueState


class EventTable(tables.Table):
    """Events: what, when, to whom, about which mail, what was said."""

    type = tables.Column(verbose_name=_("Event"))
    at = tables.Column(verbose_name=_("When"))
    address = tables.Column(
        verbose_name=_("Recipient"), empty_values=(), attrs={"td": {"class": "recipient"}}
    )
    mail = tables.Column(verbose_name=_("Mail"), empty_values=())
    said = tables.Column(verbose_name=_("What was observed"), empty_values=())

    class Meta:
        orderable = False
        template_name = "offload/table.html"
        caption = _("Events, newest first")
        empty_text = _("No events.")

    def render_type(self, record: Event) -> SafeString:
        """Its kind, in the colour of its tone."""
        tone = "quiet" if record.noted else observed.title(record)[1]
        return format_html('<span class="badge {}">{}</span>', tone, record.get_type_display())

    def render_at(self, record: Event) -> SafeString:
        """When it happened, by SES's clock; and how it came, where that is worth a word."""
        late = record.received_at - record.at >= LATE
        return render_to_string("offload/cells/event_at.html", {"event": record, "late": late})

    def render_address(self, record: Event) -> str:
        """The address, where the event names one."""
        return record.address or "–"

    def render_mail(self, record: Event) -> SafeString:
        """The mail, or why there is none."""
        return render_to_string(
            "offload/cells/event_mail.html", {"event": record, "test": is_test(record.ref)}
        )

    def render_said(self, record: Event) -> SafeString:
        """The cause in words, the codes, and why it does not count."""
        return render_to_string(
            "offload/cells/event_said.html",
            {
                "event": record,
                "meaning": observed.meaning(record) or observed.title(record)[0],
                "codes": observed.codes(record),
                "noted": observed.why_noted(record),
            },
        )


class ProblemTable(tables.Table):
    """Messages that are no events: why, how large, how often, since when."""

    reason = tables.Column(verbose_name=_("Why"))
    size = tables.Column(
        verbose_name=_("Bytes"), attrs={"td": {"class": "number"}, "th": {"class": "number"}}
    )
    times = tables.Column(
        verbose_name=_("Times"), attrs={"td": {"class": "number"}, "th": {"class": "number"}}
    )
    first_seen = tables.Column(verbose_name=_("First seen"))
    last_seen = tables.Column(verbose_name=_("Last seen"))
    origin = tables.Column(verbose_name=_("Came by"))

    class Meta:
        orderable = False
        template_name = "offload/table.html"
        caption = _("Unreadable messages, newest first")
        empty_text = _("No unreadable messages.")

    def render_reason(self, record: EventProblem) -> SafeString:
        """The reason in words, which leads to the message, and its detail."""
        return render_to_string(
            "offload/cells/problem.html", {"problem": record, "why": problem_reason(record.reason)}
        )

    def render_first_seen(self, value: Any) -> SafeString:
        """When it came for the first time."""
        return when(value)

    def render_last_seen(self, value: Any) -> SafeString:
        """When it came last."""
        return when(value)

    def render_origin(self, value: str) -> str:
        """By which way it came."""
        return str(ORIGINS.get(value, value))


def problem_reason(code: str) -> str:
    """Why a message is no event, in words."""
    return str(REASONS.get(code, code.replace("_", " ")))


class EventsPage(Page):
    """Events by kind, address or id, newest first."""

    template_name = "offload/events.html"
    permissions = (access.VIEW_EVENT,)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form, one page of events, and for the whole site whether events come in."""
        user, params = self.request.user, self.request.GET
        form = EventForm(params)
        valid = form.is_valid()
        nothing = event_search.Found(paging.Page([], None, None))
        found = event_search.find(user, form.cleaned_data, params, PAGE_SIZE) if valid else nothing
        whole = not scope.is_bound(user)
        return super().get_context_data(
            form=form,
            valid=valid,
            filtered=any(params.get(name) for name in form.fields),
            found=found,
            whole_site=whole,
            supply=supply() if whole else None,
            table=EventTable(found.page.rows),
            page=found.page,
            older=links.with_key(params, "before", found.page.older_than),
            newer=links.with_key(params, "after", found.page.newer_than),
            newest=links.without_keys(params),
            **kwargs,
        )


def supply() -> Supply:
    """Whether events come in; two queries."""
    newest = Event.objects.order_by("-pk").values_list("received_at", flat=True).first()
    return Supply(events_expected(), newest, queuestate.load())


class ProblemsPage(Page):
    """Messages that are no events; they concern the whole site."""

    template_name = "offload/event_problems.html"
    permissions = (access.VIEW_EVENTPROBLEM,)
    whole_site = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of messages, those that came first lately first."""
        params = self.request.GET
        found = paging.page(EventProblem.objects.defer("body"), params, PAGE_SIZE)
        return super().get_context_data(
            table=ProblemTable(found.rows),
            page=found,
            older=links.with_key(params, "before", found.older_than),
            newer=links.with_key(params, "after", found.newer_than),
            newest=links.without_keys(params),
            **kwargs,
        )


class ProblemPage(Page):
    """One message that is no event; what it says is in a frame, for those who may read contents."""

    template_name = "offload/event_problem.html"
    permissions = (access.VIEW_EVENTPROBLEM,)
    whole_site = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """What is known of it; its body is not read."""
        problem = get_object_or_404(EventProblem.objects.defer("body"), pk=_id(self.kwargs["pk"]))
        stored = EventProblem.objects.filter(pk=problem.pk, body__isnull=False).exists()
        return super().get_context_data(
            problem=problem, why=problem_reason(problem.reason), stored=stored,
            origin=ORIGINS.get(problem.origin, problem.origin), show=self.request.GET.get("show") == "1", **kwargs,
        )  # fmt: skip


@method_decorator(never_cache, name="dispatch")
class ProblemBody(access.NeedsPermission, View):
    """The beginning of a message that is no event, as text that no browser runs; each look is audited."""

    permissions = (access.VIEW_EVENTPROBLEM, access.VIEW_CONTENT)
    whole_site = True

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The text, under a policy that lets it do and load nothing."""
        problem = get_object_or_404(EventProblem, pk=_id(pk))
        if problem.body is None:
            text = gettext("What this message said is no longer stored.")
        else:
            try:
                text = content.open_bytes(problem.key_id, bytes(problem.body)).decode("utf-8", "replace")
            except content.ContentError as error:
                text = str(error)
            else:
                AuditEntry.objects.create(
                    actor=request.user.get_username(),
                    action="view_content",
                    object_type="event_problem",
                    object_id=str(problem.pk),
                )
        response = HttpResponse(text, content_type="text/plain; charset=utf-8")
        response["Content-Security-Policy"] = BODY_POLICY
        response["X-Frame-Options"] = "SAMEORIGIN"
        response["Referrer-Policy"] = "no-referrer"
        return response


def _id(number: int) -> int:
    """An id from the address; one that no row can have becomes one that no row has."""
    return number if number <= paging.MAX_ID else 0
