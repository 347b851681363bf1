"""Set-based reading of Moodle's rows: a bounded number of queries for any number of ids.

Each loader sends its ids in groups of `CHUNK`. All raise the database's errors; ids that do not exist are
simply missing from the result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from django.db.models import QuerySet

from emailoffload.moodle import models
from emailoffload.moodle.schema import CHUNK, chunks, readable
from emailoffload.moodle.textcontexts import load_text_contexts
from emailoffload.moodle.types import Activity, Course, Learner, ProfileValue, User

__all__ = [
    "CHUNK", "load_activities", "load_activity_ids_by_mode", "load_company_of", "load_courses",
    "load_learners", "load_target_completions", "load_text_contexts", "load_users", "memberships",
]  # fmt: skip

CONTEXT_MODULE = 70
COMPLETE_STATES = (1, 2, 3)
"""Completion states that count as reached for a suppress target (facts §2.7)."""

_USER_COLUMNS = tuple(field.name for field in fields(User))
_ACTIVITY_TEXTS = (
    "emailsubject", "emailcontent", "thirdpartyemails", "emailsubjectthirdparty", "emailcontentthirdparty",
    "emailsubjectmanager", "emailcontentmanager",
)  # fmt: skip
_ACTIVITY_NUMBERS = (
    "emailuser",
    "emailrecipient",
    "duration",
    "remindercount",
    "emaildelay",
    "suppresstarget",
)


def load_activities(ids: Iterable[int]) -> dict[int, Activity]:
    """Activities by id, with course, course module and module context (facts §2.4, §6.2).

    `cmid` is None where there is no course module, or its course is gone: Moodle's run stumbles over such
    rows. Where an activity has several course modules, the last one counts, as in the plugin.
    """
    rows: dict[int, dict[str, Any]] = {}
    modules: dict[int, tuple[int, int, int]] = {}
    for chunk in chunks(ids):
        columns = ("id", "name", "course", *_ACTIVITY_TEXTS, *_ACTIVITY_NUMBERS)
        rows |= {row["id"]: row for row in models.Reengagement.objects.filter(id__in=chunk).values(*columns)}
    plugins = list(models.Module.objects.filter(name="reengagement").values_list("id", flat=True))
    for chunk in chunks(rows):
        found = models.CourseModule.objects.filter(module__in=plugins, instance__in=chunk).order_by("id")
        for instance, *module in found.values_list("instance", "id", "course", "deletioninprogress"):
            modules[instance] = (module[0], module[1], module[2])
    courses = load_courses(
        [course for _, course, _ in modules.values()] + [row["course"] for row in rows.values()]
    )
    modules = {instance: module for instance, module in modules.items() if module[1] in courses}
    contexts = _contexts(CONTEXT_MODULE, [cmid for cmid, _, _ in modules.values()])
    return {pk: _activity(row, modules.get(pk), courses, contexts) for pk, row in rows.items()}


def _activity(
    row: Mapping[str, Any],
    module: tuple[int, int, int] | None,
    courses: Mapping[int, Course],
    contexts: Mapping[int, tuple[int, str | None]],
) -> Activity:
    cmid, course_id, deletion = module or (None, row["course"], 0)
    context_id, path = contexts.get(cmid, (None, None)) if cmid is not None else (None, None)
    values: dict[str, Any] = {name: row[name] or "" for name in _ACTIVITY_TEXTS}
    values |= {name: row[name] for name in _ACTIVITY_NUMBERS}
    return Activity(
        id=row["id"],
        name=row["name"],
        course=courses.get(course_id),
        cmid=cmid,
        deletioninprogress=deletion,
        context_id=context_id,
        context_path=path or None,
        **values,
    )


def _contexts(level: int, instances: Iterable[int]) -> dict[int, tuple[int, str | None]]:
    result: dict[int, tuple[int, str | None]] = {}
    for chunk in chunks(instances):
        rows = models.Context.objects.filter(contextlevel=level, instanceid__in=chunk)
        result |= {
            instance: (pk, path) for instance, pk, path in rows.values_list("instanceid", "id", "path")
        }
    return result


def load_activity_ids_by_mode() -> dict[int, set[int]]:
    """All activities' ids by mode `emailuser` (0 never, 1 on completion, 2 after delay); one query."""
    result: defaultdict[int, set[int]] = defaultdict(set)
    for pk, mode in models.Reengagement.objects.values_list("id", "emailuser"):
        result[mode].add(pk)
    return dict(result)


def load_courses(ids: Iterable[int]) -> dict[int, Course]:
    """Courses by id."""
    result: dict[int, Course] = {}
    for chunk in chunks(ids):
        rows = models.Course.objects.filter(id__in=chunk)
        for pk, shortname, fullname, category, lang in rows.values_list(
            "id", "shortname", "fullname", "category", "lang"
        ):
            result[pk] = Course(id=pk, shortname=shortname, fullname=fullname, category=category, lang=lang)
    return result


def load_users(ids: Iterable[int]) -> dict[int, User]:
    """Users by id, deleted ones too."""
    result: dict[int, User] = {}
    for chunk in chunks(ids):
        for row in models.User.objects.filter(id__in=chunk).values_list(*_USER_COLUMNS):
            result[row[0]] = User(*row)
    return result


