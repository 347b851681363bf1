"""Would Moodle have mailed this person, to which address, and as whom.

The way from `message_send()` through the email processor and `email_to_user()` to the SMTP server, as far as
it decides (facts §5.2–5.6): the same checks in the same order, on plain values.

Left out, because SES does it or nobody sees it: the headers of `emailheaders`, DKIM by `emaildkimselector`,
the envelope sender of `handlebounces`. Not to be seen from the database: whether the mobile service
*airnotifier* is set up for the site and the user, and plugins that block a mail through a hook of Moodle 5.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from emailoffload.moodle import models, refusals, senders
from emailoffload.moodle.addresses import PHP_SPACE, valid_address, valid_in
from emailoffload.moodle.formatting.names import fullname
from emailoffload.moodle.refusals import MEANINGS, Refusal
from emailoffload.moodle.schema import readable
from emailoffload.moodle.senders import From
from emailoffload.moodle.types import Learner, SiteConfig, User

__all__ = [
    "CONFIG_NAMES", "MEANINGS", "PREFERENCE_NAMES", "Delivery", "From", "MessageGates", "Refusal",
    "cron_admin_company_settings", "third_party_addresses",
]  # fmt: skip

COMPONENT = PROVIDER = "mod_reengagement"
_BASE = f"{COMPONENT}_{PROVIDER}"
_ENABLED = f"message_provider_{_BASE}_enabled"
_OVERRIDE, _BOUNCES, _SENDS, _CHARSET = (
    "message_processor_email_email", "email_bounce_count", "email_send_count", "mailcharset",
)  # fmt: skip
PREFERENCE_NAMES: tuple[str, ...] = (_ENABLED, _OVERRIDE, _BOUNCES, _SENDS, _CHARSET)
"""User preferences that `Learner.preferences` must hold where they exist."""
CONFIG_NAMES: tuple[str, ...] = (
    "allowusermailcharset", "bounceratio", "divertallemailsexcept", "divertallemailsto", "emailsubjectprefix",
    "handlebounces", "messagingallowemailoverride", "minbounces", "mnet_localhost_id", "noemailever",
    "noreplyuserid", "siteadmins", "sitemailcharset", *senders.CONFIG_NAMES,
)  # fmt: skip
"""`config` rows that are read here."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A recipient as the mail is addressed."""

    address: str
    subject_prefix: str
    """`[DIVERTED old@example.com] ` where the site diverts its mail, else ''."""
    to_name: str
    as_html: bool
    """False: one text part only."""


