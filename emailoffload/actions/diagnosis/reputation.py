"""The doctor's looks at bounce and complaint rates, and at whether people would learn of an alarm."""

from __future__ import annotations

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.actions.diagnosis.finding import Found, Look, ok, problem, warning
from emailoffload.delivery import smtp
from emailoffload.feedback import claimstop, rates
from emailoffload.feedback.models import Alarm

SHOWN = 200


def standing() -> Found:
    """No rate is near what SES reviews or pauses an account for."""
    stops = claimstop.known()
    cure = _("The page Reputation has the figures, and what to do: docs/reputation.md.")
    if stops.any:
        return problem(
            _(
                "Only mails with credentials are claimed, of the account or a part of it: too many mails bounced."
            ),
            cure,
        )
    if stops.override:
        until = f"{stops.override.until:%Y-%m-%d %H:%M} UTC"
        return warning(
            _("Rates do not stop claims until %(time)s: a person said so.") % {"time": until}, cure
        )
    level = rates.worst(rates.rates())
    if level in {"warning", "stop"}:
        return warning(_("Bounces or complaints are near what SES reviews an account for."), cure)
    if level == "few":
        return ok(_("There are too few mails to judge bounces and complaints."))
    return ok(_("Bounces and complaints are few."))


def channels() -> Found:
    """Somebody is told of alarms."""
    if settings.ALARM_EMAILS and not smtp.configured():
        return problem(
            _("Alarms are to go by e-mail, and there is no SMTP server."),
            _("Set EMAIL_URL: alarms do not go by SES, which may be what they are about."),
        )
    if not (settings.ALARM_EMAILS or settings.ALARM_WEBHOOK_URL):
        if settings.SAMPLE_SITE:
            return ok(_("Nobody is told of alarms; a sample site needs none."))
        return warning(
            _("Nobody is told of alarms."),
            _("Set ALARM_EMAILS or ALARM_WEBHOOK_URL, then try it: `manage.py alarms --test`."),
        )
    return ok(_("People are told of alarms; `manage.py alarms --test` tries it."))


def telling() -> Found:
    """The last tellings of alarms went through."""
    recent = Alarm.objects.order_by("-pk").values_list("told", flat=True)[:SHOWN]
    errors = [entry["error"] for told in recent for entry in told.values() if entry.get("error")]
    if errors:
        return warning(
            _("Somebody could not be told of an alarm: %(why)s") % {"why": errors[0]},
            _("Cure what is named; it is tried again for a day. `manage.py alarms --test` tries it at once."),
        )
    return ok(_("Nobody was left untold of an alarm."))


_NEEDS = ("database.migrated",)
LOOKS = [
    Look("reputation.rates", gettext_lazy("Bounces and complaints"), standing, _NEEDS),
    Look("alarms.channels", gettext_lazy("Who is told of alarms"), channels),
    Look("alarms.telling", gettext_lazy("Telling of alarms"), telling, _NEEDS),
]
