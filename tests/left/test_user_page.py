"""The page of a user: what we left to Moodle, mails of three kinds, who they are, what is coming."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from emailoffload.dashboard import coming
from emailoffload.moodle.errors import MoodleProblem
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import Shadow
from emailoffload.outbox.states import EmailState
from emailoffload.sources import reasons
from tests.claims.queue import queued
from tests.conftest import Moodle
from tests.dashboard.conftest import make_user
from tests.dashboard.factories import make_claim, make_email
from tests.dashboard.world import FOREIGN, LAB, MEMBER, OWN, bind, signed_in
from tests.queries import counted
from tests.reengagement.test_decisions import ACTIVITY, soon
from tests.routing.site import rule

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
USER = 15093


def leave(reason: str = reasons.NOT_ENROLLED, **changes: Any) -> LeftRow:
    """A reminder that was due a minute ago and that we left to Moodle."""
    now = timezone.now()
    values: dict[str, Any] = {
        "source": "reengagement", "row_id": 71, "due_at": now - timedelta(minutes=1), "reason": reason,
        "user_id": USER, "activity_id": ACTIVITY, "course_id": 4, "company_id": OWN, "first_seen": now,
        "last_seen": now,
    }  # fmt: skip
    return LeftRow.objects.create(**values | changes)


def watch(row: LeftRow, verdict: str, detail: str) -> Shadow:
    """A shadow of the same mail."""
    now = timezone.now()
    return Shadow.objects.create(
        source=row.source, row_id=row.row_id, user_id=row.user_id, activity_id=row.activity_id, course_id=4, mails=1,
        company_id=row.company_id, due_at=row.due_at, seen_at=now, verdict=verdict, detail=detail, compared_at=now,
    )  # fmt: skip


def page(client: Client, user_id: int = USER, **params: str) -> str:
    """The page as it is read."""
    response = client.get(f"/users/{user_id}/", params)
    assert response.status_code == 200
    return unescape(response.content.decode())


def part(text: str, name: str) -> str:
    """One section of the page; '' where it is not there."""
    _before, found, rest = text.partition(f'<section aria-labelledby="{name}">')
    return rest.partition("</section>")[0] if found else ""


# --- the answer ---


def test_what_was_due_last_and_left_to_moodle_is_the_answer(support: Client) -> None:
    make_email(EmailState.DELIVERED, due_at=timezone.now() - timedelta(days=1), subject="Yesterday's")
    leave(reasons.CRON_RUNNING)
    first = page(support).partition('<section aria-labelledby="who">')[0]
    assert "<strong>Moodle has it:</strong>" in first
    assert "was left to Moodle: it is already due, and Moodle's cron is sending at this moment." in first
    assert "Yesterday's</a>. <strong>Yes:</strong> delivered to" in first


def test_a_mail_that_nobody_owes_is_answered_with_no_and_the_reason(support: Client) -> None:
    leave("emailstop")
    first = page(support).partition('<section aria-labelledby="who">')[0]
    assert "<strong>No:</strong> nobody mails “" in first
    assert "because the user has switched all notifications off." in first


def test_a_mail_of_ours_that_was_due_later_is_the_answer(support: Client) -> None:
    leave(due_at=timezone.now() - timedelta(days=2))
    make_email(EmailState.DELIVERED)
    text = page(support)
    assert "<strong>Yes:</strong>" in text.partition('<section aria-labelledby="who">')[0]
    assert "because the user is no longer an active learner" in part(text, "left")


def test_what_moodle_was_seen_to_send_is_told_as_such(support: Client) -> None:
    watch(leave(reasons.ROUTING_SHADOW), "sent", "counted")
    first = page(support).partition('<section aria-labelledby="who">')[0]
    assert "<strong>Moodle sent it itself:</strong>" in first
    assert "because a routing rule says that we only watch." in first
    assert "Moodle counted the reminder and set the time of the next one" in first


def test_what_was_claimed_after_all_or_is_not_due_is_not_left(support: Client) -> None:
    row = leave()
    watch(row, "changed", "claimed_by_us")
    row.delete()
    leave(due_at=timezone.now() + timedelta(minutes=3))
    assert part(page(support), "left") == ""


def test_a_mail_that_is_not_due_is_not_said_to_be(support: Client) -> None:
    make_email(EmailState.QUEUED, user_id=USER)
    text = page(support)
    assert "No mail to them was due yet. Judged by the newest one:" in text
    make_email(EmailState.DELIVERED, user_id=USER)
    assert "Judged by the newest mail that is due:" in page(support)


def test_left_rows_need_their_permission(support: Client) -> None:
    leave()
    assert part(page(support), "left")
    user = make_user(None, "eve")
    user.user_permissions.add(Permission.objects.get(codename="view_email"))
    assert part(page(signed_in(user)), "left") == ""


# --- mails of three kinds ---


def test_mails_to_the_user_about_them_and_about_others_stand_apart(support: Client) -> None:
    make_email(EmailState.DELIVERED, subject="Own mail")
    make_email(
        EmailState.DELIVERED, role="thirdparty", subject="To HR", address="hr@example.org", recipient_id=None
    )
    about = make_claim(user_id=77, user_name="Charles Babbage")
    make_email(EmailState.BOUNCED, about, role="manager", subject="As manager", recipient_id=USER)
    make_email(EmailState.BOUNCED, about, role="copy", subject="As copy", recipient_id=None)
    make_email(EmailState.BOUNCED, about, role="user", subject="Same box", recipient_id=77)
    text = page(support)
    sections = {name: part(text, name) for name in ("mails", "about", "others")}
    found = {
        subject: [name for name, section in sections.items() if subject in section]
        for subject in ("Own mail", "To HR", "As manager", "As copy", "Same box")
    }
    assert found == {
        "Own mail": ["mails"], "To HR": ["about"], "As manager": ["others"], "As copy": ["others"], "Same box": [],
    }  # fmt: skip
    assert '<a href="/users/77/">about Charles Babbage (user 77)</a>' in sections["others"]
    assert "<strong>Yes:</strong>" in text.partition('<section aria-labelledby="who">')[0]


def test_more_than_a_few_lead_to_the_list_of_all(support: Client) -> None:
    make_email(EmailState.DELIVERED)
    about = make_claim(user_id=77)
    for _ in range(6):
        make_email(role="thirdparty", address="hr@example.org", recipient_id=None)
        make_email(claim=about, role="manager", recipient_id=USER)
    text = page(support)
    assert f'href="/emails/?user={USER}"' in part(text, "about")
    assert 'href="/emails/?q=ada%40example.org"' in part(text, "others")


# --- companies ---


def test_staff_of_a_company_see_what_was_left_of_their_own(bound: Client) -> None:
    leave(company_id=OWN, row_id=1)
    leave(company_id=FOREIGN, row_id=2)
    leave(company_id=None, row_id=3)
    about = make_claim(user_id=77, company_id=FOREIGN)
    make_email(EmailState.DELIVERED)
    make_email(claim=about, role="manager", recipient_id=USER, subject="Of others")
    text = page(bound)
    assert "row 1</p>" in part(text, "left").replace(" · ", "</p>")
    assert "row 2" not in text
    assert "row 3" not in text
    assert "Of others" not in text


def test_what_names_no_company_is_shown_to_the_staff_of_the_users_own(bound: Client) -> None:
    leave(company_id=None, user_id=MEMBER)
    assert "row 71" in part(page(bound, MEMBER), "left")


# --- who it is ---


def test_the_settings_that_keep_reminders_away_are_named(moodle: Moodle, transactional_db: None) -> None:
    client = signed_in(make_user("Support staff"))
    moodle.execute("UPDATE mdl_user SET emailstop = 1, lang = 'de', mailformat = 0 WHERE id = %s", [MEMBER])
    who = part(page(client, MEMBER), "who")
    assert "Moodle mails them no reminders, because the user has switched all notifications off." in who
    assert "Deutsch · mails as plain text" in who
    moodle.execute("UPDATE mdl_user SET emailstop = 0 WHERE id = %s", [MEMBER])
    moodle.set_config("messagingallowemailoverride", "1")
    moodle.insert(
        "mdl_user_preferences", userid=MEMBER, name="message_processor_email_email", value="home@example.org"
    )
    who = part(page(client, MEMBER), "who")
    assert "by email, to home@example.org" in who
    assert "not the address of the profile" in who
    moodle.execute("UPDATE mdl_user SET deleted = 1 WHERE id = %s", [MEMBER])
    assert "Moodle mails nobody who is deleted." in part(page(client, MEMBER), "who")


# --- what is coming ---


def test_each_coming_mail_says_who_sends_it_and_why(moodle: Moodle, transactional_db: None) -> None:
    client = signed_in(make_user("superuser"))
    ((row_id, user),) = soon(moodle, 1, due=86400)
    assert "<strong>We:</strong> it is claimed during the last 15 minutes" in part(
        page(client, user), "coming"
    )
    off = rule(mode="off")
    section = part(page(client, user), "coming")
    assert "<strong>Moodle:</strong> it is left to Moodle, because a routing rule says so." in section
    assert f'href="/routing/?user={user}&activity={ACTIVITY}">Which rule?' in section
    off.delete()
    moodle.execute("UPDATE mdl_user_enrolments SET status = 1 WHERE userid = %s", [user])
    section = part(page(client, user), "coming")
    assert "<strong>Nobody:</strong> Moodle sends nothing either, because the user is no longer" in section
    moodle.execute("UPDATE mdl_reengagement SET emailuser = 1 WHERE id = %s", [ACTIVITY])
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailtime = %s WHERE id = %s", [2**62, row_id])
    section = part(page(client, user), "coming")
    assert "<strong>Moodle:</strong> the activity mails at its completion" in section
    moodle.execute("UPDATE mdl_user SET emailstop = 1 WHERE id = %s", [user])
    section = part(page(client, user), "coming")
    assert "Moodle mails them no reminders, because the user has switched all notifications off." in section
    moodle.execute("UPDATE mdl_user SET deleted = 1 WHERE id = %s", [user])
    section = part(page(client, user), "coming")
    assert "<strong>Nobody:</strong> Moodle sends nothing either, because the user is deleted." in section
    assert "at its completion" not in section


def test_mails_that_wait_in_iomads_queue_are_coming_too(moodle: Moodle, transactional_db: None) -> None:
    client = signed_in(make_user("Support staff"))
    (row_id,) = queued(moodle, 1, due=3600)
    user = moodle.value("SELECT userid FROM mdl_email WHERE id = %s", [row_id])
    moodle.execute("DELETE FROM mdl_reengagement_inprogress")
    text = part(page(client, user), "coming")
    assert text.count("<li") == 1
    assert "<strong>We:</strong>" in text
    moodle.execute("UPDATE mdl_email SET sent = 1 WHERE id = %s", [row_id])
    assert "Moodle has nothing planned for this user." in part(page(client, user), "coming")


def test_staff_of_a_company_see_its_queued_mails_only(moodle: Moodle, transactional_db: None) -> None:
    user = make_user("Support staff")
    bind(user, LAB)
    (row_id,) = queued(moodle, 1, due=3600)
    moodle.execute("UPDATE mdl_email SET userid = %s, companyid = %s WHERE id = %s", [MEMBER, LAB, row_id])
    moodle.execute("DELETE FROM mdl_reengagement_inprogress")
    assert part(page(signed_in(user), MEMBER), "coming").count("<li") == 1
    moodle.execute("UPDATE mdl_email SET companyid = 77 WHERE id = %s", [row_id])
    assert part(page(signed_in(user), MEMBER), "coming").count("<li") == 0


def test_where_no_pass_can_begin_all_is_moodles_and_the_cure_is_named(
    support: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*args: Any) -> Any:
        raise MoodleProblem("The plugin is unknown.", cure="Ask the maintainers.")

    monkeypatch.setattr(coming, "foresee", refused)
    user = coming.moodle.InProgress.objects.filter(completed=0, emailsent=0).values_list("userid", flat=True)[
        0
    ]
    text = part(page(support, user), "coming")
    assert "Nothing is claimed now: The plugin is unknown. Ask the maintainers." in text
    assert "<strong>Moodle:</strong> it is left to Moodle." in text


def test_a_moodle_that_fails_while_the_coming_is_looked_up_is_said_to_be_away(
    support: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from django.db.utils import OperationalError

    def away(*args: Any, **known: Any) -> Any:
        raise OperationalError(2006, "gone")

    monkeypatch.setattr(coming, "_reminders", away)
    assert "Moodle's database does not answer now." in part(page(support, MEMBER), "coming")


def test_a_site_with_very_many_reminders_is_read_when_asked(
    support: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coming, "SCAN_AT_ONCE", 0)
    assert 'href="?coming=1#coming"' in part(page(support, MEMBER), "coming")
    assert "Look in Moodle" not in part(page(support, MEMBER, coming="1"), "coming")


def test_the_page_costs_the_same_whatever_there_is(moodle: Moodle, transactional_db: None) -> None:
    client = signed_in(make_user("Support staff"))
    rows = soon(moodle, 12, due=600)
    user = rows[0][1]

    def more(number: int) -> None:
        make_email(EmailState.DELIVERED, user_id=user)
        leave(user_id=user, row_id=number)
        make_email(claim=make_claim(user_id=77), role="manager", recipient_id=user)

    more(1)
    costs = []
    for step in range(2):
        page(client, user)
        with counted() as queries:
            page(client, user)
        costs.append(dict(queries))
        for number in range(2, 8):
            more(number + 10 * step)
        moodle.execute("UPDATE mdl_reengagement_inprogress SET userid = %s", [user])
    assert costs[0] == costs[1]
    assert costs[1]["default"] <= 30
    assert costs[1]["moodle"] <= 130


def test_a_time_that_no_calendar_has_is_shown_as_none() -> None:
    assert coming._moment(2**62) is None
    assert coming._moment(int(time.time())) <= datetime.now(timezone.get_current_timezone())  # type: ignore[operator]
