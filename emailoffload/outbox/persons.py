"""Who was erased at whose wish, or because Moodle deleted them: the id and the times, and nothing about the person."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from emailoffload.outbox.models import Forgotten


class ErasedPerson(models.Model):
    """A user of Moodle whose data here was erased, or will be once Moodle has called them deleted for long enough."""

    user_id = models.BigIntegerField(_("user"), unique=True)
    deleted_seen_at = models.DateTimeField(_("first seen as deleted"), null=True, blank=True)
    """When a pass first saw that Moodle calls the user deleted; NULL while it does not."""
    erased_at = models.DateTimeField(_("erased"), null=True, blank=True)
    """When it was last erased; NULL: not yet."""
    because = models.CharField(_("why"), max_length=10, choices=Forgotten, blank=True, default="")

    class Meta:
        verbose_name = _("erased person")
        verbose_name_plural = _("erased persons")
        permissions = [
            ("export_person", _("Can export everything that is held about one person")),
            ("erase_person", _("Can erase what is held about one person")),
        ]
        indexes = [models.Index(fields=["erased_at", "deleted_seen_at"], name="erased_person_due")]

    def __str__(self) -> str:
        return f"user {self.user_id}"
