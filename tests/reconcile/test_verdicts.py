"""Each verdict on the restored site, for both sources, with Moodle's own crons and with evidence or without."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from emailoffload.actions.release import release
from emailoffload.moodle import cronlock
from emailoffload.outbox.models import Claim, Email, Forgotten
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.outbox.states import EmailState
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import dispatch, intercept, reconcile
from emailoffload.worker import reconcile_words as words
from emailoffload.worker.privacy import forget
from tests.claims.queue import queue_again, queued
from tests.conftest import Moodle
from tests.fallback.site import claimed
from tests.race.sabotages import NoLock
from tests.reconcile.conftest import Granted
from tests.reconcile.site import ago, cron, logged, notification, sent, verdicts
from tests.reengagement.test_decisions import ACTIVITY, DAY, soon

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
SOURCES = ["reengagement", "iomad_queue"]
QUEUE = "iomad_queue"
HOUR = 3600


def back(moodle: Moodle, count: int = 2, *, source: str = "reengagement") -> list[Claim]:
    """Claims that we made and handed back, by row."""
    claimed(moodle, count, source=source)
    ids = list(Claim.objects.values_list("pk", flat=True))
    assert all(outcome.released for outcome in release(ids, actor="test", reason="test"))
    return by_row()


def half(moodle: Moodle, count: int, *, source: str) -> tuple[list[Claim], list[Claim]]:
    """`count` claims that were handed back, and as many whose mails have left."""
    claimed(moodle, 2 * count, source=source)
    ids = [claim.pk for claim in by_row()]
    assert all(outcome.released for outcome in release(ids[:count], actor="test", reason="test"))
    assert dispatch.run(until_empty=True).sent == count
    found = by_row()
    return found[:count], found[count:]


def by_row() -> list[Claim]:
    return list(Claim.objects.order_by("row_id"))


def write(moodle: Moodle, claim: Claim, assignments: str, *values: Any) -> None:
    table = "mdl_reengagement_inprogress" if claim.source == "reengagement" else "mdl_email"
    assert moodle.execute(f"UPDATE {table} SET {assignments} WHERE id = %s", [*values, claim.row_id])


def write_values(moodle: Moodle, claim: Claim, values: dict[str, Any]) -> None:
    """Let the row hold what it held before or after the claim."""
    if claim.source == QUEUE:
        write(moodle, claim, "sent = %s, modifiedtime = %s", values["sent"], values["modifiedtime"])
    else:
        write(moodle, claim, "emailsent = %s, emailtime = %s", values["emailsent"], values["emailtime"])


def delete(moodle: Moodle, source: str) -> None:
    table = "mdl_reengagement_inprogress" if source == "reengagement" else "mdl_email"
    moodle.execute(f"DELETE FROM {table}")


# --- agreement ---


@pytest.mark.parametrize("source", SOURCES)
def test_rows_that_hold_our_values_agree_also_after_moodles_cron_has_looked_at_them(
    moodle: Moodle, ses: SandboxSES, evidence: None, source: str
) -> None:
    claimed(moodle, 2, source=source)
    assert verdicts() == [], "their mails wait"
    assert dispatch.run(until_empty=True).sent == 2
    cron(moodle, source)
    assert verdicts() == []


def test_a_row_that_moodle_took_to_its_next_reminder_agrees(
    moodle: Moodle, ses: SandboxSES, evidence: None
) -> None:
    moodle.execute("UPDATE mdl_reengagement SET remindercount = 5 WHERE id = %s", [ACTIVITY])
    sent(moodle)
    ago(moodle, DAY + HOUR)
    delay = moodle.value("SELECT emaildelay FROM mdl_reengagement WHERE id = %s", [ACTIVITY])
    ago(moodle, max(0, delay - DAY))
    before = moodle.rows("SELECT emailsent FROM mdl_reengagement_inprogress")
    cron(moodle)
    assert moodle.rows("SELECT emailsent FROM mdl_reengagement_inprogress") != before
    assert verdicts() == []


def test_a_row_that_a_later_claim_of_ours_took_on_agrees(
    moodle: Moodle, ses: SandboxSES, evidence: None
) -> None:
    moodle.execute("UPDATE mdl_reengagement SET remindercount = 5 WHERE id = %s", [ACTIVITY])
    sent(moodle)
    delay = moodle.value("SELECT emaildelay FROM mdl_reengagement WHERE id = %s", [ACTIVITY])
    ago(moodle, delay + 60)
    assert intercept.run().claimed == 2
    assert Claim.objects.count() == 4
    assert verdicts(days=60) == []


def test_a_row_that_moodle_removed_at_completion_agrees(
    moodle: Moodle, ses: SandboxSES, evidence: None
) -> None:
    sent(moodle)
    past = int(time.time()) - 60
    Claim.objects.update(completiontime=past)
    moodle.execute("UPDATE mdl_reengagement_inprogress SET completiontime = %s", [past])
    cron(moodle)
    assert moodle.value("SELECT COUNT(*) FROM mdl_reengagement_inprogress") == 0
    assert verdicts() == []


def test_a_mail_that_a_person_had_iomad_send_again_agrees_before_and_after_we_take_it(
    moodle: Moodle, ses: SandboxSES
) -> None:
    ids = sent(moodle, source=QUEUE)
    ago(moodle, 5)
    queue_again(moodle, ids)
    assert verdicts() == []
    assert intercept.run(source=QUEUE).claimed == 2
    assert dispatch.run(until_empty=True).sent == 2
    assert verdicts() == []


# --- handed back ---


@pytest.mark.parametrize("source", SOURCES)
def test_what_was_handed_back_waits_until_moodles_cron_picks_it_up(
    moodle: Moodle, ses: SandboxSES, source: str
) -> None:
    back(moodle, source=source)
    assert verdicts() == [(words.WAITING, words.NOT_YET)] * 2
    cron(moodle, source)
    detail = words.COUNTED if source == "reengagement" else words.QUEUE_SENT
    assert verdicts() == [(words.PICKED_UP, detail)] * 2
    closed = ReconcileFinding.objects.filter(closed_at__isnull=False)
    assert list(closed.values_list("verdict", "closed_because")) == [(words.WAITING, "changed")] * 2


def test_with_the_evidence_moodles_notification_shows_that_it_was_picked_up(
    moodle: Moodle, ses: SandboxSES, evidence: None
) -> None:
    back(moodle)
    cron(moodle)
    assert verdicts() == [(words.PICKED_UP, words.NOTIFIED)] * 2
    assert all(finding.seen["notified"] >= time.time() - 60 for finding in ReconcileFinding.objects.all())


def test_the_last_mail_that_was_handed_back_is_picked_up_when_moodle_removed_the_row(
    moodle: Moodle, ses: SandboxSES
) -> None:
    soon(moodle, 2, due=-60)
    moodle.execute("UPDATE mdl_reengagement_inprogress SET completed = 1, emailsent = 0")
    assert intercept.run().claimed == 2
    release(list(Claim.objects.values_list("pk", flat=True)), actor="test", reason="test")
    cron(moodle)
    assert verdicts() == [(words.PICKED_UP, words.LAST_REMOVED)] * 2


@pytest.mark.parametrize("source", SOURCES)
def test_what_moodle_has_not_picked_up_in_time_is_overdue_and_says_what_its_task_did(
    moodle: Moodle, ses: SandboxSES, granted: Granted, source: str
) -> None:
    back(moodle, source=source)
    ago(moodle, 2 * HOUR)
    moodle.execute("UPDATE mdl_task_scheduled SET lastruntime = 1")
    logged(moodle, source, time.time() - 300, time.time() - 299, failed=True)
    assert verdicts() == [(words.OVERDUE, words.NOT_RUN)] * 2
    with granted():
        assert verdicts() == [(words.OVERDUE, words.RUN_FAILED)] * 2
    moodle.execute("UPDATE mdl_task_scheduled SET lastruntime = %s", [int(time.time())])
    assert verdicts() == [(words.OVERDUE, words.PASSED_OVER)] * 2


# --- somebody else, and rows that are gone ---

OTHERS = {
    "reengagement": [
        "emailtime = emailtime - 5000000",
        "emailsent = 0, emailtime = 17",
        "emailsent = emailsent + 2, emailtime = 2000000000 + emailtime",
    ],
    QUEUE: ["sent = 17, modifiedtime = 17", "sent = 17, modifiedtime = 18", "sent = NULL, modifiedtime = 17"],
}


@pytest.mark.parametrize("source", SOURCES)
def test_values_that_neither_we_nor_moodle_write_are_somebody_elses(
    moodle: Moodle, ses: SandboxSES, source: str
) -> None:
    for claims in half(moodle, 3, source=source):
        for claim, assignments in zip(claims, OTHERS[source], strict=True):
            write(moodle, claim, assignments)
    assert verdicts() == [(words.TOUCHED, words.OTHER_VALUES)] * 6


@pytest.mark.parametrize("source", SOURCES)
def test_a_row_that_is_removed_early_is_gone_and_says_with_what(
    moodle: Moodle, ses: SandboxSES, source: str
) -> None:
    returned, left = half(moodle, 2, source=source)
    delete(moodle, source)
    for claim in (returned[0], left[0]):
        moodle.execute("UPDATE mdl_user SET deleted = 1 WHERE id = %s", [claim.user_id])
    assert verdicts() == [(words.GONE, words.USER_DELETED), (words.GONE, words.ROW_GONE)] * 2
    if source == "reengagement":
        moodle.execute("DELETE FROM mdl_reengagement WHERE id = %s", [ACTIVITY])
        assert verdicts() == [(words.GONE, words.USER_DELETED), (words.GONE, words.ACTIVITY_GONE)] * 2


# --- possible doubles ---


def without_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the cron lock out of the claims of this process."""
    monkeypatch.setattr(cronlock, "CronLock", NoLock)
    monkeypatch.setattr(cronlock, "is_free", lambda classname: True)


