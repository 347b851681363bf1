"""Whatever a learner is called, and whatever a profile says: on pages, in files and in logs it is words.

Of mails: tests/delivery/test_message.py, tests/fallback/test_smtp.py, tests/formatting/test_texts.py.
"""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterator

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from emailoffload import logs
from emailoffload.dashboard.directions import apart
from emailoffload.feedback.models import EventType
from emailoffload.outbox.models import AuditEntry, Email
from emailoffload.outbox.states import EmailState
from tests.dashboard.conftest import SignIn
from tests.dashboard.factories import make_claim, make_email, make_run
from tests.dashboard.reported import make_event

ALL = pytest.mark.django_db(databases=["default", "moodle"])
TURN, CSI, BELL = "\u202e", "\x9b", "\x07"
NAMES = {
    "markup": "<script>owned()</script><img src=x onerror=owned()>",
    "attribute": "\" autofocus onfocus=owned() x='",
    "template": "{{ settings.SECRET_KEY }}{% debug %}%(name)s{0}",
    "turned": f"Ada{TURN}gpj.exe",
    "header": "Ada\r\nBcc: everybody@example.net\r\n\r\nHello",
    "terminal": f"Ada\x1b[2J{CSI}31m{BELL}",
    "formula": '=HYPERLINK("https://evil.example/","Ada")',
    "hebrew": "עדה לאבלייס",
}
LONG = 90
DIRTY = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def hostile(name: str) -> Email:
    """A mail of which everything that somebody else may write says `name`; and what comes with it."""
    claim = make_claim(
        user_name=name[:LONG], activity_name=name[:LONG], course_name=name[:LONG], company_name=name[:LONG]
    )
    row = make_email(
        EmailState.FAILED, claim, name=name[:LONG], subject=name[:LONG], reason=name[:30],
        body={"text": name, "html": None},
    )  # fmt: skip
    make_event(EventType.BOUNCE, row, diagnostic=name)
    AuditEntry.objects.create(
        actor=name[:LONG], action="resend", reason=name, object_type="email", object_id=str(row.pk)
    )
    return row


def pages(row: Email) -> Iterator[str]:
    """Where the words of a mail are shown."""
    yield from ("/", "/emails/", "/users/?q=ada", "/users/15093/", "/events/", "/audit/", "/fallbacks/")
    yield from ("/fallbacks/failed/", f"/runs/{make_run().pk}/", "/left/", "/admin/emailoffload/email/")
    yield from (f"/emails/{row.pk}/{action}" for action in ("", "resend/", "cancel/", "hand-back/", "smtp/"))
    yield from (f"/emails/{row.pk}/preview/?part={part}" for part in ("text", "headers"))
    yield f"/emails/{row.pk}/preview/html/"


@ALL
@pytest.mark.parametrize("kind", NAMES)
def test_no_name_becomes_markup_turns_words_around_or_breaks_a_page(sign_in: SignIn, kind: str) -> None:
    client, name, row = sign_in("superuser"), NAMES[kind], hostile(NAMES[kind])
    for path in pages(row):
        response = client.get(path)
        page = response.content.decode()
        assert response.status_code == 200, path
        assert "<script>owned" not in page and "<img src=x" not in page, path
        assert '" autofocus onfocus' not in page, path
        if not path.endswith("/html/"):  # what a mail says is shown as its reader sees it
            assert not DIRTY.search(page), path
    shown = client.get(f"/emails/{row.pk}/").content.decode()
    if kind == "template":
        assert "{{ settings.SECRET_KEY }}" in shown
    if kind == "hebrew":
        assert f"<bdi>{name}</bdi>" in shown


@ALL
@pytest.mark.parametrize("kind", NAMES)
def test_an_export_has_no_cell_that_runs_and_no_line_that_a_name_began(sign_in: SignIn, kind: str) -> None:
    row = hostile(NAMES[kind])
    response = sign_in("superuser").post("/emails/export/")
    text = b"".join(response).decode("utf-8-sig")  # type: ignore[call-overload]
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [line["email"] for line in lines] == [str(row.pk)]
    for cell in lines[0].values():
        assert not cell.startswith(("=", "+", "-", "@")), cell
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", cell), cell


@given(
    st.text(
        alphabet=st.one_of(st.characters(), st.sampled_from(f"\r\n\x1b{TURN}{CSI}{BELL}\u2028")), max_size=60
    )
)
def test_nothing_in_a_log_line_reaches_a_terminal_as_a_command_or_turns_it_around(text: str) -> None:
    record = logging.LogRecord("emailoffload.x", logging.WARNING, __file__, 1, "%s", (text,), None)
    line = logs.PlainFormatter().format(record)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", line)
    assert not DIRTY.search(line)
    assert not [each for each in line.split("\n")[1:] if not each.startswith(" ")]


def test_a_name_of_a_right_to_left_script_is_set_apart_and_any_other_stays_as_it_is() -> None:
    assert apart("Ada Lovelace") == "Ada Lovelace"
    assert apart("Ägidius Łukasz 王") == "Ägidius Łukasz 王"
    assert apart("<b>עדה") == "<bdi>&lt;b&gt;עדה</bdi>"
    assert apart(17) == "17"


@ALL
def test_what_a_person_types_to_search_is_shown_as_words_too(support: Client) -> None:
    for name in NAMES.values():
        page = support.get("/emails/", {"q": name, "course": name}).content.decode()
        assert "<script>owned" not in page and '" autofocus onfocus' not in page
        assert not DIRTY.search(page)
