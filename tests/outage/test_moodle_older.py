"""A server whose rows are older than what we wrote is found out, and nobody acts on what it says."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.utils import timezone

from emailoffload.actions import doctor
from emailoffload.actions.release import release
from emailoffload.moodle.errors import MoodleOutdated
from emailoffload.outbox.models import AuditEntry, Claim, Email, Run, State
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import dispatch, fallback, intercept, recover, trust
from tests.conftest import Moodle
from tests.outage.second import Second
from tests.reengagement.test_decisions import soon

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
]
TABLE = "mdl_reengagement_inprogress"


@pytest.fixture
def claimed(moodle: Moodle, ses: SandboxSES) -> Moodle:
    """Three reminders, claimed ahead of time."""
    soon(moodle, 3)
    assert intercept.run().claimed == 3
    return moodle


def lag(moodle: Moodle, *, claims: int = 3) -> list[tuple[Any, ...]]:
    """The rows of the newest claims are as before the claim; returns what they held."""
    newest = Claim.objects.order_by("-pk")[:claims]
    kept = moodle.rows(f"SELECT id, emailsent, emailtime FROM {TABLE}")
    for claim in newest:
        moodle.execute(
            f"UPDATE {TABLE} SET emailsent = %s, emailtime = %s WHERE id = %s",
            (claim.before["emailsent"], claim.before["emailtime"], claim.row_id),
        )
    return kept


def catch_up(moodle: Moodle, kept: list[tuple[Any, ...]]) -> None:
    for row_id, sent, at in kept:
        moodle.execute(f"UPDATE {TABLE} SET emailsent = %s, emailtime = %s WHERE id = %s", (sent, at, row_id))


def another(moodle: Moodle) -> None:
    """One more reminder that could be claimed."""
    row = Claim.objects.latest("pk")
    moodle.insert(
        TABLE, reengagement=row.activity_id, userid=21, completiontime=2_000_000_000,
        emailtime=row.before["emailtime"], emailsent=0, completed=0,
    )  # fmt: skip


def make_due() -> None:
    now = timezone.now()
    Email.objects.update(due_at=now, next_try_at=now)
    Claim.objects.update(due_at=now)


def test_on_a_server_that_lags_nothing_is_claimed_until_it_has_our_claims_again(claimed: Moodle) -> None:
    kept = lag(claimed)
    another(claimed)
    before = claimed.rows(f"SELECT * FROM {TABLE} ORDER BY id")
    result = intercept.run()
    assert result.claimed == 0 and "3 of our 3 newest claims" in result.refused
    assert "primary server" in result.cure and "--accept-moodle" in result.cure
    assert Run.objects.filter(kind="intercept").latest("pk").outcome == "refused"
    assert claimed.rows(f"SELECT * FROM {TABLE} ORDER BY id") == before
    catch_up(claimed, kept)
    assert intercept.run().refused == ""


def test_mails_are_not_given_up_on_the_word_of_such_a_server_and_leave_when_it_has_caught_up(
    claimed: Moodle, ses: SandboxSES
) -> None:
    kept = lag(claimed)
    make_due()
    result = dispatch.run(budget=0.5)
    assert (result.suppressed, result.retried, result.sent) == (0, 3, 0)
    assert set(Email.objects.values_list("state", "reason")) == {("queued", "moodle_outdated")}
    # Not at their deadline either: Moodle may be about to send them.
    Email.objects.update(next_try_at=timezone.now(), deadline_at=timezone.now() - timedelta(hours=1))
    assert dispatch.run(budget=0.5).sent == 0
    catch_up(claimed, kept)
    make_due()
    assert dispatch.run(budget=5).sent == 3


def test_nothing_is_handed_back_to_such_a_server_by_itself_or_by_a_person(claimed: Moodle) -> None:
    lag(claimed)
    past = timezone.now() - timedelta(hours=1)
    Email.objects.update(next_try_at=past, deadline_at=past, attempts=1, reason="EndpointConnectionError")
    done = fallback.run()
    assert (done.counts["handed_back"], done.counts["held"]) == (0, 0)
    ids = list(Claim.objects.values_list("pk", flat=True))
    assert {outcome.code for outcome in release(ids, actor="eve", reason="test")} == {"moodle_unreachable"}
    assert set(Claim.objects.values_list("state", flat=True)) == {"claimed"}


def test_recovery_settles_no_claim_by_the_rows_of_such_a_server(claimed: Moodle) -> None:
    lag(claimed)
    Claim.objects.filter(pk=Claim.objects.earliest("pk").pk).update(
        state="intended", created_at=timezone.now() - timedelta(hours=1)
    )
    result = recover.run()
    assert "does not have our last writes" in result.refused
    assert Claim.objects.filter(state="intended").count() == 1


def test_a_row_that_somebody_set_back_by_hand_stops_nobody_while_a_newer_claim_can_be_seen(
    claimed: Moodle,
) -> None:
    Claim.objects.update(claimed_at=timezone.now() - timedelta(minutes=5))
    lag(claimed, claims=1)
    another(claimed)
    Claim.objects.exclude(pk=Claim.objects.latest("pk").pk).update(claimed_at=timezone.now())
    assert trust.problem() is None
    assert intercept.run().refused == ""


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM {table}", "UPDATE {table} SET emailsent = 0, emailtime = emailtime + 7",
     "UPDATE {table} SET emailsent = emailsent + 1, emailtime = emailtime + 86400"],
    ids=["rows removed", "learners began anew", "Moodle went on"],
)  # fmt: skip
def test_rows_that_are_gone_or_moved_on_are_no_sign_of_an_older_server(claimed: Moodle, change: str) -> None:
    claimed.execute(change.format(table=TABLE))
    trust.require()


def test_once_moodle_has_mailed_those_rows_claiming_goes_on_by_itself(claimed: Moodle) -> None:
    lag(claimed)
    with pytest.raises(MoodleOutdated):
        trust.require()
    claimed.execute(f"UPDATE {TABLE} SET emailsent = emailsent + 1, emailtime = emailtime + 9000")
    trust.require()


def test_handed_back_claims_are_no_sign_of_an_older_server(claimed: Moodle) -> None:
    ids = list(Claim.objects.values_list("pk", flat=True))
    assert all(outcome.released for outcome in release(ids, actor="eve", reason="test"))
    trust.require()


def test_a_damaged_record_of_a_claim_stops_nobody(claimed: Moodle) -> None:
    Claim.objects.filter(pk=Claim.objects.latest("pk").pk).update(before={}, after={})
    Claim.objects.filter(pk=Claim.objects.earliest("pk").pk).update(source="gone")
    trust.require()


def test_a_person_can_say_that_moodles_database_is_right_and_that_is_on_record(claimed: Moodle) -> None:
    lag(claimed)
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("recover", "--json", stdout=out)
    assert "does not have our last writes" in json.loads(out.getvalue())["refused"]
    call_command("recover", "--accept-moodle", "--json", stdout=StringIO())
    trust.require()
    assert AuditEntry.objects.get(action="accept_moodle").actor.startswith("command line (")
    # What Moodle sends now is not sent by us as well.
    make_due()
    assert dispatch.run(budget=5).suppressed == 3


def test_it_costs_two_queries_of_each_database(claimed: Moodle, django_assert_num_queries: Any) -> None:
    trust.require()
    with (
        django_assert_num_queries(2),
        django_assert_num_queries(2, connection=connections["moodle"]),
    ):
        trust.require()


def test_another_server_is_noticed_logged_and_shown_by_the_doctor(
    claimed: Moodle, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    trust.require()
    assert trust.last_change() is None
    moved: Second = request.getfixturevalue("moved")
    assert moved
    trust.require()
    assert "is on another server now" in caplog.text
    change = trust.last_change()
    assert change is not None and timezone.now() - change.at < timedelta(minutes=1)
    assert State.objects.get(name=trust.SERVER).value["identity"]
    found = {finding.id: finding for finding in doctor.run()}["moodle.current"]
    assert found.verdict == "warning" and "another server since" in found.text and found.cure


def test_the_doctor_names_a_server_that_lags(claimed: Moodle) -> None:
    lag(claimed)
    found = {finding.id: finding for finding in doctor.run()}["moodle.current"]
    assert found.verdict == "problem" and "does not have our last writes" in found.text and found.cure
