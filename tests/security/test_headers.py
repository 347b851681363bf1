"""What answers tell the browser. Every page is asked by `test_each_role_gets_what_the_table_says…` (permissions)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from emailoffload.dashboard import headers
from tests.dashboard.conftest import SignIn, make_user
from tests.security.policy import faults_of_headers
from tests.test_settings import ROOT, command

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
SECURE = {
    "SECURE_HTTPS": "on",
    "ALLOWED_HOSTS": "offload.example.org",
    "TRUSTED_PROXIES": "1",
    "DATABASE_URL": "mysql://offload:x@127.0.0.1/offload",
    "MOODLE_DATABASE_URL": "mysql://offload:x@127.0.0.1/moodle",
    "MOODLE_WWWROOT": "https://learn.example.org",
}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/no-such-page/", 404),
        ("/emails/no-number/", 404),
        ("/static/offload/style.css", 200),
        ("/emails", 301),
    ],
)
def test_what_is_no_page_has_the_same_headers(support: Client, path: str, status: int) -> None:
    response = support.get(path)
    assert response.status_code == status
    assert list(faults_of_headers(response)) == []


def test_refusals_and_errors_have_the_same_headers(
    support: Client, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    support.raise_request_exception = False
    strict = Client(enforce_csrf_checks=True)
    answers = {
        400: support.get("/", headers={"host": "evil.example"}),
        403: strict.post("/login/", {"username": "x", "password": "y"}),
        405: support.get("/logout/"),
    }
    monkeypatch.setattr("emailoffload.dashboard.overview.collect", lambda *args: 1 / 0)
    answers[500] = support.get("/")
    for status, response in answers.items():
        assert response.status_code == status
        assert list(faults_of_headers(response)) == [], status


def test_over_https_browsers_are_told_to_come_by_https_only_and_http_leads_there(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_HSTS_SECONDS = 31536000
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = False
    redirect = Client().get("/login/")
    assert (redirect.status_code, redirect.headers["Location"]) == (301, "https://testserver/login/")
    assert list(faults_of_headers(redirect)) == []
    assert Client().get("/login/", secure=True).headers["Strict-Transport-Security"] == "max-age=31536000"
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = settings.SECURE_HSTS_PRELOAD = True
    answer = Client().get("/login/", secure=True)
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"


def test_every_cookie_is_for_this_host_no_script_and_no_other_site(settings: Any) -> None:
    make_user("Support staff", "ann")
    client = Client()
    client.get("/login/")
    client.post("/login/", {"username": "ann", "password": "a long enough passphrase"})
    client.post("/language/", {"language": "de"})
    assert {"csrftoken", "sessionid", "django_language"} <= set(client.cookies)
    for name, cookie in client.cookies.items():
        assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["domain"]) == (
            True, "Lax", "/", "",
        ), name  # fmt: skip


def test_a_real_site_passes_djangos_own_deployment_check_and_has_cookies_that_no_sister_site_can_set(
    tmp_path: Path,
) -> None:
    """The same settings as in `tools/lint`; what it prints is what an administrator would read."""
    done = command(tmp_path, "manage.py", "check", "--deploy", "--fail-level", "WARNING", **SECURE)
    assert done.returncode == 0, done.stderr
    asked = (
        "from django.conf import settings as s; "
        "print(s.SESSION_COOKIE_NAME, s.CSRF_COOKIE_NAME, s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, "
        "s.LANGUAGE_COOKIE_SECURE, s.SESSION_COOKIE_DOMAIN, s.SECURE_HSTS_SECONDS, s.SECURE_HSTS_INCLUDE_SUBDOMAINS)"
    )
    told = command(tmp_path, "manage.py", "shell", "--no-imports", "-c", asked, **SECURE)
    assert told.stdout.split() == [
        "__Host-sessionid", "__Host-csrftoken", "True", "True", "True", "None", "31536000", "False",
    ], told.stderr  # fmt: skip


def test_lint_checks_the_deployment_with_settings_of_a_real_site() -> None:
    lint = (ROOT / "tools" / "lint").read_text()
    assert "check --deploy --fail-level WARNING" in lint
    assert "SECURE_HTTPS=on" in lint


def test_every_header_is_in_the_documentation() -> None:
    page = (ROOT / "docs" / "security.md").read_text()
    named = {
        "Content-Security-Policy",
        "Strict-Transport-Security",
        "X-Frame-Options",
        "X-Content-Type-Options",
    }
    named |= {"Referrer-Policy", "Cross-Origin-Opener-Policy", *headers.HEADERS}
    assert named - set(re.findall(r"`([A-Za-z-]+)`", page)) == set()
