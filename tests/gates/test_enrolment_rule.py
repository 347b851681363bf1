"""The rule of is_enrolled() on plain data: against a slow oracle written from the rule, and by case."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emailoffload.moodle.enrolment import Access, Place, evaluate

SYSTEM, CATEGORY, COURSE, MODULE, FRONT_PAGE, FRONT_MODULE = 1, 3, 5, 7, 2, 8
STUDENT, TEACHER, EVERYBODY, GUEST_ROLE = 5, 3, 7, 8
ALLOW, INHERIT, PREVENT, PROHIBIT = 1, 0, -1, -1000
USER, ADMIN, GUEST = 20, 2, 1

BASE = Access(
    places={
        100: Place(50, (SYSTEM, CATEGORY, COURSE, MODULE)),
        101: Place(1, (SYSTEM, FRONT_PAGE, FRONT_MODULE)),
    },
    active={(50, USER), (50, ADMIN), (50, GUEST)},
    assignments={USER: {(COURSE, STUDENT)}},
    permissions={(STUDENT, SYSTEM): ALLOW},
    user_contexts={USER, ADMIN, GUEST},
    admins={ADMIN},
    guest=GUEST,
    default_role=EVERYBODY,
    front_page_role=GUEST_ROLE,
    front_page_course=1,
    front_page_context=FRONT_PAGE,
)


def oracle(cmid: int, user: int, access: Access) -> bool:
    """Facts §6.1 sentence by sentence, for one pair."""
    if cmid not in access.places:
        return False
    if user == 0 or user == access.guest:
        return False
    course, path = access.places[cmid].course_id, access.places[cmid].path
    enrolled = course == access.front_page_course
    for one in access.active:
        if one == (course, user):
            enrolled = True
    if not enrolled:
        return False
    if not access.capability_exists:
        return False
    is_admin = user in access.admins
    if access.locking:
        for context in path:
            if context in access.locked:
                if not is_admin:
                    return False
                if access.locking_binds_admins:
                    return False
    if user not in access.user_contexts:
        return False
    if is_admin:
        return True
    if not path:
        return False
    roles = [role for context, role in access.assignments.get(user, ()) if context in path]
    if access.default_role:
        roles.append(access.default_role)
    if access.front_page_role and access.front_page_context in path:
        roles.append(access.front_page_role)
    for role in roles:
        for context in path:
            if access.permissions.get((role, context)) == PROHIBIT:
                return False
    for role in roles:
        for context in path[::-1]:
            if (role, context) in access.permissions:
                if access.permissions[role, context] == ALLOW:
                    return True
                break
    return False


SELDOM = st.sampled_from([False, False, False, False, False, True])
contexts = st.integers(1, 5)
users = st.integers(0, 3)
roles = st.integers(0, 2)
courses = st.integers(1, 2)
cmids = st.integers(1, 4)
paths = st.lists(contexts, unique=True, min_size=2, max_size=4).map(tuple) | st.just(())
accesses = st.builds(
    Access,
    places=st.fixed_dictionaries({cmid: st.builds(Place, courses, paths) for cmid in (1, 2, 3)}),
    active=st.sets(st.tuples(courses, users), min_size=4),
    assignments=st.dictionaries(users, st.sets(st.tuples(contexts, roles), max_size=4), min_size=2),
    permissions=st.dictionaries(
        st.tuples(roles, contexts),
        st.sampled_from([ALLOW, ALLOW, ALLOW, ALLOW, INHERIT, PREVENT, PREVENT, PROHIBIT]),
        min_size=4,
        max_size=10,
    ),
    user_contexts=st.sets(users, min_size=3),
    locked=st.sets(contexts, max_size=1),
    capability_exists=SELDOM.map(lambda seldom: not seldom),
    locking=SELDOM,
    locking_binds_admins=st.booleans(),
    admins=st.sets(users, max_size=1),
    guest=st.integers(0, 1),
    default_role=roles,
    front_page_role=roles,
    front_page_course=st.integers(1, 4),
    front_page_context=contexts,
)


@settings(max_examples=400, deadline=None)
@given(accesses, st.sets(st.tuples(cmids, users), min_size=4))
def test_many_pairs_at_once_get_the_answers_of_one_at_a_time(
    access: Access, pairs: set[tuple[int, int]]
) -> None:
    assert evaluate(pairs, access) == {(cmid, user) for cmid, user in pairs if oracle(cmid, user, access)}


def allowed(access: Access, user: int = USER, cmid: int = 100) -> bool:
    return evaluate([(cmid, user)], access) == {(cmid, user)}


def test_an_enrolled_student_takes_part() -> None:
    assert allowed(BASE)


@pytest.mark.parametrize(
    "access",
    [
        replace(BASE, active=set()),
        replace(BASE, active={(51, USER)}),
        replace(BASE, assignments={}),
        replace(BASE, assignments={USER: {(COURSE, TEACHER)}}),
        replace(BASE, assignments={USER: {(99, STUDENT)}}),
        replace(BASE, permissions={}),
        replace(BASE, capability_exists=False),
        replace(BASE, user_contexts=set()),
        replace(BASE, guest=USER),
        replace(BASE, places={}),
        replace(BASE, places={100: Place(50, ())}),
    ],
)
def test_whoever_lacks_one_part_does_not_take_part(access: Access) -> None:
    assert not allowed(access)


@pytest.mark.parametrize("context", [SYSTEM, CATEGORY, COURSE, MODULE])
def test_a_role_counts_wherever_on_the_path_it_is_given(context: int) -> None:
    assert allowed(replace(BASE, assignments={USER: {(context, STUDENT)}}))


@pytest.mark.parametrize("context", [CATEGORY, COURSE, MODULE])
@pytest.mark.parametrize("permission", [PREVENT, INHERIT, PROHIBIT])
def test_a_more_specific_override_beats_the_role(context: int, permission: int) -> None:
    assert not allowed(replace(BASE, permissions={(STUDENT, SYSTEM): ALLOW, (STUDENT, context): permission}))


def test_an_allow_below_a_prevent_wins_but_not_below_a_prohibit() -> None:
    below = {(STUDENT, SYSTEM): PREVENT, (STUDENT, MODULE): ALLOW}
    assert allowed(replace(BASE, permissions=below))
    assert not allowed(replace(BASE, permissions={**below, (STUDENT, SYSTEM): PROHIBIT}))


def test_a_prevent_in_one_role_does_not_take_away_what_another_allows_but_a_prohibit_does() -> None:
    both = replace(BASE, assignments={USER: {(COURSE, STUDENT), (COURSE, TEACHER)}})
    assert allowed(replace(both, permissions={(STUDENT, SYSTEM): ALLOW, (TEACHER, SYSTEM): PREVENT}))
    assert not allowed(replace(both, permissions={(STUDENT, SYSTEM): ALLOW, (TEACHER, SYSTEM): PROHIBIT}))


def test_every_users_role_counts_everywhere() -> None:
    assert allowed(replace(BASE, assignments={}, permissions={(EVERYBODY, SYSTEM): ALLOW}))


def test_on_the_front_page_nobody_needs_an_enrolment_and_the_front_page_role_counts() -> None:
    front = replace(BASE, active=set(), assignments={}, permissions={(GUEST_ROLE, SYSTEM): ALLOW})
    assert allowed(front, cmid=101)
    assert not allowed(front, cmid=100)
    assert not allowed(replace(front, front_page_role=0), cmid=101)
    assert not allowed(front, user=GUEST, cmid=101)
    assert not allowed(front, user=0, cmid=101)


def test_an_admin_needs_an_enrolment_but_no_role_and_no_path() -> None:
    assert allowed(replace(BASE, permissions={}), user=ADMIN)
    assert allowed(replace(BASE, places={100: Place(50, ())}), user=ADMIN)
    assert not allowed(replace(BASE, active={(50, USER)}), user=ADMIN)


@pytest.mark.parametrize("context", [SYSTEM, CATEGORY, COURSE, MODULE])
def test_a_locked_context_stops_all_but_admins(context: int) -> None:
    locked = replace(BASE, locked={context}, locking=True)
    assert not allowed(locked)
    assert allowed(locked, user=ADMIN)
    assert not allowed(replace(locked, locking_binds_admins=True), user=ADMIN)
    assert allowed(replace(locked, locking=False))
    assert allowed(replace(locked, locked={99}))
