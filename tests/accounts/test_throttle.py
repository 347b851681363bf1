"""Guessing passwords: how often, from where, and what is kept of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.test import Client, RequestFactory
from django.utils import timezone

from emailoffload.accounts import throttle
from emailoffload.accounts.address import UNKNOWN, client_address
from emailoffload.outbox.models import AuditEntry
from emailoffload.worker import tasks
from tests.accounts.conftest import typed
from tests.dashboard.conftest import PASSWORD, make_user

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
HERE, THERE = "192.0.2.1", "192.0.2.2"


def guessed(number: int, name: str = "sam", address: str = HERE) -> list[int]:
    """The statuses of so many wrong passwords."""
    form = typed(name, "wrong")
    return [Client(REMOTE_ADDR=address).post("/login/", form).status_code for _ in range(number)]


def right(name: str = "sam", address: str = HERE) -> int:
    """The status of the right password."""
    return Client(REMOTE_ADDR=address).post("/login/", typed(name)).status_code


def later(minutes: float) -> None:
    """Let so much time pass for all that was counted."""
    for row in AccessAttempt.objects.all():
        AccessAttempt.objects.filter(pk=row.pk).update(
            attempt_time=row.attempt_time - timedelta(minutes=minutes)
        )


def test_the_fifth_wrong_password_locks_and_then_the_right_one_is_refused_too(sam: User) -> None:
    assert guessed(6) == [200, 200, 200, 200, 429, 429]
    assert right() == 429
    assert AuditEntry.objects.filter(action="login").count() == 0


def test_others_are_not_locked_out_nor_the_same_account_from_elsewhere(sam: User) -> None:
    make_user("Auditors", "ann")
    guessed(6)
    assert right("ann") == 302
    assert right("sam", THERE) == 302


def test_one_address_cannot_go_through_all_names(sam: User) -> None:
    for number in range(48):
        assert not throttle.guess(f"name{number}", HERE).last
    assert [guessed(1, name) for name in ("kim", "lee")] == [[200], [429]]
    assert right() == 429
    assert right("sam", THERE) == 302


def test_the_lock_ends_at_the_moment_that_its_page_names_however_often_is_guessed_meanwhile(
    sam: User,
) -> None:
    guessed(5)
    later(14)
    answer = Client(REMOTE_ADDR=HERE).post("/login/", typed())
    assert answer.status_code == 429
    assert 50 <= int(answer.headers["Retry-After"]) <= 61
    assert "Too many attempts" in answer.content.decode()
    assert "<time datetime=" in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]
    guessed(3)
    later(1.01)
    assert right() == 302


def test_a_lock_does_not_tell_whether_an_account_exists(sam: User) -> None:
    pages = []
    for name in ("sam", "nobody-has-this-name"):
        for _ in range(5):
            answer = Client(REMOTE_ADDR=THERE).post("/login/", typed(name, "wrong"))
        page = answer.content.decode()
        pages.append(
            (
                answer.status_code,
                page.split("<main")[1].split("<time")[0],
                page.split("</time>")[1].split("</main>")[0],
            )
        )
    assert pages[0] == pages[1]
    assert AuditEntry.objects.filter(action="login_lock").values_list("object_id", flat=True).count() == 2


def test_a_success_forgets_ones_own_mistakes_and_nobody_elses(sam: User) -> None:
    make_user("Auditors", "ann")
    guessed(4)
    guessed(3, "ann")
    assert right() == 302
    assert guessed(4) == [200] * 4
    of_address = AccessAttempt.objects.get(username=throttle.ALL_NAMES)
    assert of_address.failures_since_start == 7
    assert AuditEntry.objects.get(action="login").details == {"by": "password", "failures": 4}


@pytest.mark.parametrize("spelling", ["SAM", "sam ", "  Sam", "sám", "ｓａｍ"])
def test_another_spelling_of_a_name_gives_no_further_guesses(sam: User, spelling: str) -> None:
    guessed(5)
    assert guessed(1, spelling) == [429]


@pytest.mark.parametrize("spelling", ["sa\x01m", "s\x7fa\x02m", "sa\u034fm"])
def test_a_spelling_that_only_the_database_takes_for_a_name_never_logs_in(sam: User, spelling: str) -> None:
    assert list(User.objects.filter(username=spelling)) == [sam]
    assert right(spelling) == 200


def test_what_is_kept_is_no_name_no_password_and_no_browser(
    sam: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    form = {"username": "typed-into-the-wrong-field", "password": "hunter2-secret", "next": "/x-page/"}
    client = Client(REMOTE_ADDR=HERE, HTTP_USER_AGENT="browser-of-somebody", HTTP_ACCEPT="accepts-much")
    for _ in range(6):
        client.post("/login/?password=in-the-address", form)
    kept = str(list(AccessAttempt.objects.values())) + str(list(AuditEntry.objects.values())) + caplog.text
    assert HERE in kept
    for word in (*form.values(), "browser-of-somebody", "accepts-much", "in-the-address"):
        assert word not in kept
    assert {entry.actor for entry in AuditEntry.objects.all()} == {"(login page)"}


def test_where_only_the_provider_logs_people_in_a_guess_does_not_tell_that_it_was_right(
    sam: User, settings: Any
) -> None:
    settings.OIDC_ONLY = True
    assert [*guessed(4), right()] == [200, 200, 200, 200, 429]
    assert AuditEntry.objects.filter(action="login_failed").count() == 5


def test_the_audit_log_counts_failures_and_locks_by_the_accounts_id(sam: User) -> None:
    guessed(6)
    entries = AuditEntry.objects.order_by("pk").values_list("action", "object_id", "details")
    assert list(entries) == [
        *(("login_failed", str(sam.pk), {"failures": number}) for number in range(1, 6)),
        ("login_lock", str(sam.pk), {"failures": 5, "by": "account"}),
    ]


def test_logins_logouts_and_changed_passwords_are_audited(sam: User) -> None:
    client = Client(REMOTE_ADDR=HERE)
    client.post("/login/", typed())
    new = "quite another passphrase"
    client.post("/password/", {"old_password": PASSWORD, "new_password1": new, "new_password2": new})
    client.post("/logout/")
    entries = AuditEntry.objects.order_by("pk").values_list("action", "actor", "object_id")
    assert list(entries) == [(name, "sam", str(sam.pk)) for name in ("login", "password_change", "logout")]


def test_the_admins_own_login_is_ours(sam: User) -> None:
    client = Client(REMOTE_ADDR=HERE)
    answer = client.get("/admin/login/?next=/admin/auth/user/")
    assert answer.headers["Location"] == "/login/?next=%2Fadmin%2Fauth%2Fuser%2F"
    assert (
        client.get("/admin/login/?next=https://evil.example/").headers["Location"]
        == "/login/?next=%2Fadmin%2F"
    )
    assert client.post("/admin/login/", typed()).status_code == 302
    assert not AccessAttempt.objects.exists()
    client.force_login(sam)
    refused = client.get("/admin/")
    assert refused.headers["Location"].startswith("/admin/login/")
    assert client.get("/admin/login/?next=/admin/").status_code == 403


@pytest.mark.parametrize(
    "unlock",
    [
        lambda: call_command("axes_reset"),
        lambda: call_command("axes_reset_ip", HERE),
        lambda: call_command("axes_reset_username", "Sam"),
    ],
    ids=["all", "address", "account"],
)
def test_an_administrator_ends_a_lock_on_the_command_line(sam: User, unlock: Callable[[], object]) -> None:
    guessed(5)
    unlock()
    assert right() == 302


def test_what_was_counted_is_erased_after_thirty_days(sam: User) -> None:
    guessed(1)
    later(29 * 1440)
    assert tasks.logins()["guesses"] == 0
    later(1440)
    assert tasks.logins()["guesses"] == 2
    assert not AccessAttempt.objects.exists()


@pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
def test_however_many_guess_at_once_no_more_than_the_limit_are_looked_at(
    sam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    check = User.check_password

    def counted(user: User, password: str) -> bool:
        looked_at.append(password)
        return check(user, password)

    monkeypatch.setattr(User, "check_password", counted)

    def one(number: int) -> int:
        try:
            form = typed(password=f"guess {number}")
            return Client(REMOTE_ADDR=HERE).post("/login/", form).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(one, range(24)))
    assert len(looked_at) == 5
    assert statuses.count(429) >= 19
    assert set(statuses) <= {200, 429}
    # Another process finds the same in the database: a restart ends no lock.
    assert AccessAttempt.objects.exclude(username=throttle.ALL_NAMES).get().failures_since_start == 5
    throttle.AccessAttempt.objects.update(attempt_time=timezone.now())
    assert right() == 429


# --- Where a request comes from ---

ADDRESSES: list[tuple[int, str | None, str, str]] = [
    (0, "203.0.113.9", "192.0.2.1", "192.0.2.1"),
    (0, None, "192.0.2.1", "192.0.2.1"),
    (1, "203.0.113.9", "10.0.0.1", "203.0.113.9"),
    (1, "198.51.100.1, 203.0.113.9", "10.0.0.1", "203.0.113.9"),
    (2, "198.51.100.1, 203.0.113.9, 10.0.0.2", "10.0.0.1", "203.0.113.9"),
    (2, "203.0.113.9", "10.0.0.1", "10.0.0.1"),
    (1, "", "10.0.0.1", "10.0.0.1"),
    (1, "not an address", "10.0.0.1", "10.0.0.1"),
    (1, "203.0.113.9:4711", "10.0.0.1", "203.0.113.9"),
    (1, "[2001:db8:1:2::5]:4711", "10.0.0.1", "2001:db8:1:2::"),
    (0, None, "2001:db8:1:2:ffff::7", "2001:db8:1:2::"),
    (0, None, "::ffff:192.0.2.1", "192.0.2.1"),
    (0, None, "fe80::1%eth0", "fe80::"),
    (0, None, "", UNKNOWN),
]


@pytest.mark.parametrize(("proxies", "forwarded", "remote", "expected"), ADDRESSES)
def test_an_address_is_believed_as_far_as_our_own_proxies_wrote_it(
    settings: Any, proxies: int, forwarded: str | None, remote: str, expected: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    headers = {} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded}
    request = RequestFactory().get("/", REMOTE_ADDR=remote, **headers)
    assert client_address(request) == expected


def test_a_forged_header_gives_no_further_guesses(sam: User, settings: Any) -> None:
    settings.TRUSTED_PROXIES = 1
    statuses = []
    for number in range(6):
        forged = f"198.51.100.{number}, {HERE}"
        client = Client(REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR=forged)
        statuses.append(client.post("/login/", typed(password="wrong")).status_code)
    assert statuses == [200] * 4 + [429] * 2
