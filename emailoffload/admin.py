"""The records in Django's admin: to look at, never to change. What a mail says is not among them."""

from __future__ import annotations

from importlib import import_module

from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django_q import admin as _django_q_admin  # noqa: F401 - its registrations come first, ours replace them
from django_q.models import Failure, OrmQ, Schedule, Success

from emailoffload import (
    admin_credentials,  # noqa: F401 - registers sensitive templates
    admin_groups,  # noqa: F401 - registers groups, users and bindings
    policy_admin,  # noqa: F401 - registers copy rules
    routing_admin,  # noqa: F401 - registers routing rules
)
from emailoffload.admin_lists import CappedPaginator, SearchedByIndex, by
from emailoffload.admin_scope import ForOwnCompanies
from emailoffload.dashboard import audit_words, shadows, walk, words
from emailoffload.feedback.models import Suppression
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import Attempt, AuditEntry, Claim, Email, Lease, RowError, Run, Shadow, State
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.outbox.states import EmailState
from emailoffload.sources import registry
from emailoffload.worker import reconcile_words

admin.site.site_title = _("Email Offload")
admin.site.site_header = _("Email Offload: records")
admin.site.index_title = _("Records, to look at. To search mails and users, use the dashboard.")
admin.site.site_url = "/"


class ReadOnly(SearchedByIndex, ForOwnCompanies):
    """Records that nobody adds, changes or deletes by hand; the permission to view is asked as always."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    sortable_by = ()  # a click on a column's heading would sort millions of rows
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never."""
        return False


@admin.register(Run)
class RunAdmin(ReadOnly):
    """Passes."""

    list_display = ("id", "kind", "outcome", "started_at", "finished_at", "holder")
    list_filter = (by("kind", _("kind"), words.KINDS),)


@admin.register(RowError)
class RowErrorAdmin(ReadOnly):
    """Rows of Moodle that could not be handled."""

    list_display = ("source", "row_id", "reason", "user_id", "activity_id", "times", "last_seen")
    ordering = ("-last_seen",)


@admin.register(ReconcileFinding)
class ReconcileFindingAdmin(ReadOnly):
    """What the reconciler found."""

    company = "company_id"
    list_display = (
        "verdict",
        "detail",
        "source",
        "user_id",
        "claim_id",
        "first_seen",
        "closed_at",
        "closed_because",
    )
    list_filter = (
        by("verdict", _("verdict"), {code: name for code, (name, _tone) in reconcile_words.VERDICTS.items()}),
    )
    searched = ("user_id", "claim_id")
    search_help_text = _("User id or claim")


@admin.register(Claim)
class ClaimAdmin(ReadOnly):
    """Claims of Moodle's rows."""

    company = "company_id"
    list_display = ("id", "source", "row_id", "state", "user_id", "activity_name", "due_at", "claimed_at")
    searched = ("user_id", "row_id")
    beside = {"row_id": {"source__in": registry.NAMES}}
    search_help_text = _("Row id or user id")
    exclude = ("intent_key",)


@admin.register(Shadow)
class ShadowAdmin(ReadOnly):
    """What would have been sent for rows that were only watched."""

    list_display = ("id", "source", "row_id", "verdict", "user_id", "template", "due_at", "compared_at")
    list_filter = (
        by("verdict", _("comparison"), {code: name for code, (name, _tone) in shadows.VERDICTS.items()}),
    )
    searched = ("user_id", "row_id")
    beside = {"row_id": {"source__in": registry.NAMES}}
    search_help_text = _("Row id or user id")


@admin.register(LeftRow)
class LeftRowAdmin(ReadOnly):
    """Rows that were due and stayed with Moodle."""

    company = "company_id"
    list_display = ("id", "source", "row_id", "reason", "user_id", "activity_id", "due_at", "last_seen")
    searched = ("user_id",)
    search_help_text = _("User id")


class AttemptInline(admin.TabularInline):  # type: ignore[type-arg]
    """The attempts of an email."""

    model = Attempt
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never."""
        return False


@admin.register(Email)
class EmailAdmin(ReadOnly):
    """Emails without their content."""

    company = "company_id"
    list_display = ("id", "state", "role", "user_id", "address", "subject", "due_at", "state_at", "attempts")
    list_filter = (by("state", _("state (the newest 1,000)"), EmailState.choices, walk.newest),)
    searched = ("user_id", "address", "message_id")
    search_help_text = _("User id, address or SES message id")
    raw_id_fields = ("claim", "resend_of")
    exclude = ("lease", "leased_until")
    inlines = (AttemptInline,)


@admin.register(Attempt)
class AttemptAdmin(ReadOnly):
    """Attempts to transmit."""

    company = "email__company_id"
    list_display = ("id", "email_id", "number", "route", "outcome", "started_at", "error_code", "request_id")
    searched = ("email_id",)
    search_help_text = _("Email (number)")


@admin.register(Lease)
class LeaseAdmin(ReadOnly):
    """Who does which pass now."""

    list_display = ("name", "holder", "beat_at", "expires_at")
    exclude = ("token",)


@admin.register(State)
class StateAdmin(ReadOnly):
    """Facts that all processes share."""

    list_display = ("name", "beginning", "updated_at")

    @admin.display(description=_("value"))
    def beginning(self, row: State) -> str:
        """The value, cut where it is long: the count of coverage may be some hundred thousand characters."""
        text = str(row.value)
        return text if len(text) <= 300 else f"{text[:300]}…"


@admin.register(Suppression)
class SuppressionAdmin(ReadOnly):
    """Suppressed addresses; they are added and lifted on the dashboard, with a reason."""

    list_display = ("id", "address", "reason", "origin", "since", "until", "removed_at", "agreement")
    list_filter = ("agreement",)
    searched = ("address",)
    search_help_text = _("Address")
    raw_id_fields = ("event", "email")
    exclude = ("active_key",)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly):
    """Who did what, when and why."""

    list_display = ("at", "actor", "action", "object_type", "object_id", "reason")
    list_filter = (by("action", _("action"), audit_words.ACTIONS),)


class ForSuperusers:
    """django-q's own records: the queue is the worker's business; superusers look, nobody edits."""

    actions = None

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Superusers only."""
        return bool(request.user.is_active and request.user.is_superuser)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Superusers only."""
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never: schedules are made by the worker's own command."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Never."""
        return False


if settings.OIDC:
    # Links between accounts and people at the provider: the login keeps them, nobody edits them.
    for _name in ("allauth.account", "allauth.socialaccount"):
        import_module(f"{_name}.admin")
        for _model in apps.get_app_config(_name.rpartition(".")[2]).get_models():
            if admin.site.is_registered(_model):
                admin.site.unregister(_model)

for _model in (Schedule, Success, Failure, OrmQ):
    _theirs = type(admin.site.get_model_admin(_model))
    admin.site.unregister(_model)
    admin.site.register(_model, type(f"{_theirs.__name__}ForSuperusers", (ForSuperusers, _theirs), {}))
