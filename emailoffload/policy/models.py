"""What people decided, as rows that an administrator edits: who gets copies, what is secret, who sees what."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.db import models
from django.utils.translation import gettext_lazy as _


class CopyRule(models.Model):
    """Somebody beside Moodle's own recipients who gets a mail too, as a message of their own (design §5).

    The scope is the conjunction of what is set: company, course, activity, source; all empty is the whole
    site. `value` depends on `kind`: addresses separated by commas, a profile field's shortname, a role's id.
    """

    class Kind(models.TextChoices):
        FIXED = "fixed", _("fixed addresses")
        COMPANY_MANAGERS = "company_managers", _("the company's managers")
        DEPARTMENT_MANAGERS = "department_managers", _("managers of the user's departments and those above")
        PROFILE_FIELD = "profile_field", _("addresses in a profile field of the user")
        COURSE_ROLE = "course_role", _("holders of a role in the course")

    class Text(models.TextChoices):
        THIRD_PARTY = "thirdparty", _("the text for third parties")
        USER = "user", _("the text for the user")

    name = models.CharField(_("name"), max_length=100, unique=True)
    enabled = models.BooleanField(_("enabled"), default=True)
    source = models.CharField(_("source"), max_length=30, blank=True, default="")
    company_id = models.BigIntegerField(_("company id"), null=True, blank=True)
    course_id = models.BigIntegerField(_("course id"), null=True, blank=True)
    activity_id = models.BigIntegerField(_("activity id"), null=True, blank=True)
    kind = models.CharField(_("who gets it"), max_length=20, choices=Kind)
    value = models.TextField(_("addresses, field or role"), blank=True, default="")
    text = models.CharField(_("which text"), max_length=10, choices=Text, default=Text.THIRD_PARTY)
    credentials = models.BooleanField(_("also mails that carry credentials"), default=False)
    note = models.CharField(_("note"), max_length=255, blank=True, default="")

    class Meta:
        verbose_name = _("copy rule")
        verbose_name_plural = _("copy rules")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class RoutingRule(models.Model):
    """Whether mails are offloaded, for how many learners, and what happens when the cloud fails (design §6).

    The scope is the conjunction of what is set, all empty is the whole site; of the rules that match, the one
    with the most specific scope decides (`policy.routing`).
    """

    class Mode(models.TextChoices):
        ON = "on", _("on: we claim and send")
        SHADOW = "shadow", _("shadow: rendered and compared, nothing is claimed")
        OFF = "off", _("off: Moodle sends")

    class Fallback(models.TextChoices):
        MOODLE = "moodle", _("hand back to Moodle, else SMTP, else hold")
        SMTP = "smtp", _("send by SMTP, else hold")
        HOLD = "hold", _("hold for a person")

    class Suppressed(models.TextChoices):
        RECORD = "record", _("claim, do not send, record as suppressed")
        MOODLE = "moodle", _("leave the row to Moodle, which sends")

    name = models.CharField(_("name"), max_length=100, unique=True)
    enabled = models.BooleanField(_("enabled"), default=True)
    source = models.CharField(_("source"), max_length=30, blank=True, default="")
    template = models.CharField(_("template"), max_length=100, blank=True, default="")
    company_id = models.BigIntegerField(_("company id"), null=True, blank=True)
    course_id = models.BigIntegerField(_("course id"), null=True, blank=True)
    activity_id = models.BigIntegerField(_("activity id"), null=True, blank=True)
    mode = models.CharField(_("mode"), max_length=6, choices=Mode, default=Mode.ON)
    percentage = models.PositiveSmallIntegerField(_("learners, in percent"), default=100)
    fallback = models.CharField(
        _("when the cloud fails"), max_length=6, choices=Fallback, default=Fallback.MOODLE
    )
    suppressed = models.CharField(
        _("suppressed addresses"), max_length=6, choices=Suppressed, default=Suppressed.RECORD
    )
    note = models.CharField(_("note"), max_length=255, blank=True, default="")

    class Meta:
        verbose_name = _("routing rule")
        verbose_name_plural = _("routing rules")
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=models.Q(percentage__lte=100), name="routing_percentage"),
        ]

    def __str__(self) -> str:
        return self.name


class SensitiveTemplate(models.Model):
    """A template of IOMAD's whose mails carry credentials, beside those that always do (design §5)."""

    name = models.CharField(_("template"), max_length=100, unique=True)
    note = models.CharField(_("note"), max_length=255, blank=True, default="")

    class Meta:
        verbose_name = _("sensitive template")
        verbose_name_plural = _("sensitive templates")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class GroupCompany(models.Model):
    """Members of this group see and touch only what belongs to the companies that the group is bound to."""

    group = models.ForeignKey(
        Group, verbose_name=_("group"), on_delete=models.CASCADE, related_name="offload_companies"
    )
    company_id = models.BigIntegerField(_("company id"))
    company_name = models.CharField(_("company's name"), max_length=255, blank=True, default="")

    class Meta:
        verbose_name = _("company of a group")
        verbose_name_plural = _("companies of groups")
        constraints = [models.UniqueConstraint(fields=["group", "company_id"], name="group_company_once")]

    def __str__(self) -> str:
        return f"{self.group}: {self.company_name or self.company_id}"