@pytest.mark.parametrize("completed", [False, True])
def test_a_claim_without_the_lock_during_a_run_is_found_as_a_possible_double(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch, granted: Granted, completed: bool
) -> None:
    soon(moodle, 4, due=-60)
    if completed:
        moodle.execute("UPDATE mdl_reengagement_inprogress SET completed = 1, emailsent = 0")
    without_lock(monkeypatch)
    mailed: list[int] = []

    def mail(one: dict[str, Any]) -> None:
        if not mailed:
            assert intercept.run().claimed == 3
            assert dispatch.run(until_empty=True).sent == 3
        mailed.append(one["row_id"])
        ours = Email.objects.filter(claim__row_id=one["row_id"]).first()
        notification(moodle, one["user_id"], ours.subject if ours else "Mine", int(time.time()))

    cron(moodle, mail=mail, later=-5)
    assert len(mailed) == 4
    if not completed:
        assert verdicts() == [(words.DOUBLE, words.OVERWRITTEN)] * 3
        return
    # Moodle removed these rows: only its notifications tell that it mailed them.
    assert verdicts() == [(words.GONE, words.LAST_GONE)] * 3
    with granted():
        assert verdicts() == [(words.DOUBLE, words.NOTICE)] * 3


def test_a_queue_row_claimed_without_the_lock_during_a_run_is_found_as_a_possible_double(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch, granted: Granted
) -> None:
    logged(moodle, QUEUE, time.time() - 600, time.time() - 599)
    moodle.execute("UPDATE mdl_email SET sent = 1 WHERE sent IS NULL")
    queued(moodle, 3)
    without_lock(monkeypatch)
    mailed: list[int] = []

    def mail(one: dict[str, Any]) -> None:
        if not mailed:
            assert intercept.run(source=QUEUE).claimed == 3
            assert dispatch.run(until_empty=True).sent == 3
        mailed.append(one["row_id"])

    cron(moodle, QUEUE, mail=mail, later=5)
    assert len(mailed) == 3
    assert verdicts() == [(words.DOUBLE, words.QUEUE_OVERWRITTEN)] * 3
    with granted():
        assert verdicts() == [(words.DOUBLE, words.QUEUE_SPANNED)] * 3


