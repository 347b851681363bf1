"""The page Coverage: its sentences, its order, its filters, who sees it, and what it costs."""

from __future__ import annotations

import html
import re
import time
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.utils import timezone

from emailoffload.dashboard.coverage import PAGE_SIZE
from emailoffload.outbox import switches
from emailoffload.outbox.models import AuditEntry, State
from emailoffload.policy.models import RoutingRule
from emailoffload.sources import reasons
from emailoffload.sources.reengagement import outlook
from emailoffload.worker import coverage
from emailoffload.worker.coverage_count import Counted, Item
from tests.conftest import Moodle
from tests.coverage_page.site import ACTIVITY, COURSE, DAY
from tests.dashboard.conftest import SignIn, make_user
from tests.dashboard.factories import make_claim, make_email
from tests.dashboard.test_fuzz import NASTY, encodable
from tests.dashboard.world import bind, signed_in
from tests.queries import counted
from tests.routing.site import rule

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])


def activity(number: int, course: int = 1, **values: Any) -> Item:
    """An activity that is offloaded, unless said otherwise."""
    given: dict[str, Any] = {
        "name": f"Reminder {number}", "cmid": 1000 + number, "course_id": course,
        "course_name": f"Course {course}", "owed": 1, "claimable": 1, "reminders": 1, "delay": 7 * DAY,
        "duration": 7 * DAY,
    }  # fmt: skip
    item = Item("reengagement", number, **{**given, **values})
    if not item.reason and "week_claimable" not in values:
        item.week_claimable = item.week
    return item


def left(number: int, reason: str = outlook.ON_COMPLETION, **values: Any) -> Item:
    """One that is not."""
    return activity(number, reason=reason, **{"claimable": 0, **values})


def kind(name: str, **values: Any) -> Item:
    """A kind of IOMAD mail that is offloaded for every company."""
    return Item("iomad_queue", template=name, **{"owed": 2, "claimable": 2, **values})


def keep(*items: Item, iomad: bool = False, **values: Any) -> None:
    """What the worker counted last."""
    sources: dict[str, dict[str, str]] = {"reengagement": {}}
    if iomad:
        sources["iomad_queue"] = {}
    coverage._keep(Counted(list(items), **{"sources": sources, **values}))


def page(client: Client, **asked: Any) -> str:
    response = client.get("/coverage/", asked)
    assert response.status_code == 200
    return html.unescape(" ".join(response.content.decode().split()))


def names(found: str) -> list[str]:
    """The activities and kinds in the order of the page."""
    return [html.unescape(name) for name in re.findall(r'class="subject"[^>]*>([^<]+)<', found)]


@pytest.fixture
def admin() -> Client:
    return signed_in(make_user("superuser"))


# --- who sees it ---


@pytest.mark.parametrize("role", ["Auditors", "Support staff", "Offload administrators"])
def test_every_role_reads_it_and_nobody_without_one_does(sign_in: SignIn, role: str) -> None:
    keep(activity(1))
    assert "Reminder 1" in page(sign_in(role))
    assert sign_in("nobody").get("/coverage/").status_code == 403


def test_it_is_about_the_whole_site_so_people_of_companies_do_not_see_it(bound: Client) -> None:
    keep(activity(1))
    assert bound.get("/coverage/").status_code == 403
    assert bound.post("/coverage/").status_code == 403
    assert not AuditEntry.objects.exists()


def test_rules_lead_to_the_admin_only_those_who_may_open_it(support: Client, admin: Client) -> None:
    first = rule("first", activity_id=1)
    keep(activity(1))
    change = f"/admin/emailoffload/routingrule/{first.pk}/change/"
    assert change in page(admin)
    assert "/admin/" not in page(support).partition("<main")[2]


# --- what it says ---


def test_before_the_first_count_it_says_what_to_do(support: Client) -> None:
    found = page(support)
    assert "Nothing has been counted yet." in found
    assert "manage.py coverage" in found
    assert "Count now" in found


