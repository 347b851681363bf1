"""Our own records: passes, claims, emails with their content, attempts, leases.

A *claim* is one Moodle row that is ours to mail; it yields one *email* per recipient; each try to send one is
an *attempt*. Times are aware datetimes; row values inside `before` and `after` are Moodle's whole seconds.
"""

from __future__ import annotations

import uuid

from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from emailoffload.outbox.states import ClaimState, EmailState


class Run(models.Model):
    """One pass of one kind, for the record: what it saw, what it did, how it ended."""

    kind = models.CharField(_("kind"), max_length=20)
    started_at = models.DateTimeField(_("started"), db_index=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    holder = models.CharField(_("process"), max_length=120, blank=True)
    outcome = models.CharField(_("outcome"), max_length=20, default="running")
    """running, ok, errors, refused, failed, interrupted"""
    message = models.TextField(_("message"), blank=True)
    counts = models.JSONField(_("counts"), default=dict, blank=True)

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering = ["-id"]
        indexes = [models.Index(fields=["kind", "-id"], name="run_kind")]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class RowError(models.Model):
    """A Moodle row that a pass could not handle, with the cause; it never stops the rest of the pass."""

    source = models.CharField(_("source"), max_length=30)
    row_id = models.BigIntegerField(_("row"))
    activity_id = models.BigIntegerField(_("activity"), null=True, blank=True)
    user_id = models.BigIntegerField(_("user"), null=True, blank=True)
    reason = models.CharField(_("reason"), max_length=60)
    detail = models.TextField(_("detail"), blank=True)
    first_seen = models.DateTimeField(_("first seen"))
    last_seen = models.DateTimeField(_("last seen"), db_index=True)
    times = models.PositiveIntegerField(_("times"), default=1)

    class Meta:
        verbose_name = _("row error")
        verbose_name_plural = _("row errors")
        constraints = [models.UniqueConstraint(fields=["source", "row_id", "reason"], name="row_error_once")]

    def __str__(self) -> str:
        return f"{self.source} {self.row_id}: {self.reason}"


class Claim(models.Model):
    """One row of Moodle's that we claimed, or mean to."""

    ref = models.UUIDField(_("reference"), default=uuid.uuid4, unique=True, editable=False)
    source = models.CharField(_("source"), max_length=30)
    row_id = models.BigIntegerField(_("row in Moodle"))
    template = models.CharField(_("template"), max_length=100, blank=True, default="")
    """IOMAD's name of the kind of mail; empty for reminders."""
    intent_key = models.CharField(max_length=120, null=True, blank=True, unique=True, editable=False)
    """Source, row and the values read: while it is set no other process can mean to claim the same mail."""
    state = models.CharField(_("state"), max_length=12, choices=ClaimState, default=ClaimState.INTENDED)
    before = models.JSONField(_("row before"), default=dict)
    after = models.JSONField(_("row after"), default=dict)
    under_lock = models.BooleanField(_("claimed under the cron lock"), default=False)
    user_id = models.BigIntegerField(_("user"))
    user_name = models.CharField(_("user's name"), max_length=255, blank=True)
    user_email = models.CharField(_("user's address"), max_length=254, blank=True)
    activity_id = models.BigIntegerField(_("activity"))
    activity_name = models.CharField(_("activity's name"), max_length=255, blank=True)
    cmid = models.BigIntegerField(_("course module"), default=0)
    course_id = models.BigIntegerField(_("course"))
    course_name = models.CharField(_("course's name"), max_length=1333, blank=True)
    company_id = models.BigIntegerField(_("company"), null=True, blank=True)
    company_name = models.CharField(_("company's name"), max_length=255, blank=True)
    ordinal = models.PositiveIntegerField(_("reminder number"), default=1)
    is_last = models.BooleanField(_("last mail owed"), default=False)
    completiontime = models.BigIntegerField(default=0)
    run = models.ForeignKey(
        Run, verbose_name=_("run"), null=True, on_delete=models.SET_NULL, related_name="claims"
    )
    due_at = models.DateTimeField(_("due"))
    created_at = models.DateTimeField(_("intended"))
    claimed_at = models.DateTimeField(_("claimed"), null=True, blank=True)
    settled_at = models.DateTimeField(_("lost, dropped or released"), null=True, blank=True)
    note = models.CharField(_("note"), max_length=255, blank=True)
    fallback = models.CharField(_("when the cloud fails"), max_length=6, default="moodle")
    """moodle, smtp or hold: the policy that held when it was claimed."""
    forgotten_at = models.DateTimeField(_("name and address erased"), null=True, blank=True)
    """When the user's name and address were emptied (`worker.privacy`); the claim itself stays on record."""

    class Meta:
        verbose_name = _("claim")
        verbose_name_plural = _("claims")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["source", "row_id"], name="claim_row"),
            models.Index(fields=["state", "created_at"], name="claim_state"),
            models.Index(fields=["user_id", "-id"], name="claim_user"),
            # Those that are still to be emptied, in the order of their ids.
            models.Index(fields=["forgotten_at"], name="claim_forgotten"),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.row_id}"