def test_the_log_of_tasks_tells_a_mail_that_was_asked_for_again_from_a_double(
    moodle: Moodle, ses: SandboxSES, granted: Granted
) -> None:
    logged(moodle, QUEUE, time.time() - 2 * HOUR, time.time() - 2 * HOUR + 1)
    ids = sent(moodle, source=QUEUE)
    ago(moodle, HOUR)
    queue_again(moodle, ids)
    cron(moodle, QUEUE)
    assert verdicts() == [(words.DOUBLE, words.QUEUE_OVERWRITTEN)] * 2
    with granted():
        assert verdicts() == []


@pytest.mark.parametrize("source", SOURCES)
def test_a_row_that_is_set_back_after_our_mail_has_left_is_a_possible_double(
    moodle: Moodle, ses: SandboxSES, source: str
) -> None:
    sent(moodle, source=source)
    for claim in by_row():
        write_values(moodle, claim, claim.before)
    assert verdicts() == [(words.DOUBLE, words.ROW_BACK)] * 2
    cron(moodle, source, later=5)
    found = words.OVERWRITTEN if source == "reengagement" else words.QUEUE_OVERWRITTEN
    assert verdicts() == [(words.DOUBLE, found)] * 2
    Email.objects.update(state=EmailState.SUPPRESSED, reason="row_restored")
    assert verdicts() == [], "ours was withheld, and Moodle sent"


