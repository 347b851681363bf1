"""Who gets a queued mail, from whom, and what it says: each rule of IOMAD's `send_to_user` (facts §7.3)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from emailoffload.moodle.formatting.phpserialize import PhpObject
from emailoffload.policy.models import CopyRule, SensitiveTemplate
from emailoffload.sources import reasons
from emailoffload.sources.iomad_queue import attachments, headers
from emailoffload.sources.iomad_queue.letter import letter, subject
from emailoffload.sources.iomad_queue.recipients import USER_TEMPLATES
from emailoffload.sources.protocol import Attachment
from tests.conftest import Moodle
from tests.iomad import queue
from tests.iomad.queue import MANAGER_ADDRESS, NOREPLY, USER_ADDRESS

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
STRICT = "strict"


@pytest.fixture(autouse=True)
def nothing_waits(moodle: Moodle) -> None:
    queue.empty(moodle)


def user(number: int) -> str:
    """The address of a plain learner."""
    return f"bulk{number - 16:05d}@lab.example"


# --- recipients ---


def test_all_kinds_of_recipients_come_in_iomads_order_each_with_a_mail_of_their_own(moodle: Moodle) -> None:
    moodle.execute("UPDATE mdl_company SET emailprofileid = 1 WHERE id = 1")
    moodle.execute("DELETE FROM mdl_user_info_data WHERE userid = 15 AND fieldid = 1")
    moodle.insert(
        "mdl_user_info_data", userid=15, fieldid=1, data="boss1@x.example,boss2@x.example", dataformat=0
    )
    queue.put(
        moodle,
        headers=queue.headers(
            emailto="17,18", emailcc="19", emailtoother="to@x.example,to2@x.example", emailccother="cc@x.example",
            disabledmanager=0, disabledsupervisor=0,
        ),
    )  # fmt: skip
    found = queue.mails()
    assert [(mail.role, mail.to_address, mail.recipient_id) for mail in found] == [
        ("user", USER_ADDRESS, 15),
        ("copy", user(17), 17),
        ("copy", user(18), 18),
        ("copy", user(19), 19),
        ("copy", "to@x.example", None),
        ("copy", "to2@x.example", None),
        ("copy", "cc@x.example", None),
        ("manager", MANAGER_ADDRESS, 16),
        ("manager", "boss1@x.example", None),
        ("manager", "boss2@x.example", None),
    ]
    assert [bool(mail.origin) for mail in found] == [False] + [True] * 9
    assert {mail.to_name for mail in found} == {""}
    assert len({(mail.subject, mail.text, mail.html) for mail in found}) == 1


def test_users_of_the_template_who_are_gone_or_suspended_get_nothing(moodle: Moodle) -> None:
    moodle.execute("UPDATE mdl_user SET deleted = 1 WHERE id = 17")
    moodle.execute("UPDATE mdl_user SET suspended = 1 WHERE id = 18")
    queue.put(moodle, headers=queue.headers(emailto="17,,18,99999,19", emailcc="18,20"))
    assert queue.addresses() == [USER_ADDRESS, user(19), user(20)]


def test_addresses_of_the_template_that_are_not_valid_as_they_stand_get_nothing(moodle: Moodle) -> None:
    queue.put(
        moodle,
        headers=queue.headers(emailtoother="a@x.example, b@x.example,nobody", emailccother=" c@x.example"),
    )
    assert queue.addresses() == [USER_ADDRESS, "a@x.example"]


def test_sending_stops_at_the_first_address_that_no_mailer_takes(moodle: Moodle) -> None:
    moodle.execute("UPDATE mdl_user SET email = 'broken' WHERE id = 18")
    queue.put(moodle, headers=queue.headers(emailto="17,18,19", emailtoother="to@x.example"))
    assert queue.addresses() == [USER_ADDRESS, user(17)]


@pytest.mark.parametrize("template", sorted(USER_TEMPLATES))
def test_company_managers_get_mails_to_users(moodle: Moodle, template: str) -> None:
    queue.put(moodle, templatename=template, headers=queue.headers(disabledmanager=0))
    assert queue.addresses() == [USER_ADDRESS, MANAGER_ADDRESS]


@pytest.mark.parametrize(
    "template", ["company_suspended", "completion_warn_manager", "microlearning_nugget_scheduled"]
)
def test_managers_and_supervisors_get_no_other_mails(moodle: Moodle, template: str) -> None:
    moodle.set_config("companyemailprofileid", "1")
    moodle.insert("mdl_user_info_data", userid=15, fieldid=1, data="boss@x.example", dataformat=0)
    queue.put(moodle, templatename=template, headers=queue.headers(disabledmanager=0, disabledsupervisor=0))
    assert queue.addresses() == [USER_ADDRESS]


@pytest.mark.parametrize(
    ("stored", "gets"), [("1", False), (1, False), ("0", True), (0, True), ("", True), (None, True)]
)
def test_the_stored_template_says_whether_managers_get_it_not_the_one_of_today(
    moodle: Moodle, stored: Any, gets: bool
) -> None:
    moodle.execute("UPDATE mdl_email_template SET disabledmanager = %s", [0 if stored else 1])
    queue.put(moodle, headers=queue.headers(disabledmanager=stored))
    assert (MANAGER_ADDRESS in queue.addresses()) is gets


def test_managers_of_the_departments_above_get_it_those_beside_and_below_do_not(moodle: Moodle) -> None:
    middle = moodle.insert("mdl_department", name="m", shortname="m", company=1, parent=queue.TOP)
    low = moodle.insert("mdl_department", name="l", shortname="l", company=1, parent=middle)
    below = moodle.insert("mdl_department", name="b", shortname="b", company=1, parent=low)
    beside = moodle.insert("mdl_department", name="s", shortname="s", company=1, parent=queue.TOP)
    moodle.execute("UPDATE mdl_company_users SET departmentid = %s WHERE userid = 15", [low])
    for number, place in ((17, middle), (18, low), (19, below), (20, beside)):
        moodle.insert("mdl_company_users", companyid=1, userid=number, departmentid=place, managertype=1)
    moodle.insert("mdl_company_users", companyid=1, userid=21, departmentid=low, managertype=2)
    queue.put(moodle, headers=queue.headers(disabledmanager=""))
    assert queue.addresses() == [USER_ADDRESS, MANAGER_ADDRESS, user(17), user(18)]


def test_supervisors_stand_in_the_companys_profile_field_or_the_sites(moodle: Moodle) -> None:
    for field, data in ((1, "company@x.example"), (7, "site@x.example, blank@x.example,x")):
        moodle.execute("DELETE FROM mdl_user_info_data WHERE userid = 15 AND fieldid = %s", [field])
        moodle.insert("mdl_user_info_data", userid=15, fieldid=field, data=data, dataformat=0)
    moodle.set_config("companyemailprofileid", "7")
    queue.put(moodle, headers=queue.headers(disabledsupervisor=""))
    assert queue.addresses() == [USER_ADDRESS, "site@x.example"]
    moodle.execute("UPDATE mdl_company SET emailprofileid = 1 WHERE id = 1")
    assert queue.addresses() == [USER_ADDRESS, "company@x.example"]


def test_one_address_gets_one_mail_and_in_strict_parity_as_many_as_from_iomad(moodle: Moodle) -> None:
    queue.put(
        moodle, headers=queue.headers(emailcc="16", emailtoother="IOM1@lab.example", disabledmanager="")
    )
    assert queue.addresses() == [USER_ADDRESS, MANAGER_ADDRESS]
    assert [mail.role for mail in queue.mails()] == ["user", "copy"]
    assert queue.addresses(parity=STRICT) == [
        USER_ADDRESS, MANAGER_ADDRESS, "IOM1@lab.example", MANAGER_ADDRESS,
    ]  # fmt: skip


# --- sender ---


@pytest.mark.parametrize(
    ("template", "sender", "from_"),
    [
        ({}, -20, ("Admin User", NOREPLY)),
        ({}, None, ("Admin User", NOREPLY)),
        ({}, 2, ("Admin User", NOREPLY)),
        ({}, 16, ("Manny", NOREPLY)),
        ({}, 99999, ("", NOREPLY)),
        ({"emailfromothername": "{Company_Name}"}, 16, (queue.COMPANY_NAME, NOREPLY)),
        ({"emailfromothername": "The {Company_Name}"}, 16, ("The {Company_Name}", NOREPLY)),
        ({"emailfromother": "hr@x.example"}, 16, ("Manny", "hr@x.example")),
        ({"emailfromother": "hr"}, 16, ("Manny", NOREPLY)),
        ({"emailfromother": "hr@x.example", "emailfromothername": "HR"}, -20, ("HR", "hr@x.example")),
        ({"emailfrom": "17", "emailfromother": "hr@x.example", "emailfromothername": "HR"}, -20, ("Bulk17", user(17))),
        ({"emailfrom": "99999", "emailfromother": "hr@x.example", "emailfromothername": "HR"}, 16, ("", NOREPLY)),
        ({"emailfrom": "0", "emailfromother": "hr@x.example"}, 16, ("Manny", "hr@x.example")),
    ],
)  # fmt: skip
def test_the_sender_is_the_templates_else_noreply_with_the_name_of_whoever_caused_the_mail(
    moodle: Moodle, template: dict[str, Any], sender: int | None, from_: tuple[str, str]
) -> None:
    moodle.execute("UPDATE mdl_user SET firstname = 'Manny' WHERE id = 16")
    moodle.execute("UPDATE mdl_user SET firstname = 'Bulk17', deleted = 1 WHERE id = 17")
    queue.put(moodle, senderid=sender, headers=queue.headers(**template))
    (mail,) = queue.mails()
    assert (mail.from_name, mail.from_address) == from_


def test_a_company_has_its_own_noreply_address_and_all_the_same_leaves_through_ses(moodle: Moodle) -> None:
    moodle.set_config("noreplyaddress1", "noreply@company.example")
    moodle.set_config("smtphosts1", "smtp.company.example")
    queue.put(moodle)
    (mail,) = queue.mails()
    assert mail.from_address == "noreply@company.example"
    moodle.set_config("noreplyaddress1", "")
    assert queue.mails()[0].from_address == NOREPLY


def test_a_sender_who_is_no_valid_address_leaves_the_row(moodle: Moodle) -> None:
    moodle.execute("UPDATE mdl_user SET email = 'broken' WHERE id = 16")
    row = queue.put(moodle, headers=queue.headers(emailfrom="16"))
    assert queue.decide()[row].reason == reasons.SENDER_UNUSABLE


@pytest.mark.parametrize(
    ("lines", "reply_to"),
    [
        ((), ""),
        (("reply-to:reply@x.example",), "reply@x.example"),
        (
            ("To:to@x.example", "Cc:cc@x.example", "reply-to:a@x.example", "reply-to:b@x.example"),
            "a@x.example",
        ),
        (("reply-to:",), ""),
    ],
)
def test_the_reply_address_is_the_first_that_iomad_stored(
    moodle: Moodle, lines: tuple[str, ...], reply_to: str
) -> None:
    queue.put(moodle, headers=queue.headers(*lines))
    (mail,) = queue.mails()
    assert (mail.reply_to_name, mail.reply_to_address) == ("", reply_to)


# --- diverting ---


def test_a_site_that_diverts_its_mail_gets_every_copy_whatever_the_exceptions_say(moodle: Moodle) -> None:
    moodle.set_config("divertallemailsto", "catchall@x.example")
    moodle.set_config("divertallemailsexcept", "lab.example")
    moodle.execute("UPDATE mdl_user SET email = 'broken' WHERE id = 17")
    CopyRule.objects.create(name="HR", kind="fixed", value="hr@x.example", credentials=True)
    queue.put(moodle, headers=queue.headers(emailcc="17,16"))
    found = queue.mails()
    assert {mail.to_address for mail in found} == {"catchall@x.example"}
    assert [mail.subject for mail in found] == [
        f"[DIVERTED {address}] Welcome"
        for address in (USER_ADDRESS, "broken", MANAGER_ADDRESS, "hr@x.example")
    ]


# --- what it says ---


@pytest.mark.parametrize(
    ("stored", "default", "strict"),
    [
        ('Don\'t & "forget" <b>', 'Don\'t & "forget" <b>', 'Don\'t & "forget" <b>'),
        (" two\r\nlines ", "twolines", "twolines"),
        ("x" * 899 + "é", "x" * 899, "x" * 899 + "\ufffd"),
        ("é" * 500, "é" * 450, "é" * 450),
    ],
)
def test_the_subject_is_the_stored_one_cut_at_900_bytes(stored: str, default: str, strict: str) -> None:
    assert subject(stored, strict=False) == default
    assert subject(stored, strict=True) == strict


def test_the_prefix_of_a_diverted_subject_counts_for_its_length() -> None:
    assert subject("x" * 2000, "a@b.example", strict=True) == "[DIVERTED a@b.example] " + "x" * 877


@pytest.mark.parametrize(
    ("body", "text", "html"),
    [
        ("<p>One</p><p>Two</p>", "\nOne\n\nTwo\n\n", "<p>One</p><p>Two</p>"),
        ("plain &amp; <i>x</i>", "\nplain & _x_\n", "plain &amp; <i>x</i>"),
        ("", "\n\n", None),
        ("0", "\n0\n", None),
    ],
)
def test_the_text_part_is_converted_once_and_framed_by_newlines(
    body: str, text: str, html: str | None
) -> None:
    found = letter(body, 404, strict=True)
    assert (found.text, found.html) == (text, html)


def test_active_content_is_removed_unless_parity_is_strict() -> None:
    body = '<p onclick="x()">Hi</p><script>x()</script>'
    assert letter(body, 404, strict=True).html == body
    assert letter(body, 404, strict=False).html == "<p>Hi</p>"


# --- credentials and copies ---


def test_mails_that_carry_a_password_and_those_that_people_list_are_sensitive_with_all_their_copies(
    moodle: Moodle,
) -> None:
    SensitiveTemplate.objects.create(name="license_allocated")
    names = ("user_create", "user_reset", "password_update", "license_allocated", "user_promoted")
    rows = {name: queue.put(moodle, templatename=name, headers=queue.headers(emailcc="16")) for name in names}
    found = queue.decide()
    sensitive = {
        name: {mail.sensitive for mail in queue.candidate(found[row]).mails} for name, row in rows.items()
    }
    assert sensitive == {name: {name != "user_promoted"} for name in rows}


def test_rules_add_copies_with_the_mails_own_text_once_per_address_and_of_credentials_only_if_they_say_so(
    moodle: Moodle,
) -> None:
    CopyRule.objects.create(
        name="a", kind="fixed", value=f"hr@x.example, {MANAGER_ADDRESS.upper()}", text="thirdparty"
    )
    CopyRule.objects.create(
        name="b", kind="company_managers", source="iomad_queue", company_id=1, credentials=True
    )
    CopyRule.objects.create(name="c", kind="fixed", value="no@x.example", source="reengagement")
    plain = queue.put(moodle, templatename="user_promoted", headers=queue.headers(emailcc="16"))
    secret = queue.put(moodle, headers=queue.headers())
    for parity in ("default", STRICT):
        found = queue.decide(parity=parity)
        mails = queue.candidate(found[plain]).mails
        assert [mail.to_address for mail in mails] == [USER_ADDRESS, MANAGER_ADDRESS, "hr@x.example"]
        assert [mail.role for mail in mails] == ["user", "copy", "copy"]
        assert "a" in mails[2].origin
        assert (mails[2].text, mails[2].html) == (mails[0].text, mails[0].html)
        assert [mail.to_address for mail in queue.candidate(found[secret]).mails] == [
            USER_ADDRESS,
            MANAGER_ADDRESS,
        ]


# --- attachments ---

LOGO = b"\x89PNG logo"
DIGEST = hashlib.sha1(LOGO).hexdigest()


def stored_file(path: str, name: str = "Logo.png") -> str:
    return queue.headers(more={"attachment": PhpObject({"filepath": path, "filename": name})})


def pool_path(digest: str, root: str = "/var/moodledata") -> str:
    return f"{root}/filedir/{digest[:2]}/{digest[2:4]}/{digest}"


@pytest.fixture
def pool(tmp_path: Path, settings: Any) -> Path:
    """Moodle's data folder with one file, mounted elsewhere than on Moodle's host."""
    settings.MOODLE_DATAROOT = str(tmp_path)
    path = Path(pool_path(DIGEST, str(tmp_path)))
    path.parent.mkdir(parents=True)
    path.write_bytes(LOGO)
    return tmp_path


def test_an_attachment_goes_with_every_copy_and_is_read_once(moodle: Moodle, pool: Path) -> None:
    rows = [queue.put(moodle, headers=stored_file(pool_path(DIGEST)), userid=number) for number in (15, 17)]
    found = queue.decide()
    (logo,) = {
        each for row in rows for mail in queue.candidate(found[row]).mails for each in mail.attachments
    }
    assert logo == Attachment("Logo.png", "image/png", LOGO)


def test_no_more_files_are_kept_in_memory_than_a_few(settings: Any, tmp_path: Path) -> None:
    settings.MOODLE_DATAROOT = str(tmp_path)
    reader = attachments.Attachments()
    for number in range(attachments.MOST_KEPT * 3):
        content = f"logo {number}".encode()
        path = Path(pool_path(hashlib.sha1(content).hexdigest(), str(tmp_path)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        assert reader.read(headers.StoredFile(str(path), "a.png")).content == content
        assert len(reader._contents) <= attachments.MOST_KEPT


@pytest.mark.parametrize(
    "path",
    [
        pool_path("0" * 40),
        pool_path(DIGEST) + "x",
        f"/etc/passwd/../filedir/{DIGEST}",
        f"/filedir/../../{DIGEST}",
        "/etc/passwd",
        pool_path(DIGEST).replace(f"/{DIGEST[:2]}/", "/../"),
    ],
)
def test_an_attachment_that_is_no_file_of_the_pool_leaves_the_row(
    moodle: Moodle, pool: Path, path: str
) -> None:
    row = queue.put(moodle, headers=stored_file(path))
    assert queue.decide()[row].reason == reasons.ATTACHMENT


@pytest.mark.parametrize(
    "trouble", ["no setting", "too large", "other content", "a link elsewhere", "a folder", "no name"]
)
def test_an_attachment_that_we_cannot_have_as_moodle_has_it_leaves_the_row(
    moodle: Moodle, pool: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    path = Path(pool_path(DIGEST, str(pool)))
    name = "Logo.png"
    if trouble == "no setting":
        settings.MOODLE_DATAROOT = ""
    elif trouble == "too large":
        monkeypatch.setattr(attachments, "MAX_BYTES", len(LOGO) - 1)
    elif trouble == "other content":
        path.write_bytes(b"other")
    elif trouble == "no name":
        name = "\x01/"
    else:
        path.unlink()
        if trouble == "a folder":
            path.mkdir()
        else:
            (pool / "outside").write_bytes(LOGO)
            path.symlink_to(pool / "outside")
    row = queue.put(moodle, headers=stored_file(pool_path(DIGEST), name))
    found = queue.decide()[row]
    assert (found.reason, found.candidate) == (reasons.ATTACHMENT, None)
    assert found.detail
