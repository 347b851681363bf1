"""Groups and users in Django's admin: which companies a group sees, chosen from IOMAD's, and who changed that.

People who are bound to companies themselves see neither groups nor users there: they could free themselves.

Superusers may do everything. Whoever else was given Django's permissions to change users or groups gives and takes
nothing that they do not have: they change, rename, delete or set the password of no account and no group that may do
something that they may not, and give no permission, no group and no superuser status beyond their own
(`admin_ranks`). Each change of an account or a group is in the audit log, with what it was and is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Field, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from emailoffload.admin_ranks import WithinOwnRank
from emailoffload.admin_scope import ForOwnCompanies
from emailoffload.dashboard import people
from emailoffload.dashboard.paging import MAX_ID
from emailoffload.outbox.models import AuditEntry
from emailoffload.policy.models import GroupCompany

_ASKED = "_offload_moodle_companies"


def moodle_companies(request: HttpRequest) -> Mapping[int, str]:
    """IOMAD's companies, id → name; empty where Moodle does not answer or has none. Asked once a request."""
    if not hasattr(request, _ASKED):
        setattr(request, _ASKED, people.companies().value)
    found: Mapping[int, str] = getattr(request, _ASKED)
    return found


class CompanyChoice:
    """The company of a binding as a choice of IOMAD's companies, or as a typed id where they cannot be read."""

    def formfield_for_dbfield(
        self, db_field: Field[Any, Any], request: HttpRequest, **kwargs: Any
    ) -> forms.Field | None:
        """Django's own field, but for the company's id."""
        if db_field.name != "company_id":
            field: forms.Field | None = super().formfield_for_dbfield(  # type: ignore[misc]
                db_field, request, **kwargs
            )
            return field
        found = moodle_companies(request)
        if not found:
            return forms.IntegerField(
                label=_("Company id"),
                min_value=1,
                max_value=MAX_ID,
                help_text=_("Moodle's companies cannot be read now: type the company's id."),
            )
        # A company that is gone from Moodle keeps its bindings until somebody removes them.
        bound = dict(GroupCompany.objects.values_list("company_id", "company_name"))
        gone = {company: name for company, name in bound.items() if company not in found}
        choices = [("", "---------")]
        choices += [(str(company), f"{name} ({company})") for company, name in found.items()]
        choices += [
            (str(company), _("%s (not in Moodle)") % (name or company)) for company, name in gone.items()
        ]
        return forms.TypedChoiceField(label=_("Company"), coerce=int, choices=choices)


def keep_name(binding: GroupCompany, request: HttpRequest) -> None:
    """Keep the company's name with the binding, so that it is shown while Moodle does not answer."""
    binding.company_name = moodle_companies(request).get(binding.company_id, binding.company_name)


def _bindings() -> dict[tuple[int, str], list[int]]:
    found: dict[tuple[int, str], list[int]] = {}
    rows = GroupCompany.objects.order_by("company_id").values_list("group_id", "group__name", "company_id")
    for group, group_name, company in rows:
        found.setdefault((group, group_name), []).append(company)
    return found


@contextmanager
def recorded(request: HttpRequest) -> Iterator[None]:
    """Write to the audit log which groups see other companies after the block, by whom."""
    before = _bindings()
    yield
    after = _bindings()
    AuditEntry.objects.bulk_create(
        AuditEntry(
            actor=request.user.get_username(),
            action="bind_group",
            object_type="group",
            object_id=str(group[0]),
            details={"group": group[1], "before": before.get(group, []), "after": after.get(group, [])},
        )
        for group in sorted(before.keys() | after.keys())
        if before.get(group) != after.get(group)
    )


class CompaniesOfGroup(CompanyChoice, admin.TabularInline):  # type: ignore[type-arg]
    """The companies that a group is bound to."""

    model = GroupCompany
    fields = ("company_id",)
    extra = 1
    verbose_name = _("company")
    verbose_name_plural = _(
        "Companies: with at least one here, members of this group see only what belongs to these companies"
    )


class BoundGroupAdmin(WithinOwnRank, GroupAdmin):
    """Groups with the companies that they are bound to."""

    inlines = (CompaniesOfGroup,)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Save the bindings with the names of their companies, and record what changed."""
        with recorded(request):
            for binding in formset.save(commit=False):
                keep_name(binding, request)
                binding.save()
            for binding in formset.deleted_objects:
                binding.delete()

    def delete_model(self, request: HttpRequest, obj: Group) -> None:
        """Delete a group; its bindings go with it."""
        with recorded(request):
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Group]) -> None:
        """Delete groups; their bindings go with them."""
        with recorded(request):
            super().delete_queryset(request, queryset)


class UnboundUserAdmin(WithinOwnRank, UserAdmin):  # type: ignore[type-arg]
    """Accounts, for people who see the whole site."""


@admin.register(GroupCompany)
class GroupCompanyAdmin(CompanyChoice, ForOwnCompanies):
    """All bindings in one list, for administrators who may not change groups."""

    list_display = ("group", "company_name", "company_id")
    list_filter = ("group",)
    search_fields = ("company_name", "=company_id")
    fields = ("group", "company_id")

    def save_model(self, request: HttpRequest, obj: GroupCompany, form: Any, change: bool) -> None:
        """Save a binding with the name of its company, and record it."""
        with recorded(request):
            keep_name(obj, request)
            super().save_model(request, obj, form, change)

    def delete_model(self, request: HttpRequest, obj: GroupCompany) -> None:
        """Remove a binding, and record it."""
        with recorded(request):
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[GroupCompany]) -> None:
        """Remove bindings, and record it."""
        with recorded(request):
            super().delete_queryset(request, queryset)


admin.site.unregister(Group)
admin.site.register(Group, BoundGroupAdmin)
admin.site.unregister(User)
admin.site.register(User, UnboundUserAdmin)
