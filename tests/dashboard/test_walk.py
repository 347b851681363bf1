"""Every combination of filters finds exactly what fits, and reads a bounded part of one index for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Q
from django.http import QueryDict
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emailoffload.dashboard import walk
from emailoffload.dashboard.filters import EmailFilter
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState
from tests.dashboard.conftest import make_user
from tests.dashboard.factories import make_claim
from tests.dashboard.world import bind

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])

FILTERS = {
    "q": ["20003", "a1@example.org", "a", "subject 7", "nothing like this", "0102-3-aaaaaaaaaaaaaaaa"],
    "when": ["1h", "7d"],
    "since": ["2026-03-01T05:00:00Z"],
    "until": ["2026-03-01T20:00:00+01:00"],
    "source": ["iomad_queue"],
    "role": ["copy"],
    "route": ["smtp"],
    "state": ["failed", "delivered", "problem", "arrived"],
    "user": ["20002"],
    "activity": ["4"],
    "course": ["3"],
    "company": ["2"],
    "template": ["user_create"],
    "reason": ["MessageRejected"],
}
COUNT = 160
LIMITS = {"WALK": [9, 50_000], "SWEEP": [30, 100_000], "FEW": [0, 10_000], "BEYOND": [5, 1000]}


@pytest.fixture
def emails() -> list[Email]:
    """Emails with every combination of values about as often; half of them months old, ids in order of time."""
    claim = make_claim()
    now = timezone.now()
    old = now.replace(year=2026, month=3, day=1, hour=0, minute=0)
    states = ["delivered", "delivered", "accepted", "failed", "opened", "bounced", "queued"]
    return Email.objects.bulk_create(
        Email(
            claim=claim, source="iomad_queue" if n % 3 == 0 else "reengagement",
            template="user_create" if n % 3 == 0 else "", role=["user", "copy", "manager"][n % 5 % 3],
            user_id=20000 + n % 6, activity_id=n % 7, course_id=n % 5, company_id=n % 4 or None,
            address=f"a{n % 4}@example.org", name=f"Name {n % 9}", subject=f"Subject {n % 11}",
            route="smtp" if n % 8 == 0 else "ses", state=states[n % len(states)], state_at=now,
            reason="MessageRejected" if n % 4 == 0 else "", due_at=now, next_try_at=now, deadline_at=now,
            message_id=f"0102-{n}-aaaaaaaaaaaaaaaa",
            created_at=old + timedelta(minutes=10 * n) if n < COUNT // 2 else now - timedelta(minutes=COUNT - n),
        )
        for n in range(COUNT)
    )  # fmt: skip


@pytest.fixture
def sam() -> User:
    return make_user("Support staff", "sam")


def asked(user: User, params: dict[str, Any]) -> EmailFilter:
    data = QueryDict(mutable=True)
    for name, value in params.items():
        data.setlist(name, value if isinstance(value, list) else [value])
    request = RequestFactory().get("/emails/")
    request.user = user
    found = EmailFilter(data, queryset=scope.emails_for(user), request=request)
    assert found.valid, found.form.errors
    return found


def walked(wanted: walk.Wanted, size: int, most: int = 10_000) -> list[int]:
    """All ids, from page to page, back in time."""
    seen: list[int] = []
    before = None
    for _page in range(most):
        found = walk.find(wanted, size, before)
        seen += found.ids
        before = found.older_than
        if before is None:
            return seen
    raise AssertionError("the pages have no end")


def combinations() -> Iterator[dict[str, str]]:
    for names in itertools.combinations(FILTERS, 2):
        yield {name: FILTERS[name][0] for name in names}
    for name, values in FILTERS.items():
        yield from ({name: value} for value in values)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(data=st.data())
def test_any_filters_find_exactly_what_fits_in_order_from_page_to_page(
    emails: list[Email], sam: User, data: st.DataObject
) -> None:
    names = data.draw(st.lists(st.sampled_from(list(FILTERS)), max_size=4, unique=True))
    params: dict[str, Any] = {name: data.draw(st.sampled_from(FILTERS[name])) for name in names}
    if "state" in params:
        params["state"] = data.draw(
            st.lists(st.sampled_from(FILTERS["state"]), min_size=1, max_size=4, unique=True)
        )
    filters = asked(sam, params)
    expected = list(filters.qs.order_by("-pk").values_list("pk", flat=True))
    size = data.draw(st.sampled_from([9, 50]))
    limits = {name: data.draw(st.sampled_from(sizes)) for name, sizes in LIMITS.items()}
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in limits.items():
            patch.setattr(walk, name, limit)
        assert walked(filters.wanted, size) == expected
        assert [pk for ids in walk.every(filters.wanted, size) for pk in ids] == expected


def test_pages_lead_back_to_the_newest_by_the_way_they_came(emails: list[Email], sam: User) -> None:
    wanted = asked(sam, {"role": "copy"}).wanted
    expected = list(Email.objects.filter(role="copy").order_by("-pk").values_list("pk", flat=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "SWEEP", 7)
        seen: list[int] = []
        after: int | None = expected[-1] - 1
        while after is not None:
            found = walk.find(wanted, 3, after=after)
            seen = [*found.ids, *seen]
            after = found.newer_than
    assert seen == expected


def test_a_walk_that_ended_early_says_where_and_goes_on_from_there(emails: list[Email], sam: User) -> None:
    wanted = asked(sam, {"template": "user_create"}).wanted
    wanted.rest &= Q(subject="never")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "SWEEP", 100)
        first = walk.find(wanted, 50)
        assert (first.ids, first.cut, first.older_than) == ([], emails[-1].pk - 100, emails[-1].pk - 99)
        last = walk.find(wanted, 50, before=emails[50].pk)
        assert (last.ids, last.cut, last.older_than) == ([], None, None)


@pytest.mark.parametrize("params", list(combinations()), ids=str)
def test_every_statement_of_a_list_uses_an_index_and_ends(
    emails: list[Email], sam: User, params: dict[str, Any]
) -> None:
    wanted = asked(sam, params).wanted
    with CaptureQueriesContext(connection) as queries:
        walk.find(wanted, 50)
        walk.find(wanted, 50, before=emails[100].pk)
        walk.find(wanted, 50, after=emails[100].pk)
    assert len(queries) < 60
    for sql in {query["sql"] for query in queries}:
        assert "LIMIT" in sql, sql
        assert "OFFSET" not in sql, sql
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN " + sql)
            names = [column[0] for column in cursor.description]
            plan = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        for step in plan:
            if step["table"] and not str(step["table"]).startswith("<derived"):
                assert step["type"] != "ALL", (sql, plan)
                assert step["key"], (sql, plan)
                assert "filesort" not in (step["Extra"] or ""), (sql, plan)


def test_the_newest_of_a_state_are_read_from_its_index(emails: list[Email]) -> None:
    with CaptureQueriesContext(connection) as queries:
        found = walk.newest("state", EmailState.FAILED, 3)
    assert found == list(
        Email.objects.filter(state="failed").order_by("-pk").values_list("pk", flat=True)[:3]
    )
    assert len(found) == 3
    assert "FORCE INDEX (`email_state`)" in queries[0]["sql"]


def test_djangos_admin_lists_the_newest_emails_of_a_state(emails: list[Email], admin_client: Client) -> None:
    shown = admin_client.get("/admin/emailoffload/email/?state=failed").context["cl"].result_list
    assert {row.state for row in shown} == {"failed"}
    assert [row.pk for row in shown] == walk.newest("state", EmailState.FAILED, 50)


def test_several_states_are_walked_each_by_itself(sam: User) -> None:
    way = walk.plan(asked(sam, {"state": ["failed", "bounced"]}).wanted)
    assert (way.index, len(way.legs), way.others) == ("email_state", 2, Q())


def test_the_filter_with_the_fewest_emails_drives(emails: list[Email], sam: User) -> None:
    Email.objects.filter(pk=emails[7].pk).update(company_id=9)
    assert walk.plan(asked(sam, {"company": "9", "state": "delivered"}).wanted).index == "email_company"
    Email.objects.filter(pk__in=[email.pk for email in emails[:30]]).update(company_id=9, state="cancelled")
    Email.objects.filter(pk=emails[40].pk).update(state="rejected")
    assert walk.plan(asked(sam, {"company": "9", "state": "rejected"}).wanted).index == "email_state"


def test_of_filters_with_many_emails_the_most_telling_one_drives(
    emails: list[Email], sam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "FEW", 3)
    params = {"company": "2", "state": "delivered", "course": "3"}
    assert walk.plan(asked(sam, params).wanted).index == "email_course"
    bea = make_user("Support staff", "bea")
    bind(bea, 2)
    # How far is looked may not depend on how many mails others have.
    assert walk.plan(asked(bea, params).wanted).index == "email_company"


def test_a_time_bounds_the_ids_that_are_looked_at(
    emails: list[Email], sam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "BEYOND", 5)
    params = {"since": "2026-03-01T05:00:00Z", "until": "2026-03-01T06:00:00Z"}
    way = walk.plan(asked(sam, params).wanted)
    fits = [email.pk for email in emails if email.created_at.hour == 5 and email.created_at.month == 3]
    assert way.low is not None
    assert way.high is not None
    assert way.low <= min(fits)
    assert way.high >= max(fits)
    assert way.high - way.low < 40


def test_a_clock_that_was_wrong_for_a_moment_hides_no_email(emails: list[Email], sam: User) -> None:
    moment = emails[60].created_at
    for number in (20, 90):
        Email.objects.filter(pk=emails[number].pk).update(created_at=moment)
    Email.objects.filter(pk=emails[30].pk).update(created_at=timezone.now())
    params = {
        "since": (moment - timedelta(minutes=1)).isoformat(),
        "until": (moment + timedelta(minutes=1)).isoformat(),
    }
    found = walk.find(asked(sam, params).wanted, 50)
    assert found.ids == [emails[90].pk, emails[60].pk, emails[20].pk]


def test_the_count_stops_at_its_cap_and_is_not_guessed_on_later_pages(
    emails: list[Email], sam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "COUNT_CAP", 20)
    wanted = asked(sam, {"role": "user"}).wanted
    first = walk.find(wanted, 10)
    assert first.count
    assert (first.count.value, first.count.more) == (20, True)
    assert walk.find(wanted, 10, before=first.older_than).count is None
    alone = asked(sam, {"user": "20001"}).wanted
    later = walk.find(alone, 10, before=walk.find(alone, 10).older_than).count
    assert later
    assert (later.value, later.more) == (20, True)


def test_filters_that_exclude_each_other_ask_the_database_nothing(
    sam: User, django_assert_num_queries: Any
) -> None:
    wanted = asked(sam, {"q": "20003", "user": "20002"}).wanted
    with django_assert_num_queries(0):
        assert walk.find(wanted, 10).ids == []
        assert list(walk.every(wanted, 10)) == []
