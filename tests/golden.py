"""The golden cases: what a real site sent, with the rows it was built from, as the product's own values.

`load("G01-gplain")` gives the site, the activity, the learner and the mails. The files are described in
tests/data/golden/README.md.
"""

from __future__ import annotations

import email
import json
from dataclasses import dataclass, fields
from email.message import EmailMessage
from email.policy import default as default_policy
from functools import cache
from pathlib import Path
from typing import Any

from emailoffload.moodle.types import (
    Activity,
    Course,
    Learner,
    ProfileField,
    ProfileValue,
    Sender,
    SiteConfig,
    TextContext,
    TextFilter,
    User,
)

FOLDER = Path(__file__).parent / "data" / "golden"


@dataclass(frozen=True, slots=True)
class GoldenMail:
    """One mail as it arrived: headers and parts decoded, line ends LF."""

    file: str
    mail_from: str
    rcpt_tos: tuple[str, ...]
    subject: str
    to_name: str
    to_address: str
    from_name: str
    from_address: str
    reply_to_name: str
    reply_to_address: str
    text: str
    html: str | None


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One case of the reengagement source; `rows` is the raw JSON."""

    name: str
    site: SiteConfig
    context: TextContext
    activity: Activity
    learner: Learner
    mails: tuple[GoldenMail, ...]
    rows: dict[str, Any]

    @property
    def user_mails(self) -> tuple[GoldenMail, ...]:
        """Those that went to the learner."""
        return tuple(mail for mail in self.mails if mail.to_address == self.learner.user.email)

    @property
    def third_party_mails(self) -> tuple[GoldenMail, ...]:
        """Those that went to anyone else."""
        return tuple(mail for mail in self.mails if mail.to_address != self.learner.user.email)


def cases() -> list[str]:
    """Names of the reengagement cases."""
    return sorted(path.stem for path in FOLDER.glob("G*.json"))


@cache
def load(name: str) -> GoldenCase:
    """The case called `name`."""
    rows = json.loads((FOLDER / f"{name}.json").read_text())
    profile_fields = tuple(
        ProfileField(number, each["shortname"], each["datatype"], each["param3"])
        for number, each in enumerate(rows["profile"], 1)
    )
    site = _site(profile_fields)
    course = _pick(Course, rows["course"])
    module = rows["course_module"]
    return GoldenCase(
        name=name,
        site=site,
        context=TextContext(filters=site.site_context.filters, course_id=course.id),
        activity=_pick(
            Activity,
            rows["reengagement"],
            course=course,
            cmid=module["id"] if module else None,
        ),
        learner=Learner(
            user=_pick(User, rows["user"]),
            groups=tuple(group["name"] for group in rows["groups"]),
            profile={
                number: ProfileValue(each["data"], each["dataformat"])
                for number, each in enumerate(rows["profile"], 1)
                if each["data"] is not None
            },
            preferences={each["name"]: each["value"] for each in rows["preferences"]},
        ),
        mails=tuple(_mail(each) for each in rows["mails"]),
        rows=rows,
    )


def _site(profile_fields: tuple[ProfileField, ...]) -> SiteConfig:
    stored = json.loads((FOLDER / "site.json").read_text())
    filters = tuple(TextFilter(each["filter"]) for each in stored["filters"] if each["active"] > 0)
    settings = {key: value for key, value in stored.items() if isinstance(value, str)}
    return SiteConfig(
        wwwroot=stored["wwwroot"],
        shortname=stored["site"]["shortname"],
        fullname=stored["site"]["fullname"],
        config={"theme": "iomadboost", "filter_multilang_converted": "1", **settings},
        branch=404,
        site_context=TextContext(filters=filters, course_id=1),
        profile_fields=profile_fields,
        support_user=Sender(
            User(id=-20, firstname=stored["supportname"], email=stored["supportemail"], maildisplay=1)
        ),
    )


def _pick(cls: type[Any], row: dict[str, Any], **more: Any) -> Any:
    names = {each.name for each in fields(cls)}
    return cls(**{key: value for key, value in row.items() if key in names and key not in more}, **more)


def _mail(entry: dict[str, Any]) -> GoldenMail:
    raw = (FOLDER / entry["file"]).read_bytes()
    message = email.message_from_bytes(raw, policy=default_policy)
    assert isinstance(message, EmailMessage)
    names = {}
    for header in ("To", "From", "Reply-To"):
        address = message[header].addresses[0]
        names[header] = (address.display_name, address.addr_spec)
    html = message.get_body(("html",))
    return GoldenMail(
        file=entry["file"],
        mail_from=entry["mail_from"],
        rcpt_tos=tuple(entry["rcpt_tos"]),
        subject=str(message["Subject"]),
        to_name=names["To"][0],
        to_address=names["To"][1],
        from_name=names["From"][0],
        from_address=names["From"][1],
        reply_to_name=names["Reply-To"][0],
        reply_to_address=names["Reply-To"][1],
        text=_content(message) if html is None else _decoded(message.get_body(("plain",))),
        html=None if html is None else _content(html),
    )


def _content(part: Any) -> str:
    """A last part's text: the mailer ends it with a line break of its own."""
    return _decoded(part).removesuffix("\n")


def _decoded(part: Any) -> str:
    return part.get_payload(decode=True).decode("utf-8").replace("\r\n", "\n")
