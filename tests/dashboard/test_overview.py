"""The overview's figures: they equal the rows, lead to lists with exactly as many, and cost the same at any size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client
from django.utils import timezone

from emailoffload.dashboard import funnel, overview, period
from emailoffload.dashboard.funnel import ACCEPTED, BESIDE, DELIVERED, GROUPS, Figure
from emailoffload.outbox.figures import CountSum, HourCount, LeftRow
from emailoffload.outbox.models import Claim, Email, Lease, Run, State
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import rollups
from tests.dashboard.conftest import SignIn, make_user
from tests.dashboard.factories import make_claim, make_day, make_email, make_row_error

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
NOW = datetime(2026, 3, 11, 14, 35, tzinfo=UTC)


def count() -> None:
    """Count all hours, as the worker does each minute."""
    assert not rollups.run(rebuild=True).more
    Run.objects.filter(kind="rollups").delete()
    Lease.objects.all().delete()


def make_left(**changes: Any) -> LeftRow:
    """A row of Moodle's that was due and left."""
    now = timezone.now()
    values: dict[str, Any] = {
        "source": "reengagement", "row_id": 100 + LeftRow.objects.count(), "due_at": now, "reason": "not_enrolled",
        "user_id": 15093, "activity_id": 12, "course_id": 67, "company_id": 3, "first_seen": now, "last_seen": now,
    }  # fmt: skip
    return LeftRow.objects.create(**values | changes)


def page(client: Client, address: str = "/") -> str:
    response = client.get(address)
    assert response.status_code == 200
    return response.content.decode()


def found(client: Client, address: str) -> int:
    """How many rows the list at this address says it has."""
    text = " ".join(re.sub(r"<[^>]*>", " ", page(client, unescape(address))).split())
    match = re.search(r"([\d,]+) (?:emails?|rows?) found", text)
    assert match, text[:2000]
    return int(match[1].replace(",", ""))


def figures(params: str = "", now: datetime | None = None) -> tuple[funnel.Funnel, period.Selection]:
    """The figures as somebody who sees everything gets them."""
    user = make_user("superuser", f"ada{Email.objects.count()}{params[:8]}")
    chosen = period.choose(QueryDict(params), user, now or timezone.now())
    return funnel.collect(chosen, may_see_left=True), chosen


def all_figures(shown: funnel.Funnel) -> Iterator[Figure]:
    yield from (*shown.steps, *shown.beside, *shown.reasons)


# --- the funnel ---


def test_the_figures_equal_the_rows() -> None:
    make_day()
    for reason in ("not_enrolled", "not_enrolled", "too_late"):
        make_left(reason=reason)
    make_claim(state=ClaimState.LOST, settled_at=timezone.now())
    count()
    shown, _chosen = figures()
    number = {figure.key: figure.number for figure in shown.steps}
    claimed = Claim.objects.filter(state=ClaimState.CLAIMED).count()
    assert number == {
        "due": claimed + 1 + 3,
        "claimed": claimed,
        "rendered": Email.objects.count(),
        "accepted": Email.objects.filter(state__in=ACCEPTED).count(),
        "delivered": Email.objects.filter(state__in=DELIVERED).count(),
    }
    for figure in shown.beside:
        assert figure.number == Email.objects.filter(state=figure.key).count() > 0
    assert [figure.number for figure in shown.reasons] == [3, 2, 1, 1]
    assert shown.mails.number == sum(row.total.number for row in shown.time.rows)


def test_each_state_is_in_one_group_of_the_charts_and_has_a_place_in_the_figures() -> None:
    grouped = [state for _label, states in GROUPS.values() for state in states]
    assert sorted(grouped) == sorted(EmailState)
    assert {state for state, _note in BESIDE} | {*ACCEPTED} == {*EmailState}


@pytest.mark.parametrize(
    "narrowed", ["", "&source=iomad_queue", "&company=3", "&source=iomad_queue&company=5"]
)
def test_each_figure_leads_to_a_list_with_exactly_that_many_rows(support: Client, narrowed: str) -> None:
    make_day()
    other = make_claim(source="iomad_queue", template="user_create", company_id=5, company_name="Southwind")
    for state in (EmailState.DELIVERED, EmailState.FAILED, EmailState.FAILED):
        make_email(state, other)
    make_email(EmailState.BOUNCED, created_at=timezone.now() - timedelta(days=3))
    make_left()
    make_left(source="iomad_queue", company_id=5, reason="too_late")
    make_left(first_seen=timezone.now() - timedelta(days=3))
    make_claim(state=ClaimState.LOST)
    count()
    shown, _chosen = figures("when=24h" + narrowed)
    checked = 0
    for figure in all_figures(shown):
        if figure.address and figure.key != "claimed":
            assert found(support, figure.address) == figure.number, figure
            checked += 1
    for chart in (shown.time, shown.sources, shown.companies):
        for row in chart.rows if chart else ():
            for cell in (row.total, *row.cells):
                assert bool(cell.address) == bool(cell.number)
                if cell.address:
                    assert found(support, cell.address) == cell.number
                    checked += 1
    assert checked > 5


