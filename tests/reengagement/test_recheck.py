"""Just before sending, Moodle's rows say whether a claimed mail is still owed (facts §3.4)."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from emailoffload.actions.release import release
from emailoffload.outbox.models import Claim, Email, RowError
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.sources.reengagement.texts import TextRenderer
from emailoffload.worker import dispatch, eligibility, intercept, outcomes
from tests.conftest import Moodle
from tests.reengagement.test_decisions import ACTIVITY, soon

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
ROWS = "mdl_reengagement_inprogress"


def all_due() -> None:
    """Let the time come for every mail in the outbox."""
    Email.objects.update(next_try_at=timezone.now())


def sent_and_suppressed() -> tuple[int, list[str]]:
    all_due()
    sent = dispatch.run(budget=20.0).sent
    return sent, list(Email.objects.filter(state="suppressed").values_list("reason", flat=True))


def test_reminders_that_follow_within_the_lead_are_all_sent(moodle: Moodle, ses: SandboxSES) -> None:
    soon(moodle, 1, due=200)
    moodle.execute(
        "UPDATE mdl_reengagement SET emaildelay = 300, remindercount = 3 WHERE id = %s", [ACTIVITY]
    )
    assert [intercept.run().claimed for _ in range(4)] == [1, 1, 1, 0]
    assert sent_and_suppressed() == (3, [])


def test_reminders_of_one_row_are_handed_back_from_the_last_to_the_first(
    moodle: Moodle, ses: SandboxSES
) -> None:
    soon(moodle, 1, due=200)
    moodle.execute(
        "UPDATE mdl_reengagement SET emaildelay = 300, remindercount = 3 WHERE id = %s", [ACTIVITY]
    )
    before = moodle.rows(f"SELECT * FROM {ROWS}")
    for _ in range(3):
        intercept.run()
    ids = list(Claim.objects.order_by("pk").values_list("pk", flat=True))
    outcomes = release([*ids, ids[0]], actor="tester", reason="")
    assert [outcome.released for outcome in outcomes] == [True] * 4
    assert moodle.rows(f"SELECT * FROM {ROWS}") == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (f"DELETE FROM {ROWS}", reasons.ROW_REMOVED),
        (f"UPDATE {ROWS} SET emailtime = emailtime + 7", reasons.ROW_CHANGED),
        (f"UPDATE {ROWS} SET emailsent = 2, emailtime = 1", reasons.ROW_CHANGED),
        ("UPDATE mdl_user SET deleted = 1 WHERE id = {user}", reasons.USER_DELETED),
        ("UPDATE mdl_user_enrolments SET status = 1 WHERE userid = {user}", reasons.NOT_ENROLLED),
        ("UPDATE mdl_user SET emailstop = 1 WHERE id = {user}", "emailstop"),
        (f"UPDATE mdl_reengagement SET emailuser = 0 WHERE id = {ACTIVITY}", reasons.ROW_CHANGED),
    ],
)
def test_a_mail_that_moodle_would_no_longer_send_is_suppressed_with_the_reason(
    moodle: Moodle, ses: SandboxSES, change: str, reason: str
) -> None:
    ((_, user),) = soon(moodle, 1)
    assert intercept.run().claimed == 1
    moodle.execute(change.format(user=user))
    assert sent_and_suppressed() == (0, [reason])


def test_a_mail_whose_row_was_set_back_is_moodles_where_another_claim_shows_that_the_database_is_no_old_copy(
    moodle: Moodle, ses: SandboxSES
) -> None:
    (set_back, _), _other = soon(moodle, 2)
    due = moodle.value(f"SELECT emailtime FROM {ROWS} WHERE id = {set_back}")
    assert intercept.run().claimed == 2
    moodle.execute(f"UPDATE {ROWS} SET emailsent = 0, emailtime = {due} WHERE id = {set_back}")
    assert sent_and_suppressed() == (1, [reasons.ROW_RESTORED])


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE {ROWS} SET completed = 1",
        f"UPDATE {ROWS} SET emailsent = 2, emailtime = emailtime + 86400",
        f"UPDATE {ROWS} SET emailsent = 3",
    ],
    ids=["completion was noted", "moodle mailed the next one", "the next one was the last"],
)
def test_a_mail_is_still_owed_where_its_row_only_went_on(
    moodle: Moodle, ses: SandboxSES, change: str
) -> None:
    soon(moodle, 1)
    assert intercept.run().claimed == 1
    moodle.execute(change)
    assert sent_and_suppressed() == (1, [])


@pytest.mark.parametrize(("sent_before", "expected"), [(0, (1, [])), (1, (0, [reasons.COMPLETED_MEANWHILE]))])
def test_of_a_row_that_completion_removed_only_the_first_mail_is_owed(
    moodle: Moodle, ses: SandboxSES, sent_before: int, expected: tuple[int, list[str]]
) -> None:
    soon(moodle, 1)
    moodle.execute(f"UPDATE {ROWS} SET emailsent = %s", [sent_before])
    assert intercept.run().claimed == 1
    Claim.objects.update(completiontime=int(time.time()) - 60)
    moodle.execute(f"DELETE FROM {ROWS}")
    assert sent_and_suppressed() == expected


def test_a_pass_asks_moodle_again_through_a_new_connection_where_its_own_broke(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon(moodle, 1)
    assert intercept.run().claimed == 1
    postpone = outcomes.postpone

    def postpone_for_no_time(*args: Any) -> int:
        count = postpone(*args)
        all_due()
        return count

    barred = eligibility._barred
    broken: list[bool] = []

    def break_once(*args: Any) -> Any:
        if not broken:
            broken.append(True)
            with connections["moodle"].cursor() as cursor:
                cursor.execute("SELECT CONNECTION_ID()")
                moodle.execute("KILL %s", cursor.fetchone())
        return barred(*args)

    monkeypatch.setattr(outcomes, "postpone", postpone_for_no_time)
    monkeypatch.setattr(eligibility, "_barred", break_once)
    all_due()
    result = dispatch.run(budget=5.0)
    assert (result.retried, result.sent) == (1, 1)


def test_an_activity_whose_texts_cannot_be_prepared_is_recorded_and_the_others_go_on(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row, _), *_ = soon(moodle)
    moodle.execute(f"UPDATE {ROWS} SET reengagement = 12 WHERE id = %s", [row])
    whole = TextRenderer.prepare

    def breaks(self: Any, activity: Any, context: Any) -> Any:
        if activity.id == 12:
            raise ValueError("secret@school.example")
        return whole(self, activity, context)

    monkeypatch.setattr(TextRenderer, "prepare", breaks)
    result = intercept.run()
    assert (result.claimed, result.errors, result.left) == (2, 1, {reasons.BROKEN_ROW: 1})
    assert "secret" not in RowError.objects.get(row_id=row).detail