def test_only_a_notification_with_the_same_subject_after_our_claim_and_before_the_next_reminder_is_one(
    moodle: Moodle, ses: SandboxSES, evidence: None
) -> None:
    sent(moodle, 3)
    one, two, three = Claim.objects.order_by("row_id")
    now = int(time.time())
    subject = Email.objects.filter(claim=one).values_list("subject", flat=True)[0]
    notification(moodle, one.user_id, "About another activity", now)
    notification(moodle, two.user_id, subject, now - HOUR)
    assert verdicts() == []
    notification(moodle, three.user_id, Email.objects.get(claim=three).subject, now)
    assert verdicts() == [(words.DOUBLE, words.NOTICE)]
    assert ReconcileFinding.objects.get().seen["notified"] == now


def test_a_notification_for_a_reminder_that_was_handed_back_is_explained_by_that(
    moodle: Moodle, ses: SandboxSES, evidence: None
) -> None:
    sent(moodle, 2)
    one, two = Claim.objects.order_by("row_id")
    mail, other = Email.objects.get(claim=one), Email.objects.get(claim=two)
    Claim.objects.filter(pk=two.pk).update(user_id=one.user_id, state="released", settled_at=two.claimed_at)
    Email.objects.filter(pk=other.pk).update(subject=mail.subject, state=EmailState.RELEASED)
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailtime = emailtime + 60, userid = %s WHERE id = %s",
        [one.user_id, two.row_id],
    )
    notification(moodle, one.user_id, mail.subject, int(time.time()))
    assert verdicts() == [(words.PICKED_UP, words.NOTIFIED)]
    notification(moodle, one.user_id, mail.subject, int(time.time()))
    assert verdicts() == [(words.DOUBLE, words.NOTICE), (words.PICKED_UP, words.NOTIFIED)]


# --- possible losses ---


@pytest.mark.parametrize("source", SOURCES)
def test_a_row_that_says_handled_without_a_mail_of_ours_is_a_possible_loss(
    moodle: Moodle, ses: SandboxSES, source: str
) -> None:
    claimed(moodle, 4, source=source)
    missing, restored, refused, returned = by_row()
    Email.objects.filter(claim=missing).delete()
    withheld = {"state": EmailState.SUPPRESSED}
    Email.objects.filter(claim=restored).update(reason="row_restored", **withheld)
    Email.objects.filter(claim=refused).update(reason="emailstop", **withheld)
    release([returned.pk], actor="test", reason="test")
    write_values(moodle, returned, returned.after)
    assert verdicts() == [
        (words.LOSS, words.NO_MAIL),
        (words.LOSS, words.WITHHELD),
        (words.LOSS, words.STILL_OURS),
    ]


def test_a_reminder_that_moodle_comes_to_after_two_days_is_a_possible_loss_before_and_after(
    moodle: Moodle, ses: SandboxSES
) -> None:
    back(moodle)
    ago(moodle, 2 * DAY + HOUR)
    assert verdicts() == [(words.LOSS, words.TOO_LATE)] * 2
    cron(moodle)
    assert verdicts() == [(words.LOSS, words.TOO_LATE)] * 2


def test_with_the_evidence_a_counted_reminder_without_a_notification_is_a_possible_loss(
    moodle: Moodle, ses: SandboxSES, evidence: None
) -> None:
    back(moodle)
    cron(moodle, mail=lambda mail: None)
    assert verdicts() == [(words.PICKED_UP, words.COUNTED)] * 2, "the run may still be mailing"
    ago(moodle, 4 * HOUR)
    assert verdicts() == [(words.LOSS, words.NO_NOTICE)] * 2


def test_whose_subject_was_erased_is_not_taken_for_a_possible_loss(
    moodle: Moodle, ses: SandboxSES, evidence: None
) -> None:
    back(moodle)
    cron(moodle)
    ago(moodle, 4 * HOUR)
    claims = list(Claim.objects.values_list("pk", flat=True))
    forget.claims(claims, Forgotten.REQUEST, timezone.now())
    assert verdicts() == [(words.PICKED_UP, words.COUNTED)] * 2


# --- what it costs ---


def test_the_notifications_are_read_by_an_index(moodle: Moodle, ses: SandboxSES, evidence: None) -> None:
    sent(moodle, 2)
    asked: list[str] = []

    def listen(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "notifications" in sql and "information_schema" not in sql:
            with moodle.connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {sql}", params)
                asked.extend(str(row[5]) for row in cursor.fetchall())
        return execute(sql, params, many, context)

    for number in range(300):
        notification(moodle, 50_000 + number, "x", int(time.time()) - 90 * DAY + number)
    moodle.execute("ANALYZE TABLE mdl_notifications")
    with connections["moodle"].execute_wrapper(listen):
        assert reconcile.run(whole=True).complete
    assert asked
    assert all("mdl_noti_" in key for key in asked)
