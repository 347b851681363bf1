# mypy: allow-untyped-calls
# django-tables2 has no types.
"""Tables of the dashboard. Rows come from `paging`, so a table neither sorts nor counts."""

from __future__ import annotations

from typing import Any

import django_tables2 as tables
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as text
from django.utils.translation import gettext_lazy as _

from emailoffload.dashboard import reasons, words
from emailoffload.dashboard.tags import badge, when
from emailoffload.outbox.models import Email, Run

_NUMBER = {"td": {"class": "number"}, "th": {"class": "number"}}


class EmailTable(tables.Table):
    """Emails: what state, to whom, what, about what, of which company, when. `columns` says which of them are shown."""

    state = tables.Column(verbose_name=_("State"))
    recipient = tables.Column(
        verbose_name=_("Recipient"), empty_values=(), attrs={"td": {"class": "recipient"}}
    )
    subject = tables.Column(verbose_name=_("Subject"), empty_values=())
    about = tables.Column(verbose_name=_("About"), empty_values=())
    company = tables.Column(verbose_name=_("Company"), empty_values=())
    due_at = tables.Column(verbose_name=_("Due"))
    state_at = tables.Column(verbose_name=_("State since"))
    attempts = tables.Column(verbose_name=_("Attempts"), attrs=_NUMBER)
    role = tables.Column(verbose_name=_("Role"))
    source = tables.Column(verbose_name=_("Source"))
    route = tables.Column(verbose_name=_("Route"))
    reason = tables.Column(verbose_name=_("Reason"))
    created_at = tables.Column(verbose_name=_("Rendered"))
    accepted_at = tables.Column(verbose_name=_("Accepted"))
    delivered_at = tables.Column(verbose_name=_("Delivered"))
    message_id = tables.Column(verbose_name=_("SES message id"))
    ref = tables.Column(verbose_name=_("Our id"))

    class Meta:
        orderable = False
        template_name = "offload/table.html"
        caption = _("Emails, newest first")
        empty_text = _("No emails.")

    def render_state(self, record: Email) -> SafeString:
        """The state as a badge."""
        return badge(record.state)

    def render_recipient(self, record: Email) -> SafeString:
        """Name and address, the role where it is not the learner, and the way to the user."""
        return render_to_string(
            "offload/cells/recipient.html", {"email": record, "role": words.role(record.role)}
        )

    def render_subject(self, record: Email) -> SafeString:
        """The subject; it leads to the email."""
        address = reverse("email", args=[record.pk])
        return format_html(
            '<a class="subject" href="{}">{}</a>', address, record.shown_subject.strip() or _("(no subject)")
        )

    def render_about(self, record: Email) -> SafeString:
        """The activity, or which kind of mail it is, and the course."""
        return render_to_string("offload/cells/about.html", {"claim": record.claim})

    def render_company(self, record: Email) -> SafeString:
        """The company's name; it leads to all mails of the company."""
        return render_to_string("offload/cells/company.html", {"email": record, "claim": record.claim})

    def render_role(self, value: str) -> str:
        """In which role the recipient gets it."""
        return words.role(value)

    def render_source(self, value: str) -> str:
        """What it was claimed from."""
        return words.source(value)

    def render_route(self, value: str) -> str:
        """Which way it went, or will."""
        return words.route(value)

    def render_reason(self, value: str) -> str:
        """Why it is in its state, in words."""
        return reasons.meaning(value)

    def render_message_id(self, value: str) -> SafeString:
        """SES's id."""
        return format_html("<code>{}</code>", value)

    def render_ref(self, record: Email) -> SafeString:
        """Our id as it stands in the mail's header."""
        return format_html("<code>{}</code>", record.ref.hex)

    def render_due_at(self, value: Any) -> SafeString:
        """When it is due."""
        return when(value)

    render_state_at = render_due_at
    render_created_at = render_due_at
    render_accepted_at = render_due_at
    render_delivered_at = render_due_at


class RunTable(tables.Table):
    """Passes: which kind, when, for how long, how it ended, what it did."""

    kind = tables.Column(verbose_name=_("Pass"))
    started_at = tables.Column(verbose_name=_("Started"))
    took = tables.Column(
        verbose_name=_("Took"), empty_values=(), attrs={"td": {"class": "number"}, "th": {"class": "number"}}
    )
    outcome = tables.Column(verbose_name=_("Outcome"))
    counts = tables.Column(verbose_name=_("What it did"), empty_values=())

    class Meta:
        orderable = False
        template_name = "offload/table.html"
        caption = _("Runs, newest first")
        empty_text = _("No runs.")

    def render_kind(self, value: str) -> str:
        """The kind of pass."""
        return words.kind(value)

    def render_started_at(self, value: Any, record: Run) -> SafeString:
        """When it began; it leads to the pass."""
        return format_html('<a href="{}">{}</a>', reverse("run", args=[record.pk]), when(value))

    def render_took(self, record: Run) -> str:
        """Seconds from start to end; nothing while it runs."""
        if record.finished_at is None:
            return "…"
        took = (record.finished_at - record.started_at).total_seconds()
        return text("%(n)s s") % {"n": number_format(took, 1, force_grouping=True)}

    def render_outcome(self, record: Run) -> SafeString:
        """How it ended, with its message."""
        return render_to_string("offload/cells/outcome.html", {"run": record})

    def render_counts(self, record: Run) -> SafeString:
        """Its counts, and what it left to Moodle."""
        return render_to_string("offload/cells/counts.html", {"run": record})
