"""The whole product on the real site's queue: what arrives at SES is what IOMAD sent (promise P4).

Excepted are the headers that IOMAD adds by mistake to every copy of a mail: its own `To:` and `Cc:` lines
once more (`REPEATED`). `reply-to:` is one of those lines, and meant.
"""

from __future__ import annotations

import email
import email.utils
import json
import time
from email.message import EmailMessage
from email.policy import default as default_policy
from typing import Any

import pytest
from django.core.management import call_command

from emailoffload.outbox.models import Claim, Email
from emailoffload.sandbox.mailbox import Message
from emailoffload.sandbox.ses_server import SandboxSES
from tests import golden
from tests.conftest import Moodle
from tests.iomad import queue

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
CASES = sorted(path.stem for path in golden.FOLDER.glob("iomad-*.json"))
REPEATED = ("To", "Cc")
"""Header lines that stand in IOMAD's mails beside the recipient's own `To:`."""


def load(name: str) -> dict[str, Any]:
    found = json.loads((golden.FOLDER / f"{name}.json").read_text())
    assert isinstance(found, dict)
    return found


def replace(moodle: Moodle, table: str, row: dict[str, Any]) -> None:
    """Put a row of the case into Moodle as it was; columns that the dump left out keep their values."""
    known = {column for (column,) in moodle.rows(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s",
        [table],
    )}  # fmt: skip
    moodle.execute(f"DELETE FROM {table} WHERE id = %s", [row["id"]])
    moodle.insert(table, **{name: value for name, value in row.items() if name in known})


def bring_due(moodle: Moodle, case: dict[str, Any]) -> int:
    """Put the case's row into the queue, the only one there is, as long overdue as it was."""
    queue.empty(moodle)
    for template in case["email_template"]:
        replace(moodle, "mdl_email_template", template)
    for member in case["company_users"]:
        replace(moodle, "mdl_company_users", member)
    row = dict(case["email"])
    shift = int(time.time()) - 10 - row["due"]
    return moodle.insert(
        "mdl_email", **row | {"due": row["due"] + shift, "modifiedtime": row["modifiedtime"] + shift}
    )


def wanted(entry: dict[str, Any]) -> dict[str, Any]:
    """A mail as it arrived, decoded."""
    message = email.message_from_bytes((golden.FOLDER / entry["file"]).read_bytes(), policy=default_policy)
    assert isinstance(message, EmailMessage)
    (recipient,) = entry["rcpt_tos"]
    assert str(message.get_all("To", [])[0]) == recipient
    sender = message["From"].addresses[0]
    reply_to = [email.utils.parseaddr(str(each))[1] for each in message.get_all("reply-to", [])[:1]]
    html = message.get_body(("html",))
    return {
        "to": ("", recipient),
        "from": (sender.display_name, sender.addr_spec),
        "reply_to": reply_to,
        "subject": str(message["Subject"]),
        "text": decoded(message.get_body(("plain",)) if html else message),
        "html": decoded(html).removesuffix("\n") if html else None,
    }


def decoded(part: Any) -> str:
    return str(part.get_payload(decode=True).decode().replace("\r\n", "\n"))


def seen(message: Message) -> dict[str, Any]:
    """A message as SES got it, in the same terms."""
    simple = message.request["Content"]["Simple"]
    (recipient,) = message.request["Destination"]["ToAddresses"]
    return {
        "to": email.utils.parseaddr(recipient),
        "from": email.utils.parseaddr(message.sender),
        "reply_to": [email.utils.parseaddr(each)[1] for each in message.reply_to],
        "subject": simple["Subject"]["Data"],
        "text": simple["Body"]["Text"]["Data"],
        "html": simple["Body"]["Html"]["Data"] if "Html" in simple["Body"] else None,
    }


def run(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    capsys.readouterr()
    call_command(*args, "--json")
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", CASES)
def test_strict_parity_the_mails_that_arrive_are_iomads(
    moodle: Moodle, ses: SandboxSES, settings: Any, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    settings.RENDER_PARITY = "strict"
    case = load(name)
    row_id = bring_due(moodle, case)
    claimed = run(capsys, "intercept", "--source", "iomad_queue")
    assert (claimed["claimed"], claimed["errors"]) == (1, 0), claimed
    sent, modified = moodle.rows("SELECT sent, modifiedtime FROM mdl_email WHERE id = %s", [row_id])[0]
    assert sent == modified
    assert 0 <= time.time() - sent < 60
    run(capsys, "dispatch", "--until-empty")
    expected = [wanted(entry) for entry in case["mails"]]
    arrived = {message["to"][1]: message for message in map(seen, ses.messages)}
    assert len(ses.messages) == len(expected)
    for theirs in expected:
        assert arrived[theirs["to"][1]] == theirs


@pytest.mark.parametrize("name", CASES)
def test_each_mail_is_on_record_with_its_template_its_company_and_why_it_has_this_recipient(
    moodle: Moodle, ses: SandboxSES, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    case = load(name)
    bring_due(moodle, case)
    run(capsys, "intercept", "--source", "iomad_queue")
    claim = Claim.objects.get()
    assert (claim.template, claim.company_id, claim.course_id) == (case["email"]["templatename"], 1, 4)
    user, *others = Email.objects.order_by("pk")
    assert (user.role, user.recipient_id, user.origin) == ("user", 15, "")
    assert [mail.address for mail in others] == [entry["rcpt_tos"][0] for entry in case["mails"][1:]]
    assert all(mail.origin for mail in others)
    assert {mail.sensitive for mail in (user, *others)} == {claim.template == "user_create"}


def test_a_mail_queued_without_its_template_goes_to_whom_iomad_sent_it(
    moodle: Moodle, ses: SandboxSES
) -> None:
    """Row 4 of the site: IOMAD's cron sent it with empty headers."""
    case = load("iomad-user_create-1")
    bring_due(moodle, {**case, "email": {**case["email"], "id": 4, "headers": "", "senderid": 0}})
    assert queue.addresses() == [entry["rcpt_tos"][0] for entry in case["mails"]]
    assert {(mail.from_name, mail.reply_to_address) for mail in queue.mails()} == {(queue.COMPANY_NAME, "")}


def test_iomads_repeated_header_lines_are_all_that_is_left_out() -> None:
    left_out = set()
    for name in CASES:
        for entry in load(name)["mails"]:
            message = email.message_from_bytes((golden.FOLDER / entry["file"]).read_bytes())
            names = [key for key, _ in message.items()]
            names.remove("To")
            left_out |= {key for key in names if key in REPEATED}
            rest = {key.lower() for key in names} - {key.lower() for key in REPEATED}
            assert rest - {"reply-to"} == {
                "date", "from", "subject", "message-id", "x-mailer", "mime-version", "content-type",
            }  # fmt: skip
    assert left_out == set(REPEATED)


def test_no_case_of_the_folder_is_left_out() -> None:
    assert len(CASES) >= 2
