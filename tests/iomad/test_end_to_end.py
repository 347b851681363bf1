"""IOMAD's queue from its table to the recipient's mailbox, through the commands as an admin runs them."""

from __future__ import annotations

import base64
import email.utils
import hashlib
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from django_q.models import Failure, Success

from emailoffload.moodle.formatting.phpserialize import PhpObject
from emailoffload.outbox.models import Claim, Content, Email, RowError
from emailoffload.outbox.states import ClaimState
from emailoffload.sandbox.mailbox import Message
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.worker import dispatch, erase, intercept
from emailoffload.worker.intercept_result import InterceptResult
from tests.claims.queue import queue_again
from tests.conftest import Moodle
from tests.credentials import secret
from tests.credentials.test_secrecy import run_task
from tests.iomad import queue
from tests.iomad.upload import iomads_cron, manage, upload
from tests.policy.people import rule

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
HR = "hr@firm.example"


def run() -> InterceptResult:
    """One pass over the queue, and the sending of what it claimed."""
    found = intercept.run(source="iomad_queue")
    assert not found.refused
    dispatch.run(until_empty=True)
    return found


def to(message: Message) -> str:
    (recipient,) = message.recipients
    return email.utils.parseaddr(recipient)[1]


# --- credentials ---


def test_the_passwords_of_an_upload_are_nowhere_but_in_sealed_mails_and_later_not_even_there(
    moodle: Moodle, ses: SandboxSES
) -> None:
    made = upload(moodle, 40)
    broken = f"a:1:{{i:0;s:99:{secret.PASSWORD}"
    queue.put(moodle, headers=broken, body=secret.PASSWORD)
    rule(value=HR, name="HR")
    said = commands(ses, ("intercept", "--shadow"), ("intercept", "--json"))
    run_task("emailoffload.worker.tasks.intercept")
    assert Claim.objects.count() == len(made.rows) == 60
    assert RowError.objects.get().reason == reasons.HEADERS_UNREADABLE
    assert secret.found_in(secret.database_dump()) == []

    run_task("emailoffload.worker.tasks.dispatch")
    said += commands(ses, ("dispatch", "--json"), ("recover", "--json"), ("doctor",))
    for password in made.passwords:
        assert any(password in message.text for message in ses.messages), "each user gets theirs"
    assert not [mail for mail in ses.messages if to(mail) == HR and secret.CORE in mail.text]
    assert Success.objects.exists() and not Failure.objects.exists()
    assert secret.found_in(said) == []
    assert secret.found_in(secret.database_dump()) == []
    sensitive = Email.objects.filter(sensitive=True)
    assert set(sensitive.values_list("claim__row_id", flat=True)) == set(made.created)

    sealed = {
        bytes(body) for body in Content.objects.filter(email__sensitive=True).values_list("body", flat=True)
    }
    assert len(sealed) == sensitive.count() == 40 + 4 + 2 * 3
    erase.erase_due(timezone.now() + timedelta(hours=1))
    left = secret.database_dump()
    assert not [body for body in sealed if body in left]
    assert not Content.objects.filter(email__sensitive=True).exists()
    assert not sensitive.filter(erased_at=None).exists()


def commands(ses: SandboxSES, *wanted: tuple[str, ...]) -> str:
    """All that commands print and log at their most talkative."""
    said = ""
    for command in wanted:
        out, errors = manage(ses, *command, LOG_LEVEL="DEBUG").communicate(timeout=60)
        assert out and "Traceback" not in errors
        said += out + errors
    return said


# --- who gets it, and whose it is ---


def test_copy_rules_add_their_recipients_to_a_companys_mails_and_not_to_its_credentials(
    moodle: Moodle, ses: SandboxSES
) -> None:
    rule(value=HR, name="HR", company_id=queue.COMPANY, source="iomad_queue")
    rule("company_managers", "", name="Managers")
    rule(value="audit@firm.example", name="Audit", credentials=True)
    rule(value="others@firm.example", name="Others", company_id=99)
    rule(value=queue.USER_ADDRESS.upper(), name="Again")
    queue.empty(moodle)
    secret_row = queue.put(moodle)
    plain_row = queue.put(moodle, templatename="license_allocated", subject="A licence")
    run()
    found: dict[int, dict[str, tuple[str, str]]] = {secret_row: {}, plain_row: {}}
    for mail in Email.objects.select_related("claim"):
        found[mail.claim.row_id][mail.address] = (mail.role, mail.origin)
        assert (mail.company_id, mail.state) == (queue.COMPANY, "accepted")
    assert found[secret_row] == {
        queue.USER_ADDRESS: ("user", ""),
        "audit@firm.example": ("copy", "copy rule “Audit”"),
    }
    assert found[plain_row] == {
        queue.USER_ADDRESS: ("user", ""),
        "audit@firm.example": ("copy", "copy rule “Audit”"),
        HR: ("copy", "copy rule “HR”"),
        queue.MANAGER_ADDRESS: ("copy", "copy rule “Managers”"),
    }
    assert Counter(map(to, ses.messages)) == Counter(mail for mails in found.values() for mail in mails)
    assert set(Claim.objects.values_list("company_id", "company_name", "user_id")) == {
        (queue.COMPANY, queue.COMPANY_NAME, queue.USER)
    }


