"""Which rows of IOMAD's queue are claimed, and why the others stay with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from emailoffload.moodle import iomad
from emailoffload.moodle.errors import TaskMissing
from emailoffload.moodle.formatting.phpserialize import PhpObject
from emailoffload.outbox.models import Claim, RowError
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.sources.iomad_queue import scan
from emailoffload.sources.iomad_queue.compose import Composer
from emailoffload.sources.iomad_queue.source import QueueSource
from emailoffload.sources.protocol import Clock
from emailoffload.worker import intercept
from tests.conftest import Moodle
from tests.iomad import queue

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
DAY = 86400


@pytest.fixture(autouse=True)
def nothing_waits(moodle: Moodle) -> None:
    queue.empty(moodle)


def only(moodle: Moodle, **values: Any) -> str:
    """The reason of a queue with just this row; a claimed one's too."""
    row = queue.put(moodle, **values)
    (decision,) = queue.decide().values()
    assert (decision.row_id, decision.candidate is not None) == (
        row,
        decision.reason in (reasons.CLAIMED_UNDER_LOCK, reasons.CLAIMED_AHEAD),
    )
    return decision.reason


# --- the scan ---


def test_found_are_rows_that_wait_and_are_due_beyond_the_mark_in_order_of_id(moodle: Moodle) -> None:
    now = int(time.time())
    first, second = queue.put(moodle), queue.put(moodle, due=now - 5000)
    queue.put(moodle, sent=now)
    later = queue.put(moodle, due=now + 60)
    assert [row.id for row in scan.due_rows(now)] == [first, second]
    assert [row.id for row in scan.due_rows(now + 61)] == [first, second, later]
    assert [row.id for row in scan.due_rows(now + 60, above=first)] == [second]
    assert list(scan.due_rows(now, above=later)) == []


def test_windows_and_chunks_of_the_scan_lose_no_row_and_repeat_none(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "WINDOW", 7)
    monkeypatch.setattr(scan, "CHUNK", 3)
    wanted = [queue.put(moodle, sent=None if number % 4 else 1) for number in range(40)]
    wanted = [row for number, row in enumerate(wanted) if number % 4]
    assert [row.id for row in scan.due_rows(int(time.time()))] == wanted
    assert sorted(scan.states(wanted)) == wanted


def test_a_row_says_all_that_a_pass_asks_of_it(moodle: Moodle) -> None:
    due = int(time.time()) - 77
    queue.put(moodle, due=due, templatename=None, courseid=None, senderid=None)
    (row,) = scan.due_rows(due + 1)
    assert (row.due, row.userid, row.activity_id, row.templatename) == (due, queue.USER, 0, None)


# --- who is mailed ---

Change = Callable[[Moodle], Any]


def sql(statement: str, *args: Any) -> Change:
    return lambda moodle: moodle.execute(statement, args)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (sql("UPDATE mdl_user SET deleted = 1 WHERE id = 15"), reasons.USER_DELETED),
        (sql("UPDATE mdl_user SET suspended = 1 WHERE id = 15"), "user_suspended"),
        (sql("UPDATE mdl_user SET email = '' WHERE id = 15"), "no_address"),
        (sql("UPDATE mdl_user SET email = 'nowhere' WHERE id = 15"), "address_invalid"),
        (sql("UPDATE mdl_email SET userid = 999999"), reasons.USER_MISSING),
        (sql("UPDATE mdl_email SET userid = -999"), reasons.SHOP_ADMIN),
        (sql("UPDATE mdl_email SET companyid = 0"), reasons.COMPANY_UNKNOWN),
        (sql("UPDATE mdl_email SET companyid = 999"), reasons.COMPANY_UNKNOWN),
        (sql("UPDATE mdl_email SET headers = 'a:1:{'"), reasons.HEADERS_UNREADABLE),
        (lambda moodle: moodle.set_config("noemailever", "1"), "noemailever"),
        (lambda moodle: moodle.set_config("noreplyaddress1", "not an address"), reasons.SENDER_UNUSABLE),
        (lambda moodle: moodle.set_config("divertallemailsto", "nobody"), "address_invalid"),
    ],
)
def test_what_iomad_would_not_mail_or_we_cannot_is_left_with_its_reason(
    moodle: Moodle, change: Change, reason: str
) -> None:
    queue.put(moodle)
    change(moodle)
    (decision,) = queue.decide().values()
    assert (decision.reason, decision.candidate) == (reason, None)
    assert reasons.meaning(reason) != reason


