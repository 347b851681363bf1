"""What the reconciler found where Moodle's rows and our records do not plainly agree (`worker.reconcile`)."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from emailoffload.outbox.models import Claim


class ReconcileFinding(models.Model):
    """One verdict about one claim that is not plain agreement; closed, not deleted, once it holds no more."""

    claim = models.ForeignKey(
        Claim, verbose_name=_("claim"), on_delete=models.CASCADE, related_name="findings", db_index=False
    )
    """Its index is that of `finding_once`."""
    source = models.CharField(_("source"), max_length=30)
    user_id = models.BigIntegerField(_("user"))
    company_id = models.BigIntegerField(_("company"), null=True, blank=True)
    verdict = models.CharField(_("verdict"), max_length=20)
    """A code of `worker.reconcile_words.VERDICTS`."""
    detail = models.CharField(_("detail"), max_length=30)
    """A code of `worker.reconcile_words.DETAILS`: what was observed."""
    seen = models.JSONField(_("what was seen"), default=dict, blank=True)
    """`row`: what Moodle's row held (null: it is gone); `notified`: Moodle's seconds of its notification."""
    first_seen = models.DateTimeField(_("first seen"))
    closed_at = models.DateTimeField(_("closed"), null=True, blank=True)
    closed_because = models.CharField(_("closed because"), max_length=10, blank=True, default="")
    """agrees: the claim agrees by now; changed: another verdict holds; old: it is no longer looked at;
    dealt_with: by a person, whose words are in the audit log"""

    class Meta:
        verbose_name = _("reconciliation finding")
        verbose_name_plural = _("reconciliation findings")
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["claim", "verdict"], name="finding_once")]
        indexes = [
            models.Index(fields=["closed_at", "-id"], name="finding_open"),
            models.Index(fields=["verdict", "closed_at", "-id"], name="finding_verdict"),
            models.Index(fields=["user_id", "-id"], name="finding_user"),
            models.Index(fields=["company_id", "-id"], name="finding_company"),
        ]

    def __str__(self) -> str:
        return f"{self.verdict} {self.claim_id}"
