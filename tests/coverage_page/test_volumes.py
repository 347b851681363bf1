"""What is waiting: the sums that the server makes, against the same rules gone through mail by mail."""

from __future__ import annotations

import random
import time

import pytest

from emailoffload.sources import volumes
from emailoffload.sources.reengagement.timing import TWO_DAYS
from tests.conftest import Moodle
from tests.coverage_page.site import ACTIVITY, DAY
from tests.iomad import queue

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
SETTINGS = {12: (2, 3, 2 * DAY), 13: (2, 1, 300), 14: (1, 3, DAY), 15: (0, 3, DAY), 16: (2, 40, 3600)}
"""Of some activities: mode, reminders, delay."""


def mails(mode: int, count: int, delay: int, row: tuple[int, int, int, int], now: int, until: int) -> int:
    """The mails of facts §2.5 to §2.9 from `now` to `until`, one after the other; no run of the cron is late."""
    completes, due, sent, completed = row
    if mode == 1:
        return int(not completed and completes < until and completes + TWO_DAYS >= now)
    found = 0
    while mode == 2 and sent < count:
        at = max(due, now)
        if at >= until:
            break
        in_time = due + TWO_DAYS >= now
        if completed or (completes <= at and sent == 0):
            return found + in_time  # the last one, and the row goes
        if completes <= at:
            break
        found += in_time
        sent += 1
        due = at + delay
    return found


def test_what_is_owed_is_what_the_rules_come_to_row_by_row(moodle: Moodle) -> None:
    chance, now = random.Random(8), int(time.time())
    moodle.execute("DELETE FROM mdl_reengagement_inprogress")
    wanted: dict[int, list[int]] = {}
    for activity, (mode, count, delay) in SETTINGS.items():
        moodle.execute(
            "UPDATE mdl_reengagement SET emailuser = %s, remindercount = %s, emaildelay = %s WHERE id = %s",
            [mode, count, delay, activity],
        )
        for _ in range(120):
            due = now + chance.choice([-3 * DAY, -DAY, 0, 3600, 2 * DAY, 9 * DAY]) + chance.randint(-90, 90)
            completes = chance.choice([due, due + chance.randint(-DAY, 9 * DAY), now + 30 * DAY])
            row = (completes, due, chance.choice([0, 0, 1, 2]), chance.choice([0, 0, 0, 1]))
            numbers = wanted.setdefault(activity, [0, 0, 0])
            numbers[0] += 1
            numbers[1] += mails(mode, count, delay, row, now, now + DAY)
            numbers[2] += mails(mode, count, delay, row, now, now + 7 * DAY)
            moodle.insert(
                "mdl_reengagement_inprogress", reengagement=activity, userid=3, completiontime=row[0],
                emailtime=row[1], emailsent=row[2], completed=row[3],
            )  # fmt: skip
    moodle.insert(
        "mdl_reengagement_inprogress", reengagement=999, userid=3, completiontime=now, emailtime=now, emailsent=0,
        completed=0,
    )  # fmt: skip
    (found,) = volumes.reminders(now)
    assert {number: [each.learners, each.day, each.week] for number, each in found.items()} == wanted
    assert wanted[12][2] > wanted[12][1] > 0
    assert wanted[15][1:] == [0, 0]


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
@pytest.mark.parametrize("column", ["emailtime", "completiontime"])
def test_a_damaged_row_does_not_keep_the_others_from_being_counted(
    moodle: Moodle, column: str, value: int
) -> None:
    now = int(time.time())
    before = sum(each.learners for window in volumes.reminders(now) for each in window.values())
    moodle.execute(f"UPDATE mdl_reengagement_inprogress SET {column} = %s ORDER BY id LIMIT 1", [value])
    after = sum(each.learners for window in volumes.reminders(now) for each in window.values())
    assert before == after > 1


def test_windows_lose_no_row_and_repeat_none(moodle: Moodle, monkeypatch: pytest.MonkeyPatch) -> None:
    now = int(time.time())
    whole = sum(each.learners for window in volumes.reminders(now) for each in window.values())
    assert whole == moodle.value("SELECT COUNT(*) FROM mdl_reengagement_inprogress") > 1000
    monkeypatch.setattr(volumes, "REMINDER_WINDOW", 700)
    windows = list(volumes.reminders(now))
    assert len(windows) > 3
    assert sum(each.learners for window in windows for each in window.values()) == whole


def test_an_empty_table_is_no_work(moodle: Moodle) -> None:
    moodle.execute("DELETE FROM mdl_reengagement_inprogress")
    queue.empty(moodle)
    assert list(volumes.reminders(ACTIVITY)) == list(volumes.queued(ACTIVITY)) == []


def test_the_queue_is_counted_by_company_and_kind_whatever_the_case_of_its_name(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "QUEUE_WINDOW", 2)
    queue.empty(moodle)
    now = int(time.time())
    queue.put(moodle, templatename="user_create")
    queue.put(moodle, templatename="User_Create", due=now + 3 * DAY)
    queue.put(moodle, templatename="user_create", sent=now - 3600, modifiedtime=now - 3600)
    queue.put(moodle, templatename="user_create", sent=now - 9 * DAY, modifiedtime=now - 9 * DAY)
    queue.put(moodle, templatename="user_create", userid=-999)
    queue.put(moodle, templatename=None, companyid=7)
    found: dict[volumes.Kind, volumes.Queued] = {}
    for window in volumes.queued(now):
        for kind, numbers in window.items():
            found.setdefault(kind, volumes.Queued()).__iadd__(numbers)
    assert found == {
        (1, "user_create"): volumes.Queued(waiting=3, day=2, recent=4, shop=1),
        (7, ""): volumes.Queued(waiting=1, day=1, recent=1),
    }
