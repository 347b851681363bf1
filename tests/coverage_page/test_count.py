"""The count in the background: what is kept, and what happens when it cannot be made."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone
from django_q.models import OrmQ

from emailoffload.actions import coverage as actions
from emailoffload.moodle import variants
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import AuditEntry, Email, Run, State
from emailoffload.outbox.states import EmailState
from emailoffload.sources import reasons
from emailoffload.worker import coverage, coverage_count, lease, tasks
from tests.conftest import Moodle
from tests.coverage_page.site import ACTIVITY, COURSE, counted, kind, line_of
from tests.dashboard.factories import make_claim, make_email
from tests.queries import counted as queries

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def away(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: Any) -> None:
        raise OperationalError(2002, "Can't connect")

    monkeypatch.setattr(variants, "detect", gone)


def test_what_is_kept_is_what_was_counted_to_the_last_number(moodle: Moodle) -> None:
    found = coverage_count.count(lambda: None)
    assert coverage.run().items == len(found.items) > 60
    known = coverage.known()
    assert known.counted == found
    assert timezone.now() - known.at < timedelta(minutes=1)  # type: ignore[operator]
    assert known.failure == ""
    run = Run.objects.get(kind="coverage")
    assert (run.outcome, run.counts["items"]) == ("ok", len(found.items))


def test_a_count_that_fails_leaves_the_last_one_and_says_why(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    coverage.run()
    before = coverage.known()
    away(monkeypatch)
    result = coverage.run()
    assert "cannot be used" in result.refused
    after = coverage.known()
    assert (after.at, after.counted) == (before.at, before.counted)
    assert after.failure == result.refused
    assert after.cure == result.cure
    assert Run.objects.filter(kind="coverage").latest("id").outcome == "refused"
    monkeypatch.undo()
    coverage.run()
    assert coverage.known().failure == ""


def test_the_mails_that_went_out_through_us_are_counted_by_activity_and_kind(moodle: Moodle) -> None:
    claim = make_claim(activity_id=ACTIVITY, course_id=COURSE)
    for state in (EmailState.DELIVERED, EmailState.BOUNCED, EmailState.SENT_SMTP):
        make_email(state, claim=claim)
    make_email(EmailState.QUEUED, claim=claim)
    old = make_email(EmailState.DELIVERED, claim=claim)
    Email.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=31))
    queued = make_claim(source="iomad_queue", template="User_Create", activity_id=0)
    make_email(
        EmailState.DELIVERED, claim=queued, source="iomad_queue", template="User_Create", activity_id=0
    )
    assert line_of().item.sent == 3
    assert kind("user_create").item.sent == 1


def test_what_passes_left_to_moodle_lately_stands_beside_the_verdict(moodle: Moodle) -> None:
    now = timezone.now()
    for number, (reason, days) in enumerate(
        [(reasons.NOT_ENROLLED, 1), (reasons.NOT_ENROLLED, 2), ("profile_markup", 1), ("emailstop", 9)]
    ):
        LeftRow.objects.create(
            source="reengagement", row_id=number, due_at=now, reason=reason, activity_id=ACTIVITY,
            first_seen=now - timedelta(days=days), last_seen=now,
        )  # fmt: skip
    line = line_of()
    assert line.item.left == [(reasons.NOT_ENROLLED, 2), ("profile_markup", 1)]
    assert line.left[0] == ("the user is no longer an active learner of the course", 2)


def test_more_activities_cost_more_queries_only_by_the_hundred(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with queries() as few:
        coverage.run()
    columns = [row[0] for row in moodle.rows("SHOW COLUMNS FROM mdl_reengagement") if row[0] != "id"]
    names = ", ".join(f"`{name}`" for name in columns)
    for _ in range(6):
        moodle.execute(f"INSERT INTO mdl_reengagement ({names}) SELECT {names} FROM mdl_reengagement")
    number = moodle.value("SELECT COUNT(*) FROM mdl_reengagement")
    assert number > 1400
    monkeypatch.setattr(coverage_count, "ACTIVITIES_AT_ONCE", 1000)
    with queries() as many:
        assert coverage.run().items > number
    assert many["moodle"] < few["moodle"] + 25
    assert many["default"] <= few["default"]


def test_only_one_counts_at_a_time_and_a_worker_that_stops_counts_no_further(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lease.hold("coverage"):
        assert coverage.run().busy
    monkeypatch.setattr("emailoffload.worker.stopping.requested", lambda: True)
    coverage.run()
    assert coverage.known().at is None
    assert Run.objects.get(kind="coverage").outcome == "interrupted"


def test_a_count_is_asked_for_once_and_is_on_record(moodle: Moodle) -> None:
    assert actions.ask("ada")
    assert not actions.ask("bob")
    assert [row.task["func"] for row in OrmQ.objects.all()] == [f"{tasks.MODULE}.coverage"]
    assert list(AuditEntry.objects.values_list("actor", "action")) == [("ada", "coverage_count")]
    tasks.coverage()
    assert coverage.known().asked_at is None
    assert actions.ask("bob")
    long_ago = (timezone.now() - timedelta(hours=1)).isoformat()
    State.objects.filter(name=coverage.ASKED).update(value={"at": long_ago})
    assert coverage.known().asked_at is None


def test_a_worker_that_starts_counts_unless_that_was_done_within_the_hour(moodle: Moodle) -> None:
    assert coverage.is_due()
    coverage.run()
    assert not coverage.is_due()
    State.objects.filter(name=coverage.NAME).update(updated_at=timezone.now() - timedelta(minutes=61))
    assert coverage.is_due()


def test_nothing_is_counted_of_what_the_account_may_not_read_and_the_rest_is(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emailoffload.moodle import errors

    real = errors.require_ready

    def lacking(source: str) -> Any:
        if source == "iomad_queue":
            raise errors.GrantsMissing("The account lacks: SELECT on email.", "Run moodlegrants.")
        return real(source)

    monkeypatch.setattr(errors, "require_ready", lacking)
    found = counted()
    assert {line.item.source for line in found} == {"reengagement"}
    assert coverage.known().counted.sources["iomad_queue"]["cure"] == "Run moodlegrants."


# --- the command ---


def command(*args: str) -> str:
    out = io.StringIO()
    call_command("coverage", *args, stdout=out)
    return out.getvalue()


def test_the_command_counts_and_says_what_the_page_says(moodle: Moodle) -> None:
    moodle.execute("UPDATE mdl_reengagement SET emailrecipient = 2 WHERE id = 22")
    said = command()
    assert "18 of 22 activities are offloaded." in said
    assert "not offloaded: activity 4, G04 completion" in said
    assert "    2. At “Notify user”, choose “After delay”" in said
    found = json.loads(command("--json"))
    assert found["summary"][0] == {
        "source": "reengagement", "total": 22, "offloaded": 18, "partly": 0, "week": 0, "week_ours": 0,
    }  # fmt: skip
    (both,) = [item for item in found["items"] if item["activity"] == 22]
    assert (both["verdict"], both["reason"]) == ("not", reasons.RECIPIENT_BOTH)
    assert both["steps"]


def test_the_command_fails_only_where_nothing_can_be_counted(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    command()
    away(monkeypatch)
    out = io.StringIO()
    with pytest.raises(SystemExit, match="1"):
        call_command("coverage", stdout=out)
    assert "Nothing was counted." in out.getvalue()
    assert "activities are offloaded" in out.getvalue()
