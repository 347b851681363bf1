"""Each event counts once, whenever it finds its mail; rates are those of SES's windows; a stop is remembered."""

from __future__ import annotations

import io
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import strategies as st

from emailoffload.actions import reputation as actions
from emailoffload.actions.diagnosis import reputation as doctor
from emailoffload.feedback import claimstop, inbox, rates, reputation, testmail
from emailoffload.feedback.models import Event, ReputationHour
from emailoffload.feedback.rates import Rate
from emailoffload.outbox.models import AuditEntry, State
from tests.feedback import samples
from tests.outbox.factory import queue_email, queue_emails
from tests.processes import on_sqlite

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def hours() -> set[tuple[Any, ...]]:
    """All that is counted, without rows that hold nothing."""
    rows = ReputationHour.objects.values_list("hour", "identity", "company_id", *reputation.COLUMNS)
    return {row for row in rows if any(row[3:])}


def hour(
    ago: timedelta = timedelta(), *, identity: str = "learn.example.org", company: int = 0, **counts: int
) -> None:
    at = (NOW - ago).replace(minute=0)
    ReputationHour.objects.create(hour=at, identity=identity, company_id=company, **counts)


def bounce(permanent: bool = True, **changes: Any) -> Any:
    kind = "Permanent" if permanent else "Transient"
    return samples.event("Bounce", detail={"bounceType": kind, "bounceSubType": "General"}, **changes)


def message(shape: Any) -> inbox.Message:
    return inbox.Message(samples.body(shape))


# --- counting ---


@pytest.mark.parametrize(
    ("type_", "kind", "subkind", "column"),
    [
        ("send", "", "", "sends"),
        ("delivery", "", "", "deliveries"),
        ("bounce", "permanent", "General", "permanent_bounces"),
        ("bounce", "permanent", "Suppressed", "permanent_bounces"),
        ("bounce", "permanent", "OnAccountSuppressionList", ""),
        ("bounce", "transient", "MailboxFull", "transient_bounces"),
        ("bounce", "undetermined", "", "transient_bounces"),
        ("complaint", "abuse", "", "complaints"),
        ("complaint", "", "OnAccountSuppressionList", ""),
        ("reject", "", "", "rejects"),
        ("open", "", "", ""),
        ("delivery_delay", "", "", ""),
    ],
)
def test_what_each_event_counts_as(type_: str, kind: str, subkind: str, column: str) -> None:
    assert reputation.column_of(type_, kind, subkind) == column


def test_an_event_that_came_before_its_mail_is_given_to_the_mails_company_later() -> None:
    email = queue_email(email={"state": "accepted", "company_id": 7})
    ref, address = email.ref.hex, email.address
    email.delete()
    inbox.receive([message(samples.event("Send", ref=ref, to=address)), message(bounce(ref=ref, to=address))])
    assert {row[2] for row in hours()} == {0}
    back = queue_email(email={"state": "accepted", "company_id": 7, "address": address, "ref": ref})
    inbox.look_again(now=timezone.now() + timedelta(hours=1))
    assert set(Event.objects.values_list("email_id", flat=True)) == {back.pk}
    assert {row[2:] for row in hours()} == {(7, 1, 0, 1, 0, 0, 0)}
    counted = hours()
    reputation.rebuild(samples.AT)
    assert hours() == counted


def test_the_doctors_test_mails_count_for_nothing_in_a_recount_either() -> None:
    inbox.receive([message(bounce(ref=testmail.new_ref()))])
    assert Event.objects.count() == 1
    assert reputation.rebuild(samples.AT) == 0
    assert hours() == set()


EVENTS = st.tuples(
    st.sampled_from(["Send", "Delivery", "Complaint", "Reject", "Open", "hard", "soft"]),
    st.integers(0, 3),
    st.integers(0, 90),
)