def test_the_summary_counts_activities_and_mails_and_never_rounds_up_to_all(support: Client) -> None:
    keep(
        activity(1, week=999), left(2, week=1), left(3, outlook.NEVER_MAILS), activity(4, claimable=1, owed=2),
        kind("user_create", week=200, week_claimable=200), kind("user_reset"), iomad=True,
    )  # fmt: skip
    found = page(support)
    assert "1 of 4 activities is offloaded." not in found
    assert "1 of 4 activities are offloaded." in found
    assert "We send 99 % of the 1,000 mails that they owe in the next 7 days." in found
    assert "1 more is partly offloaded. 1 of the others mails nobody, in Moodle either." in found
    assert "2 of 2 kinds of IOMAD mail are offloaded." in found
    assert "We send 100 % of mails such as the 200 that IOMAD queued in the last 7 days." in found


def test_the_largest_volume_that_is_not_ours_comes_first_course_by_course(support: Client) -> None:
    keep(
        activity(1, 1, week=5000), left(2, course=1, week=10), left(3, course=2, week=400), left(4, course=2, week=900),
        activity(5, 3), left(6, course=3),
        kind("user_create", week=50, week_claimable=0, claimable=0, reason=reasons.TEMPLATE_DISABLED),
        kind("approval"), iomad=True,
    )  # fmt: skip
    assert names(page(support)) == [
        "Reminder 4", "Reminder 3", "New account", "Reminder 2", "Reminder 1", "Reminder 6", "Reminder 5",
        "Approval asked for",
    ]  # fmt: skip


def test_an_activity_that_mails_at_completion_gets_its_steps_and_a_word_about_learners_on_the_way(
    support: Client,
) -> None:
    keep(left(1, duration=14 * DAY, delay=7 * DAY, waiting=120))
    found = page(support)
    assert "The activity mails at its completion" in found
    assert "choose “After delay” instead of “On reengagement completion”" in found
    assert "that is 2 weeks, and “Reminder count” to 1" in found
    assert "120 learners are on the way already" in found
    assert "/course/modedit.php?update=1001" in found
    keep(left(1, duration=7 * DAY, delay=7 * DAY, waiting=120))
    assert "on the way already" not in page(support)


CURABLE = [
    outlook.NO_REMINDERS, outlook.MODE_UNKNOWN, reasons.NO_COURSE_MODULE, reasons.NO_COURSE,
    reasons.MODULE_BEING_DELETED, reasons.RECIPIENT_BOTH, reasons.RECIPIENT_MANAGER,
    reasons.SUPPRESS_COURSE_COMPLETE, reasons.COMPLETION_UNCLEAR, reasons.UNSENDABLE, "filter_unsupported",
    "language_pack_unknown", "profile_shortname", "forceclean", "provider_disabled",
    "email_processor_disabled", "processor_locked_off", "preference_off", "processor_locked_missing",
    "noemailever", "sender_unknown", "sender_invalid", "sender_name_markup", "cron_user_company",
    "noreply_is_user", "divert_pattern", "charset_unsupported",
]  # fmt: skip


def test_each_reason_that_can_be_cured_has_words_and_steps(support: Client) -> None:
    keep(*(left(number, reason) for number, reason in enumerate(CURABLE, 1)))
    found = page(support)
    lines = [part.partition("</tr>")[0] for part in found.split("<tr role")][2:]
    assert len(lines) == len(CURABLE)
    for line in lines:
        assert "<ol><li>" in line
        assert not re.search(r"\b[a-z]+_[a-z_]+\b", re.sub(r"<[^>]*>|MOODLE_[A-Z_]+|lock_factory", " ", line))


def test_the_mails_of_an_activity_are_exactly_those_that_its_number_leads_to(support: Client) -> None:
    claim = make_claim(activity_id=7)
    for state in ("delivered", "bounced", "queued", "failed"):
        make_email(state, claim=claim)
    keep(activity(7, sent=2))
    address = re.search(r'href="(/emails/\?activity=7[^"]*)"', page(support))
    assert address
    shown = support.get(address[1]).content.decode()
    assert len(set(re.findall(r"/emails/(\d+)/", shown))) == 2


