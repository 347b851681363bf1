"""The page Settings: what is effective and where it comes from, never a secret; the doctor's findings, on request."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from django_q.models import OrmQ

from emailoffload.actions import checkup, doctor
from emailoffload.actions.diagnosis.finding import Finding
from emailoffload.outbox import shared
from emailoffload.outbox.models import AuditEntry
from offloadsite import env
from tests.dashboard.conftest import SignIn

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])


@pytest.fixture
def admin(sign_in: SignIn) -> Client:
    return sign_in("Offload administrators")


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the doctor finds."""
    found = [
        Finding("a", "Own database", "ok", "It answers."),
        Finding("b", "Clocks", "warning", "They differ by 9 seconds.", "Run a time service."),
    ]

    def run() -> Iterator[Finding]:
        yield from found

    monkeypatch.setattr(doctor, "run", run)
    return found


def values(client: Client) -> dict[str, Any]:
    response = client.get("/settings/")
    assert response.status_code == 200
    return {each.name: each for _section, several, _given in response.context["sections"] for each in several}


def test_every_setting_is_shown_with_its_value_and_origin(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAIM_LEAD_SECONDS", "1234")
    monkeypatch.delenv("CLAIM_MARGIN_SECONDS", raising=False)
    shown = values(admin)
    assert set(shown) == {spec.name for spec in env.SPECS}
    lead, margin = shown["CLAIM_LEAD_SECONDS"], shown["CLAIM_MARGIN_SECONDS"]
    assert (lead.value, str(lead.origin), lead.changed) == ("1234", "environment", True)
    assert (margin.value, str(margin.origin), margin.changed) == (
        env.BY_NAME["CLAIM_MARGIN_SECONDS"].default,
        "default",
        False,
    )


def test_what_the_settings_file_gave_is_told_from_the_environment(
    admin: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    file = tmp_path / "settings.env"
    file.write_text("CLAIM_BATCH_SIZE=77\nLEASE_SECONDS=33\n")
    monkeypatch.setenv("OFFLOAD_ENV_FILE", str(file))
    monkeypatch.setenv("LEASE_SECONDS", "44")
    monkeypatch.setenv("CLAIM_BATCH_SIZE", "")
    monkeypatch.delenv("CLAIM_BATCH_SIZE")
    monkeypatch.setattr(env, "_FROM_FILE", set())
    env.load_env_file()
    shown = values(admin)
    assert (shown["CLAIM_BATCH_SIZE"].value, str(shown["CLAIM_BATCH_SIZE"].origin)) == ("77", "settings file")
    assert (shown["LEASE_SECONDS"].value, str(shown["LEASE_SECONDS"].origin)) == ("44", "environment")


def test_no_secret_stands_on_the_page(admin: Client, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    for spec in env.SPECS:
        if spec.secret:
            monkeypatch.setenv(spec.name, f"smtp://me:Leaked-{spec.name}@host")
    settings.MOODLE_FORCED_CONFIG = {"smtppass": "Leaked-forced"}
    monkeypatch.setenv("MOODLE_FORCED_CONFIG", '{"smtppass": "Leaked-forced"}')
    page = admin.get("/settings/").content.decode()
    assert "Leaked" not in page
    assert "smtppass" in page
    shown = values(admin)
    assert shown["EMAIL_URL"].value == "set, not shown"
    for alias, name in (("default", "DATABASE_URL"), ("moodle", "MOODLE_DATABASE_URL")):
        assert str(settings.DATABASES[alias]["NAME"]) in shown[name].value
        assert settings.DATABASES[alias]["PASSWORD"] not in page


def test_the_doctors_findings_are_kept_and_what_needs_a_person_stands_first(
    admin: Client, findings: list[Finding]
) -> None:
    assert "The doctor has not looked yet" in admin.get("/settings/").content.decode()
    assert checkup.take() == {"ok": 1, "warning": 1}
    response = admin.get("/settings/")
    assert [str(name) for _tone, name, _found in response.context["verdicts"]] == ["warning", "fine"]
    page = response.content.decode()
    assert "They differ by 9 seconds." in page and "Run a time service." in page
    assert "Everything is fine." not in page
    findings.pop()
    checkup.take()
    assert "Everything is fine." in admin.get("/settings/").content.decode()


def test_a_look_that_is_asked_for_is_queued_once_and_waited_for(
    admin: Client, findings: list[Finding]
) -> None:
    for _ in range(2):
        assert admin.post("/settings/").status_code == 302
    assert OrmQ.objects.count() == 1
    assert AuditEntry.objects.filter(action="checkup").count() == 1
    assert "The worker looks now" in admin.get("/settings/").content.decode()
    checkup.take()
    assert checkup.known().asked_at is None
    assert admin.post("/settings/").status_code == 302
    assert OrmQ.objects.count() == 2


def test_a_look_that_never_came_may_be_asked_for_again(admin: Client) -> None:
    asked = timezone.now() - checkup.PATIENCE - timedelta(seconds=1)
    shared.put(checkup.ASKED, {"at": asked.isoformat()})
    assert checkup.known().asked_at is None
    assert checkup.ask("ada")


def test_the_page_works_while_moodles_database_is_away(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections
    from django.db.utils import OperationalError

    def away(*args: Any, **kwargs: Any) -> None:
        raise OperationalError(2006, "gone")

    monkeypatch.setattr(connections["moodle"], "cursor", away)
    page = admin.get("/settings/")
    assert page.status_code == 200
    assert "does not answer" in page.content.decode()
