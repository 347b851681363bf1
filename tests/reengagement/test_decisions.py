"""Every decision of a pass on the real site's rows, with its reason; one bad row never stops the rest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from emailoffload.delivery import rate
from emailoffload.moodle import cronlock
from emailoffload.outbox import switches
from emailoffload.outbox.models import Claim, Email, RowError, Run
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.sources.reengagement import timing
from emailoffload.worker import intercept
from tests.conftest import Moodle
from tests.queries import counted

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
ACTIVITY, DAY = 13, 86400
Change = Callable[[Moodle, int, int], None]


def soon(moodle: Moodle, count: int = 3, *, due: int = 300) -> list[tuple[int, int]]:
    """Leave a few reminders of one activity, due soon: (row id, user id)."""
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE reengagement <> %s", [ACTIVITY])
    keep = moodle.rows("SELECT id, userid FROM mdl_reengagement_inprogress ORDER BY id LIMIT %s", [count])
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE id > %s", [keep[-1][0]])
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailtime = %s", [int(time.time()) + due])
    return [(row[0], row[1]) for row in keep]


def sql(statement: str) -> Change:
    def change(moodle: Moodle, row: int, user: int) -> None:
        moodle.execute(statement.format(row=row, user=user, now=int(time.time())))

    return change


def message(name: str, value: str) -> Change:
    return lambda moodle, row, user: moodle.set_config(name, value, plugin="message")


OF_ACTIVITY = f"WHERE instance = {ACTIVITY} AND module = 19"
ITSELF = f"WHERE id = {ACTIVITY}"
PREFIX = "mod_reengagement_mod_reengagement"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (sql("UPDATE mdl_user SET deleted = 1 WHERE id = {user}"), reasons.USER_DELETED),
        (sql("UPDATE mdl_user SET suspended = 1 WHERE id = {user}"), "user_suspended"),
        (sql("UPDATE mdl_user SET emailstop = 1 WHERE id = {user}"), "emailstop"),
        (sql("UPDATE mdl_user SET auth = 'nologin' WHERE id = {user}"), "auth_nologin"),
        (sql("UPDATE mdl_user SET email = 'nowhere' WHERE id = {user}"), "address_invalid"),
        (sql("UPDATE mdl_user SET email = 'a@b.invalid' WHERE id = {user}"), "address_dot_invalid"),
        (sql("UPDATE mdl_user_enrolments SET status = 1 WHERE userid = {user}"), reasons.NOT_ENROLLED),
        (
            sql("UPDATE mdl_user_enrolments SET timeend = {now} - 5 WHERE userid = {user}"),
            reasons.NOT_ENROLLED,
        ),
        (sql("DELETE FROM mdl_role_assignments WHERE userid = {user}"), reasons.NOT_ENROLLED),
        (
            sql("UPDATE mdl_reengagement_inprogress SET userid = 999999 WHERE id = {row}"),
            reasons.USER_MISSING,
        ),
        (
            sql(
                "UPDATE mdl_reengagement_inprogress SET emailsent = 1, completiontime = {now} + 10 WHERE id = {row}"
            ),
            reasons.COMPLETES_FIRST,
        ),
        (
            sql("UPDATE mdl_reengagement_inprogress SET completiontime = emailtime + 100 WHERE id = {row}"),
            reasons.COMPLETION_UNCLEAR,
        ),
        (
            sql("UPDATE mdl_reengagement_inprogress SET emailtime = {now} - 172900 WHERE id = {row}"),
            reasons.TOO_LATE,
        ),
    ],
)
def test_a_row_that_moodle_would_not_mail_is_left_with_its_reason_and_the_others_go_on(
    moodle: Moodle, ses: SandboxSES, change: Change, reason: str
) -> None:
    (row, user), *_ = soon(moodle)
    change(moodle, row, user)
    before = moodle.rows("SELECT * FROM mdl_reengagement_inprogress WHERE id = %s", [row])
    result = intercept.run()
    assert result.left == {reason: 1}
    assert result.claimed == 2
    assert moodle.rows("SELECT * FROM mdl_reengagement_inprogress WHERE id = %s", [row]) == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (sql(f"DELETE FROM mdl_course_modules {OF_ACTIVITY}"), reasons.NO_COURSE_MODULE),
        (sql(f"UPDATE mdl_course_modules SET deletioninprogress = 1 {OF_ACTIVITY}"), reasons.MODULE_BEING_DELETED),
        (sql(f"UPDATE mdl_reengagement SET emailrecipient = 2 {ITSELF}"), reasons.RECIPIENT_BOTH),
        (sql(f"UPDATE mdl_reengagement SET emailrecipient = 1 {ITSELF}"), reasons.RECIPIENT_MANAGER),
        (sql(f"UPDATE mdl_reengagement SET emailcontent = 'See $$x^2$$ now' {ITSELF}"), "filter_unsupported"),
        (message(f"{PREFIX}_disable", "1"), "provider_disabled"),
        (message(f"message_provider_{PREFIX}_enabled", "popup"), "preference_off"),
    ],
)  # fmt: skip
def test_what_concerns_a_whole_activity_leaves_all_its_rows(
    moodle: Moodle, ses: SandboxSES, change: Change, reason: str
) -> None:
    found = soon(moodle)
    change(moodle, *found[0])
    result = intercept.run()
    assert result.left == {reason: 3}
    assert result.claimed == 0
    assert not Claim.objects.exists()


@pytest.mark.parametrize("mode", [0, 1, 3])
def test_activities_of_other_modes_are_not_even_looked_at(moodle: Moodle, ses: SandboxSES, mode: int) -> None:
    soon(moodle)
    moodle.execute("UPDATE mdl_reengagement SET emailuser = %s WHERE id = %s", [mode, ACTIVITY])
    assert intercept.run().seen == 0


def test_rows_that_owe_nothing_or_are_far_off_are_not_looked_at(moodle: Moodle, ses: SandboxSES) -> None:
    (first, _), (second, _), _third = soon(moodle)
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailsent = 3 WHERE id = %s", [first])
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailtime = emailtime + 3600 WHERE id = %s", [second]
    )
    result = intercept.run()
    assert (result.seen, result.claimed) == (1, 1)


def test_a_suppress_target_that_is_complete_leaves_the_row(moodle: Moodle, ses: SandboxSES) -> None:
    found = soon(moodle)
    moodle.execute("UPDATE mdl_reengagement SET suppresstarget = 1 WHERE id = %s", [ACTIVITY])
    for state, (_, user) in zip((1, 4, 0), found, strict=True):
        moodle.execute("DELETE FROM mdl_course_modules_completion WHERE userid = %s", [user])
        moodle.insert(
            "mdl_course_modules_completion",
            coursemoduleid=1,
            userid=user,
            completionstate=state,
            timemodified=0,
        )
    result = intercept.run()
    assert (result.left, result.claimed) == ({reasons.TARGET_COMPLETE: 1}, 2)


def test_damaged_rows_are_recorded_once_and_counted_again(moodle: Moodle, ses: SandboxSES) -> None:
    (row, _), *_ = soon(moodle)
    moodle.execute("UPDATE mdl_reengagement_inprogress SET userid = 999999 WHERE id = %s", [row])
    assert intercept.run().errors == 1
    assert intercept.run().errors == 1
    error = RowError.objects.get()
    assert (error.row_id, error.reason, error.times) == (row, reasons.USER_MISSING, 2)
    assert Run.objects.filter(kind="intercept").latest("id").outcome == "errors"


def test_a_row_whose_rendering_breaks_is_recorded_and_the_others_go_on(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row, user), *_ = soon(moodle)
    from emailoffload.sources.reengagement.texts import TextRenderer

    whole = TextRenderer.render_user

    def breaks(self: Any, prepared: Any, learner: Any, **options: Any) -> Any:
        if learner.user.id == user:
            raise ValueError("secret@school.example")
        return whole(self, prepared, learner, **options)

    monkeypatch.setattr(TextRenderer, "render_user", breaks)
    result = intercept.run()
    assert (result.claimed, result.errors) == (2, 1)
    error = RowError.objects.get(row_id=row, reason=reasons.BROKEN_ROW)
    assert "ValueError" in error.detail
    assert "secret" not in error.detail


def test_due_rows_stay_with_moodle_while_its_cron_runs_and_are_claimed_when_it_does_not(
    moodle: Moodle, ses: SandboxSES
) -> None:
    soon(moodle, due=-60)
    with cronlock.CronLock(cronlock.reengagement_lock_target()) as cron:
        assert cron.acquired
        assert intercept.run().left == {reasons.CRON_RUNNING: 3}
    result = intercept.run()
    assert result.reasons == {reasons.CLAIMED_UNDER_LOCK: 3}
    now = int(time.time())
    delay = moodle.value("SELECT emaildelay FROM mdl_reengagement WHERE id = %s", [ACTIVITY])
    for (emailtime,) in moodle.rows("SELECT emailtime FROM mdl_reengagement_inprogress"):
        assert now - 30 <= emailtime - delay <= now - 1


@pytest.mark.parametrize(
    "factory", ["db_record", "file", r"\core\lock\db_record_lock_factory", "redis", "mine"]
)
def test_due_rows_stay_with_moodle_where_its_lock_cannot_be_shared_but_rows_of_the_future_do_not(
    moodle: Moodle, ses: SandboxSES, settings: Any, factory: str
) -> None:
    settings.MOODLE_LOCK_FACTORY = factory
    (row, _), *_ = soon(moodle)
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailtime = emailtime - 400 WHERE id = %s", [row])
    result = intercept.run()
    assert (result.left, result.claimed) == ({reasons.LOCK_UNAVAILABLE: 1}, 2)


def test_a_row_within_the_margin_counts_as_due(moodle: Moodle, ses: SandboxSES, settings: Any) -> None:
    settings.MOODLE_LOCK_FACTORY = "file"
    soon(moodle, due=20)
    assert intercept.run().left == {reasons.LOCK_UNAVAILABLE: 3}


def test_the_last_mail_owed_leaves_nothing_that_moodle_could_send(moodle: Moodle, ses: SandboxSES) -> None:
    (row, _), *_ = soon(moodle)
    moodle.execute("UPDATE mdl_reengagement_inprogress SET completed = 1 WHERE id = %s", [row])
    due = moodle.value("SELECT emailtime FROM mdl_reengagement_inprogress WHERE id = %s", [row])
    assert intercept.run().reasons[reasons.LAST_MAIL_OWED] == 1
    assert moodle.rows(
        "SELECT emailsent, emailtime, completed FROM mdl_reengagement_inprogress WHERE id = %s", [row]
    ) == [(3, due, 1)]


def test_nothing_is_claimed_while_claiming_is_paused_or_ses_refuses(moodle: Moodle, ses: SandboxSES) -> None:
    soon(moodle)
    switches.set_pause(switches.Pause(claims=True))
    assert intercept.run().left == {reasons.CLAIMS_PAUSED: 3}
    switches.set_pause(switches.Pause())
    rate.forget()
    ses.api.sending_enabled = False
    assert intercept.run().left == {reasons.DELIVERY_UNHEALTHY: 3}
    assert not Claim.objects.exists()


def test_no_more_is_claimed_than_the_quota_allows_above_what_is_kept_for_credentials(
    moodle: Moodle, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emailoffload.delivery import ses as product

    settings.SENSITIVE_QUOTA_RESERVE = 20
    soon(moodle, 10)
    with SandboxSES(max_24h=5) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", server.url)
        product.forget_client()
        result = intercept.run()
    product.forget_client()
    assert (result.claimed, result.left) == (4, {reasons.NO_CAPACITY: 6})


def test_rows_that_cannot_be_claimed_any_more_are_not_rendered(
    moodle: Moodle, ses: SandboxSES, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emailoffload.delivery import health
    from emailoffload.sources.reengagement.source import ReengagementSource

    settings.CLAIM_BATCH_SIZE = 2
    soon(moodle, 6)
    monkeypatch.setattr(health, "room", lambda: health.Room(2, 2))
    decided = []
    decide = ReengagementSource.decide

    def watched(self: Any, rows: Any, clock: Any) -> Any:
        decided.extend(rows)
        return decide(self, rows, clock)

    monkeypatch.setattr(ReengagementSource, "decide", watched)
    result = intercept.run()
    assert (result.claimed, result.left) == (2, {reasons.NO_CAPACITY: 4})
    assert len(decided) == 2


def test_a_row_that_becomes_due_during_its_batch_is_not_claimed_under_a_lock_that_there_is_not(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon(moodle, due=60)
    moodle.execute("DELETE FROM mdl_task_scheduled WHERE component = 'mod_reengagement'")
    later = timing.Clock(int(time.time()) + 60, 30, 300)
    monkeypatch.setattr(intercept._Pass, "_clock", lambda self: later)
    result = intercept.run()
    assert (result.claimed, result.left) == (0, {reasons.LOCK_UNAVAILABLE: 3})


def test_shadow_counts_and_claims_nothing(moodle: Moodle, ses: SandboxSES) -> None:
    soon(moodle)
    before = moodle.rows("SELECT * FROM mdl_reengagement_inprogress")
    result = intercept.run(shadow=True)
    assert (result.claimed, result.shadow) == (3, True)
    assert moodle.rows("SELECT * FROM mdl_reengagement_inprogress") == before
    assert not Claim.objects.exists()
    assert not Email.objects.exists()


def test_an_unsupported_plugin_is_refused_before_anything_is_read_or_claimed(
    moodle: Moodle, ses: SandboxSES
) -> None:
    soon(moodle)
    moodle.set_config("version", "2031010100", plugin="mod_reengagement")
    result = intercept.run()
    assert result.refused
    assert result.cure
    assert (result.seen, Claim.objects.count()) == (0, 0)
    assert Run.objects.latest("id").outcome == "refused"


def test_a_pass_costs_a_bounded_number_of_queries_whatever_it_finds(
    moodle: Moodle, ses: SandboxSES, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CLAIM_BATCH_SIZE = 1000
    monkeypatch.setattr(intercept, "FIRST_BATCH", 1000)
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE reengagement NOT BETWEEN 13 AND 16")
    now = int(time.time())
    costs = []
    for part in ("MOD(id, 100) = 1", "MOD(id, 2) = 0"):
        moodle.execute(f"UPDATE mdl_reengagement_inprogress SET emailtime = %s WHERE {part}", [now + 400])
        with counted() as statements:
            result = intercept.run()
        costs.append((result.claimed, statements["moodle"], statements["default"]))
    (few, theirs_few, ours_few), (many, theirs_many, ours_many) = costs
    assert (few, many) == (20, 1000)
    assert theirs_many <= theirs_few + 3, "only lists longer than a thousand are split"
    assert ours_many <= ours_few + 12, (
        "our rows are inserted in bulk, in as many statements as their size needs"
    )
    assert theirs_many < 80