@hypothesis.settings(
    max_examples=15, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(st.lists(EVENTS, min_size=1, max_size=12), st.integers(1, 4))
def test_what_is_counted_as_it_arrives_is_what_a_recount_finds(history: list[Any], size: int) -> None:
    with transaction.atomic():
        mails = [queue_email(email={"state": "accepted", "company_id": company}) for company in (None, 3, 4)]
        shapes = []
        for name, whose, minutes in history:
            at = samples.AT + timedelta(minutes=minutes)
            ref = mails[whose].ref.hex if whose < 3 else None
            if name in ("hard", "soft"):
                shapes.append(bounce(name == "hard", ref=ref, at=at))
            else:
                shapes.append(samples.event(name, ref=ref, at=at))
        for start in range(0, len(shapes), size):
            inbox.receive([message(shape) for shape in shapes[start : start + size]])
        counted = hours()
        reputation.rebuild(samples.AT)
        assert hours() == counted
        transaction.set_rollback(True)


@pytest.mark.django_db(transaction=True)
@pytest.mark.mariadb
def test_those_who_count_and_recount_at_once_lose_nothing_and_count_nothing_twice() -> None:
    mails = queue_emails(30, email={"state": "accepted", "company_id": 5})
    errors: list[BaseException] = []

    def work(part: list[Any]) -> None:
        try:
            for email in part:
                inbox.receive([message(bounce(ref=email.ref.hex, to=email.address))])
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=[mails[number::3]]) for number in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        reputation.rebuild(samples.AT)
    for thread in threads:
        thread.join()
    assert not errors
    assert {row[2:] for row in hours()} == {(5, 0, 0, 30, 0, 0, 0)}


def test_on_sqlite_counting_adds_and_a_recount_agrees(tmp_path: Path) -> None:
    script = """
import django; django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from emailoffload.feedback import inbox, rates, reputation
from tests.feedback import samples
for number in range(3):
    inbox.receive([inbox.Message(samples.body(samples.event("Send", message_id=f"m{number}", ref=None)))])
print(reputation.rebuild(samples.AT), *(rate.sends for rate in rates.rates(samples.AT)))
"""
    assert on_sqlite(script, tmp_path).stdout.split() == ["1", "3", "3", "3", "3"]


def test_hours_that_are_not_kept_any_more_are_deleted_and_the_others_stay() -> None:
    hour(timedelta(days=91), sends=1)
    hour(timedelta(days=89), sends=2)
    assert reputation.prune(NOW) == 1
    assert [row[3] for row in hours()] == [2]


# --- rates ---


def account(window: str = "volume") -> Rate:
    return next(each for each in rates.rates(NOW) if each.scope == "account" and each.window == window)


def test_the_window_is_the_newest_whole_hours_that_hold_the_volume_or_fourteen_days(settings: Any) -> None:
    settings.REPUTATION_VOLUME = 100
    hour(timedelta(days=15), sends=1000, permanent_bounces=900)
    hour(timedelta(days=13), sends=60, permanent_bounces=1)
    assert (account().mails, account("day").mails) == (60, 0)
    hour(timedelta(days=2), sends=70, company=1)
    hour(timedelta(days=2), sends=20, company=2)
    hour(timedelta(hours=2), sends=5)
    assert (account().mails, account("day").mails) == (155, 5)
    hour(timedelta(hours=3), sends=10)
    assert (account().mails, account().permanent_bounces) == (105, 0)


def test_where_sends_are_not_reported_rates_are_taken_of_the_mails_that_had_an_end() -> None:
    hour(deliveries=90, permanent_bounces=10)
    assert (account().mails, account().bounces) == (100, 0.1)


@pytest.mark.parametrize(
    ("mails", "bounces", "complaints", "level", "of_day"),
    [
        (199, 199, 0, "few", "few"),
        (200, 2, 2, "good", "good"),
        (1000, 24, 0, "good", "good"),
        (1000, 25, 0, "warning", "warning"),
        (1000, 79, 0, "warning", "warning"),
        (1000, 80, 0, "stop", "warning"),
        (6000, 0, 2, "good", "good"),
        (6000, 0, 3, "warning", "warning"),
        (1000, 0, 3, "warning", "warning"),
        (1000, 0, 4, "stop", "warning"),
    ],
)
def test_levels_are_shares_of_what_ses_reviews_and_pauses_for(
    mails: int, bounces: int, complaints: int, level: str, of_day: str
) -> None:
    counts: dict[str, int] = {"sends": mails, "permanent_bounces": bounces, "complaints": complaints}
    assert Rate("account", "", "volume", NOW, **counts).level == level
    assert Rate("account", "", "day", NOW, **counts).level == of_day


def test_no_rate_stops_claims_where_the_site_says_so(settings: Any) -> None:
    settings.REPUTATION_STOP_PERCENT = 0
    assert Rate("account", "", "volume", NOW, sends=1000, permanent_bounces=900).level == "warning"


