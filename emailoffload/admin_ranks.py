"""Accounts and groups in Django's admin, for people who are not superusers: nothing beyond what they may do themselves.

Who may change accounts could otherwise raise themselves: by a tick at *superuser*, by a group, by a permission, by the
password of somebody who may more.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.db.models import Model, QuerySet
from django.forms import ModelMultipleChoiceField
from django.http import HttpRequest

from emailoffload.admin_scope import ForOwnCompanies
from emailoffload.outbox.models import AuditEntry

_BEFORE = "_offload_before"


def of_permissions(rows: QuerySet[Permission]) -> set[str]:
    """Permissions as Django asks for them: `app.codename`."""
    return {f"{app}.{code}" for app, code in rows.values_list("content_type__app_label", "codename")}


def within(person: Any, thing: Model) -> bool:
    """Whether an account or a group may do nothing that this person may not."""
    if person.is_superuser:
        return True
    if isinstance(thing, User):
        if thing.is_superuser:
            return False
        rows = Permission.objects.filter(group__user=thing) | Permission.objects.filter(user=thing)
        return of_permissions(rows) <= set(person.get_all_permissions())
    if isinstance(thing, Group):
        return of_permissions(thing.permissions.all()) <= set(person.get_all_permissions())
    return False


class WithinOwnRank(ForOwnCompanies):
    """Accounts or groups; each change leaves an audit entry (`add_user`, `change_group`, …)."""

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Django's permission, and for one account or group: it may no more than who asks."""
        return bool(super().has_change_permission(request, obj)) and (
            obj is None or within(request.user, obj)
        )

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Django's permission, and for one account or group: it may no more than who asks."""
        return bool(super().has_delete_permission(request, obj)) and (
            obj is None or within(request.user, obj)
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Superuser status is given and taken by superusers."""
        fields = tuple(super().get_readonly_fields(request, obj))
        is_superuser = getattr(request.user, "is_superuser", False)
        return fields if is_superuser or self.model is not User else (*fields, "is_superuser")

    def formfield_for_manytomany(
        self, db_field: Any, request: HttpRequest | None = None, **kwargs: Any
    ) -> ModelMultipleChoiceField[Any]:
        """Permissions and groups to choose from: one's own permissions, and groups that have no others.

        Nothing is lost by that: who has others is not changed here (`has_change_permission`).
        """
        field: Any = super().formfield_for_manytomany(db_field, request, **kwargs)  # type: ignore[arg-type]
        person: Any = request.user if request else None
        if field is None or person is None or person.is_superuser:
            return field  # type: ignore[no-any-return]
        if db_field.related_model is Permission:
            own = person.get_all_permissions()
            rows = Permission.objects.select_related("content_type")
            keep = [row.pk for row in rows if f"{row.content_type.app_label}.{row.codename}" in own]
            field.queryset = field.queryset.filter(pk__in=keep)
        elif db_field.related_model is Group:
            groups = Group.objects.prefetch_related("permissions__content_type")
            field.queryset = field.queryset.filter(
                pk__in=[group.pk for group in groups if within(person, group)]
            )
        return field  # type: ignore[no-any-return]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, and remember what it was."""
        setattr(request, _BEFORE, _values(self.model._default_manager.get(pk=obj.pk)) if change else None)
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save groups and permissions, and record what became of all."""
        super().save_related(request, form, formsets, change)
        action = "change" if change else "add"
        self._record(request, action, form.instance, getattr(request, _BEFORE, None), _values(form.instance))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete, and record what it was."""
        with transaction.atomic():
            self._record(request, "delete", obj, _values(obj), None)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete several, and record what each was."""
        with transaction.atomic():
            for thing in queryset:
                self._record(request, "delete", thing, _values(thing), None)
            super().delete_queryset(request, queryset)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Django's own log; a password that was set for somebody is not seen by `save_related`."""
        if not hasattr(request, _BEFORE):
            self._record(request, "set_password", obj, None, None)
        return super().log_change(request, obj, message)

    def _record(self, request: HttpRequest, action: str, thing: Any, before: Any, after: Any) -> None:
        kind = str(self.opts.model_name)
        AuditEntry.objects.create(
            actor=request.user.get_username(),
            action=f"{action}_{kind}",
            object_type=kind,
            object_id=str(thing.pk),
            details={"before": before, "after": after},
        )


def _values(thing: Any) -> dict[str, Any]:
    """What of an account or a group decides about rights; the name of an account is in it, no address."""
    if isinstance(thing, User):
        return {
            "username": thing.username,
            **{name: getattr(thing, name) for name in ("is_active", "is_staff", "is_superuser")},
            "groups": sorted(thing.groups.values_list("name", flat=True)),
            "permissions": sorted(of_permissions(thing.user_permissions.all())),
        }
    return {"name": thing.name, "permissions": sorted(of_permissions(thing.permissions.all()))}
