"""What became of mails after SES took them: events, suppressed addresses, rates, alarms.

Times are aware datetimes. An *event* is one observation that SES published about one recipient of one mail;
the state of the email follows from all its events together, in any order (`feedback.fold`).
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from emailoffload.outbox.models import Email


class EventType(models.TextChoices):
    """What SES publishes (SES developer guide, "Event data contents")."""

    SEND = "send", _("send")
    REJECT = "reject", _("reject")
    DELIVERY = "delivery", _("delivery")
    BOUNCE = "bounce", _("bounce")
    COMPLAINT = "complaint", _("complaint")
    DELIVERY_DELAY = "delivery_delay", _("delivery delay")
    OPEN = "open", _("open")
    CLICK = "click", _("click")
    RENDERING_FAILURE = "rendering_failure", _("rendering failure")
    SUBSCRIPTION = "subscription", _("subscription")


class Event(models.Model):
    """One event of SES's about one recipient, stored once whatever number of times it arrives."""

    key = models.CharField(max_length=64, unique=True, editable=False)
    """SHA-256 of message id, type, recipient, time and kind, as hex digits."""
    type = models.CharField(_("type"), max_length=20, choices=EventType)
    at = models.DateTimeField(_("at"))
    """When it happened, by SES's clock."""
    received_at = models.DateTimeField(_("received"))
    message_id = models.CharField(_("SES message id"), max_length=128, blank=True, default="")
    ref = models.CharField(_("our reference"), max_length=32, blank=True, default="")
    """Our id from the mail's tag or header, as 32 hex digits; empty where the event carries none."""
    address = models.CharField(_("recipient"), max_length=254, blank=True, default="")
    """Lower case; empty where the event names no recipient."""
    identity = models.CharField(_("sender's domain"), max_length=255, blank=True, default="")
    kind = models.CharField(_("kind"), max_length=20, blank=True, default="")
    """Bounces: permanent, transient, undetermined. Complaints: SES's feedback type."""
    subkind = models.CharField(_("sub-type"), max_length=40, blank=True, default="")
    """SES's own word: General, NoEmail, MailboxFull, OnAccountSuppressionList, …"""
    status = models.CharField(_("status code"), max_length=20, blank=True, default="")
    """The enhanced status code (RFC 3463), such as 5.1.1."""
    diagnostic = models.CharField(_("diagnostic"), max_length=500, blank=True, default="")
    """What the recipient's mail server said, without addresses."""
    email = models.ForeignKey(
        Email, verbose_name=_("email"), null=True, blank=True, on_delete=models.CASCADE, related_name="events",
        db_index=False,
    )  # fmt: skip
    """The mail it is about; NULL while none is found. Its index is that of `event_email`."""
    noted = models.BooleanField(_("noted only"), default=False)
    """Seen and kept, without a bearing on the state: an autoresponder's "bounce" after delivery, a subscription."""
    match_again_at = models.DateTimeField(_("looked for again"), null=True, blank=True)
    """While no mail is found: when it is looked for again; NULL when that was given up."""
    match_tries = models.PositiveSmallIntegerField(_("times looked for"), default=0)
    origin = models.CharField(_("came by"), max_length=10, default="queue")
    """queue, webhook"""

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["email", "at"], name="event_email"),
            models.Index(fields=["address", "type", "at"], name="event_address"),
            models.Index(fields=["match_again_at"], name="event_unmatched"),
            models.Index(fields=["message_id"], name="event_message"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.pk}"


class EventProblem(models.Model):
    """A message that is no event: acknowledged, so that it blocks nothing, and kept, so that nothing is lost."""

    digest = models.CharField(max_length=64, unique=True, editable=False)
    """SHA-256 of the message, as hex digits: the same message again only counts up."""
    origin = models.CharField(_("came by"), max_length=10)
    reason = models.CharField(_("reason"), max_length=40)
    detail = models.CharField(_("detail"), max_length=255, blank=True, default="")
    size = models.PositiveIntegerField(_("bytes"))
    key_id = models.CharField(max_length=16, blank=True, default="")
    body = models.BinaryField(null=True)
    """Its beginning, compressed and encrypted as contents are; erased by retention."""
    first_seen = models.DateTimeField(_("first seen"))
    last_seen = models.DateTimeField(_("last seen"), db_index=True)
    times = models.PositiveIntegerField(_("times"), default=1)

    class Meta:
        verbose_name = _("unreadable event")
        verbose_name_plural = _("unreadable events")
        ordering = ["-last_seen"]

    def __str__(self) -> str:
        return f"{self.reason} {self.pk}"