def load_learners(
    pairs: Collection[tuple[int, int]],
    *,
    groups: bool,
    field_ids: Collection[int],
    preference_names: Sequence[str],
    users: Mapping[int, User] | None = None,
) -> dict[tuple[int, int], Learner]:
    """Learners by (user id, course id), with what the placeholders and gates of that course need.

    Groups are read only if `groups`, profile values only of `field_ids`, preferences only of
    `preference_names`; users that are already loaded can be given. Group names come in the database's own
    order (facts §4.1). A pair whose user does not exist is missing.
    """
    user_ids = {user for user, _ in pairs}
    users = load_users(user_ids) if users is None else users
    profiles = _profiles(user_ids, field_ids)
    preferences = _preferences(user_ids, preference_names)
    names = _group_names(pairs) if groups else {}
    return {
        (user, course): Learner(
            user=users[user],
            groups=tuple(names.get((user, course), ())),
            profile=profiles.get(user, {}),
            preferences=preferences.get(user, {}),
        )
        for user, course in pairs
        if user in users
    }


def _profiles(user_ids: Iterable[int], field_ids: Collection[int]) -> dict[int, dict[int, ProfileValue]]:
    result: defaultdict[int, dict[int, ProfileValue]] = defaultdict(dict)
    for chunk in chunks(user_ids) if field_ids else ():
        rows = models.UserInfoData.objects.filter(userid__in=chunk, fieldid__in=field_ids)
        for user, field, data, dataformat in rows.values_list("userid", "fieldid", "data", "dataformat"):
            result[user][field] = ProfileValue(data=data, dataformat=dataformat)
    return result


def _preferences(user_ids: Iterable[int], names: Sequence[str]) -> dict[int, dict[str, str]]:
    result: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for chunk in chunks(user_ids) if names else ():
        rows = models.UserPreference.objects.filter(userid__in=chunk, name__in=names)
        for user, name, value in rows.values_list("userid", "name", "value"):
            result[user][name] = value
    return result


def _group_names(pairs: Collection[tuple[int, int]]) -> dict[tuple[int, int], list[str]]:
    """Group names by (user, course), ordered by the database, whose collation decides."""
    known: dict[int, tuple[int, int, str]] = {}
    for chunk in chunks(course for _, course in pairs):
        rows = models.Group.objects.filter(courseid__in=chunk).order_by("name", "id")
        for pk, course, name in rows.values_list("id", "courseid", "name"):
            known[pk] = (len(known), course, name)
    member: defaultdict[tuple[int, int], list[tuple[int, str]]] = defaultdict(list)
    wanted = set(pairs)
    for users in chunks(user for user, _ in pairs) if known else ():
        belonging = models.GroupMember.objects.filter(userid__in=users).values_list("groupid", "userid")
        for group, user in belonging.distinct():
            rank, course, name = known.get(group, (0, 0, ""))
            if (user, course) in wanted:
                member[user, course].append((rank, name))
    return {pair: [name for _, name in sorted(found)] for pair, found in member.items()}


def load_company_of(user_ids: Iterable[int], *, few: bool = False) -> dict[int, tuple[int, str]]:
    """The company (id, name) of each user: that of the first `company_users` row by id (facts §1.3).

    Empty on a site without IOMAD, and for users of no company. `few`: looked up as `memberships` does.
    """
    wanted = list(chunks(user_ids))
    if not wanted or not readable(models.Company, models.CompanyUser):
        return {}
    first: dict[int, int] = {}
    for chunk in wanted:
        rows = models.CompanyUser.objects.filter(userid__in=chunk)
        if few:
            rows = memberships(chunk)
        for user, company in rows.order_by("id").values_list("userid", "companyid"):
            first.setdefault(user, company)
    names: dict[int, str] = {}
    for chunk in chunks(first.values()):
        names |= dict(models.Company.objects.filter(id__in=chunk).values_list("id", "name"))
    return {user: (company, names.get(company, "")) for user, company in first.items()}


def memberships(user_ids: Sequence[int]) -> QuerySet[models.CompanyUser]:
    """The rows of `company_users` of a few users, for pages; IOMAD must be there. One query here, one by the caller.

    IOMAD's index begins with the company, so that a user's rows are found by reading all half a million of a large
    site. Here the companies are asked first, and each is looked into by that index.
    """
    companies = (
        models.CompanyUser.objects.order_by("companyid").values_list("companyid", flat=True).distinct()
    )
    return models.CompanyUser.objects.filter(userid__in=user_ids, companyid__in=list(companies))


def load_target_completions(pairs: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those of the pairs (user id, course module id) whose completion state is complete (facts §2.7)."""
    wanted = set(pairs)
    result: set[tuple[int, int]] = set()
    for modules in chunks(module for _, module in wanted):
        for users in chunks(user for user, _ in wanted):
            rows = models.ModuleCompletion.objects.filter(
                userid__in=users, coursemoduleid__in=modules, completionstate__in=COMPLETE_STATES
            )
            result |= wanted.intersection(rows.values_list("userid", "coursemoduleid"))
    return result
