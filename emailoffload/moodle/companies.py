"""Who stands around a user: managers of the company, supervisors, holders of a role, addresses in a field.

What IOMAD's own mails do (facts §7.3) and what copy rules need (design §5), set-based: a bounded number of
queries for any number of users. On a site without IOMAD, nobody has a manager or supervisor. People who are
deleted or suspended are left out; whether an account can log in is the caller's question. All raise the
database's errors; what nobody stands behind is missing from the result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from django.db import connections

from emailoffload.moodle import models
from emailoffload.moodle.addresses import valid_address, valid_in
from emailoffload.moodle.loaders import load_company_of, load_users
from emailoffload.moodle.schema import chunks, readable, readable_columns
from emailoffload.moodle.types import SiteConfig, User

COMPANY_MANAGER, DEPARTMENT_MANAGER = 1, 2
"""`company_users.managertype` (facts §1.3)."""
CONTEXT_COURSE = 50

Member = tuple[int, int]
"""(user id, company id): IOMAD asks about a user within the company of the mail, not within any."""


def company_managers(members: Collection[Member], *, cron_user: int = 0) -> dict[Member, tuple[User, ...]]:
    """The company managers that IOMAD copies mails to: managertype 1 of the user's departments in the company
    and of all departments above them (facts §7.3, `company::get_my_managers`), in the order of their rows.

    IOMAD leaves out `cron_user`, the account that its cron runs as, and nobody else: a manager is among the
    managers of their own mails. A suspended place in the company does not count, only a suspended account.
    """
    return _managers(members, COMPANY_MANAGER, cron_user)


def department_managers(members: Collection[Member], *, cron_user: int = 0) -> dict[Member, tuple[User, ...]]:
    """The same for department managers, managertype 2."""
    return _managers(members, DEPARTMENT_MANAGER, cron_user)


def _managers(members: Collection[Member], kind: int, cron_user: int) -> dict[Member, tuple[User, ...]]:
    if not members or not readable(models.CompanyUser, models.Department):
        return {}
    departments = _departments_of(members)
    rows: list[tuple[int, int, int]] = []
    for chunk in chunks({each for found in departments.values() for each in found}):
        holders = models.CompanyUser.objects.filter(managertype=kind, departmentid__in=chunk)
        rows += holders.values_list("id", "departmentid", "userid")
    by_department: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for row, department, user in sorted(rows):
        by_department[department].append((row, user))
    users = _active(user for _, _, user in rows if user != cron_user)
    result = {}
    for member, places in departments.items():
        found = sorted(each for place in places for each in by_department.get(place, ()))
        managers = tuple(users[user] for user in dict.fromkeys(user for _, user in found) if user in users)
        if managers:
            result[member] = managers
    return result


def _departments_of(members: Collection[Member]) -> dict[Member, set[int]]:
    """Each member's departments in that company, and all above them."""
    wanted = set(members)
    companies = {company for _, company in wanted}
    parents: dict[int, int] = {}
    for chunk in chunks(companies):
        rows = models.Department.objects.filter(company__in=chunk).values_list("id", "parent")
        parents |= {department: parent or 0 for department, parent in rows}
    result: defaultdict[Member, set[int]] = defaultdict(set)
    for some in chunks(companies):
        for users in chunks(user for user, _ in wanted):
            places = models.CompanyUser.objects.filter(companyid__in=some, userid__in=users)
            for user, company, department in places.values_list("userid", "companyid", "departmentid"):
                if (user, company) in wanted and department in parents:
                    _climb(department, parents, result[user, company])
    return dict(result)


def _climb(department: int, parents: Mapping[int, int], found: set[int]) -> None:
    """Add a department and those above; damaged data may hold a circle."""
    while department in parents and department not in found:
        found.add(department)
        department = parents[department]


