"""Who takes part: Moodle's `is_enrolled()` for thousands of (module, user) pairs in a few queries.

The plugin asks `is_enrolled(module context, user, 'mod/reengagement:startreengagement', active only)` for one
row at a time, and deletes the row where the answer is no. We ask for all rows of a pass at once: `load` reads
what the rule depends on, `evaluate` applies it to plain data (facts §6).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from django.db.models import F, Q

from emailoffload.moodle import models
from emailoffload.moodle.schema import CHUNK, chunks
from emailoffload.moodle.types import SiteConfig

CAPABILITY = "mod/reengagement:startreengagement"
CONTEXT_USER, CONTEXT_COURSE, CONTEXT_MODULE = 30, 50, 70
ALLOW, PROHIBIT = 1, -1000


@dataclass(frozen=True, slots=True)
class Place:
    """Where a course module stands: its course, and the context ids from the system down to the module.

    `path` is empty where Moodle never built the context's path.
    """

    course_id: int
    path: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Access:
    """All that the rule depends on, as plain data."""

    places: Mapping[int, Place]
    """By course module id; a module without a context is missing."""
    active: Set[tuple[int, int]] = frozenset()
    """(course id, user id) with at least one enrolment that is active now."""
    assignments: Mapping[int, Set[tuple[int, int]]] = field(default_factory=dict)
    """By user id: (context id, role id)."""
    permissions: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """By (role id, context id): 1 allow, 0 inherit, −1 prevent, −1000 prohibit."""
    user_contexts: Set[int] = frozenset()
    """Users who have a context of their own."""
    locked: Set[int] = frozenset()
    """Context ids that are locked."""
    capability_exists: bool = True
    locking: bool = False
    locking_binds_admins: bool = False
    admins: Set[int] = frozenset()
    guest: int = 0
    default_role: int = 0
    front_page_role: int = 0
    front_page_course: int = 1
    front_page_context: int = 0


def eligible(pairs: Collection[tuple[int, int]], now: int, site: SiteConfig) -> set[tuple[int, int]]:
    """Those of the (course module id, user id) pairs whose user takes part in the module at `now`.

    `now` is Moodle's UNIX seconds. A module without a context is never eligible: Moodle would make the
    context while it looks, we leave the row to it. About four queries for each thousand pairs, and a few for
    all.
    """
    return evaluate(pairs, load(pairs, now, site)) if pairs else set()


def evaluate(pairs: Iterable[tuple[int, int]], access: Access) -> set[tuple[int, int]]:
    """The rule of facts §6.1 on plain data; each set of roles is worked out once for each path."""
    known: dict[tuple[tuple[int, ...], frozenset[int]], bool] = {}
    found: set[tuple[int, int]] = set()
    for cmid, user in pairs:
        place = access.places.get(cmid)
        if place is None or not user or user == access.guest:
            continue
        if place.course_id != access.front_page_course and (place.course_id, user) not in access.active:
            continue
        if not access.capability_exists or user not in access.user_contexts:
            continue
        admin = user in access.admins
        shut = access.locking and not access.locked.isdisjoint(place.path)
        if shut and (not admin or access.locking_binds_admins):
            continue
        if not admin:
            if not place.path:
                continue
            key = (place.path, _roles(user, place.path, access))
            if key not in known:
                known[key] = roles_allow(*key, access.permissions)
            if not known[key]:
                continue
        found.add((cmid, user))
    return found


def roles_allow(
    path: Sequence[int], roles: Collection[int], permissions: Mapping[tuple[int, int], int]
) -> bool:
    """Whether a set of roles grants the capability at the end of a path of context ids (facts §6.1, 5).

    The most specific permission of a role counts; a prohibition anywhere beats everything; a role that only
    prevents does not take away what another one allows.
    """
    allowed = False
    for role in roles:
        values = [permissions[role, context] for context in reversed(path) if (role, context) in permissions]
        if PROHIBIT in values:
            return False
        allowed = allowed or values[:1] == [ALLOW]
    return allowed


def _roles(user: int, path: tuple[int, ...], access: Access) -> frozenset[int]:
    """The roles that a user has on a path: assigned, every user's, and every user's on the front page."""
    roles = {role for context, role in access.assignments.get(user, ()) if context in path}
    if access.default_role:
        roles.add(access.default_role)
    if access.front_page_role and access.front_page_context in path:
        roles.add(access.front_page_role)
    return frozenset(roles)


def load(pairs: Collection[tuple[int, int]], now: int, site: SiteConfig) -> Access:
    """Read what the rule needs for these pairs at `now` (facts §6.2).

    Pairs are taken a thousand at a time in the order of their modules, so that the conditions on users and on
    courses of one query belong together and the database reads little that is not asked for.
    """
    places = _places({cmid for cmid, _ in pairs})
    contexts = {context for place in places.values() for context in place.path}
    locking = site.flag("contextlocking")
    enrols = _enrols({place.course_id for place in places.values()})
    active: set[tuple[int, int]] = set()
    assignments: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
    user_contexts: set[int] = set()
    ordered = sorted(pair for pair in set(pairs) if pair[0] in places)
    for start in range(0, len(ordered), CHUNK):
        chunk = ordered[start : start + CHUNK]
        users = {user for _, user in chunk}
        near = [places[cmid] for cmid, _ in chunk]
        active |= _active(users, {place.course_id for place in near}, enrols, now)
        for user, context, role in models.RoleAssignment.objects.filter(
            userid__in=users, contextid__in={context for place in near for context in place.path}
        ).values_list("userid", "contextid", "roleid"):
            assignments[user].add((context, role))
        user_contexts.update(
            models.Context.objects.filter(contextlevel=CONTEXT_USER, instanceid__in=users).values_list(
                "instanceid", flat=True
            )
        )
    front_page_role = _number(site.get("defaultfrontpageroleid"))
    return Access(
        places=places,
        active=active,
        assignments=assignments,
        permissions={
            (role, context): permission
            for role, context, permission in models.RoleCapability.objects.filter(
                capability=CAPABILITY
            ).values_list("roleid", "contextid", "permission")
        },
        user_contexts=user_contexts,
        locked=set(_in(models.Context, "id", contexts, "id", locked=1)) if locking else set(),
        capability_exists=models.Capability.objects.filter(name=CAPABILITY).exists(),
        locking=locking,
        locking_binds_admins=site.flag("contextlockappliestoadmin"),
        admins={_number(part) for part in site.get("siteadmins").split(",")} - {0},
        guest=_number(site.get("siteguest")),
        default_role=_number(site.get("defaultuserroleid")),
        front_page_role=front_page_role,
        front_page_course=site.course_id,
        front_page_context=_front_page_context(site.course_id) if front_page_role else 0,
    )


def _places(cmids: Set[int]) -> dict[int, Place]:
    courses = dict(_in(models.CourseModule, "id", cmids, "id", "course"))
    return {
        cmid: Place(courses[cmid], _path(path, depth))
        for cmid, path, depth in _in(
            models.Context, "instanceid", courses, "instanceid", "path", "depth", contextlevel=CONTEXT_MODULE
        )
    }


def _path(path: str | None, depth: int) -> tuple[int, ...]:
    """`/1/3/21` as context ids, outermost first; empty where Moodle itself takes the path for unbuilt."""
    return tuple(int(part) for part in path.split("/") if part) if path and depth > 0 else ()


def _enrols(courses: Set[int]) -> dict[int, int]:
    """The enabled enrolment methods of the courses: id → course id."""
    return dict(_in(models.Enrol, "courseid", courses, "id", "courseid", status=0))


def _active(users: Set[int], courses: Set[int], enrols: Mapping[int, int], now: int) -> set[tuple[int, int]]:
    """(course id, user id) of people who are not deleted and have an enrolment that is active at `now`."""
    found: set[tuple[int, int]] = set()
    for ids in chunks(enrol for enrol, course in enrols.items() if course in courses):
        running = Q(timeend=0) | Q(timeend__gt=now, timeend__gte=F("timestart"))
        for enrol, user in models.UserEnrolment.objects.filter(
            running, userid__in=users, enrolid__in=ids, status=0, timestart__lte=now
        ).values_list("enrolid", "userid"):
            found.add((enrols[enrol], user))
    present = set(_in(models.User, "id", {user for _, user in found}, "id", deleted=0))
    return {(course, user) for course, user in found if user in present}


def _front_page_context(course_id: int) -> int:
    return (
        models.Context.objects.filter(contextlevel=CONTEXT_COURSE, instanceid=course_id)
        .values_list("id", flat=True)
        .first()
        or 0
    )


def _in(
    model: type[models.MoodleTable], column: str, values: Collection[int], *columns: str, **where: int
) -> Iterator[Any]:
    """Rows whose column is one of many values, a thousand values to a query; one column comes bare."""
    for chunk in chunks(values):
        query = model._default_manager.filter(**{f"{column}__in": chunk}, **where)
        yield from query.values_list(*columns, flat=len(columns) == 1)


def _number(text: str) -> int:
    """A whole number out of a setting; 0 where there is none."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() else 0
