"""What somebody has who stole a copy of our database, a session's number, or an account."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import Client

from emailoffload.outbox.models import AuditEntry
from emailoffload.outbox.states import EmailState
from tests.credentials.secret import database_dump
from tests.dashboard.conftest import SignIn, make_user
from tests.dashboard.factories import make_email

ALL = pytest.mark.django_db(databases=["default", "moodle"])
PASSWORD = "a long enough passphrase"


@ALL
def test_a_copy_of_our_database_has_addresses_and_subjects_but_no_body_no_key_and_no_password() -> None:
    make_email(
        EmailState.ACCEPTED,
        subject="Please complete it",
        body={"text": "Your mark is 4711", "html": "<p>xyzzy</p>"},
    )
    Client().post("/login/", {"username": make_user("Support staff", "ann").username, "password": PASSWORD})
    dump = database_dump()
    for secret in ("Your mark is 4711", "xyzzy", PASSWORD, settings.SECRET_KEY, *settings.CONTENT_KEYS):
        assert secret.encode() not in dump
    for said in ("ada@example.org", "Please complete it"):  # docs/threat-model.md says so
        assert said.encode() in dump


@ALL
def test_a_session_that_somebody_was_given_before_the_login_is_not_theirs_afterwards() -> None:
    make_user("Support staff", "ann")
    client = Client()
    session = client.session
    session["planted"] = True
    session.save()
    planted = session.session_key
    client.cookies[settings.SESSION_COOKIE_NAME] = planted
    client.post("/login/", {"username": "ann", "password": PASSWORD})
    assert client.get("/password/").status_code == 200
    assert client.session.session_key != planted
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = planted
    assert thief.get("/password/").status_code == 302


@ALL
def test_switching_an_account_off_ends_what_a_thief_does_with_it_at_the_next_click(sign_in: SignIn) -> None:
    client = sign_in("Offload administrators")
    assert client.get("/").status_code == 200
    get_user_model().objects.update(is_active=False)
    assert client.get("/").status_code == 302


@ALL
def test_no_permission_of_ours_lets_change_or_delete_what_the_audit_log_says(sign_in: SignIn) -> None:
    client = sign_in("superuser")
    entry = AuditEntry.objects.create(actor="thief", action="resend")
    for deed in ("change", "delete"):
        answer = client.post(
            f"/admin/emailoffload/auditentry/{entry.pk}/{deed}/", {"post": "yes", "actor": "x"}
        )
        assert answer.status_code in {403, 404}
    client.post(
        "/admin/emailoffload/auditentry/",
        {"action": "delete_selected", "_selected_action": entry.pk, "post": "yes"},
    )
    assert AuditEntry.objects.get(pk=entry.pk).actor == "thief"
