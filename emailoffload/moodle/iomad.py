"""What of IOMAD's mail queue depends on the site: companies, switched-off templates, texts.

Set-based, a bounded number of queries for any number of rows. All raise the database's errors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import connections

from emailoffload.moodle import models
from emailoffload.moodle.schema import chunks, readable_columns
from emailoffload.moodle.types import SiteConfig

SHOP_ADMIN = -999
"""The pseudo user of mails to the shop's administrator (facts §1.3)."""
COMPANY_SUSPENDED = "company_suspended"
"""The one kind of mail that suspended users get too (facts §7.2)."""
RETENTION_SECONDS = 6 * 30 * 86400
"""Rows that were not touched for longer are deleted, sent or not (facts §7.2)."""
FOR_MANAGERS, FOR_SUPERVISORS = 1, 2

BUILT_IN = frozenset({
    "admin_deleted", "advertise_classroom_based_course", "approval", "company_licenseassigned",
    "company_suspended", "company_unsuspended", "completion_course_supervisor", "completion_course_user",
    "completion_digest_manager", "completion_expiry_warn_supervisor", "completion_warn_manager",
    "completion_warn_supervisor", "completion_warn_user", "course_classroom_approval",
    "course_classroom_approval_request", "course_classroom_approved", "course_classroom_denied",
    "course_classroom_manager_denied", "course_completed_manager", "course_not_started_warning", "expire",
    "expire_manager", "expiry_warn_manager", "expiry_warn_user", "invoice_ordercomplete",
    "invoice_ordercomplete_admin", "license_allocated", "license_reminder", "license_removed",
    "licensepoolexpiring", "licensepoolwarning", "password_update", "user_added_to_course", "user_create",
    "user_deleted", "user_programcompleted", "user_promoted", "user_removed_from_event", "user_reset",
    "user_signed_up_for_event", "user_suspended", "user_unsuspended",
})  # fmt: skip
"""Kinds of mail that IOMAD brings; such a template has neither further recipients nor a sender of its own
(local_email, `local_email::get_templates`)."""

Kind = tuple[int, str]
"""(company id, name of a template)"""


@dataclass(frozen=True, slots=True)
class QueuedText:
    """What a waiting row says. May hold a password in clear text."""

    subject: str
    body: str = field(repr=False)
    headers: str | None = field(repr=False)


def load_texts(ids: Iterable[int]) -> dict[int, QueuedText]:
    """What the rows say, by id; rows that are gone or sent are missing."""
    result: dict[int, QueuedText] = {}
    for chunk in chunks(ids):
        rows = models.QueuedEmail.objects.filter(id__in=chunk, sent__isnull=True)
        for pk, subject, body, headers in rows.values_list("id", "subject", "body", "headers"):
            result[pk] = QueuedText(subject, body, headers)
    return result


def load_company_names(ids: Iterable[int]) -> dict[int, str]:
    """Companies' names by id."""
    result: dict[int, str] = {}
    for chunk in chunks(ids):
        result |= dict(models.Company.objects.filter(id__in=chunk).values_list("id", "name"))
    return result


def load_noreply_addresses(company_ids: Iterable[int], site: SiteConfig) -> dict[int, str]:
    """Companies' own noreply addresses by company id: `noreplyaddress<id>` (facts §5.10), where one is set."""
    result: dict[int, str] = {}
    for chunk in chunks(company_ids):
        names = {f"noreplyaddress{company}": company for company in chunk}
        rows = models.Config.objects.filter(name__in=list(names)).values_list("name", "value")
        result |= {names[name]: value for name, value in rows if value and name in names}
        result |= {company: site.get(name) for name, company in names.items() if site.flag(name)}
    return result


LANGUAGE_UNREADABLE = "?"
"""No language of Moodle's: `lang` is granted only where it was seen to exist (`models.OPTIONAL_COLUMNS`)."""


def language_readable() -> bool:
    """Whether our account may read in which language a company's template is."""
    return "lang" in _template_columns()


def _template_columns() -> Collection[str]:
    """The columns of companies' templates that our account may read."""
    name = models.EmailTemplate._meta.db_table
    return readable_columns(connections["moodle"], (name,)).get(name, {})


def load_templates(kinds: Collection[Kind]) -> dict[Kind, dict[str, dict[str, Any]]]:
    """What companies made of these kinds of mail: the deciding columns by language, by kind.

    Names are compared without case, as the database does. Where our account may not read the language, what there
    is stands under `LANGUAGE_UNREADABLE`.
    """
    held = _template_columns()
    columns = [each for each in models.columns_of(models.EmailTemplate) if each in held]
    wanted = {(company, name.casefold()): (company, name) for company, name in kinds}
    result: dict[Kind, dict[str, dict[str, Any]]] = {}
    for chunk in chunks(company for company, _ in kinds):
        rows = models.EmailTemplate.objects.filter(companyid__in=chunk, name__in={name for _, name in kinds})
        for row in rows.order_by("id").values(*columns):
            kind = wanted.get((row["companyid"], row["name"].casefold()))
            if kind is not None:
                result.setdefault(kind, {}).setdefault(row.get("lang", LANGUAGE_UNREADABLE), row)
    return result


def manager_type(template: str) -> int:
    """Whose mail a template is by its name: 1 managers', 2 supervisors', else 0 (facts §7.1).

    The word counts anywhere but at the very beginning.
    """
    if template.find("supervisor") > 0:
        return FOR_SUPERVISORS
    return FOR_MANAGERS if template.find("manager") > 0 else 0


def load_disabled(kinds: Collection[Kind], branch: int) -> set[Kind]:
    """Those of the kinds of mail that their company has switched off (facts §7.5); `branch` is Moodle's.

    Rows of any language count, and one of them that has everything on is enough.
    """
    flags: defaultdict[Kind, list[tuple[int, int, int]]] = defaultdict(list)
    for chunk in chunks(company for company, _ in kinds):
        rows = models.EmailTemplate.objects.filter(companyid__in=chunk, name__in={name for _, name in kinds})
        for company, name, *found in rows.values_list(
            "companyid", "name", "disabled", "disabledmanager", "disabledsupervisor"
        ):
            # The database compares names without case.
            flags[company, name.casefold()].append((found[0], found[1], found[2]))
    return {
        kind for kind in kinds if _disabled(flags.get((kind[0], kind[1].casefold()), []), kind[1], branch)
    }


def _disabled(rows: list[tuple[int, int, int]], template: str, branch: int) -> bool:
    if any(row == (0, 0, 0) for row in rows):
        return False
    kind = manager_type(template)
    if any(row[0] == 1 for row in rows) and (kind == 0 or branch == 401):
        return True
    return kind != 0 and any(row[kind] == 1 for row in rows)


def queue_delay() -> int:
    """IOMAD's own delay in seconds, wherever this version keeps it (facts §7.1); 0 where none is set."""
    name = "iomad_emaildelay"
    forced = settings.MOODLE_FORCED_CONFIG.get(name)
    stored = models.Config.objects.filter(name=name).values_list("value", flat=True).first()
    later = models.ConfigPlugin.objects.filter(plugin="local_iomad", name="emaildelay")
    for value in (forced, stored, later.values_list("value", flat=True).first()):
        if value is not None and str(value).isdigit():
            return int(value)
    return 0
