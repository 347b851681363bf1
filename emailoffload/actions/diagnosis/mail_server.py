"""The doctor's look at the SMTP server of EMAIL_URL: it connects and logs in, and sends nothing."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.actions.diagnosis.finding import Found, Look, ok, problem, warning
from emailoffload.delivery import smtp
from emailoffload.outbox.models import Claim
from emailoffload.outbox.states import ClaimState
from emailoffload.policy.models import RoutingRule


def server() -> Found:
    """The SMTP server takes a connection and the login, and what is sent to it is encrypted on its way."""
    if not smtp.configured():
        return _none()
    with smtp.Connection() as connection:
        refused = connection.open()
    if refused:
        return problem(
            _("The SMTP server cannot be used (%(code)s).") % {"code": refused.code}, refused.message
        )
    if not (settings.EMAIL_USE_TLS or settings.EMAIL_USE_SSL or _is_here(settings.EMAIL_HOST)):
        return warning(
            _("Mails would travel to the SMTP server without encryption."),
            _("Use smtp+tls:// or smtp+ssl:// in EMAIL_URL."),
        )
    return ok(_("The SMTP server takes the login."))


def _none() -> Found:
    asked = settings.DEFAULT_FALLBACK == "smtp"
    asked = asked or RoutingRule.objects.filter(enabled=True, fallback=RoutingRule.Fallback.SMTP).exists()
    asked = (
        asked or Claim.objects.filter(state=ClaimState.CLAIMED, fallback="smtp").order_by("-pk")[:1].exists()
    )
    if asked:
        return warning(
            _("Mails are to go by SMTP when the cloud fails, and no SMTP server is named."),
            _("Set EMAIL_URL; until then such mails wait for a person."),
        )
    return ok(_("No SMTP server is named: what Moodle cannot take back waits for a person."))


def _is_here(host: str) -> bool:
    """Whether a server is on this host, where nothing travels."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


LOOKS = [Look("smtp.server", gettext_lazy("SMTP server"), server, ("database.migrated",))]
