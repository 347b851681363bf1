"""The CSV of emails: what the filters ask and no more, safe to open, capped, on record."""

from __future__ import annotations

import csv
import io
import unicodedata
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from emailoffload.dashboard import export, walk
from emailoffload.outbox.models import AuditEntry
from emailoffload.outbox.states import EmailState
from tests.dashboard.conftest import SignIn
from tests.dashboard.factories import make_claim, make_email
from tests.dashboard.world import World

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])


@pytest.fixture
def auditor(sign_in: SignIn) -> Client:
    return sign_in("Auditors")


def exported(client: Client, query: str = "") -> str:
    response = client.post(f"/emails/export/{query}")
    assert response.status_code == 200
    assert response.streaming
    return b"".join(response).decode()  # type: ignore[call-overload]


def table(body: str) -> list[list[str]]:
    assert body.startswith("\ufeff")
    return list(csv.reader(io.StringIO(body[1:], newline="")))


def test_the_file_has_what_the_filters_ask_newest_first_and_excel_reads_it(auditor: Client) -> None:
    make_email(EmailState.DELIVERED)
    old = make_email(EmailState.FAILED, subject="Zoë, “quoted” and, commas\nlines")
    new = make_email(EmailState.BOUNCED)
    response = auditor.post("/emails/export/?state=problem")
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="emails-')
    head, *rows = table(b"".join(response).decode())  # type: ignore[call-overload]
    found = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["email"] for row in found] == [str(new.pk), str(old.pk)]
    assert found[1]["subject"] == "Zoë, “quoted” and, commas lines"
    assert found[1]["course"] == "Fire safety 2026"
    assert found[1]["due"] == old.due_at.isoformat(timespec="seconds")
    assert found[1]["delivered"] == ""


def test_batches_leave_no_email_out_and_take_none_twice(
    auditor: Client, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    monkeypatch.setattr(export, "BATCH", 4)
    claim = make_claim()
    pks = [make_email(claim=claim).pk for _ in range(11)]
    with django_assert_max_num_queries(30):
        rows = table(exported(auditor, "?role=user"))
    assert [int(row[0]) for row in rows[1:]] == pks[::-1]


@pytest.mark.parametrize(("number", "capped"), [(3, False), (4, True)])
def test_the_file_is_capped_and_says_so_in_its_last_line(
    auditor: Client, settings: Any, number: int, capped: bool
) -> None:
    settings.EXPORT_MAX_ROWS = 3
    for _ in range(number):
        make_email()
    rows = table(exported(auditor))
    assert len([row for row in rows[1:] if len(row) > 1]) == 3
    assert (rows[-1][0].startswith("Not complete: there are more than 3 emails")) is capped
    assert AuditEntry.objects.get().details["capped"] is capped


def test_the_audit_log_has_filters_and_rows_and_no_address(auditor: Client) -> None:
    make_email(address="ada@example.org")
    exported(auditor, "?q=ada@example.org&state=accepted&course=Mail+to+x@y.z&unknown=1")
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.object_type) == ("auditors", "export", "email")
    assert entry.details == {
        "filters": {"q": ["(an address)"], "state": ["accepted"], "course": ["(an address)"]},
        "rows": 0,
        "capped": False,
        "finished": True,
    }
    exported(auditor, "?q=Ada+Lovelace")
    assert AuditEntry.objects.all()[0].details["filters"] == {"q": ["(text)"]}
    assert AuditEntry.objects.all()[0].details["rows"] == 1


def test_an_export_that_was_broken_off_is_on_record_with_what_had_left(
    sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "BATCH", 2)
    sign_in("Auditors")
    for _ in range(6):
        make_email()
    entry = AuditEntry.objects.create(actor="auditors", action="export")
    pieces = export.rows(User.objects.get(username="auditors"), walk.Wanted(), 100, entry)
    next(pieces), next(pieces), next(pieces)
    pieces.close()
    entry.refresh_from_db()
    assert entry.details == {"rows": 4, "capped": False, "finished": False}


def test_an_export_needs_its_permission_and_that_to_see_emails(support: Client, sign_in: SignIn) -> None:
    make_email()
    assert support.post("/emails/export/").status_code == 403
    client = sign_in("nobody")
    User.objects.get(username="nobody").user_permissions.add(Permission.objects.get(codename="export_email"))
    assert client.post("/emails/export/").status_code == 403
    assert "Export as CSV" not in support.get("/emails/").content.decode()
    assert not AuditEntry.objects.exists()


def test_staff_of_a_company_export_only_mails_of_theirs(bound: Client, world: World) -> None:
    for query in ("", "?q=Foreign+subject", f"?course={world.others[0].course_id}", "?company=5"):
        body = exported(bound, query)
        assert "Foreign" not in body
        assert "Homeless" not in body
        assert "Second" not in body
    assert "Own subject" in exported(bound)


def test_nothing_that_a_mail_said_is_in_the_file(auditor: Client) -> None:
    make_email(body={"html": "<p>Secret words</p>", "text": "Secret words"}, sensitive=True)
    assert "Secret" not in exported(auditor)


def test_filters_that_cannot_be_used_export_nothing(auditor: Client) -> None:
    response = auditor.post("/emails/export/?user=abc")
    assert (response.status_code, response["Location"]) == (302, "/emails/?user=abc")
    assert "nothing can be exported" in auditor.get("/emails/export/?user=abc").content.decode()
    assert not AuditEntry.objects.exists()


def test_the_page_before_says_how_many_and_with_which_filters(auditor: Client) -> None:
    make_email(EmailState.FAILED)
    page = auditor.get("/emails/export/?state=failed&course=67").content.decode()
    assert "1 email will be exported." in page
    assert "State: <strong>failed</strong>" in page
    assert "Course (name or id): <strong>number 67</strong>" in page


TRIGGERS = "=+-@＝＋－＠﹢﹣﹦﹫\t\r\n"
NOISE = st.sampled_from(["", " ", "\u00a0", "\u200b", "\ufeff", "\x00", "\u202e", "  "])


def dangerous(cell: str) -> bool:
    """What spreadsheets run: the first character that is seen decides, in any width."""
    seen = [c for c in cell if not c.isspace() and unicodedata.category(c) not in ("Cf", "Cc")]
    return bool(seen) and unicodedata.normalize("NFKC", seen[0])[0] in "=+-@"


@given(noise=NOISE, trigger=st.sampled_from(TRIGGERS), rest=st.text(max_size=20), before=st.text(max_size=8))
def test_no_cell_is_run_by_a_spreadsheet(noise: str, trigger: str, rest: str, before: str) -> None:
    for value in (
        noise + trigger + rest,
        rest,
        f"{before};{noise}{trigger}{rest}",
        f"{before}\t{trigger}{rest}",
    ):
        cell = export.safe(value)
        assert not dangerous(cell), value
        assert not any(dangerous(part) for part in cell.split(";")), value
        assert not any(unicodedata.category(char) == "Cc" for char in cell)


@given(st.text(alphabet=st.characters(categories=["L", "N", "Zs"]), max_size=30))
def test_ordinary_text_stays_as_it_is(value: str) -> None:
    assert export.safe(value) == value


@given(st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_a_line_is_read_back_as_the_same_cells(cells: list[str]) -> None:
    line = "".join(export.lines([cells]))
    assert next(csv.reader(io.StringIO(line, newline=""))) == [export.safe(cell) for cell in cells]
