# mypy: allow-untyped-calls
# django-tables2 has no types.
"""Reconciliation: where our claims and Moodle's rows do not plainly agree, by verdict, with what a person can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import django_tables2 as tables
from django import forms
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from emailoffload.actions.findings import deal_with
from emailoffload.dashboard import access, links, paging, words
from emailoffload.dashboard.tags import NOTHING, when
from emailoffload.dashboard.views import PAGE_SIZE, Page
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.worker import reconcile
from emailoffload.worker import reconcile_words as verdicts
from emailoffload.worker.reconcile_findings import AGREES, CHANGED, DEALT_WITH, OLD

OPEN, CLOSED, ALL = "", "closed", "all"
CLOSED_BECAUSE: Mapping[str, Promise] = {
    AGREES: _("it agrees by now"),
    CHANGED: _("another verdict holds by now"),
    OLD: _("it is too old to be compared again"),
    DEALT_WITH: _("a person has dealt with it"),
}


@dataclass(frozen=True, slots=True)
class Count:
    """How many open findings have a verdict."""

    verdict: str
    name: Promise
    number: paging.Capped


@dataclass(frozen=True, slots=True)
class Last:
    """What the last complete comparison found, for the whole site."""

    finished_at: datetime
    days: int
    claims: int
    agree: int
    lacking: Sequence[Promise]
    """Evidence that could not be read."""


class FindingsForm(forms.Form):
    """Which findings are shown; the verdict is chosen by the tabs."""

    verdict = forms.ChoiceField(
        required=False,
        choices=[("", ""), *((code, name) for code, (name, _tone) in verdicts.VERDICTS.items())],
        widget=forms.HiddenInput,
    )
    status = forms.ChoiceField(
        label=_("Status"),
        required=False,
        choices=[(OPEN, _("Open")), (CLOSED, _("Closed")), (ALL, _("Open and closed"))],
    )
    source = forms.ChoiceField(
        label=_("Source"), required=False, choices=[("", _("All")), *words.SOURCES.items()]
    )
    user = forms.IntegerField(
        label=_("User (id)"), required=False, min_value=1, max_value=paging.MAX_ID, widget=forms.TextInput
    )


class DealtWithForm(forms.Form):
    """Which findings of the page are dealt with, and what was done."""

    reason = forms.CharField(
        label=_("What was found out or done?"),
        max_length=500,
        help_text=_("Kept in the audit log, with your name."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


def open_findings(user: scope.Person) -> QuerySet[ReconcileFinding]:
    """Open findings that a person may see."""
    return scope.findings_for(user).filter(closed_at__isnull=True)


def counts(user: scope.Person) -> list[Count]:
    """Open findings by verdict, the most serious first, without those that none has; a capped count for each."""
    found = [
        Count(code, name, paging.capped_count(open_findings(user).filter(verdict=code)))
        for code, (name, _tone) in verdicts.VERDICTS.items()
        if code != verdicts.AGREES
    ]
    return [count for count in found if count.number.value]


def last() -> Last | None:
    """What the last complete comparison found; one query."""
    found = reconcile.summary()["last"]
    if not found:
        return None
    names = {"notifications": _("Moodle's notifications"), "task_log": _("the log of its tasks")}
    return Last(
        finished_at=datetime.fromisoformat(found["finished_at"]),
        days=found["days"],
        claims=found["claims"],
        agree=found["counts"].get(verdicts.AGREES, 0),
        lacking=[name for key, name in names.items() if not found["evidence"].get(key)],
    )


class FindingTable(tables.Table):
    """Findings: the verdict, what was seen and what to do, whom and what it was about, since when."""

    choose = tables.Column(verbose_name=_("Choose"), empty_values=())
    verdict = tables.Column(verbose_name=_("Verdict"))
    detail = tables.Column(verbose_name=_("What was seen"))
    user_id = tables.Column(verbose_name=_("User"))
    mail = tables.Column(verbose_name=_("Mail"), empty_values=())
    first_seen = tables.Column(verbose_name=_("Found"))
    closed_at = tables.Column(verbose_name=_("Closed"))

    class Meta:
        orderable = False
        template_name = "offload/table.html"
        caption = _("Findings, newest first")
        empty_text = _("No findings.")

    def __init__(self, rows: Sequence[ReconcileFinding], mails: Mapping[int, Email]) -> None:
        self.mails = mails
        super().__init__(rows)

    def render_choose(self, record: ReconcileFinding) -> SafeString:
        """A box for those that are open."""
        if record.closed_at is not None:
            return NOTHING
        name = _("finding about claim %(claim)d") % {"claim": record.claim_id}
        return format_html(
            '<input type="checkbox" name="finding" value="{}" aria-label="{}">', record.pk, name
        )

    def render_verdict(self, value: str) -> SafeString:
        """The verdict as a badge."""
        name, tone = verdicts.VERDICTS.get(value, (words.humanised(value), "quiet"))
        return format_html('<span class="badge {}">{}</span>', tone, name)

    def render_detail(self, value: str) -> SafeString | str:
        """What was observed, and the cure."""
        said = verdicts.DETAILS.get(value)
        if said is None:
            return words.humanised(value)
        return (
            format_html('{}<span class="small cure">{}</span>', said.meaning, said.cure)
            if said.cure
            else str(said.meaning)
        )

    def render_user_id(self, record: ReconcileFinding) -> SafeString:
        """The way to the user."""
        name = record.claim.user_name or record.user_id
        return format_html('<a href="{}">{}</a>', reverse("user", args=[record.user_id]), name)

    def render_mail(self, record: ReconcileFinding) -> SafeString:
        """The way to the mail, what it is about, and the row in Moodle."""
        claim, mail = record.claim, self.mails.get(record.claim_id)
        about = words.template(claim.template) if claim.template else claim.activity_name or _("(no name)")
        what = (
            format_html('<a href="{}">{}</a>', reverse("email", args=[mail.pk]), about)
            if mail
            else format_html("{}", about)
        )
        row = _("claim %(claim)d, row %(row)d") % {"claim": claim.pk, "row": claim.row_id}
        return format_html('{}<span class="small">{}</span>', what, row)

    def render_first_seen(self, value: Any) -> SafeString:
        """When it was found first."""
        return when(value)

    def render_closed_at(self, record: ReconcileFinding) -> SafeString:
        """When it was closed, and why."""
        if record.closed_at is None:
            return NOTHING
        because = CLOSED_BECAUSE.get(record.closed_because, record.closed_because)
        return format_html('{}<span class="small">{}</span>', when(record.closed_at), because)


class ReconciliationPage(Page):
    """Findings, newest first, of those that the filters name."""

    template_name = "offload/reconciliation.html"
    permissions = (access.VIEW_EMAIL,)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The counts, one page of findings with their mails, and the last comparison; a fixed number of queries."""
        user, params = self.request.user, self.request.GET
        form = FindingsForm(params)
        valid = form.is_valid()
        rows = self._chosen(form.cleaned_data) if valid else ReconcileFinding.objects.none()
        found = paging.page(
            rows.select_related("claim").defer("claim__before", "claim__after"), params, PAGE_SIZE
        )
        mails: dict[int, Email] = {}
        of_claims = scope.emails_for(user).filter(claim__in=[row.claim_id for row in found.rows])
        for email in of_claims.order_by("-pk"):
            mails[email.claim_id] = email
        table = FindingTable(found.rows, mails)
        if not any(row.closed_at for row in found.rows):
            table.columns.hide("closed_at")
        may = user.has_perm(access.HANDLE_FALLBACK) and not all(row.closed_at for row in found.rows)
        if not may:
            table.columns.hide("choose")
        whole = not scope.is_bound(user)
        tabs = params.copy()
        for name in ("verdict", "before", "after"):
            tabs.pop(name, None)
        return super().get_context_data(
            form=form,
            valid=valid,
            filtered=any(params.get(name) for name in form.fields),
            chosen=params.get("verdict", ""),
            counts=counts(user),
            tabs=f"{tabs.urlencode()}&" if tabs else "",
            last=last() if whole else None,
            whole_site=whole,
            table=table,
            may=may,
            page=found,
            older=links.with_key(params, "before", found.older_than),
            newer=links.with_key(params, "after", found.newer_than),
            newest=links.without_keys(params),
            **({"deal": DealtWithForm()} | kwargs),
        )

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Close the chosen findings, of those that the person may see; without a reason or a choice, say so."""
        if not request.user.has_perm(access.HANDLE_FALLBACK):
            words_ = str(access.NEEDED[access.HANDLE_FALLBACK])
            raise PermissionDenied(words_ % {"permission": access.HANDLE_FALLBACK})
        given = {
            int(text[:19]) for text in request.POST.getlist("finding") if text.isascii() and text.isdigit()
        }
        wanted = sorted(number for number in given if number <= paging.MAX_ID)[:PAGE_SIZE]
        ids = list(open_findings(request.user).filter(pk__in=wanted).values_list("pk", flat=True))
        form = DealtWithForm(request.POST)
        if not (form.is_valid() and ids):
            return self.render_to_response(self.get_context_data(deal=form, none_chosen=not ids), status=400)
        done = deal_with(ids, actor=request.user.get_username(), reason=form.cleaned_data["reason"])
        return self.render_to_response(self.get_context_data(dealt_with=done))

    def _chosen(self, wanted: Mapping[str, Any]) -> QuerySet[ReconcileFinding]:
        rows = scope.findings_for(self.request.user)
        if wanted["status"] != ALL:
            rows = rows.filter(closed_at__isnull=wanted["status"] == OPEN)
        if wanted["verdict"]:
            rows = rows.filter(verdict=wanted["verdict"])
        if wanted["source"]:
            rows = rows.filter(source=wanted["source"])
        if wanted["user"]:
            rows = rows.filter(user_id=wanted["user"])
        return rows
