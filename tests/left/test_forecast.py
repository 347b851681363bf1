"""What the page of a user foretells is what the next pass does: the same rows, asked both."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from emailoffload.moodle.targets import IOMAD_QUEUE, REENGAGEMENT
from emailoffload.outbox import switches
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import Claim
from emailoffload.policy.routing import bucket
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons, registry
from emailoffload.worker import handback, intercept
from emailoffload.worker.forecast import Forecast, foresee
from tests.claims.queue import queued
from tests.conftest import Moodle
from tests.dashboard.factories import make_suppression
from tests.reengagement.test_decisions import ACTIVITY, soon
from tests.routing.site import rule

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
SOON = 240


def foretold(source: str, users: list[int]) -> dict[int, Forecast]:
    """The forecasts of these users' rows, by row."""
    rows = {row.id: row for user in users for row in registry.of_user(source, user, 50)}
    return {found.row.id: found for found in foresee(source, list(rows.values()))}


def done(source: str) -> dict[int, str]:
    """What a pass does: the reason by row, "claimed" for those that are ours."""
    intercept.run(source=source)
    left = dict(LeftRow.objects.filter(source=source).values_list("row_id", "reason"))
    claimed = Claim.objects.filter(source=source, state="claimed").values_list("row_id", flat=True)
    return left | dict.fromkeys(claimed, "claimed")


def test_a_pass_does_with_each_reminder_what_was_foretold(moodle: Moodle, ses: SandboxSES) -> None:
    rows = soon(moodle, 10, due=SOON)
    changes = {
        0: "UPDATE mdl_user SET deleted = 1 WHERE id = {user}",
        1: "UPDATE mdl_user SET suspended = 1 WHERE id = {user}",
        2: "UPDATE mdl_user SET emailstop = 1 WHERE id = {user}",
        3: "UPDATE mdl_user_enrolments SET status = 1 WHERE userid = {user}",
        4: "UPDATE mdl_reengagement_inprogress SET emailsent = 1, completiontime = {now} WHERE id = {row}",
        5: "UPDATE mdl_reengagement_inprogress SET completed = 1 WHERE id = {row}",
        6: "UPDATE mdl_user SET email = 'barred@example.org' WHERE id = {user}",
        7: "UPDATE mdl_user SET email = 'nowhere' WHERE id = {user}",
    }
    for place, statement in changes.items():
        row, user = rows[place]
        moodle.execute(statement.format(row=row, user=user, now=int(time.time())))
    make_suppression(address="barred@example.org")
    out = rows[8][1]
    among = [user for place, (_row, user) in enumerate(rows) if place != 8]
    name = next(
        name
        for name in map(str, range(10_000))
        if bucket(name, out) >= 50 > max(bucket(name, u) for u in among)
    )
    rule(name, percentage=50)
    before = foretold(REENGAGEMENT, [user for _row, user in rows])
    expected = {row: "claimed" if found.claimed else found.reason for row, found in before.items()}
    assert done(REENGAGEMENT) == expected
    assert expected == {
        rows[0][0]: reasons.USER_DELETED, rows[1][0]: "user_suspended", rows[2][0]: "emailstop",
        rows[3][0]: reasons.NOT_ENROLLED, rows[4][0]: reasons.COMPLETES_FIRST, rows[5][0]: "claimed",
        rows[6][0]: "claimed", rows[7][0]: "address_invalid", rows[8][0]: reasons.ROLLOUT, rows[9][0]: "claimed",
    }  # fmt: skip
    assert [row for row, found in before.items() if found.barred] == [rows[6][0]]
    assert LeftRow.objects.filter(reason=reasons.ROLLOUT).get().user_id == out


def test_a_pass_does_with_each_mail_of_iomads_queue_what_was_foretold(
    moodle: Moodle, ses: SandboxSES
) -> None:
    first, second = queued(moodle, 2)
    users = dict(moodle.rows(f"SELECT id, userid FROM mdl_email WHERE id IN ({first}, {second})"))
    moodle.execute("UPDATE mdl_user SET suspended = 1 WHERE id = %s", [users[first]])
    before = foretold(IOMAD_QUEUE, list(users.values()))
    assert {row: (found.claimed, found.reason) for row, found in before.items() if row in users} == {
        first: (False, "user_suspended"),
        second: (True, reasons.CLAIMED_UNDER_LOCK),
    }
    after = done(IOMAD_QUEUE)
    assert {row: after[row] for row in users} == {first: "user_suspended", second: "claimed"}


def test_a_reminder_that_was_handed_back_is_foretold_to_stay_with_moodle(
    moodle: Moodle, ses: SandboxSES
) -> None:
    ((row, user),) = soon(moodle, 1, due=600)
    intercept.run()
    claim = Claim.objects.get()
    handback.hand_back([claim.pk], actor="ada", reason="a test")
    found = foretold(REENGAGEMENT, [user])[row]
    assert (found.claimed, found.reason) == (False, reasons.HANDED_BACK)
    assert done(REENGAGEMENT) == {}  # not due yet, so not left either


@pytest.mark.parametrize("why", ["pause", "breaker"])
def test_what_stands_in_the_way_now_is_told_and_does_not_decide_for_later(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    from emailoffload.delivery import health

    ((row, user),) = soon(moodle, 1, due=86400)
    if why == "pause":
        switches.set_pause(switches.Pause(claims=True))
    else:
        health.trip(health.Outcome("account", "SendingPaused", "Sending is paused."))
    found = foretold(REENGAGEMENT, [user])[row]
    expected = reasons.CLAIMS_PAUSED if why == "pause" else reasons.DELIVERY_UNHEALTHY
    assert (found.claimed, found.until) == (True, expected)


def test_who_gets_none_while_others_do_is_told(moodle: Moodle, ses: SandboxSES) -> None:
    ((row, user),) = soon(moodle, 1, due=600)
    moodle.execute(
        "UPDATE mdl_reengagement SET thirdpartyemails = 'hr@school.example', emailsubjectthirdparty = 'x',"
        " emailcontentthirdparty = 'x' WHERE id = %s",
        [ACTIVITY],
    )
    moodle.execute("UPDATE mdl_user SET emailstop = 1 WHERE id = %s", [user])
    found = foretold(REENGAGEMENT, [user])[row]
    assert (found.claimed, found.others_only) == (True, True)


def test_a_forecast_costs_the_same_for_any_number_of_rows_and_writes_nothing(
    moodle: Moodle, ses: SandboxSES
) -> None:
    users = [user for _row, user in soon(moodle, 12, due=600)]
    rows: list[Any] = [row for user in users for row in registry.of_user(REENGAGEMENT, user, 50)]
    costs = []
    for part in (rows[:2], rows):
        with (
            CaptureQueriesContext(connections["default"]) as ours,
            CaptureQueriesContext(connections["moodle"]) as theirs,
        ):
            assert all(found.claimed for found in foresee(REENGAGEMENT, part))
        costs.append((len(ours), len(theirs)))
    assert costs[0] == costs[1]
    assert costs[1][0] <= 10
    assert costs[1][1] <= 70
    assert not Claim.objects.exists()