@dataclass(frozen=True)
class MessageGates:
    """The decision for every recipient of one site."""

    site: SiteConfig
    processors: Mapping[str, bool]
    """Rows of `message_processors`: name → enabled."""
    provider_exists: bool
    module_visible: bool
    cron_company: str = ""
    """What `cron_admin_company_settings` found; '' normally."""
    _site_refusal: Refusal | None = field(init=False, default=None, repr=False)
    _sender: From = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sender, refusal = senders.identify(self.site)
        if self.cron_company:
            refusal = Refusal(refusals.CRON_USER_COMPANY, self.cron_company)
        object.__setattr__(self, "_sender", sender)
        object.__setattr__(self, "_site_refusal", refusal)

    @classmethod
    def load(cls, site: SiteConfig, tables: Collection[str] | None = None) -> MessageGates:
        """Read the message settings of the site, in a handful of queries.

        `tables`: the names of IOMAD's tables, empty for a plain Moodle; None lets the database tell.
        """
        return cls(
            site=site,
            processors={
                name: bool(enabled)
                for name, enabled in models.MessageProcessor.objects.values_list("name", "enabled")
            },
            provider_exists=models.MessageProvider.objects.filter(
                component=COMPONENT, name=PROVIDER
            ).exists(),
            module_visible=models.Module.objects.filter(name="reengagement", visible=1).exists(),
            cron_company=cron_admin_company_settings(site, tables),
        )

    def for_user(self, learner: Learner) -> Delivery | Refusal:
        """What Moodle does with a reminder to this learner (facts §5.2, then §5.3 in order)."""
        user, preferences = learner.user, learner.preferences
        refusal = self._message_send(learner) or _account(user)
        if refusal:
            return refusal
        own = preferences.get(_OVERRIDE, "")
        overridden = self.site.flag("messagingallowemailoverride") and valid_address(own)
        return self._email_to_user(
            user, own if overridden else user.email, preferences, as_html=user.mailformat == 1
        )

    def for_user_directly(self, learner: Learner) -> Delivery | Refusal:
        """What becomes of a mail to this learner that is no message: `email_to_user` alone (facts §5.3).

        Nobody asks for message settings, preferences or `emailstop`, and the preference for another address
        does not count. A site's own patch mails like this (facts §2.11, P-akt).
        """
        user = learner.user
        return _account(user) or self._email_to_user(
            user, user.email, learner.preferences, as_html=user.mailformat == 1
        )

    def for_copy(self, address: str, user: User | None = None) -> Delivery | Refusal:
        """What becomes of a copy by a rule of ours, which is no message of Moodle's either (design §5).

        Only what concerns the address counts: account, validity, diversion, `noemailever`, `.invalid`. The
        recipient's notification settings and bounces do not, as for third parties: the rule is the site's
        decision. An address without a user gets text only (facts §5.6).
        """
        if user is None:
            return self._email_to_user(User(id=-10, firstname=address), address, {}, as_html=False)
        return _account(user) or self._email_to_user(user, address, {}, as_html=user.mailformat == 1)

    def for_address(self, address: str) -> Delivery | Refusal:
        """What Moodle does with a mail to a third party (facts §2.8, §5.6).

        The plugin makes a recipient out of Moodle's *noreply* pseudo user: no preferences, never stopped, and
        without a mail format, hence text only.
        """
        if not valid_address(address):
            return Refusal(refusals.ADDRESS_INVALID)
        refusal = self._provider() or self._locked_setting_missing(["email"])
        if refusal:
            return refusal
        if not self.processors.get("email"):
            return Refusal(refusals.EMAIL_PROCESSOR_DISABLED)
        if self.site.noreply_user is not None and not self.site.noreply_user.is_pseudo:
            return Refusal(refusals.NOREPLY_IS_USER)
        if "email" not in self._site_default():
            return Refusal(
                refusals.PROCESSOR_LOCKED_OFF if self._locked("email") else refusals.PREFERENCE_OFF
            )
        return self._email_to_user(User(id=-10, firstname=address), address, {}, as_html=False)

    def other_processors(self, learner: Learner) -> set[str]:
        """Ways other than email by which Moodle would notify this learner too (*popup*, *airnotifier* …)."""
        return {name for name in self._enabled() if name != "email" and self._selected(name, learner)}

    def sender(self) -> From:
        """Whom the mail comes from (facts §5.4–5.5)."""
        return self._sender

    def subject(self, rendered: str, delivery: Delivery) -> str:
        """The subject as it leaves: the site's prefix, the note of a diversion, one line, trimmed."""
        prefix = self.site.get("emailsubjectprefix")
        subject = f"{delivery.subject_prefix}{rendered}"
        if prefix not in ("", "0"):
            subject = f"{prefix} {subject}"
        return subject.replace("\r", "").replace("\n", "").strip(PHP_SPACE)

    # --- message_send (facts §5.2) ---

    def _message_send(self, learner: Learner) -> Refusal | None:
        refusal = self._provider() or self._locked_setting_missing(self._enabled())
        if refusal:
            return refusal
        if not self.processors.get("email"):
            return Refusal(refusals.EMAIL_PROCESSOR_DISABLED)
        if self._selected("email", learner):
            return None
        if self._locked("email"):
            return Refusal(refusals.PROCESSOR_LOCKED_OFF)
        if learner.user.emailstop:
            return Refusal(refusals.EMAILSTOP)
        return Refusal(refusals.PREFERENCE_OFF)

    def _provider(self) -> Refusal | None:
        if self.site.message_config.get(f"{_BASE}_disable", "") not in ("", "0"):
            return Refusal(refusals.PROVIDER_DISABLED, f"{_BASE}_disable")
        if not self.provider_exists:
            return Refusal(refusals.PROVIDER_DISABLED, "message_providers")
        if not self.module_visible:
            return Refusal(refusals.PROVIDER_DISABLED, "modules")
        return None

    def _locked_setting_missing(self, processors: Collection[str]) -> Refusal | None:
        """Moodle throws where an enabled processor has no `_locked` setting, whoever the recipient is."""
        for name in processors:
            if self.processors.get(name) and self._locked(name) is None:
                return Refusal(refusals.PROCESSOR_LOCKED_MISSING, _locked_name(name))
        return None

    def _enabled(self) -> list[str]:
        return [name for name, enabled in self.processors.items() if enabled]

    def _locked(self, processor: str) -> bool | None:
        value = self.site.message_config.get(_locked_name(processor))
        return None if value is None else value not in ("", "0")

    def _site_default(self) -> list[str]:
        return self.site.message_config.get(_ENABLED, "").split(",")

    def _selected(self, processor: str, learner: Learner) -> bool:
        if self._locked(processor):
            return processor in self._site_default()
        if learner.user.emailstop:
            return False
        chosen = learner.preferences.get(_ENABLED, "")
        return processor in (chosen.split(",") if chosen not in ("", "0") else self._site_default())

    # --- email_to_user (facts §5.3) ---

    def _email_to_user(
        self, user: User, address: str, preferences: Mapping[str, str], *, as_html: bool
    ) -> Delivery | Refusal:
        if address in ("", "0"):
            return Refusal(refusals.NO_ADDRESS)
        if self.site.flag("noemailever"):
            return Refusal(refusals.NOEMAILEVER)
        diverted = senders.diverted(self.site, address)
        if diverted is None:
            return Refusal(refusals.DIVERT_PATTERN, "divertallemailsexcept")
        final = self.site.get("divertallemailsto") if diverted else address
        if not valid_address(final):
            return Refusal(refusals.ADDRESS_INVALID)
        refusal = self._bounces(preferences)
        if refusal:
            return refusal
        if final.endswith(".invalid"):
            return Refusal(refusals.ADDRESS_DOT_INVALID)
        local_host = self.site.get("mnet_localhost_id")
        if user.mnethostid and local_host and str(user.mnethostid) != local_host and user.id > 0:
            return Refusal(refusals.MNET_USER)
        charset = self.site.get("sitemailcharset")
        if self.site.flag("allowusermailcharset") and preferences.get(_CHARSET, "0") not in ("", "0"):
            charset = preferences[_CHARSET]
        if charset.upper() not in ("", "0", "UTF-8"):
            return Refusal(refusals.CHARSET_UNSUPPORTED, charset)
        if self._site_refusal:
            return self._site_refusal
        return Delivery(
            address=final,
            subject_prefix=f"[DIVERTED {address}] " if diverted else "",
            to_name=senders.header_name(fullname(user, self.site)),
            as_html=as_html,
        )

    def _bounces(self, preferences: Mapping[str, str]) -> Refusal | None:
        if not self.site.flag("handlebounces"):
            return None
        bounces, sends = _php_number(preferences.get(_BOUNCES, "")), _php_number(preferences.get(_SENDS, ""))
        if bounces < (_php_number(self.site.get("minbounces")) or 10):
            return None
        if not sends:
            return Refusal(refusals.BOUNCE_RATIO_UNKNOWN)
        if bounces / sends >= (_php_number(self.site.get("bounceratio")) or 0.2):
            return Refusal(refusals.BOUNCE_THRESHOLD)
        return None