@pytest.mark.parametrize("column", ["emailstop", "confirmed"])
def test_iomad_asks_for_no_preferences_so_neither_do_we(moodle: Moodle, column: str) -> None:
    moodle.execute(f"UPDATE mdl_user SET {column} = 1 - {column}, auth = 'nologin', mailformat = 0,"
                   " email = 'iom1@lab.invalid' WHERE id = 15")  # fmt: skip
    moodle.insert("mdl_user_preferences", userid=15, name="email_bounce_count", value="99")
    assert only(moodle) == reasons.CLAIMED_UNDER_LOCK
    assert queue.mails()[0].html == "<p>Hello</p>"


@pytest.mark.parametrize(
    ("suspended", "deleted", "reason"),
    [(1, 0, reasons.CLAIMED_UNDER_LOCK), (1, 1, reasons.USER_DELETED), (0, 0, reasons.CLAIMED_UNDER_LOCK)],
)
def test_the_mail_about_a_suspended_company_goes_to_suspended_users_too_but_not_to_deleted_ones(
    moodle: Moodle, suspended: int, deleted: int, reason: str
) -> None:
    moodle.execute("UPDATE mdl_user SET suspended = %s, deleted = %s WHERE id = 15", [suspended, deleted])
    assert only(moodle, templatename="company_suspended") == reason


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (179 * DAY, reasons.CLAIMED_UNDER_LOCK),
        (180 * DAY - 200, reasons.QUEUED_TOO_LONG),
        (300 * DAY, reasons.QUEUED_TOO_LONG),
    ],
)
def test_a_row_that_iomad_deletes_in_its_next_run_is_left(moodle: Moodle, age: int, reason: str) -> None:
    assert only(moodle, modifiedtime=int(time.time()) - age) == reason


# --- templates that a company switched off (facts §7.5) ---

ON, OFF = (0, 0, 0), (1, 0, 0)


@pytest.mark.parametrize(
    ("name", "rows", "branch", "disabled"),
    [
        ("user_create", [], 404, False),
        ("user_create", [ON], 404, False),
        ("user_create", [OFF], 404, True),
        ("user_create", [(1, 1, 1)], 404, True),
        ("user_create", [OFF, ON], 404, False),
        ("user_create", [OFF, (0, 1, 0)], 404, True),
        ("user_create", [(0, 1, 1)], 404, False),
        ("completion_digest_manager", [OFF], 404, False),
        ("completion_digest_manager", [OFF], 401, True),
        ("completion_digest_manager", [(0, 1, 0)], 404, True),
        ("completion_digest_manager", [(0, 0, 1)], 404, False),
        ("completion_warn_supervisor", [(0, 0, 1)], 404, True),
        ("completion_warn_supervisor", [(0, 1, 0)], 404, False),
        ("manager_news", [(0, 1, 0)], 404, False),
        ("manager_news", [OFF], 404, True),
    ],
)
def test_whether_a_company_has_switched_a_template_off(
    moodle: Moodle, name: str, rows: list[tuple[int, int, int]], branch: int, disabled: bool
) -> None:
    moodle.execute("DELETE FROM mdl_email_template")
    for lang, row in zip(("de", "en", "fr"), rows, strict=False):
        values = dict(zip(("disabled", "disabledmanager", "disabledsupervisor"), row, strict=True))
        moodle.insert("mdl_email_template", companyid=1, name=name, lang=lang, **values)
    moodle.insert("mdl_email_template", companyid=2, name=name, lang="en", disabled=1)
    assert iomad.load_disabled({(1, name), (3, name)}, branch) == ({(1, name)} if disabled else set())


