"""`/metrics`: what it says is what our database says, it costs little, and it names nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from emailoffload.delivery import rate, ses
from emailoffload.feedback import alarms as alarm_state
from emailoffload.feedback import queuestate
from emailoffload.feedback.models import ReputationHour
from emailoffload.feedback.rates import account_rates, rates
from emailoffload.monitoring import families, metrics, reachable, sections
from emailoffload.outbox import shared, switches
from emailoffload.outbox.models import Lease, RowError
from emailoffload.outbox.states import EmailState
from emailoffload.worker import alarm_conditions, rollups, runs
from tests.dashboard.factories import make_email, make_run, make_suppression
from tests.queries import counted

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"])]
DOCS = Path(__file__).resolve().parents[2] / "docs"
Read = dict[str, dict[tuple[str, ...], float]]


def scrape(client: Client, **headers: Any) -> Read:
    """Values by metric and labels, as Prometheus's own parser reads them."""
    metrics.forget()
    response = client.get("/metrics", **headers)
    assert response.status_code == 200
    found: Read = {}
    for family in text_string_to_metric_families(response.content.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.values()))] = sample.value
    return found


def one(found: Read, name: str, *labels: str) -> float:
    """One value, by the values of its labels."""
    return found[f"email_offload_{name}"][tuple(sorted(labels))]


def test_what_waits_is_counted_by_state_and_the_oldest_due_mail_says_how_late_it_is(machine: Client) -> None:
    make_email(EmailState.QUEUED)
    make_email(EmailState.QUEUED, due_at=timezone.now() - timedelta(minutes=7))
    make_email(EmailState.FAILED)
    make_email(EmailState.DELIVERED)
    found = scrape(machine)
    assert one(found, "outbox_emails", "queued") == 2
    assert one(found, "outbox_emails", "failed") == 1
    assert one(found, "outbox_emails", "uncertain") == 0
    assert ("delivered",) not in found["email_offload_outbox_emails"]
    assert 420 <= one(found, "outbox_oldest_due_age_seconds") < 480


def test_a_mail_that_is_due_later_is_not_late(machine: Client) -> None:
    make_email(EmailState.QUEUED)
    assert one(scrape(machine), "outbox_oldest_due_age_seconds") == 0


def test_counting_stops_at_its_bound(machine: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sections.WAITING, EmailState.QUEUED, 2)
    for _ in range(4):
        make_email(EmailState.QUEUED)
    assert one(scrape(machine), "outbox_emails", "queued") == 2


def test_totals_only_grow_whatever_becomes_of_the_mails_and_days_tell_what_they_are_now(
    machine: Client,
) -> None:
    email = make_email(EmailState.QUEUED)
    make_email(EmailState.DELIVERED)
    rollups.run()
    before = scrape(machine)
    assert one(before, "emails_created_total", "reengagement") == 2
    assert one(before, "claims_created_total", "reengagement") == 2
    assert one(before, "emails_day", "reengagement", "queued") == 1
    email.state = EmailState.ACCEPTED
    email.save()
    make_email(EmailState.BOUNCED)
    rollups.run(rebuild=True)
    after = scrape(machine)
    assert one(after, "emails_created_total", "reengagement") == 3
    assert ("queued", "reengagement") not in after["email_offload_emails_day"]
    assert one(after, "counts_age_seconds") < 60


def test_no_total_is_told_while_hours_of_the_past_are_still_being_counted(machine: Client) -> None:
    make_email(EmailState.DELIVERED)
    rollups.run()
    value = {"until": timezone.now().isoformat(), "from": timezone.now().isoformat()}
    shared.put("rollups", value)
    found = scrape(machine)
    assert "email_offload_emails_created_total" not in found
    assert one(found, "emails_day", "delivered", "reengagement") == 1


def test_the_newest_pass_of_a_kind_that_has_ended_tells_how_long_it_took_and_how_it_ended(
    machine: Client,
) -> None:
    make_run("intercept", outcome="failed")
    make_run("intercept")
    started = timezone.now()
    make_run("intercept", started_at=started, finished_at=None, outcome="running")
    found = scrape(machine)
    assert one(found, "pass_last_start_timestamp_seconds", "intercept") == pytest.approx(
        started.timestamp(), abs=1
    )
    assert one(found, "pass_last_duration_seconds", "intercept") == pytest.approx(2, abs=0.1)
    outcomes = {key: value for key, value in found["email_offload_pass_last_outcome"].items() if value}
    assert outcomes == {("intercept", "ok"): 1}


