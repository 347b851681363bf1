"""Single sign-on, from the button to the page: our web server, a provider, a browser's requests, over HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.oidc.provider import CLIENT_ID, CLIENT_SECRET, Provider
from tests.processes import ROOT

pytestmark = pytest.mark.whole
MAP = {
    "support": "Support staff",
    "admins": ["Offload administrators", "Support staff"],
    "ghosts": "No such group",
}


class Site:
    """The product with a provider, as an administrator starts it, on a database of its own."""

    def __init__(self, folder: Path, provider: Provider) -> None:
        self.provider = provider
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        secret = folder / "oidc.secret"
        secret.write_text(f"{CLIENT_SECRET}\n")
        env = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")} | {
            "DJANGO_SETTINGS_MODULE": "offloadsite.settings",
            "OFFLOAD_DATA_DIR": str(folder),
            "OFFLOAD_ENV_FILE": os.devnull,
            "OIDC_SERVER_URL": provider.address,
            "OIDC_CLIENT_ID": CLIENT_ID,
            "OIDC_CLIENT_SECRET_FILE": str(secret),
            "OIDC_NAME": "Example staff login",
            "OIDC_GROUP_MAP": json.dumps(MAP),
        }
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=env, check=True, timeout=240
        )
        self.log = (folder / "web.log").open("w+")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gunicorn",
                "offloadsite.wsgi",
                "--bind",
                f"127.0.0.1:{port}",
                "--threads",
                "4",
            ],
            cwd=ROOT,
            env=env,
            stdout=self.log,
            stderr=self.log,
        )
        end = time.monotonic() + 120
        while not self.answers():
            assert time.monotonic() < end
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether the web server is there."""
        assert self.process.poll() is None, (self.folder / "web.log").read_text()
        try:
            return requests.get(f"{self.address}/healthz", timeout=5).ok
        except (requests.ConnectionError, requests.Timeout):
            return False

    def sql(self, statement: str, *values: object) -> list[Any]:
        """Rows of the site's database, or a change to it."""
        with sqlite3.connect(self.folder / "offload.sqlite3", timeout=20) as database:
            return database.execute(statement, values).fetchall()

    def groups(self, name: str) -> set[str]:
        """The groups of an account."""
        rows = self.sql(
            "SELECT g.name FROM auth_group g JOIN auth_user_groups m ON m.group_id = g.id"
            " JOIN auth_user u ON u.id = m.user_id WHERE u.username = ?",
            name,
        )
        return {row[0] for row in rows}

    def accounts(self) -> set[str]:
        """The names of all accounts."""
        return {row[0] for row in self.sql("SELECT username FROM auth_user")}

    def audited(self) -> list[tuple[str, str, Any]]:
        """Action, actor and details of the audit log."""
        rows = self.sql("SELECT action, actor, details FROM emailoffload_auditentry ORDER BY id")
        return [(action, actor, json.loads(details)) for action, actor, details in rows]


class Browser(requests.Session):
    """A browser with cookies of its own; it goes one step at a time."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site

    def step(self, address: str) -> requests.Response:
        """One answer; addresses of the site may be given without its name."""
        address = address if address.startswith("http") else f"{self.site.address}{address}"
        return self.get(address, allow_redirects=False, timeout=20)

    def to_callback(self, begin: str = "/login/oidc/") -> str:
        """Begin, be logged in by the provider, and stop before coming back: the address that leads back."""
        away = self.step(begin)
        assert away.status_code == 302
        assert away.headers["Location"].startswith(f"{self.site.provider.address}/authorization?")
        return self.step(away.headers["Location"]).headers["Location"]

    def log_in(self, begin: str = "/login/oidc/") -> requests.Response:
        """The whole way; the answer to coming back."""
        return self.step(self.to_callback(begin))

    def is_in(self) -> bool:
        """Whether the site shows the overview."""
        return self.step("/").status_code == 200


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site and its provider, for all tests of this file."""
    provider = Provider()
    site = Site(tmp_path_factory.mktemp("oidc"), provider)
    yield site
    site.process.terminate()
    site.process.wait(timeout=30)
    site.log.close()
    provider.close()