def test_a_mail_whose_template_is_switched_off_is_left_because_iomad_deletes_it(moodle: Moodle) -> None:
    moodle.execute("UPDATE mdl_email_template SET disabled = 1 WHERE name = 'user_create'")
    row = queue.put(moodle)
    other = queue.put(moodle, templatename="user_reset")
    found = queue.decide()
    assert found[row].reason == reasons.TEMPLATE_DISABLED
    assert found[other].reason == reasons.CLAIMED_UNDER_LOCK


# --- the candidate ---


def test_a_candidate_carries_the_row_the_values_and_the_names_of_all_concerned(moodle: Moodle) -> None:
    modified = int(time.time()) - 3600
    row = queue.put(moodle, modifiedtime=modified)
    found = queue.candidate(queue.decide()[row])
    written = found.after["sent"]
    assert written is not None
    assert 0 < time.time() - written < 30
    assert found.before == {"sent": None, "modifiedtime": modified}
    assert found.after == {"sent": written, "modifiedtime": written}
    assert (found.source, found.row_id, found.template) == ("iomad_queue", row, "user_create")
    assert (found.company_id, found.company_name) == (1, queue.COMPANY_NAME)
    assert (found.course_id, found.activity_id, found.cmid) == (queue.COURSE, 0, 0)
    assert (found.user_id, found.user_name, found.user_email) == (15, 'Iona Mad & "q"', queue.USER_ADDRESS)
    assert (found.ordinal, found.is_last, found.completiontime, found.rearm) == (1, True, 0, 0)


def test_a_row_due_far_enough_ahead_is_claimed_ahead_and_else_under_the_lock(moodle: Moodle) -> None:
    now = int(time.time())
    ahead, soon = queue.put(moodle, due=now + 500), queue.put(moodle, due=now + 10)
    found = queue.decide()
    assert (found[ahead].reason, queue.candidate(found[ahead]).under_lock) == ("claimed_ahead", False)
    assert (found[soon].reason, queue.candidate(found[soon]).under_lock) == ("claimed_under_lock", True)


def test_the_values_to_write_are_those_of_the_moment_of_the_claim(moodle: Moodle) -> None:
    row = queue.put(moodle)
    found = queue.candidate(queue.decide()[row])
    later = QueueSource(parity="default").as_of(found, 2_000_000_000)
    assert later.after == {"sent": 1_999_999_999, "modifiedtime": 1_999_999_999}
    assert (later.before, later.mails) == (found.before, found.mails)


def test_the_lock_is_that_of_iomads_own_task_and_nothing_else_stands_in_the_way(moodle: Moodle) -> None:
    source = QueueSource(parity="default")
    assert source.lock_target() == r"\local_email\task\cron_task"
    assert source.obstacle() == ""
    moodle.execute("DELETE FROM mdl_task_scheduled WHERE component = 'local_email'")
    with pytest.raises(TaskMissing):
        source.lock_target()


# --- many rows, bad rows ---