def test_a_claimed_row_leads_to_its_mails_and_says_so(support: Client) -> None:
    claim = make_claim()
    make_email(EmailState.DELIVERED, claim)
    make_email(EmailState.DELIVERED, claim, role="manager")
    count()
    shown, _chosen = figures()
    claimed = next(figure for figure in shown.steps if figure.key == "claimed")
    assert (claimed.number, found(support, claimed.address)) == (1, 2)
    assert "the link shows their mails" in claimed.note


@pytest.mark.parametrize(
    ("number", "whole", "share"),
    [(0, 3, "0 %"), (1, 3, "33 %"), (3, 3, "100 %"), (1, 100_000, "0.1 %"), (99_999, 100_000, "99.9 %"), (5, 0, ""),
     (2, 300, "0.7 %")],
)  # fmt: skip
def test_something_is_never_nothing_and_not_all_is_never_all(number: int, whole: int, share: str) -> None:
    assert Figure("x", "x", number, whole, "").share == share


def test_an_empty_period_says_what_to_do_and_not_zeros(support: Client, bound: Client) -> None:
    count()
    assert "No email was rendered in this period" in page(support)
    assert "Choose a longer period" in page(support, "/?source=iomad_queue")
    own = page(bound)
    assert "No email of your companies was rendered in this period" in own
    assert "Mails by time" not in own


def test_people_of_companies_see_figures_of_those_only(bound: Client) -> None:
    for _number in range(3):
        make_email(EmailState.DELIVERED, make_claim(company_id=3))
    for _number in range(40):
        make_email(EmailState.FAILED, make_claim(company_id=5, company_name="Foreign Ltd"))
    make_left(company_id=5, reason="too_late")
    count()
    text = page(bound)
    assert "Foreign" not in text and ">40<" not in text and "43" not in re.sub(r"<[^>]*>", "", text)
    assert re.search(r">3<span class=\"hidden\"> Delivered", text)
    assert "Quota" not in text and text.count('class="card health') == 1
    foreign = page(bound, "/?company=5")
    assert "Foreign" not in foreign and "No email of this selection" in foreign


def test_the_figures_are_of_the_hours_of_the_period_and_of_no_other() -> None:
    for hours in (0, 22, 25, 24 * 6, 24 * 8):
        make_email(created_at=timezone.now() - timedelta(hours=hours))
    count()
    assert figures("when=24h")[0].mails.number == 2
    assert figures("when=30d")[0].mails.number == 5


# --- fresh or stale ---


def test_how_fresh_the_figures_are_is_said_plainly(support: Client) -> None:
    make_email()
    assert "Nothing has been counted yet" in page(support)
    count()
    assert "Figures as of <time" in page(support)
    long_ago = (timezone.now() - timedelta(minutes=20)).isoformat()
    State.objects.filter(name="rollups").update(value={"until": long_ago})
    assert "These figures are old: nothing has been counted since" in page(support)
    State.objects.filter(name="rollups").update(
        value={"until": timezone.now().isoformat(), "from": timezone.now().isoformat()}
    )
    assert "Older mails are still being counted" in page(support)


# --- live updates ---


