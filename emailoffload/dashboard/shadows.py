# mypy: allow-untyped-calls
# django-tables2 has no types.
"""Shadows: what we would have sent where a rule only watches, and what Moodle did to each of these rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import django_tables2 as tables
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from emailoffload.dashboard import access, links, paging, words
from emailoffload.dashboard.tags import when
from emailoffload.dashboard.views import PAGE_SIZE, Page
from emailoffload.outbox.models import Shadow
from emailoffload.worker import shadow

VERDICTS: Final[Mapping[str, tuple[Promise, str]]] = {
    shadow.WAITING: (_("waiting"), "wait"),
    shadow.SENT: (_("sent by Moodle"), "good"),
    shadow.UNTOUCHED: (_("untouched"), "bad"),
    shadow.GONE: (_("row gone"), "warn"),
    shadow.CHANGED: (_("row changed"), "warn"),
}
"""What each verdict is called, and its tone."""
NOT_YET: Final = _("Not due yet, or Moodle has not come to it yet.")


@dataclass(frozen=True, slots=True)
class Count:
    """How many shadows have a verdict."""

    verdict: str
    name: str
    tone: str
    number: paging.Capped


def counts() -> list[Count]:
    """Shadows by verdict, without those that no shadow has; one capped count for each, through an index."""
    found = [
        Count(code, str(name), tone, paging.capped_count(Shadow.objects.filter(verdict=code)))
        for code, (name, tone) in VERDICTS.items()
    ]
    return [count for count in found if count.number.value]


def reason(row: Shadow) -> str:
    """What was seen of Moodle's row, as a sentence."""
    return str(shadow.MEANINGS.get(row.detail, row.detail)) if row.detail else str(NOT_YET)


class ShadowTable(tables.Table):
    """Shadows: the verdict with its reason, whom and what it was about, when."""

    verdict = tables.Column(verbose_name=_("Comparison"))
    detail = tables.Column(verbose_name=_("What was seen"), empty_values=())
    user_id = tables.Column(verbose_name=_("User"))
    about = tables.Column(verbose_name=_("About"), empty_values=())
    mails = tables.Column(
        verbose_name=_("Mails"), attrs={"td": {"class": "number"}, "th": {"class": "number"}}
    )
    due_at = tables.Column(verbose_name=_("Due"))
    compared_at = tables.Column(verbose_name=_("Compared"))

    class Meta:
        orderable = False
        template_name = "offload/table.html"
        caption = _("Shadows, newest first")
        empty_text = _("No shadows.")

    def render_verdict(self, value: str) -> SafeString:
        """The verdict as a badge."""
        name, tone = VERDICTS.get(value, (words.humanised(value), "quiet"))
        return format_html('<span class="badge {}">{}</span>', tone, name)

    def render_detail(self, record: Shadow) -> str:
        """What was seen of the row."""
        return reason(record)

    def render_user_id(self, value: int) -> SafeString:
        """The way to the user."""
        return format_html('<a href="{}">{}</a>', reverse("user", args=[value]), value)

    def render_about(self, record: Shadow) -> str:
        """Which activity, or which kind of mail, and the row in Moodle."""
        values = {"row": record.row_id, "activity": record.activity_id}
        if record.template:
            return words.template(record.template) + ", " + _("row %(row)d") % values
        return _("Activity %(activity)d, row %(row)d") % values

    def render_due_at(self, value: Any) -> SafeString:
        """When it is due."""
        return when(value)

    def render_compared_at(self, value: Any) -> SafeString:
        """When the comparison was decided."""
        return when(value)


class ShadowsPage(Page):
    """Shadows, newest first, of one verdict if the address names it."""

    template_name = "offload/shadows.html"
    permissions = (access.VIEW_ROUTINGRULE,)
    whole_site = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """One page of rows, and the counts that lead to the others."""
        params = self.request.GET
        rows = Shadow.objects.all()
        chosen = params.get("verdict", "")
        if chosen in VERDICTS:
            rows = rows.filter(verdict=chosen)
        found = paging.page(rows, params, PAGE_SIZE)
        return super().get_context_data(
            table=ShadowTable(found.rows),
            page=found,
            chosen=chosen,
            counts=counts(),
            older=links.with_key(params, "before", found.older_than),
            newer=links.with_key(params, "after", found.newer_than),
            newest=links.without_keys(params),
            **kwargs,
        )
