"""Rows that the dashboard's figures are read from: hourly counts, and rows that stayed with Moodle.

Counting ten million emails takes seconds (perf-facts); the worker keeps these counts, and `rollups` says how.
Times are aware datetimes.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

EMAILS, CLAIMS, LEFT = KINDS = ("email", "claim", "left")


class HourCount(models.Model):
    """How many things of one kind began in an hour, by source, company and what they are now.

    Kinds: `email` (hour of `Email.created_at`, key: state), `claim` (hour of `Claim.created_at`, key: state),
    `left` (hour of `LeftRow.first_seen`, key: reason).
    """

    kind = models.CharField(_("kind"), max_length=8)
    hour = models.DateTimeField(_("hour"))
    """Its beginning."""
    source = models.CharField(_("source"), max_length=30)
    company_id = models.BigIntegerField(_("company"), default=0)
    """0: of no company, or of none that is known."""
    key = models.CharField(_("what it is now"), max_length=60)
    number = models.PositiveIntegerField(pgettext_lazy("how many", "number"))

    class Meta:
        verbose_name = _("hourly count")
        verbose_name_plural = _("hourly counts")
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "hour", "source", "company_id", "key"], name="hour_count_once"
            )
        ]
        indexes = [models.Index(fields=["kind", "company_id", "hour"], name="hour_count_company")]

    def __str__(self) -> str:
        return f"{self.kind} {self.hour:%Y-%m-%d %H} {self.key}"


class CountSum(models.Model):
    """Sums of hourly counts, for figures of long periods: of an hour over all companies, or of a UTC day by company.

    Written with the counts that they are sums of, in one transaction (`outbox.counting`).
    """

    kind = models.CharField(_("kind"), max_length=8)
    unit = models.CharField(_("unit"), max_length=4)
    """hour: of all companies, with company 0; day: of one company."""
    begins = models.DateTimeField(_("begins"))
    source = models.CharField(_("source"), max_length=30)
    company_id = models.BigIntegerField(_("company"), default=0)
    key = models.CharField(_("what it is now"), max_length=60)
    number = models.PositiveBigIntegerField(pgettext_lazy("how many", "number"))

    class Meta:
        verbose_name = _("sum of hourly counts")
        verbose_name_plural = _("sums of hourly counts")
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "unit", "begins", "source", "company_id", "key"], name="count_sum_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.unit} {self.begins:%Y-%m-%d %H} {self.key}"


class HourChange(models.Model):
    """A note that something which began in an hour has changed, so that the hour must be counted anew.

    Written by `outbox.hourchanges` in the transaction of the change, taken away by the pass that has counted the hour.
    """

    kind = models.CharField(_("kind"), max_length=8)
    hour = models.DateTimeField(_("hour"))

    class Meta:
        verbose_name = _("change of an hour")
        verbose_name_plural = _("changes of hours")
        indexes = [models.Index(fields=["kind", "hour"], name="hour_change")]

    def __str__(self) -> str:
        return f"{self.kind} {self.hour:%Y-%m-%d %H}"


class LeftRow(models.Model):
    """A row of Moodle's that was due and that we left to Moodle, with the reason that held when last seen."""

    source = models.CharField(_("source"), max_length=30)
    row_id = models.BigIntegerField(_("row in Moodle"))
    due_at = models.DateTimeField(_("due"))
    reason = models.CharField(_("reason"), max_length=60)
    """A code of `sources.reasons`."""
    detail = models.CharField(_("detail"), max_length=255, blank=True, default="")
    template = models.CharField(_("template"), max_length=100, blank=True, default="")
    user_id = models.BigIntegerField(_("user"), null=True, blank=True)
    activity_id = models.BigIntegerField(_("activity"), null=True, blank=True)
    course_id = models.BigIntegerField(_("course"), null=True, blank=True)
    company_id = models.BigIntegerField(_("company"), null=True, blank=True)
    first_seen = models.DateTimeField(_("first seen"), db_index=True)
    last_seen = models.DateTimeField(_("last seen"), db_index=True)

    class Meta:
        verbose_name = _("row left to Moodle")
        verbose_name_plural = _("rows left to Moodle")
        constraints = [models.UniqueConstraint(fields=["source", "row_id", "due_at"], name="left_row_once")]
        indexes = [models.Index(fields=["user_id", "-id"], name="left_row_user")]

    def __str__(self) -> str:
        return f"{self.source} {self.row_id}: {self.reason}"