def test_a_rule_that_holds_back_a_part_is_named_with_its_mode_and_its_explanation(admin: Client) -> None:
    rule("pilot", activity_id=1, percentage=20, fallback="hold")
    rule("site", mode="off")
    keep(activity(1, week=100), activity(2, week=10))
    found = page(admin)
    assert names(found) == ["Reminder 1", "Reminder 2"]
    assert "we send, for 20 percent of the learners" in found
    assert "If the cloud fails: a person" in found
    assert "A routing rule says that Moodle sends it." in found
    assert "We send 18 % of the 110 mails" in found
    assert 'href="/routing/?activity=1"' in found
    assert admin.get("/routing/?activity=1").status_code == 200


def test_adding_a_rule_opens_the_form_filled_in(admin: Client) -> None:
    keep(activity(12), kind("user_create", week=1), iomad=True)
    found = page(admin)
    links = re.findall(r'href="(/admin/emailoffload/routingrule/add/[^"]*)"', found)
    forms = {address: admin.get(address).content.decode() for address in links}
    reminder = next(text for address, text in forms.items() if "activity_id=12" in address)
    assert 'name="activity_id" value="12"' in reminder
    assert 'value="Reminder 12"' in reminder
    assert 'value="reengagement" selected' in reminder
    queued = next(text for address, text in forms.items() if "template=user_create" in address)
    assert 'value="user_create"' in queued


def test_bell_notifications_that_moodle_no_longer_makes_are_stated(support: Client) -> None:
    keep(activity(1), other_ways=["popup"])
    assert "By this site's settings Moodle also shows reminders in the notification menu (the bell)." in page(
        support
    )
    keep(activity(1), bell_users=3)
    assert "3 users have chosen to see reminders in Moodle's notification menu (the bell), too." in page(
        support
    )
    keep(activity(1))
    assert "no user has chosen otherwise" in page(support)


def test_the_bell_of_the_real_site_is_found_in_its_settings(moodle: Moodle, admin: Client) -> None:
    base = "mod_reengagement_mod_reengagement"
    moodle.set_config(f"message_provider_{base}_enabled", "email,popup", plugin="message")
    coverage.run()
    assert coverage.known().counted.other_ways == ["popup"]
    moodle.set_config(f"message_provider_{base}_enabled", "email", plugin="message")
    moodle.insert(
        "mdl_user_preferences", userid=3, name=f"message_provider_{base}_enabled", value="popup,email"
    )
    coverage.run()
    assert (coverage.known().counted.other_ways, coverage.known().counted.bell_users) == ([], 1)


def test_a_site_without_iomad_has_no_word_of_it(support: Client) -> None:
    keep(activity(1))
    assert "IOMAD" not in page(support).partition("<main")[2]


def test_while_claiming_is_paused_it_says_so(support: Client) -> None:
    keep(activity(1))
    switches.set_pause(switches.Pause(claims=True, by="ada", reason="upgrade"))
    assert "Claiming is paused now" in page(support)


