"""`/readyz`: a verdict for each thing that must be there, also while it is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import ProgrammingError, connections
from django.test import Client
from django.utils import timezone

from emailoffload.monitoring import reachable, readiness, standing
from emailoffload.outbox import switches
from emailoffload.outbox.models import Lease
from emailoffload.outbox.states import EmailState
from tests.dashboard.factories import make_email
from tests.queries import counted

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"])]
CHECKS = ["database", "moodle", "migrations", "worker", "lag"]


@pytest.fixture
def alive() -> Lease:
    """A worker that has just shown a sign of life."""
    return Lease.objects.create(name="dispatch-1", beat_at=timezone.now())


def ask(client: Client) -> tuple[int, dict[str, Any]]:
    """Status and answer."""
    readiness.forget()
    response = client.get("/readyz")
    return response.status_code, response.json()


def test_a_site_that_works_is_ready_with_a_verdict_for_each_thing(machine: Client, alive: Lease) -> None:
    status, told = ask(machine)
    assert status == 200 and told["status"] == "ok"
    assert list(told["checks"]) == CHECKS
    assert {check["verdict"] for check in told["checks"].values()} == {"ok"}
    assert told["checks"]["worker"]["seconds"] < 60


def test_a_silent_worker_is_a_problem_with_its_age(machine: Client, alive: Lease) -> None:
    Lease.objects.update(beat_at=timezone.now() - timedelta(minutes=6))
    status, told = ask(machine)
    assert status == 503 and told["status"] == "problem"
    assert told["checks"]["worker"]["verdict"] == "problem" and told["checks"]["worker"]["seconds"] >= 360


def test_a_worker_that_never_ran_is_a_problem(machine: Client) -> None:
    status, told = ask(machine)
    assert status == 503 and "No worker has run yet" in told["checks"]["worker"]["text"]


@pytest.mark.parametrize(
    ("minutes", "verdict", "status"), [(1, "ok", 200), (5, "warning", 200), (11, "problem", 503)]
)
def test_late_mail_is_a_warning_and_then_a_problem(
    machine: Client, alive: Lease, minutes: int, verdict: str, status: int
) -> None:
    make_email(EmailState.QUEUED, due_at=timezone.now() - timedelta(minutes=minutes))
    answered, told = ask(machine)
    assert (answered, told["checks"]["lag"]["verdict"]) == (status, verdict)
    assert told["checks"]["lag"]["seconds"] == pytest.approx(60 * minutes, abs=30)


def test_late_mail_says_where_it_is_a_pause_that_holds_it(machine: Client, alive: Lease) -> None:
    make_email(EmailState.QUEUED, due_at=timezone.now() - timedelta(minutes=11))
    switches.set_pause(switches.Pause(sends=True, by="ann@example.org", reason="Secret reason"))
    _, told = ask(machine)
    assert "sending is paused" in told["checks"]["lag"]["text"]
    assert "ann" not in str(told) and "Secret" not in str(told)


def test_a_missing_migration_is_a_problem_with_its_cure(machine: Client, alive: Lease) -> None:
    with connections["default"].cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'emailoffload' ORDER BY id DESC LIMIT 1")
    status, told = ask(machine)
    assert status == 503
    assert told["checks"]["migrations"]["text"] == "Migrations that are missing: 1. Run `manage.py migrate`."


def test_a_table_that_is_not_there_is_a_problem_and_no_page_of_an_error(
    machine: Client, alive: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(now: Any) -> Any:
        raise ProgrammingError(1146, "Table 'offload.secret' doesn't exist")

    monkeypatch.setattr(standing, "oldest_due", missing)
    status, told = ask(machine)
    assert status == 503 and told["checks"]["lag"]["verdict"] == "problem"
    assert "secret" not in str(told)


def test_moodles_database_that_does_not_answer_is_a_problem_and_the_rest_is_looked_at(
    machine: Client, alive: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachable, "_moodle_answers", lambda: False)
    status, told = ask(machine)
    assert status == 503
    assert {name for name, check in told["checks"].items() if check["verdict"] == "problem"} == {"moodle"}


def test_without_our_database_the_rest_is_unknown(
    machine: Client, alive: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachable, "ours", lambda: False)
    status, told = ask(machine)
    verdicts = {name: check["verdict"] for name, check in told["checks"].items()}
    assert status == 503 and verdicts == {
        "database": "problem", "moodle": "ok", "migrations": "unknown", "worker": "unknown", "lag": "unknown",
    }  # fmt: skip


@pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
@pytest.mark.parametrize("page", ["/readyz", "/metrics"])
def test_while_our_database_is_out_of_reach_a_browser_that_is_signed_in_gets_the_answer_too(
    admin_client: Client, page: str
) -> None:
    options = connections["default"].settings_dict["OPTIONS"]
    before = options["unix_socket"]
    connections["default"].close()
    options["unix_socket"] = "/nowhere/socket"
    try:
        body = admin_client.get(page).content.decode()
    finally:
        options["unix_socket"] = before
        connections["default"].close()
    assert "Our database does not answer" in body or 'database_up{database="offload"} 0.0' in body
    assert "/nowhere" not in body


def test_it_costs_few_queries_and_those_who_ask_within_a_second_none(machine: Client, alive: Lease) -> None:
    readiness.forget()
    machine.get("/readyz")
    readiness.forget()
    with counted() as first:
        machine.get("/readyz")
    assert 0 < sum(first.values()) <= 8
    with counted() as second:
        machine.get("/readyz")
    assert not second
