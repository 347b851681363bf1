# mypy: allow-untyped-calls
# django-tables2 has no types.
"""Passes of the worker: the list, and one pass with what it claimed. They concern the whole site."""

from __future__ import annotations

from typing import Any, Final

from django.db.models import Prefetch
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext_lazy as _

from emailoffload.dashboard import access, links, paging, words
from emailoffload.dashboard.tables import RunTable
from emailoffload.dashboard.views import PAGE_SIZE, Page
from emailoffload.outbox.models import Claim, Email, Run

WINDOW: Final = 20_000
"""Newest passes among which an outcome is looked for: rare ones have no index of their own."""
OUTCOMES: Final = ("ok", "errors", "refused", "failed", "interrupted", "running")


class RunsPage(Page):
    """Passes, newest first, by kind and outcome."""

    template_name = "offload/runs.html"
    permissions = (access.VIEW_RUN,)
    whole_site = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of passes, of the kind and the outcome that the address names."""
        params = self.request.GET
        rows = Run.objects.all()
        kind, outcome = params.get("kind", ""), params.get("outcome", "")
        if kind in words.KINDS:
            rows = rows.filter(kind=kind)
        if outcome in OUTCOMES:
            newest = Run.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
            rows = rows.filter(outcome=outcome, pk__gt=newest - WINDOW)
        found = paging.page(rows, params, PAGE_SIZE)
        return super().get_context_data(
            table=RunTable(found.rows),
            page=found,
            kind=kind if kind in words.KINDS else "",
            kinds=list(words.KINDS),
            outcome=outcome if outcome in OUTCOMES else "",
            outcomes=[(code, words.run_outcome(code)) for code in OUTCOMES],
            windowed=outcome in OUTCOMES,
            window=WINDOW,
            older=links.with_key(params, "before", found.older_than),
            newer=links.with_key(params, "after", found.newer_than),
            newest=links.without_keys(params),
            **kwargs,
        )


class RunPage(Page):
    """One pass: when, by whom, how it ended, what it left to Moodle, and the claims it made."""

    template_name = "offload/run.html"
    permissions = (access.VIEW_RUN, access.VIEW_EMAIL)
    whole_site = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The pass and one page of its claims with their mails; five queries."""
        params = self.request.GET
        number: int = self.kwargs["pk"]
        run = get_object_or_404(Run, pk=number if number <= paging.MAX_ID else 0)
        mails = Prefetch("emails", queryset=Email.objects.order_by("pk"), to_attr="mails")
        claims = Claim.objects.filter(run=run).defer("before", "after").prefetch_related(mails)
        found = paging.page(claims, params, PAGE_SIZE)
        return super().get_context_data(
            run=run,
            took=(run.finished_at - run.started_at).total_seconds() if run.finished_at else None,
            claims=found.rows,
            count=paging.capped_count(claims.prefetch_related(None)),
            page=found,
            source=words.source(run.counts["source"]) if isinstance(run.counts.get("source"), str) else "",
            title=_("Run %(id)d") % {"id": run.pk},
            older=links.with_key(params, "before", found.older_than),
            newer=links.with_key(params, "after", found.newer_than),
            newest=links.without_keys(params),
            **kwargs,
        )
