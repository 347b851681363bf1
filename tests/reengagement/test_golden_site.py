"""The whole product on the real site's database: what arrives at SES is what Moodle sent (promise P4)."""

from __future__ import annotations

import json
import time
from email.header import decode_header, make_header
from email.utils import parseaddr
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from emailoffload.outbox.models import Email
from emailoffload.sandbox.mailbox import Message
from emailoffload.sandbox.ses_server import SandboxSES
from tests import golden
from tests.conftest import Moodle

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def command(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    capsys.readouterr()
    call_command(*args, "--json")
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def bring_due(moodle: Moodle, case: golden.GoldenCase) -> int:
    """Put the case's reminder into Moodle, due ten seconds ago; the only one there is."""
    now = int(time.time())
    # The dump was made after the mails: Moodle had purged its caches in between, which renames theme images.
    moodle.set_config("themerev", case.site.config["themerev"])
    moodle.execute("DELETE FROM mdl_reengagement_inprogress")
    row = case.rows["inprogress"]
    return moodle.insert(
        "mdl_reengagement_inprogress",
        reengagement=row["reengagement"],
        userid=row["userid"],
        completiontime=now + row["completiontime"] - row["emailtime"],
        emailtime=now - 10,
        emailsent=row["emailsent"],
        completed=row["completed"],
    )


def address(header: str) -> tuple[str, str]:
    name, where = parseaddr(header)
    return str(make_header(decode_header(name))).strip(), where


def seen(message: Message) -> dict[str, Any]:
    """A message as SES got it, in the golden mails' terms."""
    body = message.request["Content"]["Simple"]["Body"]
    (recipient,) = message.request["Destination"]["ToAddresses"]
    (reply_to,) = message.reply_to
    return {
        "to": address(recipient),
        "from": address(message.sender),
        "reply_to": address(reply_to),
        "subject": message.request["Content"]["Simple"]["Subject"]["Data"],
        "text": body["Text"]["Data"].replace("\r\n", "\n"),
        "html": body["Html"]["Data"].replace("\r\n", "\n") if "Html" in body else None,
    }


def wanted(mail: golden.GoldenMail) -> dict[str, Any]:
    return {
        "to": (mail.to_name.strip(), mail.to_address),
        "from": (mail.from_name.strip(), mail.from_address),
        "reply_to": (mail.reply_to_name.strip(), mail.reply_to_address),
        "subject": mail.subject,
        "text": mail.text,
        "html": mail.html,
    }


@pytest.mark.parametrize("name", golden.cases())
def test_strict_parity_the_mails_that_arrive_are_moodles(
    moodle: Moodle, ses: SandboxSES, settings: Any, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    settings.RENDER_PARITY = "strict"
    case = golden.load(name)
    row_id = bring_due(moodle, case)
    claimed = command(capsys, "intercept")
    sendable = case.rows["reengagement"]["emailuser"] == 2
    expected = [wanted(mail) for mail in case.mails] if sendable else []
    assert claimed["claimed"] == (1 if expected else 0), claimed
    assert claimed["errors"] == 0
    if not expected:
        # What we would not send, we do not claim: the row is as Moodle left it.
        assert moodle.value("SELECT emailsent FROM mdl_reengagement_inprogress WHERE id = %s", [row_id]) == 0
    else:
        after = case.rows["after"][0]
        assert (
            moodle.value("SELECT emailsent FROM mdl_reengagement_inprogress WHERE id = %s", [row_id])
            == after["emailsent"]
        )
    sent = command(capsys, "dispatch", "--until-empty")
    assert (sent["sent"], sent["failed"], sent["uncertain"], sent["suppressed"]) == (len(expected), 0, 0, 0)
    arrived = sorted((seen(message) for message in ses.messages), key=lambda mail: str(mail["to"]))
    for ours, theirs in zip(arrived, sorted(expected, key=lambda mail: str(mail["to"])), strict=True):
        for part, value in theirs.items():
            assert ours[part] == value, part


@pytest.mark.parametrize("name", ["G01-gspecial", "G03-gplain", "G08-gplain"])
def test_every_mail_carries_our_id_as_tag_and_header(
    moodle: Moodle, ses: SandboxSES, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    bring_due(moodle, golden.load(name))
    command(capsys, "intercept")
    command(capsys, "dispatch", "--until-empty")
    assert ses.messages
    for message in ses.messages:
        mail = Email.objects.get(ref=message.tags["email-offload-id"])
        assert ("X-Email-Offload-Id", mail.ref.hex) in message.headers
        assert mail.message_id == message.message_id
        assert mail.state == "accepted"


def test_no_case_of_the_folder_is_left_out() -> None:
    folder = Path(golden.FOLDER)
    assert len(golden.cases()) == len(list(folder.glob("G*.json"))) > 20
