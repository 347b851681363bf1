"""The sample companies' own versions of IOMAD's mails, and how IOMAD makes a queue row of one (facts §7.1,
§7.4). Texts and people are invented."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from emailoffload.sandbox.php_serialize import PlainObject, serialize

SUPPORT_USER = -20
"""`senderid` of rows that no person sent: Moodle's support user."""
COMPANY_NAME = "{Company_Name}"
"""IOMAD's placeholder for the sender's name; it is the form's default."""


@dataclass(frozen=True, slots=True)
class Template:
    """A row of `email_template`; `{domain}` in an address is the company's mail domain."""

    name: str
    subject: str
    body: str
    disabled: int = 0
    disabledmanager: int = 1
    disabledsupervisor: int = 1
    emailcc: str = ""
    emailccother: str = ""
    emailreplytoother: str = ""
    companies: tuple[int, ...] = (1, 2, 3)


SIGNATURE = "<p>Kind regards,<br />the learning team of {Company_Name}</p>"
TEMPLATES: tuple[Template, ...] = (
    # The managers are switched off: with IOMAD's default they would get the new user's password as well.
    Template(
        "user_create",
        "Your account at {Site_ShortName}",
        "<p>Dear {User_FirstName} {User_LastName},</p>"
        '<p>{Company_Name} has made an account for you at <a href="{Site_URL}">{Site_ShortName}</a>.</p>'
        "<ul><li>Username: {User_Username}</li><li>Temporary password: {User_Newpassword}</li></ul>"
        "<p>You will be asked to choose a password of your own when you log in.</p>",
    ),
    Template(
        "user_reset",
        "Your new password for {Site_ShortName}",
        '<p>Dear {User_FirstName},</p><p>your password at <a href="{Site_URL}">{Site_ShortName}</a> has been'
        " reset. The new one is {User_Newpassword}.</p>",
    ),
    Template(
        "user_added_to_course",
        "You have been added to {Course_FullName}",
        '<p>Dear {User_FirstName},</p><p>you can now take <a href="{CourseURL}">{Course_FullName}</a>.'
        " Questions? Just answer this mail.</p>",
        emailreplytoother="learning@{domain}",
    ),
    Template(
        "license_allocated",
        "A licence for {Course_FullName}",
        "<p>Dear {User_FirstName},</p><p>{Company_Name} has given you a licence for"
        ' <a href="{CourseURL}">{Course_FullName}</a>. Please start within 30 days.</p>',
        emailccother="training.office@{domain}",
    ),
    # Managers and supervisors on, as IOMAD's default has it.
    Template(
        "expiry_warn_user",
        "Your training {Course_FullName} expires soon",
        "<p>Dear {User_FirstName} {User_LastName},</p><p>your certificate of {Course_FullName} expires in 30"
        " days. Renew it here: {CourseURL}</p>",
        disabledmanager=0,
        disabledsupervisor=0,
    ),
    Template(
        "completion_warn_user",
        "{Course_FullName} is not finished",
        "<p>Dear {User_FirstName},</p><p>you have not finished {Course_FullName} yet.</p>",
        disabled=1,
        companies=(3,),
    ),
    Template(
        "user_promoted",
        "You are a manager now",
        "<p>Dear {User_FirstName},</p><p>you can now see how your team is doing at {Site_URL}.</p>",
        emailcc="102",
        companies=(2,),
    ),
)
COLUMNS = (
    "id companyid name lang subject body signature disabled disabledmanager disabledsupervisor emailto"
    " emailtoother emailcc emailccother emailfrom emailfromother emailreplyto emailreplytoother"
    " repeatperiod repeatvalue repeatday emailfromothername"
)
"""The columns of `email_template` in the order of the table, which is the order in `headers` too."""
QUEUE_COLUMNS = (
    "templatename modifiedtime sent subject body varsreplaced companyid courseid userid senderid headers due"
)