def test_one_bad_row_stops_no_other_and_is_recorded_without_a_word_of_the_mail(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [queue.put(moodle, subject=f"Mail {number}") for number in range(3)]
    whole = Composer.mails

    def breaks(self: Any, row: Any, *args: Any, **options: Any) -> Any:
        if row.id == rows[1]:
            raise ValueError("hunter2")
        return whole(self, row, *args, **options)

    monkeypatch.setattr(Composer, "mails", breaks)
    result = intercept.run(source="iomad_queue")
    assert (result.claimed, result.errors, dict(result.left)) == (2, 1, {reasons.BROKEN_ROW: 1})
    error = RowError.objects.get()
    assert (error.row_id, error.reason) == (rows[1], reasons.BROKEN_ROW)
    assert "ValueError" in error.detail
    assert "hunter2" not in error.detail


@pytest.mark.parametrize("due", [-1, -(10**14)])
def test_a_row_that_is_due_at_no_time_stops_no_other(moodle: Moodle, ses: SandboxSES, due: int) -> None:
    good, bad, other = queue.put(moodle), queue.put(moodle, due=due), queue.put(moodle)
    result = intercept.run(source="iomad_queue")
    assert (result.claimed, result.left) == (2, {reasons.BROKEN_ROW: 1})
    assert RowError.objects.get().row_id == bad
    assert set(Claim.objects.values_list("row_id", flat=True)) == {good, other}


def test_damaged_rows_are_on_record_with_where_the_damage_is(moodle: Moodle, ses: SandboxSES) -> None:
    damaged = {
        queue.put(moodle, headers='a:1:{s:8:"hunter2"'): reasons.HEADERS_UNREADABLE,
        queue.put(moodle, headers="", templatename="unheard_of"): reasons.HEADERS_MISSING,
        queue.put(moodle, companyid=99): reasons.COMPANY_UNKNOWN,
        queue.put(moodle, userid=999999): reasons.USER_MISSING,
    }
    result = intercept.run(source="iomad_queue")
    assert (result.claimed, result.errors) == (0, 4)
    errors = {error.row_id: error for error in RowError.objects.all()}
    assert {row: error.reason for row, error in errors.items()} == damaged
    assert "at byte" in errors[min(damaged)].detail
    assert not any("hunter2" in error.detail for error in errors.values())


def test_the_number_of_queries_does_not_grow_with_the_number_of_rows(moodle: Moodle) -> None:
    stored = queue.headers(disabledmanager="", disabledsupervisor="", emailcc="16,3")
    source = QueueSource(parity="default")
    counts = []
    for more in (1, 30):
        for number in range(more):
            queue.put(moodle, userid=queue.PLAIN_USERS[number], headers=stored if number % 2 else None)
        rows = list(scan.due_rows(int(time.time())))
        with (
            CaptureQueriesContext(connections["moodle"]) as moodles,
            CaptureQueriesContext(connection) as ours,
        ):
            found = source.decide(rows, queue.clock())
        assert {each.reason for each in found} == {reasons.CLAIMED_UNDER_LOCK}
        counts.append(len(moodles) + len(ours))
    assert counts[1] <= counts[0] + 8  # what only rows with a stored template ask for
    assert counts[1] < 30


def test_bodies_are_read_only_of_rows_that_may_be_claimed(moodle: Moodle) -> None:
    good, bad = queue.put(moodle), queue.put(moodle, userid=-999)
    rows = list(scan.due_rows(int(time.time())))
    with CaptureQueriesContext(connections["moodle"]) as queries:
        QueueSource(parity="default").decide(rows, queue.clock())
    asked = [each["sql"] for each in queries if "`body`" in each["sql"]]
    assert len(asked) == 1
    assert str(good) in asked[0]
    assert str(bad) not in asked[0]


def test_a_row_that_is_sent_between_the_scan_and_its_decision_is_left(moodle: Moodle) -> None:
    row = queue.put(moodle)
    rows = list(scan.due_rows(int(time.time())))
    moodle.execute("UPDATE mdl_email SET sent = 1 WHERE id = %s", [row])
    (decision,) = QueueSource(parity="default").decide(rows, Clock(int(time.time()), 30, 300))
    assert decision.reason == reasons.ROW_CHANGED


# --- headers ---


@pytest.mark.parametrize(
    "stored",
    [
        "x",
        "i:5;",
        'a:1:{s:8:"template";i:5;}',
        'a:1:{s:8:"template";a:1:{i:0;i:1;}}',
        queue.headers(emailto="16,x"),
        queue.headers(emailcc="1 6"),
        queue.headers(emailtoother=True),
        queue.headers("Bcc:a@b.example"),
        queue.headers("no colon"),
        queue.headers(more={7: 5}),
        queue.headers(more={"From": "a@b.example"}),
        queue.headers(more={"attachment": "x"}),
        queue.headers(more={"attachment": PhpObject({"filepath": "/x"})}),
    ],
)
def test_headers_that_iomad_does_not_write_leave_the_row_visibly_and_quote_nothing(
    moodle: Moodle, stored: str
) -> None:
    row = queue.put(moodle, headers=stored)
    found = queue.decide()[row]
    assert found.reason == reasons.HEADERS_UNREADABLE
    assert found.detail
    assert "@" not in found.detail


@pytest.mark.parametrize("stored", [None, "", "0", "a:0:{}"])
@pytest.mark.parametrize(
    ("lang", "rows", "cc"),
    [
        ("de", {"de": "16", "en": "3"}, [queue.MANAGER_ADDRESS]),
        ("fr", {"de": "16", "en": "3"}, ["gplain@lab.example"]),
        ("", {"de": "16", "en": "3"}, ["gplain@lab.example"]),
        ("fr", {"de": "16"}, []),
    ],
)
def test_without_a_stored_template_it_is_the_companys_in_the_users_language_or_english_or_the_built_in_one(
    moodle: Moodle, stored: str | None, lang: str, rows: dict[str, str], cc: list[str]
) -> None:
    moodle.execute("DELETE FROM mdl_email_template")
    moodle.execute("DELETE FROM mdl_company_users WHERE managertype = 1")
    moodle.execute("UPDATE mdl_user SET lang = %s WHERE id = 15", [lang])
    for each, users in rows.items():
        moodle.insert("mdl_email_template", companyid=1, name="user_create", lang=each, emailcc=users)
    queue.put(moodle, headers=stored)
    assert queue.addresses() == [queue.USER_ADDRESS, *cc]


@pytest.mark.parametrize(
    ("stored", "values", "row"),
    [
        ("", {"emailfrom": 16}, {}),
        ("", {"emailfromother": "hr@lab.example"}, {}),
        ("", {}, {"courseid": 999}),
        ("a:0:{}", {}, {"courseid": 999}),
        ("", {}, {"templatename": "unheard_of"}),
        ("", {}, {"templatename": None}),
    ],
)
def test_without_a_stored_template_a_row_on_which_iomads_run_fails_is_left(
    moodle: Moodle, stored: str, values: dict[str, Any], row: dict[str, Any]
) -> None:
    moodle.execute("DELETE FROM mdl_email_template")
    moodle.insert("mdl_email_template", companyid=1, name="user_create", lang="en", **values)
    assert only(moodle, headers=stored, **row) == reasons.HEADERS_MISSING


def test_a_language_that_may_not_be_read_leaves_what_needs_it_and_nothing_else(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iomad.readable_columns

    def without_language(*about: Any) -> Any:
        return {table: {c: v for c, v in held.items() if c != "lang"} for table, held in seen(*about).items()}

    monkeypatch.setattr(iomad, "readable_columns", without_language)
    bare, whole = queue.put(moodle, headers=""), queue.put(moodle)
    found = queue.decide()
    assert (found[bare].reason, "moodlegrants" in found[bare].detail) == (reasons.HEADERS_MISSING, True)
    assert found[whole].candidate is not None


def test_with_headers_but_no_template_in_them_the_sender_of_the_one_found_counts(moodle: Moodle) -> None:
    moodle.execute("UPDATE mdl_email_template SET emailfrom = 16 WHERE name = 'user_create'")
    queue.put(moodle, headers="a:0:{}")
    assert {mail.from_address for mail in queue.mails()} == {queue.MANAGER_ADDRESS}