def test_the_workers_heartbeat_has_an_age_and_a_worker_that_never_ran_has_none(machine: Client) -> None:
    assert "email_offload_worker_heartbeat_age_seconds" not in scrape(machine)
    Lease.objects.create(name="dispatch-1", beat_at=timezone.now() - timedelta(seconds=90))
    assert 90 <= one(scrape(machine), "worker_heartbeat_age_seconds") < 120


def test_pause_breaker_and_account_are_told_as_they_are_on_record(machine: Client) -> None:
    found = scrape(machine)
    assert one(found, "paused", "claims") == 0 and one(found, "ses_breaker", "closed") == 1
    assert "email_offload_ses_quota_24h" not in found
    switches.set_pause(switches.Pause(claims=True, by="ann", reason="Because"))
    now = timezone.now().timestamp()
    opened = {"code": "SendingPaused", "why": "x", "open_until": now + 60, "times": 1, "since": now - 700}
    shared.put("ses_breaker", opened)
    account = ses.Account(
        production=True, sending_enabled=False, max_24h=5000, max_send_rate=14.0, sent_24h=120
    )
    shared.put(rate.ACCOUNT, {"account": asdict(account), "granted": 0, "read_at": now - 5})
    shared.put(rate.BUCKET, {"spent_until": 0, "granted": 30})
    found = scrape(machine)
    assert one(found, "paused", "claims") == 1 and one(found, "paused", "sends") == 0
    assert one(found, "ses_breaker", "open") == 1 and one(found, "ses_breaker", "closed") == 0
    assert one(found, "ses_breaker_open_seconds") >= 700
    assert one(found, "ses_quota_24h") == 5000 and one(found, "ses_sent_24h") == 150
    assert one(found, "ses_max_send_rate") == 14 and one(found, "ses_sending_enabled") == 0
    assert one(found, "ses_sends_granted_total") == 30


def test_ses_is_never_asked(machine: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*args: Any) -> Any:
        raise AssertionError("SES was asked")

    monkeypatch.setattr(ses, "get_account", ask)
    assert all(value == 1 for value in scrape(machine)["email_offload_section_up"].values())


def test_the_event_queue_tells_what_waits_and_for_how_long(machine: Client, settings: Any) -> None:
    settings.SES_EVENTS_QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/1/q"
    now = timezone.now()
    state = queuestate.QueueState(
        polled_at=now, drained_at=now - timedelta(minutes=40), waiting=1200, in_flight=3
    )
    queuestate.save(state)
    found = scrape(machine)
    assert one(found, "events_queue_waiting") == 1200 and one(found, "events_queue_in_flight") == 3
    assert 2400 <= one(found, "events_queue_backlog_age_seconds") < 2460
    state.waiting = 0
    queuestate.save(state)
    assert one(scrape(machine), "events_queue_backlog_age_seconds") == 0


def test_open_alarms_are_told_by_code_also_those_that_are_not_open(machine: Client) -> None:
    alarm_state.raise_alarm("breaker_open", "", "critical", "x", "y", {}, now=timezone.now())
    found = scrape(machine)
    assert set(found["email_offload_alarms_open"]) == {
        (code,) for code in alarm_conditions.TITLES if code != "test"
    }
    assert one(found, "alarms_open", "breaker_open") == 1 and one(found, "alarms_open", "fallbacks") == 0
    assert one(found, "alarms_open_by_level", "critical") == 1


def test_rates_of_the_account_are_those_of_the_page_reputation(machine: Client, settings: Any) -> None:
    settings.REPUTATION_VOLUME = 250
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    for back, sends, bounces, company in ((0, 100, 1, 1), (0, 60, 2, 2), (2, 200, 5, 1), (40, 500, 50, 1)):
        ReputationHour.objects.create(
            hour=hour - timedelta(hours=back), company_id=company, sends=sends, permanent_bounces=bounces
        )
    whole = {each.window: each for each in rates() if each.scope == "account"}
    assert account_rates() == (whole["volume"], whole["day"])
    found = scrape(machine)
    assert one(found, "reputation_mails", "volume") == 360
    assert one(found, "reputation_bounce_ratio", "day") == pytest.approx(8 / 360)


def test_a_volume_that_a_day_does_not_make_goes_back_as_far_as_it_must(settings: Any) -> None:
    settings.REPUTATION_VOLUME = 500
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    for back in (0, 30, 50, 100):
        ReputationHour.objects.create(hour=hour - timedelta(hours=back), sends=200, complaints=1)
    volume, day = account_rates()
    assert (volume.mails, day.mails) == (600, 200)
    assert [volume, day] == [each for each in rates() if each.scope == "account"]


