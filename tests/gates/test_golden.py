"""The gates decide what a real site decided: recipients, order, names, senders and format of its mails."""

from __future__ import annotations

import email
import email.policy
import json
from email.message import EmailMessage
from email.utils import parseaddr
from pathlib import Path
from typing import Any

import pytest

from emailoffload.moodle import messaging
from emailoffload.moodle.messaging import Delivery, MessageGates
from emailoffload.moodle.refusals import Refusal
from emailoffload.moodle.site import load_site
from emailoffload.moodle.types import Learner, User

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"], transaction=True)]

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("G*.json"))
# Not decided by the gates: no mail in the mode "never", and a suppress target that is complete.
NOTHING_DUE = {"G05-gplain", "G06-gdone"}


def case(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return found


def mails(name: str) -> list[EmailMessage]:
    parser = email.message_from_bytes
    return [
        parser((GOLDEN / mail["file"]).read_bytes(), _class=EmailMessage, policy=email.policy.default)
        for mail in case(name)["mails"]
    ]


def learner(rows: dict[str, Any]) -> Learner:
    columns = {name: rows["user"][name] for name in User.__dataclass_fields__}
    return Learner(User(**columns), preferences={row["name"]: row["value"] for row in rows["preferences"]})


def deliveries(gates: MessageGates, rows: dict[str, Any]) -> list[Delivery]:
    addresses = messaging.third_party_addresses(rows["reengagement"]["thirdpartyemails"])
    outcomes = [gates.for_user(learner(rows)), *map(gates.for_address, addresses)]
    return [outcome for outcome in outcomes if isinstance(outcome, Delivery)]


@pytest.fixture
def gates(moodle: Any) -> MessageGates:
    return MessageGates.load(load_site())


def test_there_are_cases() -> None:
    assert len(CASES) > 20
    assert sum(len(case(name)["mails"]) for name in CASES) > 20


def test_every_case_has_the_recipients_names_and_formats_of_the_real_mails(gates: MessageGates) -> None:
    for name in CASES:
        if name in NOTHING_DUE:
            assert case(name)["mails"] == []
            continue
        sent = deliveries(gates, case(name))
        real = mails(name)
        assert [mail.address for mail in sent] == [mail["rcpt_tos"][0] for mail in case(name)["mails"]], name
        for ours, theirs in zip(sent, real, strict=True):
            to = theirs["To"].addresses[0]
            assert (ours.address, ours.to_name) == (to.addr_spec, to.display_name), name
            assert ours.as_html == theirs.is_multipart(), name
            assert ours.subject_prefix == ""


def test_every_mail_comes_from_the_sender_that_we_would_use(gates: MessageGates) -> None:
    sender = gates.sender()
    for name in CASES:
        for mail, row in zip(mails(name), case(name)["mails"], strict=True):
            from_name, from_address = parseaddr(str(mail["From"]))
            reply_name, reply_address = parseaddr(str(mail["Reply-To"]))
            assert (sender.from_name, sender.from_address) == (from_name, from_address), name
            assert (sender.reply_to_name, sender.reply_to_address) == (reply_name, reply_address), name
            assert sender.envelope == row["mail_from"], name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("G01-gprefoff", "preference_off"),
        ("G01-gstop", "emailstop"),
        ("G01-gnologin", "auth_nologin"),
        ("G01-ginvalid", "address_dot_invalid"),
        ("G03-gprefoff", "preference_off"),
        ("G03-gsusp", "user_suspended"),
    ],
)
def test_a_user_who_got_nothing_is_refused_for_the_reason(
    gates: MessageGates, name: str, reason: str
) -> None:
    outcome = gates.for_user(learner(case(name)))
    assert outcome == Refusal(reason)
    assert isinstance(outcome, Refusal) and not outcome.leaves_row


def test_nobody_on_the_real_site_would_have_been_notified_by_other_ways(gates: MessageGates) -> None:
    assert [name for name in CASES if gates.other_processors(learner(case(name)))] == []
