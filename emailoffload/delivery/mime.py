"""One mail as the bytes of an Internet message, as Moodle would have built it (facts §5.7, §5.8).

HTML mails are multipart/alternative, text mails one text part, both quoted-printable; files make it
multipart/mixed. Names are those of the SES route (`delivery.message`): quoted or encoded, without control
characters, so nothing a learner controls reaches a header raw.
"""

from __future__ import annotations

import re
from email import encoders, policy
from email.charset import QP, Charset
from email.header import Header
from email.message import Message
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.utils import formatdate

from emailoffload.delivery import message
from emailoffload.outbox.content import Parts
from emailoffload.sources.protocol import Attachment

WIRE = policy.compat32.clone(linesep="\r\n")
_UTF8 = Charset("utf-8")
_UTF8.body_encoding = QP
_MEDIA_TYPE = re.compile(r"[a-z0-9.+-]+/[a-z0-9.+-]+\Z", re.I)


def build(parts: Parts, ref: str) -> bytes:
    """The message with its headers, lines ended by CRLF. Raises `message.Unsendable`.

    `ref` is the email's reference as 32 hex digits; it is the header X-Email-Offload-Id and part of the
    Message-ID, which is the same for every attempt.
    """
    body = _body(parts)
    if parts.attachments:
        mixed = MIMEMultipart("mixed")
        mixed.attach(body)
        for each in parts.attachments:
            mixed.attach(_attachment(each))
        body = mixed
    body["From"] = message.mailbox(parts.from_name, parts.from_address)
    body["To"] = message.mailbox(parts.to_name, parts.to_address)
    if parts.reply_to_address:
        body["Reply-To"] = message.mailbox(parts.reply_to_name, parts.reply_to_address)
    body["Subject"] = _text_header(parts.subject)
    body["Date"] = formatdate(localtime=False)
    body["Message-ID"] = message_id(parts, ref)
    body[message.HEADER] = ref
    return body.as_bytes(policy=WIRE)


def message_id(parts: Parts, ref: str) -> str:
    """The Message-ID of an email. Raises `message.Unsendable`."""
    return f"<{ref}@{message.address(parts.from_address).rpartition('@')[2]}>"


def _body(parts: Parts) -> Message:
    if not parts.html:
        return _text(parts.text or "\n", "plain")
    html = _text(parts.html, "html")
    if not parts.text:
        return html
    both = MIMEMultipart("alternative")
    both.attach(_text(parts.text, "plain"))
    both.attach(html)
    return both


def _text(value: str, kind: str) -> MIMENonMultipart:
    part = MIMENonMultipart("text", kind, charset="utf-8")
    lines = value.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\r", "\n")
    part.set_payload(lines, _UTF8)
    return part


def _text_header(value: str) -> str:
    value = message.one_line(value.encode("utf-8", "replace").decode())
    if value.isascii() and "=?" not in value:
        return value
    return Header(value, "utf-8", header_name="Subject").encode(linesep="\n")


def _attachment(attachment: Attachment) -> MIMEBase:
    found = attachment.media_type if _MEDIA_TYPE.match(attachment.media_type) else "application/octet-stream"
    main, _, sub = found.partition("/")
    # Only what is base64 throughout: a message inside a message could not be encoded.
    part = (
        MIMEBase(main, sub)
        if main not in {"message", "multipart"}
        else MIMEBase("application", "octet-stream")
    )
    part.set_payload(attachment.content)
    encoders.encode_base64(part)
    name = message.one_line(attachment.name.encode("utf-8", "replace").decode())
    filename = name if name.isascii() else ("utf-8", "", name)
    part.add_header("Content-Disposition", "attachment", filename=filename)
    return part
