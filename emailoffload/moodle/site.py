"""The site as Moodle's cron sees it: settings, senders, profile fields and the front page's text filters.

Values come from `config` and `config_plugins`, overridden by what config.php sets; config.php is invisible to
us, so its part comes from our own settings (facts §0).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import Q

from emailoffload.moodle import models
from emailoffload.moodle.loaders import load_users
from emailoffload.moodle.schema import readable
from emailoffload.moodle.textcontexts import load_text_contexts
from emailoffload.moodle.types import ProfileField, Sender, SiteConfig, User
from emailoffload.moodle.variants import branch_of

CONFIG_NAMES: tuple[str, ...] = (
    "allowedemaildomains", "allowusermailcharset", "alternativefullnameformat", "bounceratio", "branch",
    "companyemailprofileid", "contextlocking", "contextlockappliestoadmin", "cron_enabled", "defaultfrontpageroleid",
    "defaultuserroleid", "divertallemailsexcept", "divertallemailsto", "emailfromvia", "emailheaders",
    "emailsubjectprefix", "emoticons", "filter_multilang_converted", "filter_multilang_force_old",
    "filterall", "filterlocked", "filteruploadedfiles", "forceclean", "forcefirstname", "forcelastname",
    "forcetimezone", "fullnamedisplay", "handlebounces", "lang", "mailnewline", "mailprefix", "maildomain",
    "messagingallowemailoverride", "minbounces", "mnet_localhost_id", "noemailever", "noreplyaddress",
    "noreplyuserid", "release", "siteadmins", "siteguest", "sitemailcharset", "slasharguments",
    "stringfilters", "supportemail", "supportname", "supportuserid", "svgicons", "theme", "themerev",
    "timezone", "version",
)  # fmt: skip
"""The site settings that are read, none of them secret. IOMAD's `noreplyaddress<company id>` comes on top."""

SUPPORT_USER_ID, NOREPLY_USER_ID = -20, -10
"""Ids of Moodle's pseudo users (facts §5.5)."""
_IOMAD_ALL_PROFILES = "block/iomad_company_admin:allcompany_user_profiles"


def load_site() -> SiteConfig:
    """Read the site's configuration in a fixed number of queries, whatever the size of the site.

    Raises the database's errors.
    """
    forced = forced_config()
    config = dict(models.Config.objects.filter(name__in=CONFIG_NAMES).values_list("name", "value")) | forced
    plugins = _plugin_config()
    admins = siteadmins(config)
    iomad = readable(models.Company, models.CompanyUser)
    company = _company_of_cron_user(admins) if iomad else None
    if company is not None:
        config |= _company_config(company, forced)
    front = models.Course.objects.filter(category=0).values_list("id", "shortname", "fullname").first()
    course_id, shortname, fullname = front or (1, "", "")
    branch = branch_of(config)
    users = load_users(_wanted_users(config, admins))
    return SiteConfig(
        wwwroot=settings.MOODLE_WWWROOT,
        shortname=shortname,
        fullname=fullname,
        course_id=course_id,
        config=config,
        message_config=plugins.get("message", {}),
        filter_config={name: rows for name, rows in plugins.items() if name.startswith("filter_")},
        theme_revisions={
            name.removeprefix("theme_"): rows["themerev"]
            for name, rows in plugins.items()
            if name.startswith("theme_") and "themerev" in rows
        },
        php_timezone=settings.MOODLE_PHP_TIMEZONE,
        lang=config.get("lang") or "en",
        branch=branch,
        site_context=load_text_contexts([course_id])[course_id],
        profile_fields=_company_fields(company, branch) if iomad else _all_fields(),
        support_user=_support_user(config, admins, users),
        noreply_user=_noreply_user(config, users),
        string_noreply_name=settings.MOODLE_STRING_NOREPLY_NAME,
        string_via=settings.MOODLE_STRING_VIA,
        has_totara=readable(models.JobAssignment),
    )


def forced_config() -> dict[str, str]:
    """What config.php sets (MOODLE_FORCED_CONFIG and MOODLE_NOEMAILEVER), as PHP turns it into text."""
    forced = {name: _php_text(value) for name, value in settings.MOODLE_FORCED_CONFIG.items()}
    if settings.MOODLE_NOEMAILEVER:
        forced["noemailever"] = "1"
    return forced


def siteadmins(config: Mapping[str, str]) -> list[int]:
    """The ids of the site's admins in order; the first one is the cron's user (facts §4.6)."""
    return [int(part) for part in config.get("siteadmins", "").split(",") if part.strip().isdigit()]


