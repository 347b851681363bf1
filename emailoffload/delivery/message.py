"""One mail as a SendEmail request: SES builds the MIME, so nothing a learner controls may reach a header raw.

Names are quoted or encoded (RFC 2047), control characters never pass, the recipient is exactly one address.
Limits are those of the SES API v2 ("SendEmail", "Quotas").
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_noop as _

from emailoffload.outbox.content import Parts
from emailoffload.sources.protocol import Attachment, RenderedMail

HEADER = "X-Email-Offload-Id"
TAG = "email-offload-id"
SOURCE_TAG = "email-offload-source"
MAX_ADDRESS = 320
MAX_LOCAL = 64
MAX_BYTES = 10 * 1024 * 1024
"""Of the whole message; the parts are encoded for transport, so they may have two thirds of it."""

_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN_ADDRESS = re.compile(rf"{_LOCAL}@{_LABEL}(?:\.{_LABEL})*\Z", re.ASCII)
# C0, DEL and C1 controls, line and paragraph separators.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# Marks that turn the reading direction: in a name they could make an address look like another one.
_TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]+")
_TAG_VALUE = re.compile(r"[^A-Za-z0-9_-]")


class Unsendable(Exception):
    """SES would never take this mail; `code` is a reason, the text says why. Never holds the address."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def one_line(value: str) -> str:
    """Text that fits a header: control characters become a blank. Blanks stay as they are: Moodle's sender
    name has two of them (facts §5.5)."""
    return _CONTROLS.sub(" ", value).strip()


def _utf8(value: str) -> str:
    """Text that can be encoded; a lone surrogate becomes a question mark."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace").decode()
    return value


def address(value: str) -> str:
    """A bare address as SES takes it, an international domain in its ASCII form.

    Raises Unsendable for everything else: two addresses, comments, quoted or non-ASCII local parts.
    """
    value = value.strip()
    if not value.isascii():
        local, at, domain = value.rpartition("@")
        try:
            value = local + at + domain.encode("idna").decode()
        except UnicodeError:
            raise Unsendable(
                "address_invalid", _("The domain of the address is not a domain name.")
            ) from None
    if len(value) > MAX_ADDRESS or len(value.rpartition("@")[0]) > MAX_LOCAL:
        raise Unsendable("address_too_long", _("The address is longer than mail allows."))
    if not _PLAIN_ADDRESS.match(value):
        raise Unsendable("address_invalid", _("The address is not one that SES can send to."))
    return value


def _encoded_words(value: str) -> str:
    """RFC 2047: words of at most 75 characters, split between characters."""
    words, chunk = [], b""
    for character in value:
        encoded = character.encode()
        if len(chunk) + len(encoded) > 45:  # 60 characters of base64, and 12 around them
            words.append(chunk)
            chunk = b""
        chunk += encoded
    words.append(chunk)
    return " ".join(f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in words)


@lru_cache(maxsize=512)
def mailbox(name: str, bare: str) -> str:
    """`name <address>` as a header takes it. Raises Unsendable where the address cannot be used."""
    bare = address(bare)
    name = one_line(_TURNS.sub("", _utf8(name)))
    if not name:
        return bare
    if name.isascii() and "=?" not in name:
        return '"{}" <{}>'.format(name.replace("\\", "\\\\").replace('"', '\\"'), bare)
    return f"{_encoded_words(name)} <{bare}>"


def sendable(mail: RenderedMail) -> bool:
    """Whether SES would take a mail of these addresses and this size; asked before anything is claimed."""
    try:
        _check_size(mail.text, mail.html or "", mail.attachments)
        for bare in (mail.to_address, mail.from_address, mail.reply_to_address or mail.from_address):
            address(bare)
    except Unsendable:
        return False
    return True


def _check_size(text: str, html: str, attachments: Sequence[Attachment]) -> None:
    """Raises Unsendable for what is too large. A character has four bytes at most."""
    size = sum(len(each.content) for each in attachments)
    if (size + 4 * (len(text) + len(html))) * 3 // 2 <= MAX_BYTES:
        return
    size += len(_utf8(text).encode()) + len(_utf8(html).encode())
    if size * 3 // 2 > MAX_BYTES:
        raise Unsendable("message_too_large", _("The mail is larger than SES takes (10 MB)."))


def build(parts: Parts, ref: str, source: str) -> dict[str, Any]:
    """The keyword arguments of `send_email` for one recipient.

    `ref` is the email's reference as 32 hex digits, `source` what it was claimed from. Raises Unsendable.
    """
    text, html = _utf8(parts.text), _utf8(parts.html or "")
    _check_size(text, html, parts.attachments)
    body = {}
    if text or not html:
        body["Text"] = {"Data": text or "\n", "Charset": "UTF-8"}
    if html:
        body["Html"] = {"Data": html, "Charset": "UTF-8"}
    request: dict[str, Any] = {
        "FromEmailAddress": mailbox(parts.from_name, parts.from_address),
        "Destination": {"ToAddresses": [mailbox(parts.to_name, parts.to_address)]},
        "Content": {
            "Simple": {
                "Subject": {"Data": one_line(_utf8(parts.subject)), "Charset": "UTF-8"},
                "Body": body,
                "Headers": [{"Name": HEADER, "Value": ref}],
            }
        },
        "EmailTags": [
            {"Name": TAG, "Value": ref},
            {"Name": SOURCE_TAG, "Value": _TAG_VALUE.sub("_", source)[:256]},
        ],
    }
    if parts.attachments:
        request["Content"]["Simple"]["Attachments"] = [_attachment(each) for each in parts.attachments]
    if parts.reply_to_address:
        request["ReplyToAddresses"] = [mailbox(parts.reply_to_name, parts.reply_to_address)]
    if settings.SES_CONFIGURATION_SET:
        request["ConfigurationSetName"] = settings.SES_CONFIGURATION_SET
    return request


def _attachment(attachment: Attachment) -> dict[str, Any]:
    """A file as SES takes it; boto3 encodes its content for the request."""
    return {
        "RawContent": attachment.content,
        "FileName": one_line(_utf8(attachment.name)),
        "ContentType": attachment.media_type,
        "ContentDisposition": "ATTACHMENT",
        "ContentTransferEncoding": "BASE64",
    }