def stored(template: Template, id_: int, company: int, domain: str) -> dict[str, object]:
    """The row of `email_template` of a company; the keys are `COLUMNS`."""
    own = {key: value for key, value in asdict(template).items() if key != "companies"}
    for key in ("emailccother", "emailreplytoother"):
        own[key] = str(own[key]).replace("{domain}", domain)
    row: dict[str, object] = {
        **dict.fromkeys(COLUMNS.split(), 0),
        **dict.fromkeys(("emailto", "emailtoother", "emailfromother"), ""),
        **own,
        "id": id_,
        "companyid": company,
        "lang": "en",
        "signature": SIGNATURE,
        "emailfromothername": COMPANY_NAME,
    }
    return row


def headers(template: Mapping[str, object], addresses: Mapping[int, str]) -> str:
    """The `headers` of a queue row: To, Cc and reply-to lines, then the template as it was stored.

    `addresses` are those of the users that the template names by id.
    """
    lines: list[str] = []
    for label, ids, others in (("To", "emailto", "emailtoother"), ("Cc", "emailcc", "emailccother")):
        lines += [f"{label}:{addresses[int(id_)]}" for id_ in _split(template[ids])]
        lines += [f"{label}:{address}" for address in _split(template[others])]
    if template["emailreplytoother"]:
        lines.append(f"reply-to:{template['emailreplytoother']}")
    properties = {name: _as_php(name, template[name]) for name in COLUMNS.split()}
    members: dict[int | str, object] = {**dict(enumerate(lines))}
    members["template"] = PlainObject(properties)
    return serialize(members)


def _split(value: object) -> list[str]:
    return [part.strip() for part in str(value).split(",") if part.strip()]


def _as_php(name: str, value: object) -> object:
    """What PHP holds of a column: MySQL's numbers come as text; an empty choice is '', an unset box 0."""
    if name in ("emailfrom", "emailreplyto"):
        return str(value or "")
    return value if value == 0 else str(value)


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a queue row is for, and what its variables stand for."""

    id: int
    firstname: str
    lastname: str
    username: str
    company: int
    company_name: str


@dataclass(frozen=True, slots=True)
class Course:
    """The course that a queue row is about."""

    id: int
    fullname: str


def queue_row(
    template: Mapping[str, object],
    recipient: Recipient,
    course: Course | None,
    *,
    wwwroot: str,
    password: str,
    addresses: Mapping[int, str],
    modified: int,
    due: int,
    sent: int | None = None,
) -> tuple[object, ...]:
    """A row of `email` in the order of `QUEUE_COLUMNS`, as IOMAD inserts it: variables replaced, not escaped,
    and the signature appended. `modified`, `due` and `sent` are UNIX seconds."""
    variables = {
        "User_FirstName": recipient.firstname,
        "User_LastName": recipient.lastname,
        "User_Username": recipient.username,
        "User_Newpassword": password,
        "Company_Name": recipient.company_name,
        "Site_ShortName": "LEARN",
        "Site_URL": wwwroot,
        "Course_FullName": course.fullname if course else "",
        "CourseURL": f"{wwwroot}/course/view.php?id={course.id}" if course else "",
    }

    def fill(key: str) -> str:
        text = str(template[key])
        return re.sub(r"\{(\w+)\}", lambda found: variables.get(found[1], found[0]), text)

    return (
        template["name"], modified, sent, fill("subject"), f"{fill('body')}<p>--</p>{fill('signature')}", 1,
        recipient.company, course.id if course else None, recipient.id, SUPPORT_USER,
        headers(template, addresses), due,
    )  # fmt: skip


_WORDS = (
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "islet",
    "juniper",
    "kelp",
    "lark",
)


def password(chooser: random.Random) -> str:
    """A made-up temporary password."""
    words = "-".join(chooser.choice(_WORDS).title() for _ in range(2))
    return f"{words}-{chooser.randrange(1000, 10000)}"
