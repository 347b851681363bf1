"""`manage.py fidelity`: the proof on the site's own mails, on the real site and the mails that it sent (promise P4)."""

from __future__ import annotations

import json
import mailbox
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext

from emailoffload.actions.fidelity import mails
from emailoffload.actions.fidelity.run import HIDDEN
from emailoffload.outbox.models import Claim, Email
from emailoffload.policy.models import CopyRule
from tests import golden
from tests.conftest import Moodle
from tests.iomad import test_golden_queue

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
Run = Callable[..., dict[str, Any]]


def sent_by_moodle() -> list[str]:
    """The cases of reminders that a claim can stop, and that Moodle sent in the run that the dump was made before."""
    return [name for name in golden.cases() if golden.load(name).rows["reengagement"]["emailuser"] == 2]


@pytest.fixture
def run() -> Run:
    """Run the command; its result, and whether it ended well under `status`."""

    def command(*options: str) -> dict[str, Any]:
        out, status = StringIO(), 0
        try:
            call_command("fidelity", *options, "--json", stdout=out)
        except SystemExit as ended:
            status = int(str(ended.code))
        return {**json.loads(out.getvalue()), "status": status}

    return command


@pytest.fixture
def site(moodle: Moodle) -> Moodle:
    """The site with the reminders of all golden cases due, and nothing else."""
    case = golden.load("G01-gplain")
    moodle.set_config("themerev", case.site.config["themerev"])
    moodle.execute("DELETE FROM mdl_reengagement_inprogress")
    moodle.execute("UPDATE mdl_email SET sent = 1")
    now = int(time.time())
    for name in sent_by_moodle():
        row = golden.load(name).rows["inprogress"]
        moodle.insert(
            "mdl_reengagement_inprogress",
            reengagement=row["reengagement"],
            userid=row["userid"],
            completiontime=now + row["completiontime"] - row["emailtime"],
            emailtime=now - 10,
            emailsent=row["emailsent"],
            completed=row["completed"],
        )
    return moodle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The mails of these cases, as a mail catcher kept them, without their dates."""
    for name in sent_by_moodle():
        for mail in golden.load(name).mails:
            (tmp_path / mail.file).write_bytes(undated((golden.FOLDER / mail.file).read_bytes()))
    return tmp_path


def undated(raw: bytes) -> bytes:
    """A mail without its date: the reminders of this copy of the site are due now, not then."""
    return b"".join(line for line in raw.splitlines(keepends=True) if not line.startswith(b"Date: "))


def test_every_mail_of_the_real_site_is_equal_to_the_letter(
    site: Moodle, folder: Path, run: Run, settings: Any
) -> None:
    settings.RENDER_PARITY = "strict"
    found = run("--mails", str(folder))
    assert found["different"] == []
    assert found["missing"] == found["others"] == found["deliberate"] == found["refused"] == []
    assert found["compared"] == found["equal"] == found["mails"] == len(list(folder.iterdir())) > 15
    assert found["status"] == 0


def test_deliberate_differences_are_named_and_are_no_findings(site: Moodle, folder: Path, run: Run) -> None:
    found = run("--mails", str(folder))
    assert (found["status"], found["different"]) == (0, [])
    reasons = {each["file"]: set(each["reasons"]) for each in found["deliberate"]}
    assert {"1", "2"} <= reasons["G01-gspecial-1.eml"]
    assert "4" in reasons["G01-gplain-1.eml"]  # its text has a script
    assert "G07-gplain-1.eml" not in reasons


def test_what_differs_is_printed_by_mail_and_by_part(site: Moodle, folder: Path, run: Run) -> None:
    changed = folder / "G07-gplain-1.eml"
    changed.write_bytes(changed.read_bytes().replace(b"From: ", b"From: X", 1).replace(b"Dear", b"Hello"))
    found = run("--mails", str(folder))
    assert found["status"] == 1
    (different,) = found["different"]
    assert (different["source"], different["file"]) == ("reengagement", "G07-gplain-1.eml")
    assert {part["part"] for part in different["parts"]} >= {"From"}
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("fidelity", "--mails", str(folder), stdout=out)
    assert "DIFFERENT  reengagement row" in out.getvalue()
    assert "Moodle | " in out.getvalue()


def test_a_mail_that_moodle_did_not_send_is_a_finding_unless_it_was_due_later(
    site: Moodle, folder: Path, run: Run
) -> None:
    (folder / "G07-gplain-1.eml").unlink()
    found = run("--mails", str(folder))
    assert (found["status"], len(found["missing"])) == (1, 1)
    assert found["missing"][0]["recipient"] == golden.load("G07-gplain").learner.user.email
    other = folder / "G06-gplain-1.eml"
    other.write_bytes(b"Date: Sat, 21 Nov 2020 22:06:21 +0000\r\n" + other.read_bytes())
    later = run("--mails", str(folder))
    assert later["missing"] == []
    assert later["later"] == later["mails"] + 1
    assert later["status"] == 1  # nothing was compared


def test_mails_that_no_due_row_belongs_to_are_listed_and_are_no_finding(
    site: Moodle, folder: Path, run: Run
) -> None:
    (folder / "digest.eml").write_bytes(
        b"From: Forum <noreply@lab.example>\r\nTo: gplain@lab.example\r\nSubject: Daily digest\r\n\r\nNews\r\n"
    )
    found = run("--mails", str(folder))
    assert found["status"] == 0
    assert [each["subject"] for each in found["others"]] == ["Daily digest"]


def test_a_mailbox_file_serves_as_well_as_single_mails(
    site: Moodle, folder: Path, tmp_path: Path, run: Run
) -> None:
    box = mailbox.mbox(tmp_path / "caught.mbox")
    files = sorted(folder.glob("*.eml"))
    for file in files:
        box.add(file.read_bytes().replace(b"\r\n", b"\n"))
        file.unlink()
    box.close()
    found = run("--mails", str(folder))
    assert (found["status"], found["compared"]) == (0, len(files))


def test_the_queue_of_iomad_is_compared_and_no_credential_is_shown(
    moodle: Moodle, tmp_path: Path, run: Run, settings: Any
) -> None:
    settings.RENDER_PARITY = "strict"
    moodle.execute("DELETE FROM mdl_reengagement_inprogress")
    for name in ("iomad-user_create-1", "iomad-user_added_to_course-2"):
        case = test_golden_queue.load(name)
        test_golden_queue.bring_due(moodle, case)
        for entry in case["mails"]:
            (tmp_path / entry["file"]).write_bytes(undated((golden.FOLDER / entry["file"]).read_bytes()))
        found = run("--mails", str(tmp_path))
        assert found["different"] == found["missing"] == []
        assert (found["compared"], found["status"]) == (len(case["mails"]), 0)
        if "user_create" in name:
            for file in tmp_path.glob("*.eml"):
                file.write_bytes(file.read_bytes().replace(b"Iona", b"Iowa"))
            wrong = run("--mails", str(tmp_path))
            assert len(wrong["different"]) == len(case["mails"])
            shown = {part["moodle"] for each in wrong["different"] for part in each["parts"]}
            assert shown == {HIDDEN}
        for file in tmp_path.glob("*.eml"):
            file.unlink()


def test_it_claims_nothing_and_writes_nothing_to_either_database(
    site: Moodle, folder: Path, run: Run
) -> None:
    CopyRule.objects.create(name="hr", kind="fixed", value="hr@example.org")
    before = site.rows("SELECT * FROM mdl_reengagement_inprogress ORDER BY id")
    with (
        CaptureQueriesContext(connections["default"]) as ours,
        CaptureQueriesContext(connections["moodle"]) as theirs,
    ):
        found = run("--mails", str(folder))
    assert found["status"] == 0  # copies of ours are no mails of Moodle's
    said = [query["sql"].lstrip().split(" ", 1)[0].upper() for query in [*ours, *theirs]]
    assert set(said) <= {"SELECT", "SHOW", "SET", "SAVEPOINT", "RELEASE", "BEGIN", "COMMIT"}
    assert site.rows("SELECT * FROM mdl_reengagement_inprogress ORDER BY id") == before
    assert not Claim.objects.exists()
    assert not Email.objects.exists()


def test_without_a_folder_it_says_what_would_be_rendered_and_a_limit_says_that_there_is_more(
    site: Moodle, run: Run
) -> None:
    found = run("--limit", "3")
    assert (found["rows"], found["cut"], found["status"]) == (3, True, 0)
    assert run()["rows"] == len(sent_by_moodle())


def test_wrong_usage_is_told_apart_from_differences(site: Moodle, tmp_path: Path) -> None:
    for options in (["--mails", str(tmp_path / "none")], ["--mails", str(tmp_path)], ["--limit", "0"]):
        with pytest.raises(CommandError) as wrong:
            call_command("fidelity", *options)
        assert wrong.value.returncode == 2


def test_headers_that_no_standard_allows_do_not_stop_the_reading() -> None:
    mail = mails.read(
        b"To: a@@b\r\nFrom: \xff\xfe\r\nDate: soon\r\nContent-Type: text/plain; charset=nosuch\r\n\r\nx\xff"
    )
    assert mail.text.startswith("x")
    assert mail.sent_at is None
