"""The audit log as auditors read it: everything that is recorded, in words, found by who, what, which and when."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.test import Client

from emailoffload.dashboard import audit_words
from emailoffload.outbox.models import AuditEntry
from tests.dashboard.conftest import SignIn, make_user
from tests.dashboard.factories import make_email
from tests.dashboard.world import signed_in

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
ROOT = Path(__file__).parents[2]


def entry(action: str = "resend", actor: str = "sam", **fields: object) -> AuditEntry:
    at = fields.pop("at", None)
    made = AuditEntry.objects.create(action=action, actor=actor, **fields)
    if at is not None:
        AuditEntry.objects.filter(pk=made.pk).update(at=at)
    return made


@pytest.fixture
def auditor(sign_in: SignIn) -> Client:
    return sign_in("Auditors")


def shown(client: Client, query: str = "") -> list[int]:
    response = client.get(f"/audit/{query}")
    assert response.status_code == 200
    return [line.entry.pk for line in response.context["lines"]]


def test_an_entry_says_who_did_what_to_which_mail_and_why_and_leads_there(auditor: Client) -> None:
    email = make_email()
    entry(object_type="email", object_id=str(email.pk), reason="She says it never came")
    page = auditor.get("/audit/").content.decode()
    for words in ("sam", "sent a mail again", f'href="/emails/{email.pk}/"', "She says it never came"):
        assert words in page


def test_entries_are_found_by_person_action_and_thing(auditor: Client) -> None:
    first = entry(object_type="email", object_id="5")
    second = entry("pause", "ada", object_type="pause", object_id="both")
    third = entry("view_content", "ada", object_type="email", object_id="6")
    assert shown(auditor) == [third.pk, second.pk, first.pk]
    assert shown(auditor, "?who=ada") == [third.pk, second.pk]
    assert shown(auditor, "?action=pause") == [second.pk]
    assert shown(auditor, "?kind=email") == [third.pk, first.pk]
    assert shown(auditor, "?kind=email&which=5") == [first.pk]
    assert shown(auditor, "?who=nobody") == []


def test_nobody_is_led_to_a_page_that_refuses_them(sign_in: SignIn) -> None:
    account = make_user("Auditors", "ann")
    account.is_staff = True
    account.save()
    email = make_email()
    for kind, number in (
        ("user", account.pk),
        ("pause", "both"),
        ("claim", email.claim_id),
        ("email", email.pk),
    ):
        entry(object_type=kind, object_id=str(number))
    auditor = signed_in(account)
    led = re.findall(r'data-label="To what"><a href="([^"]+)"', auditor.get("/audit/").content.decode())
    assert led == [f"/emails/{email.pk}/", f"/admin/emailoffload/claim/{email.claim_id}/change/"]
    assert {auditor.get(address).status_code for address in led} == {200}
    boss = sign_in("superuser").get("/audit/").content.decode()
    assert f'href="/admin/auth/user/{account.pk}/change/"' in boss
    assert 'href="/pause/"' in boss


def test_days_begin_and_end_at_midnight_of_the_site(auditor: Client) -> None:
    day = datetime(2026, 3, 2, tzinfo=UTC)
    before, first, last, after = (
        entry(at=day + step)
        for step in (
            timedelta(seconds=-1),
            timedelta(),
            timedelta(hours=23, minutes=59),
            timedelta(days=1),
        )
    )
    assert shown(auditor, "?date_from=2026-03-02&date_to=2026-03-02") == [last.pk, first.pk]
    assert shown(auditor, "?date_to=2026-03-01") == [before.pk]
    assert shown(auditor, "?date_from=2026-03-03") == [after.pk]
    assert shown(auditor, "?date_from=2030-01-01") == []


def test_a_number_without_its_kind_is_an_error_that_says_so(auditor: Client) -> None:
    entry(object_type="email", object_id="5")
    page = auditor.get("/audit/?which=5")
    assert "Choose what it is the number of." in page.content.decode()
    assert page.context["lines"] == []


def test_what_was_and_what_is_stand_side_by_side() -> None:
    kept = {"before": {"mode": "on", "note": ""}, "after": {"mode": "off", "note": ""}, "rows": 3}
    assert audit_words.details(kept) == [("mode", "on → off"), ("rows", "3")]
    assert audit_words.details({"before": None, "after": {"enabled": True}}) == [("enabled", "– → yes")]
    assert audit_words.details(["not", "a", "mapping"]) == []


def test_a_new_action_or_kind_of_thing_is_shown_in_its_own_words(auditor: Client) -> None:
    entry("turn_upside_down", object_type="odd_thing", object_id="x")
    page = auditor.get("/audit/?action=turn_upside_down").content.decode()
    assert "turn upside down" in page and "odd thing x" in page


def test_the_list_has_pages_and_asks_few_queries(
    auditor: Client, django_assert_max_num_queries: object
) -> None:
    AuditEntry.objects.bulk_create(AuditEntry(actor="sam", action="resend") for _ in range(120))
    with django_assert_max_num_queries(9):  # type: ignore[operator]
        first = auditor.get("/audit/?who=sam")
    assert len(first.context["lines"]) == 50
    second = auditor.get("/audit/" + first.context["older"])
    ids = [line.entry.pk for page in (first, second) for line in page.context["lines"]]
    assert ids == sorted(ids, reverse=True) and len(set(ids)) == 100


def test_an_empty_log_says_what_will_stand_there(auditor: Client) -> None:
    assert "will stand here" in auditor.get("/audit/").content.decode()
    assert not AuditEntry.objects.exists()


def _deeds() -> Iterator[str]:
    """The codes that the product's own code writes into the audit log, read from it."""
    for part in ("actions", "accounts", "dashboard", "feedback", "worker"):
        for file in (ROOT / "emailoffload" / part).rglob("*.py"):
            for call in (
                node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)
            ):
                name = getattr(call.func, "id", getattr(call.func, "attr", ""))
                of_entry = name == "AuditEntry" or "AuditEntry.objects" in ast.unparse(call.func)
                told = [word.value for word in call.keywords if word.arg == "action"] if of_entry else []
                if name == "_audit" and part != "worker":
                    told += call.args[:2]
                for argument in told:
                    for node in ast.walk(argument):
                        if isinstance(node, ast.Constant) and isinstance(node.value, str):
                            yield node.value


def test_every_deed_has_words() -> None:
    codes = set(_deeds())
    assert {"suppress", "export", "pause", "share_view", "cancel"} <= codes
    assert codes - audit_words.ACTIONS.keys() == set()