class Forgotten(models.TextChoices):
    """Why names and addresses were erased."""

    RETENTION = "retention", _("kept for long enough")
    REQUEST = "request", _("somebody asked for it")
    MOODLE = "moodle", _("Moodle deleted the user")


class Email(models.Model):
    """One message for one recipient."""

    ref = models.UUIDField(_("reference"), default=uuid.uuid4, unique=True, editable=False)
    """Our id: leaves with the mail as an SES tag and as the header X-Email-Offload-Id."""
    claim = models.ForeignKey(Claim, verbose_name=_("claim"), on_delete=models.PROTECT, related_name="emails")
    resend_of = models.ForeignKey(
        "self",
        verbose_name=_("resend of"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="resends",
    )
    source = models.CharField(_("source"), max_length=30)
    template = models.CharField(_("template"), max_length=100, blank=True, default="")
    role = models.CharField(_("role"), max_length=12)
    """user, thirdparty, manager, copy"""
    origin = models.CharField(_("recipient because of"), max_length=120, blank=True, default="")
    """Why a copy has this recipient, in words: the copy rule's name, the template's Cc; empty for the user's own."""
    user_id = models.BigIntegerField(_("about user"))
    recipient_id = models.BigIntegerField(_("recipient's user id"), null=True, blank=True)
    activity_id = models.BigIntegerField(_("activity"))
    course_id = models.BigIntegerField(_("course"))
    company_id = models.BigIntegerField(_("company"), null=True, blank=True)
    address = models.CharField(_("address"), max_length=254)
    name = models.CharField(_("name"), max_length=255, blank=True)
    subject = models.CharField(_("subject"), max_length=998, blank=True)
    sensitive = models.BooleanField(_("sensitive"), default=False)
    route = models.CharField(_("route"), max_length=8, default="ses")
    """ses, smtp or moodle"""

    state = models.CharField(_("state"), max_length=12, choices=EmailState, default=EmailState.PREPARED)
    state_at = models.DateTimeField(_("state since"))
    reason = models.CharField(_("reason"), max_length=60, blank=True)
    """A code: why it is suppressed, failed, uncertain, or waits."""
    detail = models.CharField(_("detail"), max_length=500, blank=True)

    created_at = models.DateTimeField(_("rendered"), db_index=True)
    due_at = models.DateTimeField(_("due"))
    next_try_at = models.DateTimeField(_("next try"))
    deadline_at = models.DateTimeField(_("deadline"))
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    lease = models.CharField(max_length=36, blank=True, default="", editable=False)
    leased_until = models.DateTimeField(null=True, blank=True, editable=False)

    message_id = models.CharField(_("SES message id"), max_length=128, blank=True, default="", db_index=True)
    accepted_at = models.DateTimeField(_("accepted"), null=True, blank=True)
    delivered_at = models.DateTimeField(_("delivered"), null=True, blank=True)
    opened_at = models.DateTimeField(_("opened"), null=True, blank=True)
    """First time; like `clicked_at` only where the configuration set tracks it."""
    clicked_at = models.DateTimeField(_("clicked"), null=True, blank=True)
    bounced_at = models.DateTimeField(_("bounced"), null=True, blank=True)
    complained_at = models.DateTimeField(_("complained"), null=True, blank=True)
    erased_at = models.DateTimeField(_("content erased"), null=True, blank=True)
    """When what the mail said was erased; the email itself stays on record."""
    forgotten_at = models.DateTimeField(_("name, address and subject erased"), null=True, blank=True)
    """When name, address, subject and what others said of it were emptied; ids, states and times stay."""
    forgotten_because = models.CharField(
        _("why they were erased"), max_length=10, choices=Forgotten, blank=True, default="", db_default=""
    )

    class Meta:
        verbose_name = _("email")
        verbose_name_plural = _("emails")
        ordering = ["-id"]
        permissions = [
            ("resend_email", _("Can resend an email")),
            ("handle_fallback", _("Can deal with mails that did not go by the cloud")),
            ("cancel_email", _("Can cancel an email that has not left")),
            ("export_email", _("Can export emails as CSV")),
        ]
        indexes = [
            models.Index(fields=["state", "next_try_at"], name="email_due"),
            models.Index(fields=["user_id", "-id"], name="email_user"),
            models.Index(fields=["address", "-id"], name="email_address"),
            models.Index(fields=["course_id", "-id"], name="email_course"),
            models.Index(fields=["activity_id", "-id"], name="email_activity"),
            models.Index(fields=["company_id", "-id"], name="email_company"),
            models.Index(fields=["state", "-id"], name="email_state"),
            models.Index(fields=["sensitive", "erased_at"], name="email_unerased"),
        ]

    def __str__(self) -> str:
        return str(self.ref)

    def _shown(self, value: str) -> str:
        return gettext("(erased)") if self.forgotten_at and not value else value

    @property
    def shown_subject(self) -> str:
        """The subject for people; that it was erased, where it was: never a blank without a reason."""
        return self._shown(self.subject)

    @property
    def shown_name(self) -> str:
        """The recipient's name for people."""
        return self._shown(self.name)

    @property
    def shown_address(self) -> str:
        """The recipient's address for people."""
        return self._shown(self.address)


class Shadow(models.Model):
    """What would have been sent for a row of Moodle's that was not claimed, and what Moodle then did to it."""

    source = models.CharField(_("source"), max_length=30)
    row_id = models.BigIntegerField(_("row in Moodle"))
    template = models.CharField(_("template"), max_length=100, blank=True, default="")
    before = models.JSONField(_("row before"), default=dict)
    user_id = models.BigIntegerField(_("user"))
    activity_id = models.BigIntegerField(_("activity"))
    course_id = models.BigIntegerField(_("course"))
    company_id = models.BigIntegerField(_("company"), null=True, blank=True)
    mails = models.PositiveSmallIntegerField(_("mails that we would send"))
    is_last = models.BooleanField(_("last mail owed"), default=False)
    """Moodle deletes the row with this mail, instead of counting it."""
    due_at = models.DateTimeField(_("due"))
    seen_at = models.DateTimeField(_("rendered"))
    verdict = models.CharField(_("comparison"), max_length=20, default="waiting")
    """waiting, sent (Moodle handled the row as foreseen), untouched, gone, changed"""
    compared_at = models.DateTimeField(_("compared"), null=True, blank=True)
    """When the comparison was decided."""
    detail = models.CharField(_("detail"), max_length=255, blank=True, default="")
    """A code of `worker.shadow`: what was seen in Moodle's row."""

    class Meta:
        verbose_name = _("shadow")
        verbose_name_plural = _("shadows")
        constraints = [models.UniqueConstraint(fields=["source", "row_id", "due_at"], name="shadow_once")]
        indexes = [
            models.Index(fields=["verdict", "due_at"], name="shadow_verdict"),
            models.Index(fields=["user_id", "-id"], name="shadow_user"),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.row_id}"


class Content(models.Model):
    """What an email says, compressed and encrypted (`outbox.content`); erased by retention, the email stays."""

    email = models.OneToOneField(Email, primary_key=True, on_delete=models.CASCADE, related_name="content")
    key_id = models.CharField(max_length=16)
    body = models.BinaryField()

    class Meta:
        verbose_name = _("content")
        verbose_name_plural = _("contents")

    def __str__(self) -> str:
        return f"content of {self.pk}"


class Attempt(models.Model):
    """One try to transmit one email. The row exists before the first byte leaves."""

    email = models.ForeignKey(
        Email, verbose_name=_("email"), on_delete=models.CASCADE, related_name="tries", db_index=False
    )
    """Its index is that of `attempt_number`."""
    number = models.PositiveIntegerField(_("number"))
    route = models.CharField(_("route"), max_length=8, default="ses")
    started_at = models.DateTimeField(_("started"))
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    outcome = models.CharField(_("outcome"), max_length=20, default="in_flight")
    """in_flight, accepted, not_transmitted, throttled, quota, permanent, identity, account, unknown;
    not_arrived: unknown, until a person found out"""
    error_code = models.CharField(_("error"), max_length=100, blank=True)
    error_message = models.CharField(_("message"), max_length=500, blank=True)
    http_status = models.PositiveSmallIntegerField(_("HTTP status"), null=True, blank=True)
    request_id = models.CharField(_("SES request id"), max_length=128, blank=True)
    message_id = models.CharField(_("SES message id"), max_length=128, blank=True)
    holder = models.CharField(_("process"), max_length=120, blank=True)

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        constraints = [models.UniqueConstraint(fields=["email", "number"], name="attempt_number")]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.email_id}"


