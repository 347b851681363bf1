"""Rules that people edit in Django's admin, with a record of what each was and is."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Model, QuerySet
from django.forms.models import model_to_dict
from django.http import HttpRequest

from emailoffload.admin_scope import ForOwnCompanies
from emailoffload.outbox.models import AuditEntry


class Recorded(ForOwnCompanies):
    """Every addition, change and deletion is an audit entry (`add_…`, `change_…`, `delete_…`), or does not happen."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save a rule together with the record of what it was and is."""
        with transaction.atomic():
            before = _values(self.model._default_manager.get(pk=obj.pk)) if change else None
            super().save_model(request, obj, form, change)
            self._record(request, "change" if change else "add", obj, before, _values(obj))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete a rule together with the record of what it was."""
        with transaction.atomic():
            self._record(request, "delete", obj, _values(obj), None)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete rules together with the record of what each was."""
        with transaction.atomic():
            for rule in queryset:
                self._record(request, "delete", rule, _values(rule), None)
            super().delete_queryset(request, queryset)

    def _record(
        self,
        request: HttpRequest,
        action: str,
        rule: Model,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
    ) -> None:
        kind = str(self.opts.model_name)
        AuditEntry.objects.create(
            actor=request.user.get_username(),
            action=f"{action}_{kind}",
            object_type=kind,
            object_id=str(rule.pk),
            details={"before": before, "after": after},
        )


def _values(rule: Model) -> dict[str, Any]:
    return model_to_dict(rule, exclude=["id"])