def test_each_domain_and_company_has_rates_of_its_own_and_people_of_a_company_get_only_theirs() -> None:
    hour(identity="a.example", company=1, sends=10)
    hour(identity="b.example", company=2, sends=20)
    found = {(each.scope, each.key): each.mails for each in rates.rates(NOW) if each.window == "volume"}
    assert found == {
        ("account", ""): 30, ("identity", "a.example"): 10, ("identity", "b.example"): 20, ("company", "1"): 10,
        ("company", "2"): 20,
    }  # fmt: skip
    assert {(each.scope, each.key) for each in rates.rates(NOW, [2])} == {("company", "2")}


# --- the stop ---


def test_a_stop_lasts_until_the_rate_is_well_below_what_it_began_at() -> None:
    def of(bounces: int) -> set[Any]:
        return claimstop.judge(
            [Rate("account", "", "volume", NOW, sends=1000, permanent_bounces=bounces)], NOW
        )

    assert [bool(of(number)) for number in (79, 80, 79, 72, 71, 79)] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]


def test_what_was_judged_long_ago_is_judged_anew_by_whoever_claims() -> None:
    hour(sends=1000, permanent_bounces=100, company=3)
    assert claimstop.stops(NOW) == claimstop.Stops(True, frozenset({"learn.example.org"}), frozenset({3}))
    ReputationHour.objects.all().delete()
    assert claimstop.stops(NOW + timedelta(minutes=9)).account
    assert not claimstop.stops(NOW + timedelta(minutes=11)).any


def test_a_page_that_asks_writes_nothing() -> None:
    hour(sends=1000, permanent_bounces=100)
    assert not claimstop.known(NOW).any
    assert not State.objects.filter(name=claimstop.NAME).exists()


def test_a_person_lets_claiming_go_on_for_a_while_on_record() -> None:
    now = timezone.now()
    claimstop.judge([Rate("account", "", "volume", now, sends=1000, permanent_bounces=100)], now)
    granted = actions.override(timedelta(hours=4), actor="ann", reason="addresses are corrected")
    assert (claimstop.stops().any, claimstop.stops().override) == (False, granted)
    assert claimstop.known(granted.until).account
    actions.end_override(actor="ann", reason="it got worse")
    assert claimstop.stops().account
    entries = list(AuditEntry.objects.order_by("pk").values_list("actor", "action", "reason"))
    assert entries == [
        ("ann", "override_reputation", "addresses are corrected"),
        ("ann", "end_override_reputation", "it got worse"),
    ]


@pytest.mark.parametrize(
    ("lasting", "reason"), [(timedelta(days=8), "x"), (timedelta(), "x"), (timedelta(1), " ")]
)
def test_an_override_needs_a_reason_and_an_end(lasting: timedelta, reason: str) -> None:
    with pytest.raises(ValueError, match=r"reason|days"):
        actions.override(lasting, actor="ann", reason=reason)
    assert not State.objects.filter(name=claimstop.OVERRIDE).exists()


def test_the_doctor_says_how_near_the_rates_are_and_whose_word_is_in_force() -> None:
    now = timezone.now()

    def found(bounces: int) -> str:
        ReputationHour.objects.all().delete()
        at = now.replace(minute=0, second=0, microsecond=0)
        ReputationHour.objects.create(hour=at, sends=1000, permanent_bounces=bounces)
        claimstop.judge(rates.rates(now), now)
        return doctor.standing()[0]

    assert doctor.standing()[0] == "ok"
    assert [found(number) for number in (0, 30, 90)] == ["ok", "warning", "problem"]
    actions.override(timedelta(hours=1), actor="ann", reason="corrected")
    assert doctor.standing()[0] == "warning"


def test_the_command_shows_the_rates_and_exits_1_where_one_is_too_high() -> None:
    out = io.StringIO()
    inbox.receive([message(samples.event("Send", ref=None, at=timezone.now()))])
    ReputationHour.objects.all().delete()
    call_command("reputation", "--rebuild", "--json", stdout=out)
    first = json.loads(out.getvalue())
    assert first["rates"][0]["sends"] == 1 and first["rates"][0]["level"] == "few"
    ReputationHour.objects.update(sends=1000, permanent_bounces=30)
    with pytest.raises(SystemExit) as stopped:
        call_command("reputation", stdout=out)
    assert stopped.value.code == 1
    assert "The whole account" in out.getvalue() and "3.00 % bounced for good (30)" in out.getvalue()
