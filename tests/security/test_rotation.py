"""Secrets are exchanged while the site is at work: nobody is logged out, no stored mail is lost."""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.test import Client
from django.utils.crypto import get_random_string

from emailoffload.outbox import content
from emailoffload.outbox.models import Content, State
from offloadsite import env, keys
from tests.dashboard.conftest import make_user
from tests.outbox.factory import queue_email
from tests.test_settings import ROOT

PAGE = "/password/"


def logged_in(name: str) -> Client:
    make_user("Support staff", name)
    client = Client()
    client.post("/login/", {"username": name, "password": "a long enough passphrase"})
    assert client.get(PAGE).status_code == 200
    return client


@pytest.mark.django_db(databases=["default", "moodle"])
def test_a_new_secret_key_logs_nobody_out_who_comes_while_the_former_one_is_believed(settings: Any) -> None:
    comes, stays_away = logged_in("ann"), logged_in("bob")
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], get_random_string(50)
    assert comes.get(PAGE).status_code == 200
    assert comes.get(PAGE).status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    assert comes.get(PAGE).status_code == 200
    assert stays_away.get(PAGE).status_code == 302


@pytest.mark.django_db(databases=["default", "moodle"])
def test_nobody_is_logged_out_while_web_hosts_are_restarted_one_after_the_other(settings: Any) -> None:
    """docs/rotation.md: the new key is believed on every host before any of them signs with it."""
    old, new = settings.SECRET_KEY, get_random_string(50)
    client = logged_in("ann")
    steps = (old, []), (old, [new]), (new, [old]), (new, [])
    for before, after in pairwise(steps):
        for host in (before, after, before, after, after):
            settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = host
            assert client.get(PAGE).status_code == 200


@pytest.mark.django_db(databases=["default", "moodle"])
def test_a_stolen_secret_key_that_is_exchanged_without_a_fallback_opens_nothing_any_more(
    settings: Any,
) -> None:
    client = logged_in("ann")
    settings.SECRET_KEY = get_random_string(50)
    assert client.get(PAGE).status_code == 302


def test_a_former_key_that_is_too_short_is_refused_without_being_repeated() -> None:
    found, problem = keys.former_secret_keys(["x" * 32, "hunter2"])
    assert found == []
    assert problem is not None
    assert problem.startswith("SECRET_KEY_FALLBACKS: too short")
    assert "hunter2" not in problem
    assert keys.former_secret_keys(["x" * 32]) == (["x" * 32], None)


@pytest.mark.django_db
def test_content_keys_are_exchanged_in_the_documented_order_and_every_stored_mail_opens_at_every_step(
    settings: Any,
) -> None:
    """docs/rotation.md: the new key behind the old one on every host, then in front, then alone."""
    old, new = settings.CONTENT_KEYS[0], Fernet.generate_key().decode()
    content.ensure_keys()
    emails = {}

    def all_open(host: list[str]) -> None:
        settings.CONTENT_KEYS = host
        content.ensure_keys()
        for pk, text in emails.items():
            assert content.open_(Content.objects.get(email=pk)).text == text
        emails[queue_email(text=f"mail {len(emails)}").pk] = f"mail {len(emails)}"

    all_open([old])
    # One host after the other is restarted: between two of them both values are at work.
    for before, after in (([old], [old, new]), ([old, new], [new, old])):
        for host in (before, after, before, after):
            all_open(host)
    out = io.StringIO()
    call_command("rotatecontent", "--json", stdout=out)
    assert json.loads(out.getvalue())["removable"] == [content.fingerprint(old)]
    all_open([new])
    assert State.objects.get(name=content.REGISTRY).value["ids"] == [content.fingerprint(new)]


def test_every_secret_has_its_section_that_says_how_it_is_exchanged() -> None:
    page = (ROOT / "docs" / "rotation.md").read_text()
    heads = " ".join(re.findall(r"^## (.*)$", page, re.MULTILINE))
    assert [spec.name for spec in env.SPECS if spec.secret and f"`{spec.name}`" not in heads] == []
