"""What each page shows, and that it shows it whatever the rows hold."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from emailoffload.dashboard import health_cards, health_ses
from emailoffload.outbox.models import Claim, Email, Lease, Run, State
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.outbox.switches import Pause, set_pause
from tests.dashboard.conftest import SignIn
from tests.dashboard.factories import make_claim, make_day, make_email, make_row_error, make_run

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;{{7*7}}"


def text(client: Client, address: str, status: int = 200, **params: Any) -> str:
    response = client.get(address, params)
    assert response.status_code == status
    return response.content.decode()


# --- Overview ---


def test_overview_says_that_nothing_has_happened_yet(support: Client) -> None:
    page = text(support, "/")
    assert "No worker has run yet" in page
    assert "Nothing has been counted yet" in page
    assert "No email was rendered" not in page, "nobody has counted, so nobody knows"
    assert "The outbox is empty" in page
    assert "No pass yet" in page
    assert "All is being taken care of" not in page, "no worker has run"


def test_overview_says_in_the_first_minutes_that_the_worker_runs_and_only_claims_later(
    support: Client,
) -> None:
    make_run("dispatch")
    page = text(support, "/")
    assert "No claiming pass yet. The worker runs" in page
    assert "Start the worker" not in page


def test_overview_names_what_passes_left_to_moodle_and_why(support: Client) -> None:
    make_run(counts={"seen": 10, "claimed": 4, "left": {"not_enrolled": 6}})
    page = text(support, "/")
    assert "4 claimed" in page
    assert "6: the user is no longer an active learner of the course" in page


def test_overview_shows_the_soonest_mails_and_how_many_are_due_in_an_hour(support: Client) -> None:
    now = timezone.now()
    for minutes in (90, 5, 30):
        make_email(
            EmailState.QUEUED, subject=f"In {minutes} minutes", due_at=now + timedelta(minutes=minutes)
        )
    page = text(support, "/")
    assert page.index("In 5 minutes") < page.index("In 30 minutes") < page.index("In 90 minutes")
    assert "due within the next hour: <strong>2</strong>" in page


@pytest.mark.parametrize(("seconds", "tone"), [(20, "good"), (3600, "bad")])
def test_the_worker_is_alive_while_its_heartbeat_is_fresh(seconds: int, tone: str) -> None:
    beat = timezone.now() - timedelta(seconds=seconds)
    Lease.objects.create(name="dispatch-1", holder="mail-1", beat_at=beat)
    found = health_cards.worker(timezone.now())
    assert (found.tone, found.at) == (tone, beat)


def test_a_pass_counts_as_a_sign_of_life() -> None:
    make_run("recover")
    assert health_cards.worker(timezone.now()).tone == "good"


def test_overview_lists_what_needs_a_person(support: Client) -> None:
    make_email(EmailState.FAILED)
    make_email(EmailState.UNCERTAIN)
    make_email(EmailState.QUEUED, due_at=timezone.now() - timedelta(minutes=10))
    make_claim(state=ClaimState.RELEASING, settled_at=timezone.now() - timedelta(hours=2))
    make_row_error()
    page = text(support, "/")
    for words in (
        "nothing more is tried",
        "waiting for evidence",
        "should have left",
        "on its way back",
        "row of Moodle",
    ):
        assert words in page
    assert "The activity has no course module" in page


def test_overview_says_who_paused_what_and_why(support: Client) -> None:
    set_pause(Pause(claims=True, by="ada", reason="Moodle is being upgraded"))
    page = text(support, "/")
    assert "Claiming is paused." in page
    assert "By ada: Moodle is being upgraded" in page


ACCOUNT = {
    "sending_enabled": True,
    "max_send_rate": 14.0,
    "max_24h": 50000,
    "sent_24h": 1200,
    "production": True,
}


@pytest.mark.parametrize(
    ("account", "tone", "words"),
    [
        ({}, "good", "1,200 of 50,000 mails in 24 hours"),
        ({"max_24h": None}, "good", "no daily limit"),
        ({"sent_24h": 50000}, "warn", "50,000 of 50,000"),
        ({"production": False}, "warn", "1,200 of 50,000"),
        ({"sending_enabled": False}, "bad", "switched off"),
    ],
)
def test_overview_tells_the_state_of_the_ses_account(account: dict[str, Any], tone: str, words: str) -> None:
    State.objects.create(name="ses_account", value={"account": ACCOUNT | account})
    (found,) = health_ses.ses_account()
    assert found.tone == tone
    assert words in found.text


def test_an_open_breaker_is_told_before_anything_else_about_ses() -> None:
    State.objects.create(name="ses_account", value={"account": ACCOUNT})
    State.objects.create(
        name="ses_breaker",
        value={"code": "SendingPausedException", "why": "Resume it in SES.", "open_until": 1, "times": 1},
    )
    (found,) = health_ses.ses_account()
    assert found.tone == "bad"
    assert "SendingPausedException" in found.text
    assert found.cure == "Resume it in SES."


def test_an_account_that_could_not_be_read_says_why() -> None:
    problem = {"kind": "account", "code": "AccessDenied", "message": "Allow ses:GetAccount."}
    State.objects.create(name="ses_account", value={"account": ACCOUNT, "problem": problem})
    (found,) = health_ses.ses_account()
    assert (found.tone, found.cure) == ("warn", "Allow ses:GetAccount.")


# --- Emails ---


def test_emails_says_what_to_do_while_there_are_none(support: Client) -> None:
    page = text(support, "/emails/")
    assert "No email yet." in page
    assert "Go to the overview" in page


def test_emails_says_what_to_do_when_nothing_fits(support: Client) -> None:
    make_email()
    page = text(support, "/emails/", q="99999")
    assert "No email fits these filters." in page
    assert "Show all emails" in page


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"state": ["failed", "uncertain"]}, {"failed", "uncertain"}),
        ({"role": "thirdparty"}, {"third"}),
        ({"source": "iomad_queue"}, {"iomad"}),
        ({"activity": "99"}, {"activity"}),
        ({"course": "98"}, {"course"}),
        ({"company": "97"}, {"company"}),
        ({"user": "96"}, {"user"}),
        ({"reason": "MessageRejected"}, {"failed"}),
        ({"q": "96"}, {"user"}),
        ({"q": "hr@example.org"}, {"third"}),
        ({"when": "30d", "state": "delivered"}, {"new"}),
        ({"date_to": "2026-01-31"}, {"old"}),
        ({"date_from": "2026-01-01", "date_to": "2026-01-31"}, {"old"}),
        ({"date_from": "2025-01-01", "date_to": "2025-01-31"}, set()),
    ],
)
def test_a_filter_shows_those_emails_and_no_others(
    support: Client, params: dict[str, Any], expected: set[str]
) -> None:
    old = timezone.now().replace(year=2026, month=1, day=20)
    make_email(EmailState.FAILED, subject="S:failed")
    make_email(EmailState.UNCERTAIN, subject="S:uncertain")
    make_email(role="thirdparty", address="hr@example.org", subject="S:third")
    make_email(claim=make_claim(source="iomad_queue"), subject="S:iomad")
    make_email(activity_id=99, subject="S:activity")
    make_email(course_id=98, subject="S:course")
    make_email(company_id=97, subject="S:company")
    make_email(user_id=96, subject="S:user")
    make_email(EmailState.DELIVERED, subject="S:new")
    make_email(EmailState.DELIVERED, subject="S:old", created_at=old)
    page = text(support, "/emails/", **params)
    found = {part.split("<")[0] for part in page.split(">S:")[1:]}
    assert found == expected


def test_paging_walks_all_emails_once_in_both_directions(support: Client) -> None:
    pks = [make_email(claim=claim).pk for claim in [make_claim()] for _ in range(120)]
    seen: list[int] = []
    page = support.get("/emails/?state=accepted")
    for _ in range(3):
        seen += [row.pk for row in page.context["page"].rows]
        older = page.context["older"]
        if older:
            page = support.get("/emails/" + older)
    assert seen == pks[::-1]
    assert older == ""
    back = [row.pk for row in page.context["page"].rows]
    for _ in range(2):
        page = support.get("/emails/" + page.context["newer"])
        back = [row.pk for row in page.context["page"].rows] + back
    assert back == pks[::-1]
    assert page.context["newer"] == ""


def test_filters_stay_in_the_address_from_page_to_page(support: Client) -> None:
    claim = make_claim()
    for _ in range(51):
        make_email(claim=claim, subject="Fire & smoke")
    page = support.get("/emails/", {"q": "Fire & smoke", "state": ["accepted", "failed"]})
    assert "q=Fire+%26+smoke&state=accepted&state=failed&before=" in page.context["older"]


def test_the_count_stops_at_its_cap(support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emailoffload.dashboard.walk.COUNT_CAP", 2)
    for _ in range(3):
        make_email()
    assert "more than 2 emails" in text(support, "/emails/")


@pytest.mark.parametrize("address", ["/emails/", "/users/15093/", "/runs/"])
def test_a_list_costs_the_same_whatever_its_length(
    support: Client, address: str, django_assert_max_num_queries: Any, django_assert_num_queries: Any
) -> None:
    make_day()
    with django_assert_max_num_queries(18) as first:
        support.get(address)
    make_day()
    with django_assert_num_queries(len(first)):
        support.get(address)


# --- One email ---


@pytest.mark.parametrize("state", list(EmailState))
def test_one_email_is_shown_in_every_state(support: Client, state: str) -> None:
    email = make_email(state)
    page = text(support, reverse("email", args=[email.pk]))
    assert "Please complete Fire safety" in page
    assert "Claimed in Moodle" in page
    assert email.ref.hex in page


def test_one_email_shows_its_attempts_with_the_answer_of_ses(support: Client) -> None:
    page = text(support, reverse("email", args=[make_email(EmailState.FAILED).pk]))
    for words in (
        "MessageRejected",
        "4f2f2b0e-0d4b-4d57-9d8c-6a4cf8d0a001",
        "Email address is not verified.",
        "400",
    ):
        assert words in page


def test_one_email_shows_the_row_it_was_claimed_from(support: Client) -> None:
    claim = make_claim(
        row_id=4242, before={"emailsent": 1, "emailtime": 100}, after={"emailsent": 2, "emailtime": 700}
    )
    page = text(support, reverse("email", args=[make_email(claim=claim).pk]))
    assert "row 4242 of Reengagement reminder" in page
    assert "1 → 2" in page
    assert "ahead of time, before it was due" in page


def test_one_email_shows_its_siblings_with_their_states(support: Client) -> None:
    claim = make_claim()
    mine = make_email(claim=claim)
    sibling = make_email(EmailState.BOUNCED, claim, role="manager", name="Charles Babbage")
    other = make_email(name="Somebody Else")
    page = text(support, reverse("email", args=[mine.pk]))
    assert reverse("email", args=[sibling.pk]) in page
    assert "Charles Babbage" in page
    assert reverse("email", args=[other.pk]) not in page


def test_one_email_costs_the_same_whatever_belongs_to_it(
    support: Client, django_assert_num_queries: Any
) -> None:
    claim = make_claim()
    email = make_email(claim=claim)
    address = reverse("email", args=[email.pk])
    support.get(address)
    with django_assert_num_queries(14):
        support.get(address)
    for _ in range(20):
        make_email(claim=claim)
    with django_assert_num_queries(14):
        support.get(address)


@pytest.mark.parametrize("pk", [1, 2**63, 10**30])
def test_an_email_that_does_not_exist_is_not_found(support: Client, pk: int) -> None:
    assert "There is no such page" in text(support, f"/emails/{pk}/", status=404)


# --- Users ---


def test_a_typed_user_id_leads_straight_to_the_user(support: Client) -> None:
    response = support.get("/users/", {"q": " 15093 "})
    assert (response.status_code, response.headers["Location"]) == (302, "/users/15093/")


@pytest.mark.parametrize("part", ["firstname", "lastname", "username", "email", "both", "turned"])
def test_a_user_is_found_in_moodle_by_name_and_by_address(support: Client, part: str) -> None:
    from emailoffload.moodle.models import User

    columns = ("id", "firstname", "lastname", "username", "email")
    user_id, first, last, username, address = User.objects.filter(username="gplain").values_list(*columns)[0]
    typed = {
        "firstname": first[:4].lower(),
        "lastname": last,
        "username": username.upper(),
        "email": address[:7],
        "both": f"{first} {last[:2]}",
        "turned": f"{last}, {first}",
    }
    assert f'href="/users/{user_id}/"' in text(support, "/users/", q=typed[part])


def test_a_user_is_found_by_an_address_that_we_mailed(support: Client) -> None:
    make_email(user_id=15093, address="ada@former.example.org")
    page = text(support, "/users/", q="ada@former.example.org")
    assert "/users/15093/" in page


def test_a_search_without_a_result_says_how_to_search(support: Client) -> None:
    assert "Names are searched from their beginning" in text(support, "/users/", q="zzzzzz")


def test_a_user_page_answers_with_the_newest_mail_to_the_user_themself(support: Client) -> None:
    make_email(EmailState.BOUNCED)
    make_email(EmailState.DELIVERED)
    make_email(EmailState.FAILED, role="thirdparty", address="hr@example.org")
    page = text(support, "/users/15093/")
    assert "<strong>Yes:</strong> delivered to ada@example.org on " in page.split("In Moodle</h2>")[0]
    assert page.count("<strong>No:</strong>") == 2


def test_a_user_page_judges_by_what_is_due_and_names_what_waits(support: Client) -> None:
    make_email(EmailState.DELIVERED, subject="Today's")
    make_email(EmailState.QUEUED, subject="Tomorrow's", due_at=timezone.now() + timedelta(days=1))
    response = support.get("/users/15093/")
    assert response.context["verdict"].answer == "Yes"
    assert "Tomorrow&#x27;s" in response.content.decode().split("The next one waits:")[1].split("</p>")[0]


def test_a_user_page_says_not_yet_while_the_first_mail_waits(support: Client) -> None:
    make_email(EmailState.QUEUED, due_at=timezone.now() + timedelta(minutes=5))
    assert "<strong>Not yet:</strong>" in text(support, "/users/15093/")


def test_a_user_page_tells_who_it_is_in_moodle(support: Client) -> None:
    from emailoffload.moodle.models import User

    user_id, address = User.objects.filter(username="gsusp").values_list("id", "email")[0]
    page = text(support, f"/users/{user_id}/")
    assert address in page
    assert "suspended" in page


def test_a_user_unknown_to_moodle_and_to_us_is_unknown_and_not_an_error(support: Client) -> None:
    page = text(support, "/users/987654321/")
    assert "<strong>Unknown:</strong>" in page
    assert "Moodle has no user with this id." in page
    text(support, f"/users/{10**30}/")


def test_a_user_page_shows_rows_that_could_not_be_handled(support: Client) -> None:
    make_row_error(user_id=15093, row_id=31337)
    assert "the activity has no course module: Moodle&#x27;s data are damaged (row 31337)" in text(
        support, "/users/15093/"
    )


def test_pages_work_while_moodle_does_not_answer(support: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db.utils import OperationalError

    def away(*args: Any, **kwargs: Any) -> None:
        raise OperationalError(2003, "gone")

    for name in ("people._people", "people._search", "reach._of", "coming._reminders"):
        monkeypatch.setattr(f"emailoffload.dashboard.{name}", away)
    make_email(EmailState.DELIVERED)
    page = text(support, "/users/15093/")
    assert "Moodle's database does not answer now" in page
    assert "<strong>Yes:</strong>" in page
    assert "A user id works always" in text(support, "/users/", q="Ada")


# --- Runs, health ---


def test_runs_are_shown_newest_first_and_by_kind(support: Client) -> None:
    first, second = make_run(), make_run("dispatch", counts={"sent": 3})
    page = support.get("/runs/")
    assert [run.pk for run in page.context["page"].rows] == [second.pk, first.pk]
    page = support.get("/runs/?kind=intercept")
    assert [run.pk for run in page.context["page"].rows] == [first.pk]


def test_a_run_that_failed_says_so_in_words(support: Client) -> None:
    make_run(outcome="refused", message="The plugin variant is unknown.", counts={})
    page = text(support, "/runs/")
    assert "refused to claim" in page
    assert "The plugin variant is unknown." in page


@pytest.mark.parametrize(
    "counts", [[], None, 7, {"left": 3, "claimed": "x"}, {"left": {"a": None}}, {"seen": True}]
)
def test_counts_of_any_shape_are_shown(support: Client, counts: Any) -> None:
    make_run(counts=counts if counts is not None else {})
    text(support, "/runs/")
    text(support, "/")


def test_healthz_answers_without_a_login(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}


def test_healthz_says_when_the_database_is_away(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connection
    from django.db.utils import OperationalError

    def away() -> None:
        raise OperationalError(2003, "gone")

    monkeypatch.setattr(connection, "cursor", away)
    response = client.get("/healthz")
    assert (response.status_code, response.json()) == (503, {"status": "database does not answer"})


# --- Hostile values, banners ---


def test_hostile_names_and_subjects_are_text_everywhere(support: Client) -> None:
    claim = make_claim(
        user_name=HOSTILE, activity_name=HOSTILE, course_name=HOSTILE, company_name=HOSTILE, note=HOSTILE
    )
    email = make_email(
        EmailState.FAILED, claim, name=HOSTILE, subject=HOSTILE, detail=HOSTILE, reason="a<b>c"
    )
    Claim.objects.filter(pk=claim.pk).update(state=ClaimState.LOST, settled_at=timezone.now())
    email.tries.update(error_code=HOSTILE, error_message=HOSTILE, holder=HOSTILE)
    make_email(claim=claim, name=HOSTILE, address=HOSTILE)
    make_row_error(detail=HOSTILE, reason="x<script>")
    make_run(message=HOSTILE, outcome="x<i>", counts={"<b>": 1, "left": {"<script>": 2}})
    set_pause(Pause(claims=True, by=HOSTILE, reason=HOSTILE))
    for address in (
        "/", "/emails/", f"/emails/{email.pk}/", f"/emails/{email.pk}/preview/", "/users/15093/", "/runs/",
        "/users/", "/emails/?q=%3Cscript%3E&reason=%3Cscript%3E",
    ):  # fmt: skip
        page = text(support, address)
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert '<script>"' not in page and "<b>c" not in page and "x<i>" not in page, address
        assert "49" not in page.split("&amp;amp;")[-1][:8]


def test_every_script_and_style_is_a_file_of_our_own(support: Client) -> None:
    email = make_email()
    for address in ("/", "/emails/", f"/emails/{email.pk}/", "/users/15093/", "/users/", "/runs/"):
        page = text(support, address)
        assert " style=" not in page and "<style" not in page
        scripts = re.findall(r"<script[^>]*>", page)
        assert scripts == [
            '<script src="/static/django_htmx/htmx-2.min.js" defer>',
            '<script src="/static/offload/app.js" defer>',
        ]
        assert "http-equiv" not in page


@pytest.mark.parametrize("sample", [True, False])
def test_the_sample_site_is_announced_on_every_page(support: Client, settings: Any, sample: bool) -> None:
    settings.SAMPLE_SITE = sample
    for address in ("/", "/emails/", "/users/", "/runs/"):
        assert ("Sample site." in text(support, address)) is sample


def test_the_present_page_is_marked_in_the_navigation(sign_in: SignIn) -> None:
    client = sign_in("Auditors")
    email = make_email()
    for address, name in (
        ("/", "Overview"),
        (f"/emails/{email.pk}/", "Emails"),
        ("/users/1/", "Users"),
        ("/runs/", "Runs"),
    ):
        page = text(client, address)
        assert page.count('aria-current="page">' + name) == 1


def test_times_carry_their_exact_moment(support: Client) -> None:
    email = make_email()
    page = text(support, f"/emails/{email.pk}/")
    assert f'datetime="{email.due_at.isoformat()}"' in page
    assert " UTC</time>" in page


def test_records_without_a_pass_or_claim_time_are_shown(support: Client) -> None:
    email = make_email(EmailState.PREPARED, make_claim(state=ClaimState.INTENDED, claimed_at=None, after={}))
    assert "Claimed in Moodle" not in text(support, f"/emails/{email.pk}/")
    Run.objects.create(kind="intercept", started_at=timezone.now())
    assert "A pass is running" in text(support, "/")
    assert Email.objects.count() == 1
