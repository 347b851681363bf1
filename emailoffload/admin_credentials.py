"""Sensitive templates in Django's admin: which mails carry credentials, beside those that always do."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from emailoffload.admin_scope import ForOwnCompanies
from emailoffload.outbox.models import AuditEntry
from emailoffload.policy.credentials import ALWAYS
from emailoffload.policy.models import SensitiveTemplate


class SensitiveTemplateForm(forms.ModelForm):  # type: ignore[type-arg]
    """Takes only what can be the name of a template, and not those that are always sensitive."""

    class Meta:
        model = SensitiveTemplate
        fields = ("name", "note")
        help_texts = {
            "name": _(
                "IOMAD's name of the template, such as license_allocated. Mails of this template that are stored "
                "already become sensitive too, within minutes."
            )
        }

    def clean_name(self) -> str:
        """The name. Raises ValidationError with what is wrong."""
        name: str = self.cleaned_data["name"]
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValidationError(
                _("A template's name has small letters, digits and underscores only, such as user_create.")
            )
        if name in ALWAYS:
            raise ValidationError(_("Mails of this template are always sensitive; it needs no entry."))
        return name


@admin.register(SensitiveTemplate)
class SensitiveTemplateAdmin(ForOwnCompanies):
    """Templates whose mails carry credentials, beside those that always do; each change is in the audit log."""

    form = SensitiveTemplateForm
    list_display = ("name", "note")
    actions = None

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The list, with those that are always sensitive named above it."""
        fixed = _("Always sensitive, whatever stands here: %(names)s.") % {"names": ", ".join(sorted(ALWAYS))}
        return super().changelist_view(request, {"subtitle": fixed, **(extra_context or {})})

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        """A name stays: another one is another row."""
        return ("name",) if obj else ()

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save, and record who did it."""
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            self._record(request, obj, "sensitive_template_change" if change else "sensitive_template_add")

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete, and record who did it. Mails that are sensitive already stay so."""
        with transaction.atomic():
            self._record(request, obj, "sensitive_template_delete")
            super().delete_model(request, obj)

    def _record(self, request: HttpRequest, obj: SensitiveTemplate, action: str) -> None:
        AuditEntry.objects.create(
            actor=request.user.get_username(),
            action=action,
            object_type="template",
            object_id=obj.name[:64],
            reason=obj.note,
            details={"name": obj.name},
        )
