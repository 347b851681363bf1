"""How long a login lasts, how it ends, and changing one's password."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from emailoffload.accounts import sessions
from tests.accounts.conftest import typed
from tests.dashboard.conftest import PASSWORD, make_user

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
NEW = "quite another passphrase"
PAGE = "/password/"


@pytest.fixture
def client(sam: User) -> Client:
    """Somebody who has just logged in."""
    client = Client()
    client.post("/login/", typed())
    return client


def shift(client: Client, **seconds: int) -> None:
    """Let a session have begun, or been used, so many seconds earlier."""
    session = client.session
    for key, number in seconds.items():
        session[key] -= number
    session.save()


def is_in(client: Client, **headers: Any) -> bool:
    """Whether a page is shown."""
    return client.get(PAGE, **headers).status_code == 200


def test_a_session_ends_without_use(client: Client) -> None:
    shift(client, offload_used=120 * 60 - 5)
    assert is_in(client)
    shift(client, offload_used=120 * 60 + 5)
    assert not is_in(client)
    assert not Session.objects.exists()


def test_a_session_ends_after_twelve_hours_however_much_it_is_used(client: Client) -> None:
    shift(client, offload_started=12 * 3600 - 30)
    assert is_in(client)
    shift(client, offload_started=60)
    assert not is_in(client)


def test_sessions_that_have_ended_are_erased(client: Client) -> None:
    ended = Session.objects.get()
    Session.objects.filter(pk=ended.pk).update(expire_date=timezone.now() - timedelta(seconds=1))
    Client().post("/login/", typed())
    assert sessions.forget_ended() == 1
    assert Session.objects.exclude(pk=ended.pk).count() == 1


@pytest.mark.parametrize("headers", [{"HTTP_X_REQUESTED_WITH": "fetch"}, {"HTTP_HX_REQUEST": "true"}])
def test_a_page_that_keeps_itself_fresh_keeps_nobody_logged_in(
    client: Client, headers: dict[str, str]
) -> None:
    shift(client, offload_used=600)
    used = client.session[sessions.USED]
    assert is_in(client, **headers)
    assert client.session[sessions.USED] == used
    assert is_in(client)
    assert client.session[sessions.USED] > used


def test_filtering_a_list_is_use_although_only_a_part_of_the_page_is_asked_for(client: Client) -> None:
    shift(client, offload_used=600)
    used = client.session[sessions.USED]
    client.get("/emails/?state=failed", headers={"HX-Request": "true", sessions.USE_HEADER: "1"})
    assert client.session[sessions.USED] > used


def test_in_templates_what_a_person_asks_for_is_marked_as_use_and_what_asks_by_itself_is_not() -> None:
    tags = [
        tag
        for page in (settings.BASE_DIR / "templates").rglob("*.html")
        for tag in re.findall(
            r"<[^<]*?\bhx-get=(?:{[{%].*?[%}]}|[^<>]|<[^<>]*>)*>", page.read_text(), re.DOTALL
        )
    ]
    assert {"every " in tag for tag in tags} == {True, False}
    for tag in tags:
        assert (sessions.USE_HEADER in tag) is ("every " not in tag), tag


def test_a_part_of_a_page_asked_for_after_the_end_leads_the_whole_page_to_the_login(client: Client) -> None:
    shift(client, offload_used=120 * 60 + 5)
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/emails/?state=failed"}
    answer = client.get("/emails/?state=failed", headers=headers)
    assert (answer.status_code, answer.content) == (401, b"")
    assert answer.headers["HX-Redirect"] == "/login/?next=%2Femails%2F%3Fstate%3Dfailed"


def test_use_is_written_down_once_a_minute_not_with_every_page(client: Client) -> None:
    for seconds, written in ((0, 0), (61, 1), (0, 0)):
        shift(client, offload_used=seconds)
        with CaptureQueriesContext(connection) as asked:
            assert is_in(client)
        assert sum(query["sql"].startswith("UPDATE") for query in asked) == written


def test_cookies_are_for_this_browser_window_and_no_script(client: Client, sam: User) -> None:
    cookie = Client().post("/login/", typed()).cookies["sessionid"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert not cookie["max-age"] and not cookie["expires"]


def test_a_changed_password_ends_the_sessions_elsewhere_and_not_here(client: Client, sam: User) -> None:
    elsewhere = Client()
    elsewhere.post("/login/", typed())
    form = {"old_password": PASSWORD, "new_password1": NEW, "new_password2": NEW}
    answer = client.post(PAGE, form, follow=True)
    assert "Password changed" in answer.content.decode()
    assert is_in(client)
    assert not is_in(elsewhere)
    sam.refresh_from_db()
    assert sam.check_password(NEW)


@pytest.mark.parametrize(
    ("new", "word"),
    [
        ("eleven char", "at least 12 characters"),
        ("123456789012345", "entirely numeric"),
        ("administrator", "too common"),
        ("samantha-the-1st", "too similar to the username"),
    ],
)
def test_weak_passwords_are_refused_with_the_rule_that_they_break(
    client: Client, sam: User, new: str, word: str
) -> None:
    User.objects.filter(pk=sam.pk).update(username="samantha-the-1")
    page = client.post(PAGE, {"old_password": PASSWORD, "new_password1": new, "new_password2": new})
    assert word in page.content.decode()
    assert 'role="alert"' in page.content.decode()
    sam.refresh_from_db()
    assert sam.check_password(PASSWORD)


def test_the_page_of_the_password_says_its_rules_and_is_kept_by_no_cache(client: Client) -> None:
    answer = client.get(PAGE)
    assert "at least 12 characters" in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]
    assert re.search(r'<a href="/password/">\s*Change password', answer.content.decode())
    assert client.get("/admin/password_change/").headers["Location"] == PAGE


def test_an_account_without_a_password_here_is_told_where_it_has_one() -> None:
    user = make_user("Support staff", "sso")
    user.set_unusable_password()
    user.save()
    client = Client()
    client.force_login(user)
    answer = client.get(PAGE)
    assert answer.status_code == 403
    assert "single sign-on" in answer.content.decode()
    assert 'href="/password/"' not in answer.content.decode()


def test_with_single_sign_on_only_passwords_are_taken_of_superusers(sam: User, settings: Any) -> None:
    make_user("superuser", "root")
    settings.OIDC_ONLY = True
    assert 'type="password"' not in Client().get("/login/").content.decode()
    assert 'type="password"' in Client().get("/login/?password=1").content.decode()
    refused = Client().post("/login/?password=1", typed())
    wrong = Client().post("/login/?password=1", typed(password="wrong"))
    assert refused.status_code == wrong.status_code == 200
    alert = re.compile(r'role="alert">(.*?)</p>', re.DOTALL)
    assert alert.findall(refused.content.decode()) == alert.findall(wrong.content.decode())
    assert Client().post("/login/?password=1", typed("root")).status_code == 302
