"""What people who are bound to companies see in Django's admin."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from emailoffload.outbox import scope


class ForOwnCompanies(admin.ModelAdmin):  # type: ignore[type-arg]
    """Records of which people bound to companies see only their own, and change none (`outbox.scope`).

    `company` is the lookup of a record's company id; without one the records belong to the whole site, and
    bound people do not see them at all. Lists, pages, histories and searches all begin with `get_queryset`.
    """

    company = ""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The records that this person may see."""
        rows: QuerySet[Any] = super().get_queryset(request)
        if not self._open_to(request):
            return rows.none()
        return scope.narrow(rows, request.user, self.company) if self.company else rows

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whether the records are listed in the index."""
        return self._open_to(request) and bool(super().has_module_permission(request))

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Django's permission, and for records of the whole site a person who sees all of it."""
        return self._open_to(request) and bool(super().has_view_permission(request, obj))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Django's permission, for people who see the whole site."""
        return not scope.is_bound(request.user) and bool(super().has_add_permission(request))

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Django's permission, for people who see the whole site."""
        return not scope.is_bound(request.user) and bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Django's permission, for people who see the whole site."""
        return not scope.is_bound(request.user) and bool(super().has_delete_permission(request, obj))

    def _open_to(self, request: HttpRequest) -> bool:
        return bool(self.company) or not scope.is_bound(request.user)