@pytest.fixture
def site(running: Site) -> Site:
    """The site without any account."""
    running.provider.fresh()
    for table in ("socialaccount_socialaccount", "auth_user_groups", "auth_user", "emailoffload_auditentry"):
        running.sql(f"DELETE FROM {table}")
    return running


@pytest.fixture
def browser(site: Site) -> Browser:
    """A browser."""
    return Browser(site)


def local(site: Site, name: str) -> int:
    """An account that is there already; its id."""
    site.sql(
        "INSERT INTO auth_user (username, password, is_superuser, is_staff, is_active, first_name, last_name, email,"
        " date_joined) VALUES (?, 'hash', 1, 1, 1, '', '', 'ann@example.org', '2026-01-01')",
        name,
    )
    return int(site.sql("SELECT id FROM auth_user WHERE username = ?", name)[0][0])


def test_the_button_leads_through_the_provider_to_the_page_that_was_asked_for(
    site: Site, browser: Browser
) -> None:
    page = browser.step("/users/")
    login = browser.step(page.headers["Location"])
    assert "Log in with Example staff login" in login.text
    assert 'href="/login/oidc/?next=%2Fusers%2F"' in login.text
    back = browser.log_in("/login/oidc/?next=%2Fusers%2F")
    assert (back.status_code, back.headers["Location"]) == (302, "/users/")
    assert browser.step("/users/").status_code == 200
    assert site.groups("sam") == {"Support staff"}
    row = site.sql("SELECT password, is_superuser, is_staff, email FROM auth_user")[0]
    assert row[0].startswith("!")
    assert row[1:] == (0, 0, "")
    assert [(action, actor) for action, actor, _ in site.audited()] == [
        ("account_create", "(login page)"),
        ("groups_by_sso", "(login page)"),
        ("login", "sam"),
    ]


def test_nothing_of_what_the_provider_tells_is_kept_but_name_and_link(site: Site, browser: Browser) -> None:
    site.provider.claims |= {"email": "sam@example.org", "given_name": "Samuel", "phone_number": "555"}
    assert browser.log_in().status_code == 302
    kept = str(site.sql("SELECT * FROM socialaccount_socialaccount") + site.sql("SELECT * FROM auth_user"))
    assert not any(word in kept for word in ("u-1", "example.org", "Samuel", "555"))
    # Digits alone: whether a database tells upper from lower case makes no difference to whom a link belongs.
    links = {uid for (uid,) in site.sql("SELECT uid FROM socialaccount_socialaccount")}
    assert hashlib.sha256(b"u-1").hexdigest() in links
    assert all(re.fullmatch("[0-9a-f]{64}", uid) for uid in links)
    assert not site.sql("SELECT * FROM socialaccount_socialtoken")
    assert not site.sql("SELECT * FROM account_emailaddress")


