"""Reminders with copies on the real site: who gets which text, and when a copy does not leave."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from emailoffload.outbox.models import Email
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons, registry
from emailoffload.sources.protocol import ClaimView, RenderedMail
from emailoffload.sources.reengagement import scan, timing
from emailoffload.sources.reengagement.source import ReengagementSource
from emailoffload.worker import dispatch, intercept
from tests.conftest import Moodle, grant_moodle_account
from tests.policy.people import ACTIVITY, COMPANY, TEACHER, Firm, rule

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


@pytest.fixture
def firm(moodle: Moodle) -> Firm:
    return Firm(moodle)


@pytest.fixture
def learner(moodle: Moodle) -> int:
    """The learner of the only reminder that there is: of the activity 13, due in five minutes."""
    return leave(moodle, 1)[0]


def leave(moodle: Moodle, count: int) -> list[int]:
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE reengagement <> %s", [ACTIVITY])
    rows = moodle.rows("SELECT id, userid FROM mdl_reengagement_inprogress ORDER BY id LIMIT %s", [count])
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE id > %s", [rows[-1][0]])
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailtime = %s", [int(time.time()) + 300])
    return [int(user) for _, user in rows]


@pytest.fixture
def patched(moodle: Moodle, server: Any, firm: Firm, learner: int) -> Iterator[Firm]:
    """The site's patch: a column with the company's Cc addresses; the learner is a user of that company."""
    moodle.execute("ALTER TABLE mdl_company ADD COLUMN reengccemail LONGTEXT")
    try:
        grant_moodle_account(server, moodle.database)
        firm.place(learner)
        yield firm
    finally:
        moodle.execute("ALTER TABLE mdl_company DROP COLUMN reengccemail")
        grant_moodle_account(server, moodle.database)


def cc(firm: Firm, text: str | None) -> None:
    # By hand: the table has a column that the untouched copy has not, so it cannot be put back row by row.
    with firm.moodle.connection.cursor() as cursor:
        cursor.execute("UPDATE mdl_company SET reengccemail = %s WHERE id = %s", [text, COMPANY])


def decide(parity: str = "default") -> tuple[RenderedMail, ...]:
    source = ReengagementSource(parity=parity)
    now = int(time.time())
    (decision,) = source.decide(list(scan.due_rows(now + 900)), timing.Clock(now, 30, 300))
    assert decision.candidate is not None, (decision.reason, decision.detail)
    return decision.candidate.mails


def reason() -> str:
    now = int(time.time())
    (decision,) = ReengagementSource(parity="default").decide(
        list(scan.due_rows(now + 900)), timing.Clock(now, 30, 300)
    )
    return decision.reason


def of(mails: tuple[RenderedMail, ...], address: str) -> RenderedMail:
    (found,) = [mail for mail in mails if mail.to_address == address]
    return found


def third_party(moodle: Moodle, subject: str, content: str, addresses: str = "") -> None:
    moodle.execute(
        "UPDATE mdl_reengagement SET emailsubjectthirdparty = %s, emailcontentthirdparty = %s,"
        " thirdpartyemails = %s WHERE id = %s",
        [subject, content, addresses, ACTIVITY],
    )


def test_a_copy_carries_the_third_partys_text_as_a_message_of_its_own(firm: Firm, learner: int) -> None:
    third_party(firm.moodle, "About %userfirstname%", "<p>User <b>%userid%</b> is late</p>")
    rule(name="To HR")
    mails = decide()
    assert [mail.role for mail in mails] == ["user", "copy"]
    copy = mails[1]
    assert (copy.to_address, copy.recipient_id, copy.html) == ("hr@firm.example", None, None)
    assert copy.origin == "copy rule “To HR”"
    assert f"User {learner} is late".upper() in copy.text.upper()
    assert copy.subject.startswith("About ")
    assert (copy.from_address, copy.reply_to_address) == (mails[0].from_address, mails[0].reply_to_address)


@pytest.mark.parametrize("content", ["", "<p><br></p>", '<p dir="ltr">&nbsp;</p>\n'])
def test_without_a_text_for_third_parties_a_copy_carries_the_users(
    firm: Firm, learner: int, content: str
) -> None:
    third_party(firm.moodle, "Subject alone", content)
    rule()
    user, copy = decide()
    assert (copy.subject, copy.text, copy.html) == (user.subject, user.text, None)


def test_a_third_partys_text_that_cannot_be_rendered_does_not_keep_the_reminder_back(
    firm: Firm, learner: int
) -> None:
    third_party(firm.moodle, "About", "<p>See $$x^2$$ now</p>")
    rule()
    user, copy = decide()
    assert (copy.subject, copy.text) == (user.subject, user.text)


@pytest.mark.parametrize(("mailformat", "html"), [(1, True), (0, False)])
def test_a_person_gets_the_copy_in_the_format_of_their_own_choice(
    firm: Firm, learner: int, mailformat: int, html: bool
) -> None:
    teacher = firm.user("teacher", mailformat=mailformat)
    firm.role(teacher, firm.course_context())
    rule("course_role", str(TEACHER), text="user")
    user, copy = decide()
    assert (copy.recipient_id, copy.to_name.strip()) == (teacher, "Teacher Firm")
    assert copy.html == (user.html if html else None)
    assert copy.subject == user.subject


def test_a_copy_is_no_message_of_moodles_so_its_recipients_settings_are_not_asked(
    firm: Firm, learner: int
) -> None:
    teacher = firm.user("teacher", emailstop=1)
    firm.role(teacher, firm.course_context())
    rule("course_role", str(TEACHER))
    assert of(decide(), "teacher@firm.example").recipient_id == teacher


def test_an_address_gets_one_mail_of_a_reminder_and_the_first_wins(firm: Firm, learner: int) -> None:
    own = firm.moodle.value("SELECT email FROM mdl_user WHERE id = %s", [learner])
    third_party(firm.moodle, "About", "<p>late</p>", f"boss@firm.example,BOSS@firm.example,{own.upper()}")
    rule(value="Boss@firm.example,hr@firm.example")
    mails = decide()
    assert [(mail.role, mail.to_address) for mail in mails] == [
        ("user", own),
        ("thirdparty", "boss@firm.example"),
        ("copy", "hr@firm.example"),
    ]
    assert mails[1].origin == "the activity's third parties"


def test_in_strict_parity_moodles_own_doubles_stay_and_only_copies_give_way(firm: Firm, learner: int) -> None:
    third_party(firm.moodle, "About", "<p>late</p>", "boss@firm.example,boss@firm.example")
    rule(value="Boss@firm.example,hr@firm.example")
    assert [(mail.role, mail.to_address) for mail in decide("strict")][1:] == [
        ("thirdparty", "boss@firm.example"),
        ("thirdparty", "boss@firm.example"),
        ("copy", "hr@firm.example"),
    ]


def test_where_the_user_gets_no_mail_nobody_gets_a_copy(firm: Firm, learner: int) -> None:
    third_party(firm.moodle, "About", "<p>late</p>", "boss@firm.example")
    rule()
    firm.moodle.execute("UPDATE mdl_user SET emailstop = 1 WHERE id = %s", [learner])
    assert [mail.role for mail in decide()] == ["thirdparty"]
    third_party(firm.moodle, "About", "<p>late</p>")
    assert reason() == "emailstop", "a copy alone is no reason to claim"


def test_diverted_copies_go_where_the_site_diverts_its_mail(firm: Firm, learner: int) -> None:
    firm.moodle.set_config("divertallemailsto", "all@firm.example")
    rule(value="hr@firm.example,audit@firm.example")
    mails = decide()
    assert {mail.to_address for mail in mails} == {"all@firm.example"}
    assert [mail.subject.split("]")[0] for mail in mails[1:]] == [
        "[DIVERTED hr@firm.example", "[DIVERTED audit@firm.example",
    ]  # fmt: skip


def view(mails: tuple[RenderedMail, ...], learner: int) -> ClaimView:
    now = int(time.time())
    (row,) = scan.due_rows(now + 900)
    values = {"emailsent": row.emailsent, "emailtime": row.emailtime}
    before = {"emailsent": row.emailsent, "emailtime": row.emailtime - 1, "completed": 0}
    roles = tuple(mail.role for mail in mails)
    return ClaimView(1, row.id, learner, ACTIVITY, row.emailtime, row.completiontime, before, values, roles)


def test_a_copy_is_held_back_with_the_users_mail_and_a_third_partys_is_not(firm: Firm, learner: int) -> None:
    third_party(firm.moodle, "About", "<p>late</p>", "boss@firm.example")
    rule()
    mails = decide()
    asked = view(mails, learner)
    source = registry.get("reengagement")
    assert source.recheck([asked], int(time.time())) == []
    firm.moodle.execute("UPDATE mdl_user SET emailstop = 1 WHERE id = %s", [learner])
    (found,) = registry.get("reengagement").recheck([asked], int(time.time()))
    assert (found.reason, found.roles) == ("emailstop", ("user", "copy"))


def test_the_companys_cc_addresses_get_the_users_very_mail(patched: Firm) -> None:
    third_party(patched.moodle, "About", "<p>late</p>", "boss@firm.example,one@firm.example")
    cc(patched, " one@firm.example , nonsense,two@firm.example,ONE@firm.example")
    rule(value="two@firm.example,hr@firm.example")
    mails = decide()
    assert [(mail.role, mail.to_address) for mail in mails][1:] == [
        ("copy", "one@firm.example"),
        ("copy", "two@firm.example"),
        ("thirdparty", "boss@firm.example"),
        ("copy", "hr@firm.example"),
    ]
    user, first = mails[:2]
    assert (first.subject, first.text, first.html) == (user.subject, user.text, user.html)
    assert first.html
    assert first.origin == "the company's Cc addresses in Moodle"


@pytest.mark.parametrize("text", [None, "", "nonsense, more nonsense"])
def test_a_company_without_a_valid_cc_address_is_like_any_other(
    patched: Firm, learner: int, text: str | None
) -> None:
    cc(patched, text)
    assert [mail.role for mail in decide()] == ["user"]
    patched.moodle.execute("UPDATE mdl_user SET emailstop = 1 WHERE id = %s", [learner])
    assert reason() == "emailstop"


def test_with_a_companys_cc_nobody_asks_for_notification_settings(patched: Firm, learner: int) -> None:
    cc(patched, "one@firm.example")
    patched.moodle.execute("UPDATE mdl_user SET emailstop = 1 WHERE id = %s", [learner])
    patched.moodle.set_config("mod_reengagement_mod_reengagement_disable", "1", plugin="message")
    mails = decide()
    assert [mail.role for mail in mails] == ["user", "copy"]
    assert registry.get("reengagement").recheck([view(mails, learner)], int(time.time())) == []


def test_with_a_companys_cc_the_users_preference_for_another_address_does_not_count(
    patched: Firm, learner: int
) -> None:
    own = patched.moodle.value("SELECT email FROM mdl_user WHERE id = %s", [learner])
    patched.moodle.set_config("messagingallowemailoverride", "1")
    name, value = "message_processor_email_email", "private@firm.example"
    patched.moodle.insert("mdl_user_preferences", userid=learner, name=name, value=value)
    assert [mail.to_address for mail in decide()] == [value]
    cc(patched, "one@firm.example")
    assert [mail.to_address for mail in decide()] == [own, "one@firm.example"]


@pytest.mark.parametrize(
    ("change", "why"), [("suspended = 1", "user_suspended"), ("auth = 'nologin'", "auth_nologin")]
)
def test_with_a_companys_cc_an_account_without_mail_has_no_copies_either(
    patched: Firm, learner: int, change: str, why: str
) -> None:
    cc(patched, "one@firm.example")
    mails = decide()
    patched.moodle.execute(f"UPDATE mdl_user SET {change} WHERE id = %s", [learner])
    assert reason() == why
    (found,) = registry.get("reengagement").recheck([view(mails, learner)], int(time.time()))
    assert (found.reason, found.roles) == (why, ("user", "copy"))


def test_activities_suppressed_by_course_completion_stay_with_moodle(patched: Firm) -> None:
    cc(patched, "one@firm.example")
    patched.moodle.execute("UPDATE mdl_reengagement SET suppresstarget = -1 WHERE id = %s", [ACTIVITY])
    assert reason() == reasons.SUPPRESS_COURSE_COMPLETE


def test_rules_cost_a_batch_of_reminders_a_bounded_number_of_queries(moodle: Moodle) -> None:
    firm = Firm(moodle)
    firm.role(firm.user("teacher"), firm.course_context())
    learners = leave(moodle, 60)
    for user in learners:
        firm.place(user)
    rule()
    rule("company_managers", "")
    rule("profile_field", "labtext")
    rule("course_role", str(TEACHER))
    now = int(time.time())
    rows = list(scan.due_rows(now + 900))

    def cost(count: int) -> int:
        source = ReengagementSource(parity="default")
        with (
            CaptureQueriesContext(connections["moodle"]) as theirs,
            CaptureQueriesContext(connections["default"]) as ours,
        ):
            decisions = source.decide(rows[:count], timing.Clock(now, 30, 300))
        assert all(each.candidate and len(each.candidate.mails) == 4 for each in decisions)
        assert len(ours) == 1
        return len(theirs)

    assert cost(60) == cost(1)


def test_copies_are_claimed_sent_and_on_record_as_what_they_are(
    moodle: Moodle, ses: SandboxSES, learner: int
) -> None:
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailtime = %s", [int(time.time()) - 10])
    rule(name="To HR")
    assert intercept.run().claimed == 1
    dispatch.run()
    sent = {json.dumps(message.request["Destination"]) for message in ses.messages}
    assert len(sent) == 2
    copy = Email.objects.get(role="copy")
    assert (copy.address, copy.origin, copy.recipient_id, copy.user_id) == (
        "hr@firm.example", "copy rule “To HR”", None, learner,
    )  # fmt: skip
    assert copy.state == "accepted"
