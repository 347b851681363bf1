"""What Coverage says and what a pass decides are the same, for every setting that an activity or template can have."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from emailoffload.dashboard.coverage_lines import NOT, OFFLOADED, PARTLY
from emailoffload.moodle import refusals
from emailoffload.sources import reasons
from emailoffload.sources.reengagement import outlook
from emailoffload.worker import intercept
from tests.conftest import Moodle
from tests.coverage_page.site import (
    ACTIVITY,
    CMID,
    COURSE,
    DAY,
    as_the_form_saves,
    counted,
    kind,
    line_of,
    soon,
)
from tests.iomad import queue
from tests.routing.site import rule

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
Change = Callable[[Moodle], object]
PROVIDER = "mod_reengagement_mod_reengagement"


def sql(statement: str) -> Change:
    return lambda moodle: moodle.execute(statement)


def activity(**values: object) -> Change:
    sets = ", ".join(f"{name} = %s" for name in values)
    return lambda moodle: moodle.execute(
        f"UPDATE mdl_reengagement SET {sets} WHERE id = {ACTIVITY}", list(values.values())
    )


def message(name: str, value: str) -> Change:
    return lambda moodle: moodle.set_config(name, value, plugin="message")


def near_completion(moodle: Moodle) -> None:
    activity(duration=7 * DAY + 100, emaildelay=7 * DAY)(moodle)
    soon(moodle, completes=400)


def with_completion(moodle: Moodle) -> None:
    activity(duration=7 * DAY, emaildelay=7 * DAY)(moodle)
    soon(moodle, completes=300)


MODULE = f"WHERE id = {CMID}"
TABLE: dict[str, tuple[Change, str]] = {
    "as it is": (lambda moodle: None, ""),
    "never": (activity(emailuser=0), outlook.NEVER_MAILS),
    "on completion": (activity(emailuser=1), outlook.ON_COMPLETION),
    "after delay": (activity(emailuser=2), ""),
    "reserved mode": (activity(emailuser=3), outlook.MODE_UNKNOWN),
    "no reminder": (activity(remindercount=0), outlook.NO_REMINDERS),
    "one reminder": (activity(remindercount=1), ""),
    "hidden activity": (sql(f"UPDATE mdl_course_modules SET visible = 0 {MODULE}"), ""),
    "hidden course": (sql(f"UPDATE mdl_course SET visible = 0 WHERE id = {COURSE}"), ""),
    "hidden category": (sql("UPDATE mdl_course_categories SET visible = 0"), ""),
    "no course module": (sql(f"DELETE FROM mdl_course_modules {MODULE}"), reasons.NO_COURSE_MODULE),
    "no course": (sql(f"DELETE FROM mdl_course WHERE id = {COURSE}"), reasons.NO_COURSE_MODULE),
    "being deleted": (
        sql(f"UPDATE mdl_course_modules SET deletioninprogress = 1 {MODULE}"),
        reasons.MODULE_BEING_DELETED,
    ),
    "target": (activity(suppresstarget=CMID + 1), ""),
    "course completion as target": (activity(suppresstarget=-1), reasons.SUPPRESS_COURSE_COMPLETE),
    "managers only": (activity(emailrecipient=1), reasons.RECIPIENT_MANAGER),
    "third parties only": (
        activity(emailrecipient=1, thirdpartyemails="hr@lab.example"),
        reasons.RECIPIENT_MANAGER,
    ),
    "managers and users": (activity(emailrecipient=2), reasons.RECIPIENT_BOTH),
    "third parties too": (activity(thirdpartyemails="hr@lab.example, boss@lab.example"), ""),
    "a filter that we do not have": (activity(emailcontent="See $$x^2$$ now"), "filter_unsupported"),
    "a filter in the text for third parties": (
        activity(emailcontentthirdparty="See $$x^2$$ now", thirdpartyemails="hr@lab.example"),
        "filter_unsupported",
    ),
    "that text without third parties": (activity(emailcontentthirdparty="See $$x^2$$ now"), ""),
    "an address that SES does not take": (
        activity(thirdpartyemails='"anna"@lab.example'),
        reasons.UNSENDABLE,
    ),
    "due with completion": (with_completion, ""),
    "due shortly before completion": (near_completion, reasons.COMPLETION_UNCLEAR),
    "reminders switched off": (message(f"{PROVIDER}_disable", "1"), refusals.PROVIDER_DISABLED),
    "not by email": (message(f"message_provider_{PROVIDER}_enabled", "popup"), refusals.PREFERENCE_OFF),
    "a setting is missing": (
        sql(f"DELETE FROM mdl_config_plugins WHERE name = 'email_provider_{PROVIDER}_locked'"),
        refusals.PROCESSOR_LOCKED_MISSING,
    ),
    "no mail at all": (lambda moodle: moodle.set_config("noemailever", "1"), refusals.NOEMAILEVER),
}


@pytest.mark.parametrize("name", TABLE)
def test_coverage_says_of_an_activity_what_a_pass_decides_about_its_reminders(
    moodle: Moodle, name: str
) -> None:
    change, reason = TABLE[name]
    soon(moodle)
    change(moodle)
    line = line_of()
    result = intercept.run(shadow=True)
    assert (line.item.reason, line.verdict) == (reason, NOT if reason else OFFLOADED)
    assert result.claimed == (0 if reason else 1)
    if reason in outlook.MEANINGS:
        assert result.seen == 0
    else:
        assert result.left == ({reason: 1} if reason else {})
    assert bool(line.reason) == bool(reason)


@pytest.mark.parametrize(
    "change",
    [
        sql("UPDATE mdl_modules SET visible = 0 WHERE name = 'reengagement'"),
        sql("UPDATE mdl_task_scheduled SET disabled = 1 WHERE component = 'mod_reengagement'"),
        lambda moodle: moodle.set_config("cron_enabled", "0"),
        lambda moodle: moodle.set_config("version", "2019010100", plugin="mod_reengagement"),
    ],
    ids=["plugin off", "task off", "cron off", "unknown version"],
)
def test_where_a_pass_refuses_the_whole_plugin_so_does_coverage_with_the_same_words(
    moodle: Moodle, change: Change
) -> None:
    soon(moodle)
    change(moodle)
    line = line_of()
    result = intercept.run(shadow=True)
    assert result.refused
    assert (line.verdict, line.reason, line.steps) == (NOT, result.refused, [result.cure])


def test_every_activity_of_the_site_is_judged_as_a_pass_judges_a_reminder_of_it(moodle: Moodle) -> None:
    now = int(time.time())
    moodle.execute("UPDATE mdl_reengagement SET emailrecipient = 2 WHERE id = 22")
    learners = moodle.rows(
        "SELECT r.id, MIN(a.userid) FROM mdl_reengagement r"
        " JOIN mdl_context c ON c.contextlevel = 50 AND c.instanceid = r.course"
        " JOIN mdl_role_assignments a ON a.contextid = c.id AND a.roleid = 5"
        " JOIN mdl_user u ON u.id = a.userid AND u.suspended = 0 AND u.deleted = 0 AND u.emailstop = 0"
        " AND u.email LIKE '%%@%%.example' GROUP BY r.id"
    )
    assert len(learners) == moodle.value("SELECT COUNT(*) FROM mdl_reengagement")
    moodle.execute("DELETE FROM mdl_reengagement_inprogress")
    for number, user in learners:
        moodle.insert(
            "mdl_reengagement_inprogress", reengagement=number, userid=user, completiontime=now + 60 * DAY,
            emailtime=now + 300, emailsent=0, completed=0,
        )  # fmt: skip
    found = [line for line in counted() if line.item.activity_id]
    result = intercept.run(shadow=True)
    verdicts = Counter(line.verdict for line in found)
    assert verdicts[OFFLOADED] == result.claimed > 15
    looked_at = [line.item.reason for line in found if line.item.reason not in outlook.MEANINGS]
    assert result.left == Counter(reason for reason in looked_at if reason) == {reasons.RECIPIENT_BOTH: 1}


def test_the_cure_for_a_mail_at_completion_is_one(moodle: Moodle) -> None:
    soon(moodle)
    as_the_form_saves(moodle, ACTIVITY, emailuser=1)
    before = line_of()
    assert "After delay" in before.steps[1]
    assert "30 days" in before.steps[2]
    as_the_form_saves(moodle, ACTIVITY, emailuser=2, emaildelay=30 * DAY, remindercount=1)
    # A learner who begins then: both times are counted from the same second.
    soon(moodle, due=300, completes=300)
    assert line_of().verdict == OFFLOADED
    result = intercept.run(shadow=True)
    assert result.reasons == {reasons.LAST_MAIL_OWED: 1}


@pytest.mark.parametrize(
    ("duration", "count", "delay", "expected"),
    [
        (30 * DAY, 3, 7 * DAY, (3, 3, "")),
        (30 * DAY, 40, 7 * DAY, (4, 4, "")),  # the fifth would come after completion
        (7 * DAY, 3, 7 * DAY, (1, 1, "")),
        (DAY, 3, 7 * DAY, (1, 1, "")),  # completes long before: one mail, the last
        (14 * DAY + 100, 5, 7 * DAY, (2, 1, reasons.COMPLETION_UNCLEAR)),
        (14 * DAY, 5, 7 * DAY, (1, 1, "")),
        (0, 1, 300, (1, 1, "")),
    ],
)
def test_a_learners_way_through_an_activity_is_gone_as_the_passes_would(
    duration: int, count: int, delay: int, expected: tuple[int, int, str]
) -> None:
    from emailoffload.sources.protocol import Clock

    assert outlook.reminders(duration, count, delay, Clock(0, 30, 300)) == expected


def test_what_only_some_reminders_of_an_activity_allow_is_partly(moodle: Moodle) -> None:
    activity(duration=14 * DAY + 100, emaildelay=7 * DAY, remindercount=2)(moodle)
    line = line_of()
    assert (line.verdict, line.item.claimable, line.item.owed) == (PARTLY, 1, 2)
    assert line.steps


# --- kinds of IOMAD mail ---


def off(moodle: Moodle, name: str, company: int = queue.COMPANY, **flags: int) -> None:
    values = {"disabled": 0, "disabledmanager": 0, "disabledsupervisor": 0} | flags
    moodle.insert(
        "mdl_email_template",
        companyid=company,
        name=name,
        lang="en",
        subject="s",
        body="b",
        signature="x",
        **values,
    )


def second_company(moodle: Moodle) -> int:
    columns = [row[0] for row in moodle.rows("SHOW COLUMNS FROM mdl_company") if row[0] not in ("id", "name")]
    names = ", ".join(f"`{name}`" for name in columns)
    moodle.execute(
        f"INSERT INTO mdl_company (name, {names}) SELECT 'Second', {names} FROM mdl_company WHERE id = 1"
    )
    return int(moodle.value("SELECT MAX(id) FROM mdl_company"))


@pytest.mark.parametrize(
    ("name", "flags", "reason"),
    [
        ("license_allocated", None, ""),
        ("license_allocated", {"disabled": 1}, reasons.TEMPLATE_DISABLED),
        ("license_allocated", {"disabledmanager": 1}, ""),
        ("expiry_warn_manager", {"disabledmanager": 1}, reasons.TEMPLATE_DISABLED),
        ("completion_warn_supervisor", {"disabledsupervisor": 1}, reasons.TEMPLATE_DISABLED),
        ("a_template_of_the_sites_own", None, ""),
    ],
)
def test_coverage_says_of_a_kind_of_mail_what_a_pass_decides_about_a_row_of_it(
    moodle: Moodle, name: str, flags: dict[str, int] | None, reason: str
) -> None:
    queue.empty(moodle)
    moodle.execute("DELETE FROM mdl_email_template WHERE name = %s", [name])
    if flags:
        off(moodle, name, **flags)
    queue.put(moodle, templatename=name)
    line = kind(name)
    (decision,) = queue.decide().values()
    assert (line.verdict, line.item.reason) == (NOT if reason else OFFLOADED, reason)
    assert (decision.candidate is None, decision.reason if reason else "") == (bool(reason), reason)
    assert line.item.waiting == line.item.week == 1


def test_a_kind_that_one_of_two_companies_switched_off_is_partly_and_names_it(moodle: Moodle) -> None:
    queue.empty(moodle)
    other = second_company(moodle)
    off(moodle, "license_allocated", other, disabled=1)
    queue.put(moodle, templatename="license_allocated")
    queue.put(moodle, templatename="license_allocated", companyid=other)
    line = kind("license_allocated")
    assert line.verdict == PARTLY
    assert "So it is in 1 of 2 companies: Second." in line.reason
    assert (line.item.week, line.ours, line.theirs) == (2, 1, 1)
    assert sum(decision.candidate is not None for decision in queue.decide().values()) == 1


def test_mails_to_the_shops_administrator_are_iomads_own(moodle: Moodle) -> None:
    queue.empty(moodle)
    queue.put(moodle, templatename="invoice_ordercomplete_admin", userid=-999)
    line = kind("invoice_ordercomplete_admin")
    (decision,) = queue.decide().values()
    assert (line.verdict, line.item.reason) == (NOT, decision.reason) == (NOT, reasons.SHOP_ADMIN)


def test_without_a_lock_that_can_be_shared_the_queue_is_iomads_unless_its_delay_is_long(
    moodle: Moodle, settings: object
) -> None:
    settings.MOODLE_LOCK_FACTORY = "file"  # type: ignore[attr-defined]
    assert (kind("user_create").verdict, kind("user_create").item.reason) == (NOT, reasons.LOCK_UNAVAILABLE)
    moodle.set_config("iomad_emaildelay", "120")
    assert kind("user_create").verdict == OFFLOADED


def test_where_a_pass_refuses_the_queue_so_does_coverage_and_the_reminders_are_not_affected(
    moodle: Moodle,
) -> None:
    moodle.execute("UPDATE mdl_task_scheduled SET disabled = 1 WHERE component = 'local_email'")
    found = counted()
    result = intercept.run(source="iomad_queue", shadow=True)
    assert result.refused
    assert {(line.verdict, line.reason) for line in found if line.queue} == {(NOT, result.refused)}
    assert any(line.verdict == OFFLOADED for line in found if not line.queue)


# --- the rules ---


def test_rules_are_obeyed_as_a_pass_obeys_them(moodle: Moodle) -> None:
    soon(moodle)
    assert line_of().verdict == OFFLOADED
    first = rule("first", activity_id=ACTIVITY, mode="off")
    assert (line_of().verdict, intercept.run(shadow=True).claimed) == (NOT, 0)
    first.mode = "on"
    first.percentage = 50
    first.save()
    line = line_of()
    assert line.verdict == PARTLY
    assert "50 percent" in line.reason
    assert "for 50 percent of the learners" in line.mode
    rule("firm", activity_id=ACTIVITY, company_id=77, mode="off")
    first.percentage = 100
    first.save()
    assert line_of().verdict == PARTLY
    assert "Other rules hold for single companies" in line_of().reason