def test_a_mail_of_no_known_company_stays_with_iomad(moodle: Moodle, ses: SandboxSES) -> None:
    queue.empty(moodle)
    queue.put(moodle, companyid=0)
    assert run().left == {reasons.COMPANY_UNKNOWN: 1}
    assert not ses.messages


def test_the_mail_of_a_suspended_company_reaches_its_suspended_users_and_no_other_mail_does(
    moodle: Moodle, ses: SandboxSES
) -> None:
    queue.empty(moodle)
    moodle.execute("UPDATE mdl_user SET suspended = 1 WHERE id = %s", [queue.USER])
    queue.put(moodle, templatename="company_suspended", subject="Your company is suspended")
    queue.put(moodle, templatename="license_allocated")
    found = run()
    assert (found.claimed, found.left) == (1, {"user_suspended": 1})
    (message,) = ses.messages
    assert (to(message), message.subject) == (queue.USER_ADDRESS, "Your company is suspended")
    assert not iomads_cron()


def test_where_moodle_sends_nothing_or_sends_all_elsewhere_so_do_we(
    moodle: Moodle, ses: SandboxSES, settings: Any
) -> None:
    queue.empty(moodle)
    queue.put(moodle, headers=queue.headers(emailcc=str(queue.MANAGER)))
    moodle.set_config("noemailever", "1")
    assert run().left == {"noemailever": 1}
    moodle.set_config("noemailever", "0")
    settings.MOODLE_FORCED_CONFIG = {"divertallemailsto": "tester@lab.example"}
    assert run().claimed == 1
    assert [to(message) for message in ses.messages] == ["tester@lab.example"] * 2
    assert {message.subject for message in ses.messages} == {
        f"[DIVERTED {address}] Welcome" for address in (queue.USER_ADDRESS, queue.MANAGER_ADDRESS)
    }


def test_an_attachment_of_moodles_data_folder_arrives_with_the_mail(
    moodle: Moodle, ses: SandboxSES, settings: Any, tmp_path: Path
) -> None:
    content = b"\x89PNG made up"
    digest = hashlib.sha1(content).hexdigest()
    file = tmp_path / "filedir" / digest[:2] / digest[2:4] / digest
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    stored = PhpObject(
        {"filepath": f"/var/moodledata/filedir/{digest[:2]}/{digest[2:4]}/{digest}", "filename": "logo.png"}
    )
    queue.empty(moodle)
    queue.put(moodle, headers=queue.headers(more={"attachment": stored}, emailcc=str(queue.MANAGER)))
    assert run().left == {reasons.ATTACHMENT: 1}
    settings.MOODLE_DATAROOT = str(tmp_path)
    assert run().claimed == 1
    assert len(ses.messages) == 2
    for message in ses.messages:
        (part,) = message.request["Content"]["Simple"]["Attachments"]
        assert (part["FileName"], part["ContentType"]) == ("logo.png", "image/png")
        assert base64.b64decode(part["RawContent"]) == content


def test_a_mail_that_a_person_has_sent_again_is_a_new_claim_and_arrives_again(
    moodle: Moodle, ses: SandboxSES
) -> None:
    queue.empty(moodle)
    row = queue.put(moodle)
    run()
    queue_again(moodle, [row])
    run()
    assert [to(message) for message in ses.messages] == [queue.USER_ADDRESS] * 2
    assert len({message.offload_id for message in ses.messages}) == 2
    first, second = Claim.objects.filter(row_id=row, state=ClaimState.CLAIMED).order_by("pk")
    assert second.before["modifiedtime"] == first.after["modifiedtime"]
    assert run().seen == 0
