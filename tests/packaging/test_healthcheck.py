"""`manage.py healthcheck`: what a container is asked."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone

from emailoffload.management.commands.healthcheck import host
from emailoffload.outbox.models import Lease
from emailoffload.sandbox.supervisor import port_is_free

pytestmark = pytest.mark.django_db


def beat(minutes: float) -> None:
    """A worker's last sign of life, so many minutes ago."""
    Lease.objects.update_or_create(
        name="dispatch 1", defaults={"beat_at": timezone.now() - timedelta(minutes=minutes)}
    )


def ask(*arguments: str) -> str:
    """Run the command; what it says."""
    out = StringIO()
    call_command("healthcheck", *arguments, stdout=out)
    return out.getvalue().strip()


def test_a_worker_with_a_fresh_sign_of_life_is_well() -> None:
    beat(1)
    assert ask("worker") == "ok"


def test_a_worker_that_is_silent_or_never_ran_is_not() -> None:
    with pytest.raises(CommandError, match="No pass has run yet"):
        ask("worker")
    beat(6)
    with pytest.raises(CommandError, match=r"No pass has run since .* Restart the worker"):
        ask("worker")


@pytest.mark.django_db(transaction=True)
def test_a_dashboard_is_asked_under_a_name_that_it_lets_in(live_server: Any, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["offload.example.org"]
    assert ask("web", "--port", str(live_server.thread.port)) == "ok"


@pytest.mark.django_db(transaction=True)
def test_a_dashboard_whose_answer_is_no_is_not_well(live_server: Any, settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.packaging.unwell"
    with pytest.raises(CommandError, match="answers 503"):
        ask("web", "--port", str(live_server.thread.port))


def test_a_dashboard_that_does_not_answer_is_not_well() -> None:
    port = next(port for port in range(20000, 30000) if port_is_free(port))
    with pytest.raises(CommandError, match=f"does not answer on port {port}"):
        ask("web", "--port", str(port))


def test_of_patterns_a_name_is_made() -> None:
    assert host([".example.org"]) == "example.org"
    assert host(["*"]) == host([]) == "localhost"


def test_a_health_check_needs_few_queries(django_assert_max_num_queries: Any) -> None:
    beat(1)
    with django_assert_max_num_queries(2, connection=connections["default"]):
        ask("worker")