FAULTS: dict[str, Callable[[Provider], object]] = {
    "a nonce of another login": lambda each: each.token.update(nonce="x" * 64),
    "no nonce": lambda each: each.token.update(nonce=None),
    "a token that has expired": lambda each: each.token.update(exp=1_700_000_000),
    "a token without an end": lambda each: each.token.update(exp=None),
    "a token of the future": lambda each: each.token.update(iat=4_000_000_000),
    "a token for another client": lambda each: each.token.update(aud="other"),
    "a token for several clients": lambda each: each.token.update(aud=[CLIENT_ID, "other"]),
    "a token for us that another one asked for": lambda each: each.token.update(azp="other"),
    "a token of another issuer": lambda each: each.token.update(iss="https://evil.example"),
    "a token of nobody": lambda each: each.token.update(sub=None),
    "a signature with another key": lambda each: setattr(each, "signer", "other key"),
    "a signature with the client's secret": lambda each: setattr(each, "signer", "HS256"),
    "no signature": lambda each: setattr(each, "signer", "none"),
    "no ID token": lambda each: setattr(each, "change", lambda answer: answer.pop("id_token")),
    "an ID token that is none": lambda each: setattr(
        each, "change", lambda answer: answer.update(id_token="x.y")
    ),
    "user information about somebody else": lambda each: each.userinfo.update(sub="u-2"),
    "no keys": lambda each: setattr(each, "down", "jwks"),
    "no tokens": lambda each: setattr(each, "down", "token"),
    "no user information": lambda each: setattr(each, "down", "userinfo"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_that_cannot_be_trusted_lets_nobody_in(site: Site, browser: Browser, fault: str) -> None:
    FAULTS[fault](site.provider)
    answer = browser.log_in()
    assert answer.status_code == 502
    assert "an answer that cannot be trusted" in " ".join(answer.text.split())
    assert "no-store" in answer.headers["Cache-Control"]
    assert not browser.is_in()
    assert not site.accounts()


def test_an_answer_is_taken_once_and_only_by_the_browser_that_asked(site: Site, browser: Browser) -> None:
    back = browser.to_callback()
    stranger = Browser(site)
    assert stranger.step(back).status_code == 400
    assert stranger.step("/login/oidc/callback/?code=x&state=y").status_code == 400
    assert stranger.step("/login/oidc/callback/").status_code == 400
    wrong = back.replace("state=", "state=x")
    assert "was begun in another browser" in browser.step(wrong).text
    assert not browser.is_in()
    assert browser.step(back).status_code == 302
    assert browser.step(back).status_code == 400


def test_a_code_of_another_login_is_refused_by_the_proof_key(site: Site, browser: Browser) -> None:
    theirs, mine = Browser(site).to_callback(), browser.to_callback()
    code = theirs.split("code=")[1].split("&")[0]
    stolen = f"{mine.split('?')[0]}?code={code}&state={mine.split('state=')[1]}"
    assert browser.step(stolen).status_code == 502
    assert not browser.is_in()


def test_who_gives_up_at_the_provider_is_told_so(site: Site, browser: Browser) -> None:
    site.provider.error = "access_denied"
    answer = browser.log_in()
    assert answer.status_code == 403
    assert "did not log you in" in answer.text


def test_a_provider_that_does_not_answer_is_told_calmly(site: Site, browser: Browser) -> None:
    site.provider.down = "openid-configuration"
    answer = browser.step("/login/oidc/")
    assert answer.status_code == 502
    assert "does not answer now" in answer.text


def test_who_has_no_mapped_group_gets_in_nowhere_and_is_told_so(site: Site, browser: Browser) -> None:
    for groups in ([], ["strangers"], ["ghosts"], "strangers", None, {"support": 1}, [["support"]]):
        site.provider.claims["groups"] = groups
        answer = browser.log_in()
        assert answer.status_code == 403, groups
        assert "knows you as sam, but none of your groups there" in " ".join(answer.text.split())
        assert not browser.is_in()
    assert not site.accounts()
    assert {(action, details["why"]) for action, _, details in site.audited()} == {
        ("login_refused", "no_group")
    }
    assert "No such group" in (site.folder / "web.log").read_text()


def test_groups_follow_the_provider_at_each_login_and_those_given_by_hand_stay(
    site: Site, browser: Browser
) -> None:
    browser.log_in()
    site.sql("INSERT INTO auth_group (name) VALUES ('Northwind staff')")
    site.sql(
        "INSERT INTO auth_user_groups (user_id, group_id) SELECT u.id, g.id FROM auth_user u, auth_group g"
        " WHERE g.name = 'Northwind staff'"
    )
    site.provider.claims["groups"] = ["admins", "strangers"]
    browser.log_in()
    assert site.groups("sam") == {"Offload administrators", "Support staff", "Northwind staff"}
    assert site.sql("SELECT is_staff, is_superuser FROM auth_user") == [(1, 0)]
    site.provider.claims["groups"] = "support"
    Browser(site).log_in()
    assert site.groups("sam") == {"Support staff", "Northwind staff"}
    assert site.sql("SELECT is_staff FROM auth_user") == [(0,)]
    site.provider.claims["groups"] = []
    assert Browser(site).log_in().status_code == 403
    assert site.groups("sam") == {"Northwind staff"}
    assert browser.step("/").status_code == 403
    changes = [details for action, _, details in site.audited() if action == "groups_by_sso"]
    assert changes[1] == {"before": ["Support staff"], "after": ["Offload administrators", "Support staff"]}
    site.sql(
        "DELETE FROM auth_user_groups WHERE group_id IN (SELECT id FROM auth_group WHERE name LIKE 'North%')"
    )
    site.sql("DELETE FROM auth_group WHERE name = 'Northwind staff'")


def test_an_account_that_is_switched_off_stays_out(site: Site, browser: Browser) -> None:
    browser.log_in()
    site.sql("UPDATE auth_user SET is_active = 0")
    assert not browser.is_in()
    answer = browser.log_in()
    assert answer.status_code == 403
    assert "switched off" in answer.text
    assert site.audited()[-1] == ("login_refused", "(login page)", {"why": "disabled"})


def test_no_name_and_no_address_leads_to_an_account_that_is_there_already(
    site: Site, browser: Browser
) -> None:
    key = local(site, "ann")
    site.provider.claims |= {
        "sub": "u-9",
        "preferred_username": "Ann",
        "email": "ann@example.org",
        "email_verified": True,
    }
    assert browser.log_in().status_code == 302
    assert site.accounts() == {"ann", "Ann-2"}
    assert not site.groups("ann")
    assert site.sql("SELECT is_superuser FROM auth_user WHERE username = 'Ann-2'") == [(0,)]
    assert key not in {row[0] for row in site.sql("SELECT user_id FROM socialaccount_socialaccount")}


def test_a_person_stays_the_same_whatever_they_are_called(site: Site, browser: Browser) -> None:
    browser.log_in()
    site.provider.claims["preferred_username"] = "samantha"
    Browser(site).log_in()
    assert site.accounts() == {"sam"}


@pytest.mark.parametrize(
    ("name", "ours"), [("<b>x</b> y", "b-x-b-y"), ("", "sso"), (7, "sso"), ("\u202eevil\x00", "evil")]
)
def test_a_name_of_the_provider_is_made_one_of_ours(
    site: Site, browser: Browser, name: object, ours: str
) -> None:
    site.provider.claims["preferred_username"] = name
    assert browser.log_in().status_code == 302
    assert site.accounts() == {ours}


def test_the_way_back_never_leads_to_another_site(site: Site, browser: Browser) -> None:
    assert browser.log_in("/login/oidc/?next=https://evil.example/").headers["Location"] == "/"
    assert browser.log_in("/login/oidc/?next=//evil.example/").headers["Location"] == "/"


def test_what_a_link_says_does_not_reach_the_provider(site: Site, browser: Browser) -> None:
    away = browser.step(
        "/login/oidc/?scope=admin&auth_params=prompt%3Dnone%26nonce%3Dx&process=connect&action=x"
    )
    asked = away.headers["Location"]
    assert not any(word in asked for word in ("admin", "prompt", "nonce=x"))


def test_none_of_allauths_own_pages_is_there(site: Site, browser: Browser) -> None:
    for path in ("signup", "email", "social/signup", "social/connections", "login", "password/reset"):
        for prefix in ("", "accounts/", "login/oidc/", "login/"):
            if prefix + path != "login":
                assert browser.step(f"/{prefix}{path}/").status_code in {302, 404}
                answer = browser.get(f"{site.address}/{prefix}{path}/", timeout=20)
                assert answer.status_code == 404, prefix + path
    browser.log_in()
    assert browser.step("/password/").status_code == 403
    assert "Change password" not in browser.step("/users/").text


def test_no_secret_token_or_code_is_in_the_log_or_the_database(site: Site, browser: Browser) -> None:
    browser.log_in()
    site.provider.signer = "other key"
    browser.log_in()
    kept = (site.folder / "web.log").read_text()
    kept += (site.folder / "offload.sqlite3").read_bytes().decode("latin-1")
    assert not [secret for secret in site.provider.secrets if secret in kept]