def test_with_moodle_away_the_last_state_stands_with_its_time_and_the_cause(
    support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(activity(1))
    an_hour = (timezone.now() - timedelta(hours=2)).isoformat()
    row = State.objects.get(name=coverage.NAME)
    State.objects.filter(pk=row.pk).update(value={**row.value, "at": an_hour})
    value = {
        "at": timezone.now().isoformat(),
        "text": "Moodle's database cannot be used.",
        "cure": "Look at it.",
    }
    State.objects.create(name=coverage.TROUBLE, value=value)
    with counted() as queries:
        found = page(support)
    assert queries["moodle"] == 0
    assert "Reminder 1" in found
    assert "2 hours ago" in found.replace("\xa0", " ")
    assert "The last count failed, so this is what was known before it." in found
    assert "Moodle's database cannot be used." in found
    assert "Look at it." in found


def test_a_plugin_that_is_refused_stands_at_the_top_and_on_every_line(support: Client) -> None:
    problem = {"text": "The plugin is disabled.", "cure": "Switch it on.", "code": "unsupported_variant"}
    keep(activity(1, week=5), sources={"reengagement": problem})
    found = page(support)
    assert "Reengagement reminder: nothing can be claimed. The plugin is disabled." in found
    assert "0 of 1 activity is offloaded. " in found.replace("</strong></p><p>", " ")
    assert found.count("Switch it on.") == 2


# --- filters and pages ---


def test_filters_find_by_verdict_source_course_name_and_number(support: Client) -> None:
    keep(
        activity(1, 5, name="Fire drill"), left(2, course=5, name="Fire exit"), activity(31, 6, name="First aid"),
        kind("user_create", week=1), iomad=True,
    )  # fmt: skip
    assert names(page(support, verdict="not")) == ["Fire exit"]
    assert names(page(support, q="FIRE", verdict="offloaded")) == ["Fire drill"]
    assert names(page(support, course="6")) == ["First aid"]
    assert names(page(support, course="course 5", q="exit")) == ["Fire exit"]
    assert names(page(support, q="31")) == ["First aid"]
    assert names(page(support, q="1031")) == ["First aid"]
    assert names(page(support, source="iomad_queue")) == ["New account"]
    nothing = page(support, q="no such thing")
    assert "Nothing fits these filters." in nothing
    assert "Show everything" in nothing


def test_no_nasty_value_breaks_it_and_one_that_cannot_be_used_is_told(support: Client) -> None:
    keep(activity(1), kind("user_create"), iomad=True)
    for value in NASTY:
        for names_ in (("q", "page"), ("course", "verdict", "source")):
            asked = encodable({name: [value] for name in names_})
            assert support.get("/coverage/", asked).status_code == 200, value
    assert "A filter cannot be used" in page(support, verdict="nonsense")


def test_pages_show_each_line_once_and_keep_the_filters(support: Client) -> None:
    keep(*(activity(number, number // 7, name=f"A{number}x") for number in range(1, PAGE_SIZE * 2 + 6)))
    seen: list[str] = []
    for number in (1, 2, 3):
        found = page(support, page=number, verdict="offloaded")
        seen += names(found)
    assert len(seen) == len(set(seen)) == PAGE_SIZE * 2 + 5
    assert "page=2" in found
    assert "verdict=offloaded" in found.partition('class="pager"')[2]
    assert f"{PAGE_SIZE * 2 + 1} to {PAGE_SIZE * 2 + 5} of {PAGE_SIZE * 2 + 5}" in found


def test_what_a_name_in_moodle_says_is_text(support: Client) -> None:
    keep(left(1, name="<b onclick=x>Fire</b>", course_name="<script>alert(1)</script>"))
    raw = support.get("/coverage/").content.decode()
    assert "<script>alert" not in raw
    assert "<b onclick" not in raw


# --- counting again ---


def test_counting_again_is_queued_once_and_the_page_says_so(support: Client) -> None:
    keep(activity(1))
    State.objects.update(
        value={**State.objects.get().value, "at": (timezone.now() - timedelta(minutes=3)).isoformat()}
    )
    for _ in range(2):
        assert support.post("/coverage/").headers["Location"] == "/coverage/"
    assert "It is being counted again" in page(support)
    assert AuditEntry.objects.count() == 1
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get())
    assert strict.post("/coverage/").status_code == 403


# --- what it costs ---


def test_five_thousand_activities_cost_no_more_queries_than_one_and_little_time(support: Client) -> None:
    keep(activity(1))
    page(support)
    with counted() as few:
        page(support)
    for number in range(200):
        RoutingRule.objects.create(
            name=f"r{number}", activity_id=number + 1, company_id=number % 7 or None, mode="off"
        )
    keep(
        *(activity(number, number % 400, week=number, detail="x" * 50) for number in range(5000)),
        *(kind(f"kind_{number}") for number in range(60)), iomad=True,
    )  # fmt: skip
    with counted() as many:
        page(support)
    assert many == few
    assert many["default"] <= 12
    assert many["moodle"] == 0
    started = time.process_time()
    page(support, page=40)
    assert time.process_time() - started < 1.5
    assert len(str(State.objects.get(name=coverage.NAME).value)) < 500_000
    assert connections["default"].vendor == "mysql"


def test_somebody_bound_never_gets_it_by_any_permission(admin: Client) -> None:
    keep(activity(1, COURSE), activity(ACTIVITY))
    user = make_user("Offload administrators", "dora")
    bind(user, 3)
    assert signed_in(user).get("/coverage/").status_code == 403
