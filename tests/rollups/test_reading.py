"""Figures read from the counts: periods, days of every zone, sources, companies."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone
from hypothesis import given, settings
from hypothesis.extra.django import TestCase
from hypothesis.strategies import integers, sampled_from, timedeltas

from emailoffload.outbox import rollups
from emailoffload.outbox.figures import EMAILS, LEFT, CountSum, HourCount

HOUR = timedelta(hours=1)
BERLIN, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")


def at(text: str, zone: ZoneInfo | None = None) -> datetime:
    """A moment, of UTC unless said otherwise."""
    return datetime.fromisoformat(text).replace(tzinfo=zone or UTC)


def counts(
    hour: datetime, number: int, key: str = "delivered", *, kind: str = EMAILS, source: str = "reengagement",
    company: int = 3,
) -> None:  # fmt: skip
    """One row of counts, and the sums that it is part of."""
    HourCount.objects.create(kind=kind, hour=hour, source=source, company_id=company, key=key, number=number)
    for unit, begins, of in ("hour", hour, 0), ("day", hour.replace(hour=0), company):
        row, _ = CountSum.objects.get_or_create(
            kind=kind, unit=unit, begins=begins, source=source, company_id=of, key=key, defaults={"number": 0}
        )
        CountSum.objects.filter(pk=row.pk).update(number=row.number + number)


@pytest.mark.django_db
class TestFigures:
    @pytest.fixture(autouse=True)
    def rows(self) -> None:
        counts(at("2026-03-02 08:00"), 5)
        counts(at("2026-03-02 08:00"), 2, "bounced")
        counts(at("2026-03-02 09:00"), 4, source="iomad_queue", company=7)
        counts(at("2026-03-02 11:00"), 1, company=0)
        counts(at("2026-03-02 08:00"), 9, "too_late", kind=LEFT)

    def test_totals_are_those_of_the_kind_the_period_the_companies_and_the_source(self) -> None:
        day = at("2026-03-02 00:00"), at("2026-03-03 00:00")
        assert rollups.totals(EMAILS, *day) == {"delivered": 10, "bounced": 2}
        assert rollups.totals(LEFT, *day) == {"too_late": 9}
        assert rollups.totals(EMAILS, *day, source="iomad_queue") == {"delivered": 4}
        assert rollups.totals(EMAILS, *day, companies={7, 0}) == {"delivered": 5}
        assert rollups.totals(EMAILS, *day, companies=frozenset()) == {}
        assert rollups.totals("claim", *day) == {}

    def test_a_period_is_half_open(self) -> None:
        assert rollups.totals(EMAILS, at("2026-03-02 09:00"), at("2026-03-02 11:00")) == {"delivered": 4}

    def test_an_hour_belongs_to_the_period_in_which_it_begins(self) -> None:
        until_now = at("2026-03-02 08:20"), at("2026-03-02 11:10")
        assert rollups.totals(EMAILS, *until_now) == {"delivered": 5}
        assert rollups.whole_hours(*until_now) == (at("2026-03-02 09:00"), at("2026-03-02 12:00"))

    def test_a_series_has_every_step_also_the_empty_ones(self) -> None:
        assert rollups.series(EMAILS, at("2026-03-02 07:30"), at("2026-03-02 12:00")) == [
            (at("2026-03-02 08:00"), {"delivered": 5, "bounced": 2}),
            (at("2026-03-02 09:00"), {"delivered": 4}),
            (at("2026-03-02 10:00"), {}),
            (at("2026-03-02 11:00"), {"delivered": 1}),
        ]

    def test_a_series_of_an_empty_period_has_no_steps(self) -> None:
        same = at("2026-03-02 08:00")
        assert rollups.series(EMAILS, same, same) == rollups.series(EMAILS, same, same, by="day") == []

    def test_sources_and_companies_each_with_their_keys(self) -> None:
        day = at("2026-03-02 00:00"), at("2026-03-03 00:00")
        assert rollups.by_source(EMAILS, *day) == {
            "iomad_queue": {"delivered": 4},
            "reengagement": {"delivered": 6, "bounced": 2},
        }
        assert rollups.by_source(EMAILS, *day, companies={7}) == {"iomad_queue": {"delivered": 4}}
        largest_first = [(3, {"delivered": 5, "bounced": 2}), (7, {"delivered": 4}), (0, {"delivered": 1})]
        assert rollups.by_company(EMAILS, *day) == largest_first
        assert rollups.by_company(EMAILS, *day, most=2) == largest_first[:2]
        assert rollups.by_company(EMAILS, *day, companies={7}) == largest_first[1:2]

    def test_without_a_pass_nothing_is_said_about_how_fresh_they_are(self) -> None:
        assert rollups.counted_until() is None and rollups.counted_from() is None


@pytest.mark.django_db
class TestDays:
    def test_days_are_those_of_the_zone_with_23_and_25_hours(self) -> None:
        for hour in range(24 * 8):
            counts(at("2026-03-27 00:00") + hour * HOUR, 1)
        with timezone.override(BERLIN):
            spring = rollups.series(
                EMAILS, at("2026-03-28 00:00", BERLIN), at("2026-03-31 00:00", BERLIN), by="day"
            )
        assert [(step.isoformat(), found["delivered"]) for step, found in spring] == [
            ("2026-03-28T00:00:00+01:00", 24),
            ("2026-03-29T00:00:00+01:00", 23),
            ("2026-03-30T00:00:00+02:00", 24),
        ]

    def test_in_autumn_a_day_has_25_hours(self) -> None:
        for hour in range(24 * 4):
            counts(at("2026-10-24 00:00") + hour * HOUR, 1)
        with timezone.override(BERLIN):
            found = rollups.series(
                EMAILS, at("2026-10-25 00:00", BERLIN), at("2026-10-26 00:00", BERLIN), by="day"
            )
        assert [counted["delivered"] for _, counted in found] == [25]

    def test_where_clocks_jump_over_midnight_the_day_begins_after_the_jump(self) -> None:
        zone = ZoneInfo("America/Santiago")  # 2026-09-06 has no 0:00
        with timezone.override(zone):
            found = rollups.series(EMAILS, at("2026-09-05 12:00"), at("2026-09-07 12:00"), by="day")
        assert [step.isoformat() for step, _ in found] == [
            "2026-09-05T00:00:00-04:00",
            "2026-09-06T01:00:00-03:00",
            "2026-09-07T00:00:00-03:00",
        ]

    def test_half_an_hour_off_utc_a_day_begins_with_the_first_whole_hour_of_utc(self) -> None:
        counts(at("2026-03-01 18:00"), 1, "delivered")  # 23:30 in Kolkata
        counts(at("2026-03-01 19:00"), 1, "bounced")  # 0:30
        with timezone.override(KOLKATA):
            found = rollups.series(
                EMAILS, at("2026-03-01 00:00", KOLKATA), at("2026-03-03 00:00", KOLKATA), by="day"
            )
        assert [counted for _, counted in found] == [{"delivered": 1}, {"bounced": 1}]
        midnight = at("2026-03-02 00:00", KOLKATA)
        assert rollups.whole_hours(midnight, midnight)[0] == at("2026-03-01 19:00")

    def test_the_first_and_the_last_day_may_be_cut(self) -> None:
        for hour in range(48):
            counts(at("2026-03-02 00:00") + hour * HOUR, 1)
        found = rollups.series(EMAILS, at("2026-03-02 20:00"), at("2026-03-03 03:00"), by="day")
        assert [(step, counted["delivered"]) for step, counted in found] == [
            (at("2026-03-02 00:00"), 4),
            (at("2026-03-03 00:00"), 3),
        ]


ZONES = ["Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/Santiago", "Asia/Kathmandu"]


class TestAnyPeriod(TestCase):
    @given(minutes=integers(0, 2 * 365 * 24 * 60), length=timedeltas(timedelta(0), timedelta(days=4)),
           split=integers(0, 100), zone=sampled_from(ZONES))  # fmt: skip
    @settings(max_examples=25, deadline=None)
    def test_steps_and_parts_of_a_period_come_to_the_whole(
        self, minutes: int, length: timedelta, split: int, zone: str
    ) -> None:
        start = at("2025-01-01 00:00", ZoneInfo(zone)) + timedelta(minutes=minutes)
        end = (start.astimezone(UTC) + length).astimezone(start.tzinfo)
        begins = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        hours = [begins + n * HOUR for n in range(-2, 24 * 5)]
        kept: dict[str, Any] = {"kind": EMAILS, "source": "reengagement", "key": "sent", "number": 1}
        HourCount.objects.bulk_create(HourCount(hour=hour, company_id=1, **kept) for hour in hours)
        CountSum.objects.bulk_create(CountSum(unit="hour", begins=hour, **kept) for hour in hours)
        days = Counter(hour.replace(hour=0) for hour in hours)
        CountSum.objects.bulk_create(
            CountSum(unit="day", begins=day, company_id=1, **kept | {"number": n}) for day, n in days.items()
        )
        middle = start.astimezone(UTC) + length * split / 100
        whole = rollups.totals(EMAILS, start, end).get("sent", 0)
        parts = [rollups.totals(EMAILS, start, middle), rollups.totals(EMAILS, middle, end)]
        assert sum(part.get("sent", 0) for part in parts) == whole
        with timezone.override(ZoneInfo(zone)):
            for companies in (None, {1}):
                assert rollups.totals(EMAILS, start, end, companies=companies).get("sent", 0) == whole
                of_one = rollups.by_company(EMAILS, start, end, companies=companies)
                assert of_one == ([(1, {"sent": whole})] if whole else [])
            for by, companies in product(("hour", "day"), (None, {1})):
                found = rollups.series(EMAILS, start, end, by=by, companies=companies)  # type: ignore[arg-type]
                assert sum(counted.get("sent", 0) for _, counted in found) == whole
                steps = [step for step, _ in found]
                assert steps == sorted(set(steps))