def test_row_errors_and_suppressed_addresses_are_counted(machine: Client) -> None:
    now = timezone.now()
    for row, seen in ((1, now), (2, now - timedelta(days=2))):
        RowError.objects.create(
            source="reengagement", row_id=row, reason="x", first_seen=seen, last_seen=seen
        )
    make_suppression(address="gone@example.org")
    found = scrape(machine)
    assert one(found, "row_errors_day") == 1 and one(found, "suppressed_addresses") == 1


def test_nothing_in_it_names_a_person(machine: Client) -> None:
    email = make_email(EmailState.FAILED)
    make_suppression(email)
    make_run("dispatch", outcome="refused", message=f"No mail to {email.address}")
    alarm_state.raise_alarm(
        "fallbacks", "secret.example", "warning", email.address, "", {}, now=timezone.now()
    )
    body = machine.get("/metrics").content.decode()
    for word in ("@", "Ada", "Fire safety", "15093", "secret.example"):
        assert word not in body


def test_a_scrape_costs_as_many_queries_whatever_there_is_and_few(machine: Client, settings: Any) -> None:
    settings.SES_EVENTS_QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/1/q"
    rollups.run()
    for kind in runs.KINDS:
        make_run(kind)
    scrape(machine)
    with counted() as few:
        scrape(machine)
    for state in EmailState.values:
        make_email(state)
    with counted() as many:
        scrape(machine)
    assert many["default"] == few["default"] <= 55
    assert many["moodle"] == few["moodle"] <= 4  # a connection is made, asked and closed


def test_those_who_ask_within_a_second_get_the_same_answer_without_a_query(machine: Client) -> None:
    first = machine.get("/metrics").content
    make_email(EmailState.FAILED)
    with counted() as queries:
        assert machine.get("/metrics").content == first
    assert not queries


def test_a_part_that_cannot_be_read_hides_no_other_and_is_named(
    machine: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(now: Any) -> Iterator[sections.Sample]:
        yield "paused", ("claims",), 1.0
        raise KeyError("ada@example.org")

    monkeypatch.setitem(sections.SECTIONS, "outbox", broken)
    found = scrape(machine)
    assert one(found, "section_up", "outbox") == 0 and one(found, "section_up", "ses") == 1
    assert "email_offload_paused" not in found and "email_offload_ses_breaker" in found
    assert "section outbox could not be read" in caplog.text


def test_while_our_database_is_away_it_says_so_and_no_more(
    machine: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachable, "ours", lambda: False)
    found = scrape(machine)
    assert one(found, "database_up", "offload") == 0
    assert set(found) == {f"email_offload_{name}" for name in ("build_info", "database_up", "section_up")}


def test_moodles_database_is_asked_with_little_patience_and_not_again_at_once(
    machine: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert one(scrape(machine), "database_up", "moodle") == 1
    reachable.forget()
    asked = []
    whole = reachable._ask

    def ask(connection: Any) -> None:
        if connection.alias == "moodle":
            asked.append(connection.settings_dict["OPTIONS"]["connect_timeout"])
            raise OperationalError(2002, "away")
        whole(connection)

    monkeypatch.setattr(reachable, "_ask", ask)
    assert not reachable.moodle() and not reachable.moodle()
    assert asked == [reachable.PATIENCE_SECONDS]
    assert connections["moodle"].settings_dict["OPTIONS"]["connect_timeout"] > reachable.PATIENCE_SECONDS


def test_the_format_is_prometheus_text_or_openmetrics_as_it_is_asked_for(machine: Client) -> None:
    plain = machine.get("/metrics")
    assert plain["Content-Type"].startswith("text/plain; version=")
    newer = machine.get("/metrics", HTTP_ACCEPT="application/openmetrics-text; version=1.0.0")
    assert newer["Content-Type"].startswith("application/openmetrics-text")
    assert newer.content.endswith(b"# EOF\n")


def test_every_metric_that_is_told_is_in_the_table_with_its_labels(machine: Client) -> None:
    make_email(EmailState.QUEUED)
    rollups.run()
    for family in text_string_to_metric_families(machine.get("/metrics").content.decode()):
        name = family.samples[0].name.removeprefix(families.PREFIX)
        for sample in family.samples:
            assert set(sample.labels) == set(families.FAMILIES[name].labels)
        assert (family.type == "counter") == name.endswith("_total")


def test_the_table_in_the_documentation_is_that_of_the_code() -> None:
    page = (DOCS / "monitoring.md").read_text()
    told = re.findall(r"^\| `(email_offload_\w+)` \| (.+?) \| (.+?) \|$", page, re.MULTILINE)
    wanted = [
        (family.full_name, ", ".join(f"`{label}`" for label in family.labels) or "–", family.help)
        for family in families.FAMILIES.values()
    ]
    assert told == wanted