def _php_text(value: Any) -> str:
    if value is None or value is False:
        return ""
    return "1" if value is True else str(value)


def _plugin_config() -> dict[str, dict[str, str]]:
    """Settings of messages, filters and theme revisions, by plugin and name, in one query."""
    rows = models.ConfigPlugin.objects.filter(
        Q(plugin="message")
        | Q(plugin__startswith="filter_")
        | Q(plugin__startswith="theme_", name="themerev")
    ).values_list("plugin", "name", "value")
    result: dict[str, dict[str, str]] = {}
    for plugin, name, value in rows:
        result.setdefault(plugin, {})[name] = value
    return result


def _company_of_cron_user(admins: list[int]) -> tuple[int, int] | None:
    """(id, profile-field category) of the first admin's company; None where he is in none (facts §5.10)."""
    if not admins:
        return None
    row = (
        models.CompanyUser.objects.filter(userid=admins[0]).order_by("id").values_list("companyid", flat=True)
    )
    company = row.first()
    if company is None:
        return None
    found = models.Company.objects.filter(id=company).values_list("id", "profileid").first()
    return (found[0], found[1]) if found else None


def _company_config(company: tuple[int, int], forced: Mapping[str, str]) -> dict[str, str]:
    """The noreply address of the cron user's company, which IOMAD's mailer prefers (facts §5.10)."""
    name = f"noreplyaddress{company[0]}"
    value = (
        forced.get(name) or models.Config.objects.filter(name=name).values_list("value", flat=True).first()
    )
    return {"noreplyaddress": value} if value else {}


def _all_fields() -> tuple[ProfileField, ...]:
    return tuple(field for _, field in _fields())


def _fields() -> list[tuple[int, ProfileField]]:
    rows = models.UserInfoField.objects.order_by("id").values_list(
        "id", "shortname", "datatype", "param3", "categoryid"
    )
    return [
        (category, ProfileField(id=pk, shortname=shortname, datatype=datatype, param3=param3))
        for pk, shortname, datatype, param3, category in rows
    ]


def _company_fields(company: tuple[int, int] | None, branch: int) -> tuple[ProfileField, ...]:
    """The fields that IOMAD shows to the cron user, in the order of their ids (facts §4.3).

    A field that belongs to a company is left out unless it is the cron user's own company. IOMAD for Moodle
    4.1 shows them all to site admins. Versions that were not read are taken as filtering, as all later ones
    do."""
    fields = _fields()
    if branch == 401 and models.Capability.objects.filter(name=_IOMAD_ALL_PROFILES).exists():
        return tuple(field for _, field in fields)
    owned = set(models.Company.objects.exclude(profileid=0).values_list("profileid", flat=True).distinct())
    if company is not None:
        owned.discard(company[1])
    return tuple(field for category, field in fields if category not in owned)


def _wanted_users(config: Mapping[str, str], admins: list[int]) -> list[int]:
    named = [config.get(name, "").strip() for name in ("supportuserid", "noreplyuserid")]
    return [int(value) for value in named if value.isdigit() and int(value) > 0] + admins[:1]


def _real(name: str, config: Mapping[str, str], users: Mapping[int, User]) -> User | None:
    value = config.get(name, "").strip()
    return users.get(int(value)) if value.isdigit() else None


def _support_user(config: Mapping[str, str], admins: list[int], users: Mapping[int, User]) -> Sender | None:
    """The sender of reminders: a named user, the support address, or the first admin (facts §5.5)."""
    user = _real("supportuserid", config, users)
    if user is not None:
        return Sender(user, is_pseudo=False)
    if config.get("supportemail"):
        name = config.get("supportname") or settings.MOODLE_STRING_NOREPLY_NAME
        return Sender(_pseudo(SUPPORT_USER_ID, name, config["supportemail"]))
    first = users.get(admins[0]) if admins else None
    return Sender(first, is_pseudo=False) if first else None


def _noreply_user(config: Mapping[str, str], users: Mapping[int, User]) -> Sender:
    user = _real("noreplyuserid", config, users)
    if user is not None:
        return Sender(user, is_pseudo=False)
    address = config.get("noreplyaddress") or f"noreply@{urlsplit(settings.MOODLE_WWWROOT).hostname or ''}"
    return Sender(_pseudo(NOREPLY_USER_ID, settings.MOODLE_STRING_NOREPLY_NAME, address))


def _pseudo(pk: int, firstname: str, email: str) -> User:
    return User(id=pk, firstname=firstname, email=email, maildisplay=1)