def _account(user: User) -> Refusal | None:
    """Why an account gets no mail at all, whatever it says (facts §5.3, row 1)."""
    if user.auth == "nologin":
        return Refusal(refusals.AUTH_NOLOGIN)
    if user.suspended:
        return Refusal(refusals.USER_SUSPENDED)
    return Refusal(refusals.USER_DELETED) if user.deleted else None


def third_party_addresses(thirdpartyemails: str | None) -> tuple[str, ...]:
    """The addresses of an activity's third parties, in order (facts §2.8).

    Split at commas and trimmed; invalid ones are left out, doubles are kept.
    """
    return valid_in(thirdpartyemails)


def cron_admin_company_settings(site: SiteConfig, tables: Collection[str] | None = None) -> str:
    """Name of the setting by which the cron user's IOMAD company reroutes the site's mail; '' when none does.

    IOMAD's mailer takes the settings of the *current* user's company, and during cron that is the first site
    admin (facts §5.10), who normally belongs to none. A noreply address of the company's own is part of
    `SiteConfig`. A company with its own SMTP server, though, sends the whole site's mail, and nothing says
    that SES may send in its name: reminders stay with Moodle until the admin is taken out of the company.

    `tables` as for `MessageGates.load`.
    """
    if not (readable(models.CompanyUser) if tables is None else models.CompanyUser._meta.db_table in tables):
        return ""
    admins = [part.strip() for part in site.get("siteadmins").split(",") if part.strip().isdecimal()]
    present = set(
        models.User.objects.filter(id__in=admins, deleted=0).values_list("id", flat=True) if admins else ()
    )
    admin = next((int(part) for part in admins if int(part) in present), None)
    if admin is None:
        return ""
    company = (
        models.CompanyUser.objects.filter(userid=admin)
        .order_by("id")
        .values_list("companyid", flat=True)
        .first()
    )
    if company is None:
        return ""
    name = f"smtphosts{company}"
    own = site.flag(name) or models.Config.objects.filter(name=name).exclude(value="").exists()
    return name if own else ""


def _locked_name(processor: str) -> str:
    return f"{processor}_provider_{_BASE}_locked"


def _php_number(text: str) -> float:
    """A count or ratio out of a setting; 0 where it is not a number."""
    try:
        return float(text)
    except ValueError:
        return 0.0