def test_a_live_update_is_the_part_that_changes_with_the_line_of_health(support: Client) -> None:
    whole = page(support)
    assert 'hx-trigger="every 30s"' in whole and "hx-swap-oob" not in whole
    part = support.get("/?when=7d", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in part and '<div id="verdict" hx-swap-oob="innerHTML">' in part
    assert 'id="health-cards"' in part and "The last 7 days" in part


def test_only_the_line_of_health_is_read_aloud(support: Client) -> None:
    text = page(support)
    assert re.findall(r'<(\w+) id="([\w-]+)"[^>]*aria-live', text) == [("div", "verdict")]
    inside = text[text.index('<div id="live"') :]
    assert 'role="status"' not in inside and "aria-live" not in inside


# --- costs ---


def test_the_overview_costs_the_same_whatever_the_tables_hold(
    support: Client, django_assert_max_num_queries: Any
) -> None:
    make_day()
    count()
    support.get("/")
    with django_assert_max_num_queries(42) as first:
        support.get("/?when=30d")
    make_day()
    make_day()
    count()
    with django_assert_max_num_queries(len(first)):
        support.get("/?when=30d")
    large = [
        query["sql"]
        for query in first
        if re.search(r"FROM .emailoffload_(email|claim|leftrow).", query["sql"])
    ]
    unbounded = [sql for sql in large if "LIMIT" not in sql and "`id` IN (" not in sql]
    assert large and unbounded == [], "figures come from hourly counts only"


# --- periods ---


@pytest.mark.parametrize(
    ("params", "name", "start", "end", "by"),
    [
        ("", "24h", (2026, 3, 10, 15), (2026, 3, 11, 15), "hour"),
        ("when=today", "today", (2026, 3, 11, 0), (2026, 3, 11, 15), "hour"),
        ("when=7d", "7d", (2026, 3, 5, 0), (2026, 3, 11, 15), "day"),
        ("when=30d", "30d", (2026, 2, 10, 0), (2026, 3, 11, 15), "day"),
        ("date_from=2026-03-01&date_to=2026-03-02", "own", (2026, 3, 1, 0), (2026, 3, 3, 0), "hour"),
        ("date_from=2026-03-09", "own", (2026, 3, 9, 0), (2026, 3, 12, 0), "day"),
        ("date_to=2026-03-09", "own", (2026, 3, 9, 0), (2026, 3, 10, 0), "hour"),
        ("when=nonsense", "24h", (2026, 3, 10, 15), (2026, 3, 11, 15), "hour"),
    ],
)
def test_a_period_is_made_of_whole_hours_in_the_sites_days(
    params: str, name: str, start: Any, end: Any, by: str
) -> None:
    chosen = period.choose(QueryDict(params), make_user("superuser", "ada"), NOW)
    found = chosen.period
    assert (found.name, found.start, found.end, found.by) == (
        name, datetime(*start, tzinfo=UTC), datetime(*end, tzinfo=UTC), by,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ("date_from=2026-03-05&date_to=2026-03-01", "The last day lies before the first one."),
        ("date_from=2020-01-01&date_to=2026-01-01", "Choose at most 366 days."),
        ("date_from=0001-01-01", "Enter a day of this century."),
        ("date_from=tomorrow", "Enter a valid date."),
        ("source=' OR 1", "Select a valid choice"),
    ],
)
def test_a_period_that_cannot_be_is_said_and_the_last_day_is_shown(
    support: Client, params: str, words: str
) -> None:
    text = page(support, f"/?{params}")
    assert words in text and "The last 24 hours" in text


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_days_on_which_clocks_change_have_their_hours_and_no_two_the_same_name(day: str, hours: int) -> None:
    with timezone.override("Europe/Berlin"):
        shown, chosen = figures(f"date_from={day}&date_to={day}", now=NOW.replace(year=2027))
    assert chosen.period.end - chosen.period.start == timedelta(hours=hours)
    assert len(shown.time.rows) == hours == len({row.item.label for row in shown.time.rows})


def test_steps_of_days_cover_the_period_without_gap_where_clocks_change(support: Client) -> None:
    user = make_user("superuser", "ada")
    for zone in ("Europe/Berlin", "Asia/Kolkata", "America/New_York"):
        with timezone.override(zone):
            HourCount.objects.all().delete()
            CountSum.objects.all().delete()
            params = QueryDict("date_from=2026-10-20&date_to=2026-11-05")
            chosen = period.choose(params, user, NOW.replace(year=2027))
            hour = chosen.period.start
            while hour < chosen.period.end:
                what = {"kind": "email", "source": "reengagement", "key": "delivered", "number": 1}
                HourCount.objects.create(hour=hour, **what)
                CountSum.objects.create(unit="hour", begins=hour, **what)
                hour += timedelta(hours=1)
            rows = funnel.collect(chosen, may_see_left=True).time.rows
            spans = [re.findall(r"(?:since|until)=([^&]+)", unescape(row.total.address)) for row in rows]
            assert [end for _start, end in spans[:-1]] == [start for start, _end in spans[1:]]
            assert (spans[0][0], spans[-1][1]) == tuple(
                period.moment(at).replace(":", "%3A") for at in (chosen.period.start, chosen.period.end)
            )
            assert len(rows) == 17 and sum(row.total.number for row in rows) == HourCount.objects.count()


def test_a_long_period_has_a_column_for_several_days_together() -> None:
    shown, _chosen = figures("date_from=2025-03-11&date_to=2026-03-11", now=NOW)
    assert 50 < len(shown.time.rows) <= funnel.MOST_STEPS
    assert " to " in shown.time.rows[0].item.label


def test_the_overview_without_htmx_and_with_it_is_kept_by_no_cache(sign_in: SignIn) -> None:
    client = sign_in("Support staff")
    for headers in ({}, {"HX-Request": "true"}):
        assert "no-store" in client.get("/", headers=headers).headers["Cache-Control"]


def test_collect_is_asked_once_for_a_page(support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = overview.collect
    monkeypatch.setattr(overview, "collect", lambda *given: asked.append(given) or real(*given))
    page(support)
    assert len(asked) == 1


def test_claims_that_are_stuck_on_their_way_back_are_named_with_their_mails(support: Client) -> None:
    stuck = make_claim(state=ClaimState.RELEASING, settled_at=timezone.now() - timedelta(hours=2))
    mail = make_email(EmailState.QUEUED, stuck)
    assert f'href="/emails/{mail.pk}/">email {mail.pk}</a>' in page(support)


def test_a_list_of_rows_that_is_cut_says_so(support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "LISTED", 2)
    for number in range(2):
        make_row_error(row_id=number)
    assert "The newest 2 are shown" not in page(support)
    make_row_error(row_id=9)
    assert "The newest 2 are shown" in page(support)
