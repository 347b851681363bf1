"""The doctor's looks at Amazon SES: the account, the sender's identity, the configuration set.

All of them read; none sends a mail. GetEmailIdentity and GetConfigurationSet are looked at where the
credentials allow it: sending does not need them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.template.defaultfilters import floatformat
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.actions.diagnosis.finding import Found, Look, ok, problem, unknown, warning
from emailoffload.delivery import ses
from emailoffload.delivery.errors import Outcome, classify
from emailoffload.moodle import senders, site

LOW_QUOTA = 0.1
"""Less than this part of the 24-hour quota left is worth a warning."""
_DENIED = {"AccessDenied", "AccessDeniedException"}


def account() -> Found:
    """SES answers, and the account may send."""
    found = ses.get_account()
    if isinstance(found, Outcome):
        if found.code in _DENIED:
            return warning(
                _("The AWS credentials may not read the account, so its rate and quota are not known."),
                _("Allow ses:GetAccount; until then mails leave slowly."),
            )
        return problem(
            _("SES cannot be used (%(code)s).") % {"code": found.code},
            found.message or _("Look the error up in the SES API reference; check region and credentials."),
        )
    if not found.sending_enabled:
        return problem(
            _("Sending is switched off for the SES account."),
            _("See 'Account dashboard' in the SES console."),
        )
    if found.enforcement not in {"", "HEALTHY"}:
        return warning(
            _("SES has the account under review (%(status)s).") % {"status": found.enforcement},
            _("Read the reputation page of the SES console, and answer what AWS has asked."),
        )
    if not found.production:
        return warning(
            _("The account is in the SES sandbox: it sends to verified addresses only."),
            _("Request production access in the SES console."),
        )
    return ok(_("SES answers, and the account may send."))


def quota() -> Found:
    """Enough of the 24-hour quota is left, and the rate is used."""
    found = ses.get_account()
    if isinstance(found, Outcome):
        return unknown(_("The account cannot be read."))
    values: dict[str, Any] = {
        "rate": floatformat(found.max_send_rate, "-2g"),
        "sent": number_format(found.sent_24h, force_grouping=True),
        "limit": number_format(found.max_24h or 0, force_grouping=True),
    }
    if found.max_24h is not None and found.sent_24h >= found.max_24h:
        return problem(
            _("The 24-hour quota of %(limit)s mails is used up.") % values,
            _("Claiming goes on as it refills. Request a higher quota in the SES console."),
        )
    if found.max_24h is not None and found.max_24h - found.sent_24h < LOW_QUOTA * found.max_24h:
        return warning(
            _("%(sent)s of the 24-hour quota of %(limit)s mails are used.") % values,
            _("Request a higher quota in the SES console before it runs out."),
        )
    own = settings.SES_MAX_SEND_RATE
    if own is not None and own > found.max_send_rate:
        return warning(
            _("SES_MAX_SEND_RATE is above the account's maximum send rate of %(rate)s mails per second.")
            % values,
            _("Lower it or leave it out: the account's rate is never exceeded."),
        )
    if found.max_24h is None:
        return ok(_("%(rate)s mails per second; no 24-hour limit.") % values)
    return ok(_("%(rate)s mails per second; %(sent)s of %(limit)s mails used in 24 hours.") % values)


def identity() -> Found:
    """The address that Moodle's mails come from may be used in this SES account and region."""
    sender, refusal = senders.identify(site.load_site())
    if refusal is not None:
        return problem(
            _("Moodle's settings give no usable sender (%(reason)s).") % {"reason": refusal.reason},
            _("Check supportemail and noreplyaddress in Moodle's outgoing mail settings."),
        )
    address = sender.from_address
    domain = address.rpartition("@")[2]
    pending = ""
    for name in [address, *_domains(domain)]:
        answer = _asked(lambda name=name: ses.client().get_email_identity(EmailIdentity=name))  # type: ignore[misc]
        if isinstance(answer, Outcome):
            if answer.http_status == 404:
                continue
            return _unreadable(answer, "ses:GetEmailIdentity")
        if answer.get("VerifiedForSendingStatus"):
            return ok(
                _("SES has verified %(name)s.") % {"name": name if name != address else _("the sender")}
            )
        pending = pending or name
    values = {"domain": domain}
    if pending:
        return problem(
            _("SES knows the sender's identity but has not verified it (domain %(domain)s).") % values,
            _("Add the DNS records that the SES console shows for it, or follow the link in SES's mail."),
        )
    return problem(
        _("SES knows no identity for the sender's domain %(domain)s in this region.") % values,
        _("Create and verify the domain in the SES console, in the region of AWS_REGION."),
    )


def _domains(domain: str) -> list[str]:
    """The domain and those above it: an identity covers its subdomains."""
    labels = domain.split(".")
    return [".".join(labels[start:]) for start in range(max(1, len(labels) - 1))]


def configuration_set() -> Found:
    """The configuration set that mails name exists and may send."""
    name = settings.SES_CONFIGURATION_SET
    if not name:
        return ok(_("Mails name no configuration set."))
    answer = _asked(lambda: ses.client().get_configuration_set(ConfigurationSetName=name))
    values = {"name": name}
    if isinstance(answer, Outcome):
        if answer.http_status == 404:
            return problem(
                _("SES knows no configuration set %(name)s in this region.") % values,
                _("Create it, or correct SES_CONFIGURATION_SET. Every mail would be refused."),
            )
        return _unreadable(answer, "ses:GetConfigurationSet")
    if answer.get("SendingOptions", {}).get("SendingEnabled") is False:
        return problem(
            _("Sending is switched off for the configuration set %(name)s.") % values,
            _("Switch it on in the SES console."),
        )
    return ok(_("The configuration set %(name)s exists.") % values)


def _asked(call: Callable[[], Any]) -> dict[str, Any] | Outcome:
    """SES's answer, or the outcome that says why there is none."""
    try:
        return dict(call())
    except Exception as error:
        return classify(error)


def _unreadable(answer: Outcome, permission: str) -> Found:
    if answer.code in _DENIED:
        return unknown(
            _("The AWS credentials may not look."),
            _("Allow %(right)s to have it checked.") % {"right": permission},
        )
    return problem(_("SES cannot be asked (%(code)s).") % {"code": answer.code}, answer.message)


LOOKS = [
    Look("ses.account", gettext_lazy("SES account"), account),
    Look("ses.quota", gettext_lazy("SES rate and quota"), quota, ("ses.account",)),
    Look(
        "ses.identity",
        gettext_lazy("SES identity of the sender"),
        identity,
        ("ses.account", "moodle.reachable"),
    ),
    Look("ses.configuration_set", gettext_lazy("SES configuration set"), configuration_set, ("ses.account",)),
]