class Lease(models.Model):
    """Who does a kind of pass now, across processes and hosts. Taken over when its holder is silent."""

    name = models.CharField(_("name"), max_length=60, primary_key=True)
    holder = models.CharField(_("holder"), max_length=120, blank=True)
    token = models.CharField(max_length=36, blank=True)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    beat_at = models.DateTimeField(_("last heartbeat"), null=True, blank=True)

    class Meta:
        verbose_name = _("lease")
        verbose_name_plural = _("leases")

    def __str__(self) -> str:
        return self.name


class State(models.Model):
    """Small facts shared by all processes: the account's sending rate and quota, the rate bucket, the pause."""

    name = models.CharField(_("name"), max_length=60, primary_key=True)
    value = models.JSONField(_("value"), default=dict)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    class Meta:
        verbose_name = _("shared state")
        verbose_name_plural = _("shared states")
        permissions = [
            ("pause", _("Can pause and resume claiming and sending")),
            ("view_configuration", _("Can see the effective settings and the doctor's findings")),
        ]

    def __str__(self) -> str:
        return self.name


class AuditEntry(models.Model):
    """Who did what, when and why. Never what a mail said."""

    at = models.DateTimeField(_("at"), auto_now_add=True, db_index=True)
    actor = models.CharField(_("who"), max_length=150)
    action = models.CharField(_("action"), max_length=40)
    object_type = models.CharField(_("what"), max_length=40, blank=True)
    object_id = models.CharField(_("which"), max_length=64, blank=True)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    details = models.JSONField(_("details"), default=dict, blank=True)

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["actor", "-id"], name="audit_actor"),
            models.Index(fields=["action", "-id"], name="audit_action"),
            models.Index(fields=["object_type", "object_id"], name="audit_object"),
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.actor}"