def supervisors(user_ids: Iterable[int], site: SiteConfig) -> dict[int, tuple[str, ...]]:
    """The addresses of each user's supervisors (facts §7.3, `company::get_usersupervisor`).

    They stand in the profile field that the user's company names (`emailprofileid`; the company is that of the
    first row, facts §1.3), or where it names none, in that of the setting `companyemailprofileid`. A field
    without a value is not made up for by the setting. Split at commas without trimming, as IOMAD does, so an
    address after a blank does not count; doubles once.
    """
    ids = set(user_ids)
    if not ids or not readable(models.Company, models.CompanyUser):
        return {}
    companies = {user: company for user, (company, _) in load_company_of(ids).items()}
    own: dict[int, int | None] = {}
    for chunk in chunks(companies.values()):
        own |= dict(models.Company.objects.filter(id__in=chunk).values_list("id", "emailprofileid"))
    default = site.get("companyemailprofileid")
    fallback = int(default) if default.isdecimal() else 0
    fields = {user: own.get(companies.get(user, 0)) or fallback for user in ids}
    result = {}
    for (user, field), data in _profile_data(fields.keys(), set(fields.values()) - {0}).items():
        if fields[user] == field:
            found = tuple(dict.fromkeys(part for part in data.split(",") if valid_address(part)))
            if found:
                result[user] = found
    return result


def profile_addresses(
    user_ids: Iterable[int], shortnames: Collection[str]
) -> dict[tuple[int, str], tuple[str, ...]]:
    """The addresses in profile fields, by (user id, field's shortname): split at commas, trimmed, valid ones."""
    if not shortnames:
        return {}
    fields = dict(
        models.UserInfoField.objects.filter(shortname__in=shortnames).values_list("id", "shortname")
    )
    # The database compares without case; a rule names one field exactly.
    fields = {pk: name for pk, name in fields.items() if name in shortnames}
    result: dict[tuple[int, str], tuple[str, ...]] = {}
    for (user, field), data in sorted(_profile_data(user_ids, fields).items()):
        found = valid_in(data)
        if found:
            result.setdefault((user, fields[field]), found)
    return result


def _profile_data(user_ids: Iterable[int], field_ids: Collection[int]) -> dict[tuple[int, int], str]:
    result: dict[tuple[int, int], str] = {}
    for chunk in chunks(user_ids) if field_ids else ():
        rows = models.UserInfoData.objects.filter(userid__in=chunk, fieldid__in=field_ids)
        result |= {(user, field): data for user, field, data in rows.values_list("userid", "fieldid", "data")}
    return result


def role_holders(
    course_ids: Iterable[int], role_ids: Collection[int]
) -> dict[tuple[int, int], tuple[User, ...]]:
    """Who holds a role in a course or above it (categories, site), by (course id, role id), by user id.

    Enrolment is not asked: a manager of the category is not enrolled. `role_ids` are Moodle's numbers.
    """
    paths: dict[int, set[int]] = {}
    for chunk in chunks(course_ids) if role_ids else ():
        rows = models.Context.objects.filter(contextlevel=CONTEXT_COURSE, instanceid__in=chunk)
        for course, path in rows.values_list("instanceid", "path"):
            paths[course] = {int(part) for part in (path or "").split("/") if part.isdecimal()}
    holders: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for chunk in chunks({context for path in paths.values() for context in path}):
        held = models.RoleAssignment.objects.filter(contextid__in=chunk, roleid__in=role_ids)
        for context, role, user in held.values_list("contextid", "roleid", "userid"):
            holders[context, role].add(user)
    users = _active(user for found in holders.values() for user in found)
    result = {}
    for course, above in paths.items():
        for role in role_ids:
            found = sorted({user for context in above for user in holders.get((context, role), ())})
            active = tuple(users[user] for user in found if user in users)
            if active:
                result[course, role] = active
    return result


def company_cc(company_ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """The addresses in `company.reengccemail`, by company id: a site's own patch (facts §2.11, P-akt).

    Only companies with at least one valid address; empty where the column does not exist.
    """
    name = models.Company._meta.db_table
    wanted = list(chunks(company_ids))
    if not wanted or "reengccemail" not in readable_columns(connections["moodle"], (name,)).get(name, {}):
        return {}
    result: dict[int, tuple[str, ...]] = {}
    for chunk in wanted:
        for pk, text in models.Company.objects.filter(id__in=chunk).values_list("id", "reengccemail"):
            found = valid_in(text)
            if found:
                result[pk] = found
    return result


def _active(user_ids: Iterable[int]) -> dict[int, User]:
    """Those of the users whose account is neither deleted nor suspended."""
    return {pk: user for pk, user in load_users(user_ids).items() if not user.deleted and not user.suspended}