class Suppression(models.Model):
    """An address that gets no mail: why, on what evidence, since when; and, once lifted, by whom and why."""

    class Reason(models.TextChoices):
        BOUNCE = "bounce", _("permanent bounce")
        COMPLAINT = "complaint", _("complaint")
        TRANSIENT = "transient", _("many transient bounces")
        PERSON = "person", _("a person's decision")

    class Agreement(models.TextChoices):
        AGREED = "agreed", _("on both lists")
        TO_ADD = "to_add", _("to be added to SES's list")
        TO_REMOVE = "to_remove", _("to be removed from SES's list")
        OURS = "ours", _("on our list only")

    address = models.CharField(_("address"), max_length=254)
    """Lower case."""
    active_key = models.CharField(max_length=254, null=True, blank=True, unique=True, editable=False)
    """The address while it is suppressed, NULL afterwards: an address is suppressed once at a time."""
    reason = models.CharField(_("reason"), max_length=10, choices=Reason)
    origin = models.CharField(_("came by"), max_length=10)
    """event (an SES event to us), ses (SES's own list), person"""
    event = models.ForeignKey(
        Event, verbose_name=_("evidence"), null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    email = models.ForeignKey(
        Email, verbose_name=_("email"), null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    detail = models.CharField(_("detail"), max_length=500, blank=True, default="")
    since = models.DateTimeField(_("since"))
    until = models.DateTimeField(_("until"), null=True, blank=True, db_index=True)
    """When it ends by itself (transient bounces); NULL: not by itself."""
    added_by = models.CharField(_("added by"), max_length=150, blank=True, default="")
    removed_at = models.DateTimeField(_("removed"), null=True, blank=True)
    removed_by = models.CharField(_("removed by"), max_length=150, blank=True, default="")
    removal_reason = models.CharField(_("why removed"), max_length=500, blank=True, default="")
    agreement = models.CharField(_("SES's list"), max_length=10, choices=Agreement, default=Agreement.TO_ADD)
    """Transient ones stay `ours`: SES's list knows only bounces and complaints."""
    checked_at = models.DateTimeField(_("compared with SES"), null=True, blank=True)

    class Meta:
        verbose_name = _("suppression")
        verbose_name_plural = _("suppressions")
        ordering = ["-id"]
        permissions = [("lift_suppression", "Can let a suppressed address get mail again")]
        indexes = [
            models.Index(fields=["address", "-id"], name="suppression_address"),
            models.Index(fields=["agreement"], name="suppression_agreement"),
            models.Index(fields=["reason", "-id"], name="suppression_reason"),
        ]

    def __str__(self) -> str:
        return f"suppression {self.pk}"


class ReputationHour(models.Model):
    """What SES reported in one hour about the mails of one sender's domain and one company: counts."""

    hour = models.DateTimeField(_("hour"))
    """Its beginning, UTC: the hour of the event."""
    identity = models.CharField(_("sender's domain"), max_length=255, blank=True, default="")
    company_id = models.BigIntegerField(_("company"), default=0)
    """0: none, or not known."""
    sends = models.PositiveIntegerField(default=0)
    deliveries = models.PositiveIntegerField(default=0)
    permanent_bounces = models.PositiveIntegerField(default=0)
    transient_bounces = models.PositiveIntegerField(default=0)
    complaints = models.PositiveIntegerField(default=0)
    rejects = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name = _("hour of reputation")
        verbose_name_plural = _("hours of reputation")
        constraints = [
            models.UniqueConstraint(fields=["hour", "identity", "company_id"], name="reputation_hour_once")
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H} {self.identity} {self.company_id}"


class Alarm(models.Model):
    """Something that people were, or are to be, told about: from when to when, and whether they know."""

    class Level(models.TextChoices):
        WARNING = "warning", _("warning")
        CRITICAL = "critical", _("critical")

    code = models.CharField(_("alarm"), max_length=40)
    subject = models.CharField(_("about"), max_length=255, blank=True, default="")
    """What it is about where several can be: an identity, a company's id."""
    active_key = models.CharField(max_length=255, null=True, blank=True, unique=True, editable=False)
    """Code and subject while it lasts, NULL afterwards: an alarm is raised once at a time."""
    level = models.CharField(_("level"), max_length=10, choices=Level)
    text = models.TextField(_("text"))
    cure = models.TextField(_("what to do"), blank=True, default="")
    details = models.JSONField(_("figures"), default=dict, blank=True)
    raised_at = models.DateTimeField(_("raised"))
    seen_at = models.DateTimeField(_("last seen"))
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    told = models.JSONField(_("told"), default=dict, blank=True)
    """By channel (`email`, `webhook`): `raised` and `ended`, the time each was told; `tries`, `error` of the last."""

    class Meta:
        verbose_name = _("alarm")
        verbose_name_plural = _("alarms")
        ordering = ["-id"]
        indexes = [models.Index(fields=["ended_at", "-id"], name="alarm_ended")]

    def __str__(self) -> str:
        return f"{self.code} {self.subject}".strip()
