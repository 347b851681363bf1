"""What a mail says, at rest: compressed, then encrypted with the newest of CONTENT_KEYS.

Each sealed content carries a fingerprint of its key, so that the right key is found without trying, a
missing one can be named, and rotation knows what is left to do. The encryption is AES-256-GCM with a random
nonce of 96 bits, which stands before the ciphertext: good for billions of mails with one key.

What is encrypted: the length of a JSON object (four bytes), the object with names, addresses and the lengths
of the texts and files, then these one after the other.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.apps import apps
from django.conf import settings
from django.db import transaction
from django.db.models import Model

from emailoffload.outbox.models import Content, State
from emailoffload.sources.protocol import Attachment, RenderedMail

REGISTRY = "content_key_ids"
"""The shared fact that says which keys stored mails were sealed with."""
NONCE = 12
"""Bytes before the ciphertext."""


class ContentError(Exception):
    """A stored content cannot be opened. `code` is short; the text says the cure and never the content."""

    code = "content"


class UnknownKey(ContentError):
    """The key that sealed a content is not among CONTENT_KEYS."""

    code = "content_key"


class Damaged(ContentError):
    """A content is not what was stored."""

    code = "content_damaged"


class ForeignKeys(Exception):
    """This host's CONTENT_KEYS are not those of the database's contents."""


@dataclass(frozen=True, slots=True)
class Parts:
    """One message as it leaves. `html` is None where the mail is a single text part; names are plain text."""

    to_address: str
    to_name: str
    from_address: str
    from_name: str
    reply_to_address: str
    reply_to_name: str
    subject: str
    text: str = field(repr=False)
    html: str | None = field(repr=False)
    attachments: tuple[Attachment, ...] = ()


@lru_cache(maxsize=8)
def _ring(keys: tuple[str, ...]) -> dict[str, AESGCM]:
    return {fingerprint(key): AESGCM(base64.urlsafe_b64decode(key)) for key in keys}


def fingerprint(key: str) -> str:
    """A short name for a key, which does not give the key away: 12 hex digits."""
    return hashlib.sha256(b"email-offload content key\0" + key.encode()).hexdigest()[:12]


def key_ids() -> list[str]:
    """Fingerprints of CONTENT_KEYS, the newest first."""
    return list(_ring(tuple(settings.CONTENT_KEYS)))


def seal(mail: RenderedMail | Parts) -> tuple[str, bytes]:
    """Compress and encrypt what a mail says; returns what Content keeps: (key_id, body)."""
    text, html = _bytes(mail.text), _bytes(mail.html or "")
    about = {
        "to_address": mail.to_address,
        "to_name": mail.to_name,
        "from_address": mail.from_address,
        "from_name": mail.from_name,
        "reply_to_address": mail.reply_to_address,
        "reply_to_name": mail.reply_to_name,
        "subject": mail.subject,
        "text": len(text),
        "html": None if mail.html is None else len(html),
        "attachments": [[each.name, each.media_type, len(each.content)] for each in mail.attachments],
    }
    head = _bytes(json.dumps(about, ensure_ascii=False))
    files = [each.content for each in mail.attachments]
    plain = b"".join([len(head).to_bytes(4), head, text, html, *files])
    key_id, key = next(iter(_ring(tuple(settings.CONTENT_KEYS)).items()))
    return key_id, _encrypt(key, zlib.compress(plain, 1))


def seal_bytes(data: bytes) -> tuple[str, bytes]:
    """Compress and encrypt something else that must not lie about in plain: (key_id, body)."""
    key_id, key = next(iter(_ring(tuple(settings.CONTENT_KEYS)).items()))
    return key_id, _encrypt(key, zlib.compress(data, 1))


def open_bytes(key_id: str, body: bytes) -> bytes:
    """What `seal_bytes` was given. Raises UnknownKey or Damaged."""
    return zlib.decompress(_decrypt(key_id, body))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _encrypt(key: AESGCM, plain: bytes) -> bytes:
    nonce = os.urandom(NONCE)
    return nonce + key.encrypt(nonce, plain, None)


def _decrypt(key_id: str, body: bytes) -> bytes:
    key = _ring(tuple(settings.CONTENT_KEYS)).get(key_id)
    if key is None:
        raise UnknownKey(
            f"The mail was encrypted with the key {key_id}, which is not among CONTENT_KEYS. "
            "Add that key to CONTENT_KEYS, after the newest one; it may be in the file content.key "
            "of another host's data folder."
        )
    try:
        return key.decrypt(body[:NONCE], body[NONCE:], None)
    except (InvalidTag, ValueError):
        # ValueError: too short to be anything that was encrypted.
        raise Damaged(
            "The stored mail does not match its key: its row was changed or damaged. It cannot be sent."
        ) from None


def open_body(key_id: str, body: bytes) -> Parts:
    """What `seal` was given. Raises UnknownKey or Damaged."""
    plain = zlib.decompress(_decrypt(key_id, body))
    start = 4 + int.from_bytes(plain[:4])
    about = json.loads(_text(plain[4:start]))

    def take(length: int) -> bytes:
        nonlocal start
        start += length
        return plain[start - length : start]

    about["text"] = _text(take(about["text"]))
    if about["html"] is not None:
        about["html"] = _text(take(about["html"]))
    about["attachments"] = tuple(
        Attachment(name, media_type, take(length)) for name, media_type, length in about["attachments"]
    )
    return Parts(**about)


def open_(content: Content) -> Parts:
    """What the email of this row says. Raises UnknownKey or Damaged."""
    return open_body(content.key_id, bytes(content.body))


def ensure_keys() -> None:
    """Register the newest key as in use; every pass that seals or opens contents calls this first.

    Raises ForeignKeys when contents exist and none of this host's keys is one of theirs: a second host that
    generated a key of its own would otherwise fill the outbox with mails that the first cannot open.
    """
    ours = key_ids()
    registered = State.objects.filter(name=REGISTRY).first()
    if registered and ours[0] in registered.value["ids"]:
        return
    _make_registry()
    with transaction.atomic():
        row = State.objects.select_for_update().get(name=REGISTRY)
        known: list[str] = row.value["ids"]
        if known and not set(known) & set(ours):
            raise ForeignKeys(
                f"The stored mails are encrypted with other keys ({', '.join(known)}) than this host has "
                f"({', '.join(ours)}). Give CONTENT_KEYS the same value on every host, or copy the file "
                "content.key from the data folder of the host that was first."
            )
        if ours[0] not in known:
            row.value = {"ids": [ours[0], *known]}
            row.save()


def _make_registry() -> None:
    """Make the registry's row if there is none; never in a transaction that goes on to lock it.

    An INSERT that meets the row keeps a shared lock on it, and of two transactions that both have one neither
    gets the other: a deadlock.
    """
    State.objects.bulk_create([State(name=REGISTRY, value={"ids": []})], ignore_conflicts=True)


def missing_keys() -> list[str]:
    """Fingerprints of keys that stored contents were sealed with and that this host does not have."""
    ours = set(key_ids())
    row = State.objects.filter(name=REGISTRY).first()
    return [key for key in (row.value["ids"] if row else []) if key not in ours]


def sealed_models() -> list[type[Model]]:
    """The models that keep what was sealed, as `key_id` and `body`: contents, unreadable events."""
    return [
        model
        for model in apps.get_models()
        if {"key_id", "body"} <= {each.name for each in model._meta.concrete_fields}
    ]


def reencrypt(model: type[Model] = Content, batch: int = 500, after: int = 0) -> tuple[int, int]:
    """Seal up to `batch` rows of one of `sealed_models`, from the primary key `after` on, anew with the newest key.

    Returns (how many were changed, last primary key seen); the second is 0 when nothing older is left. Rows
    whose key is missing are passed over. Run for each model until done, an old key can leave CONTENT_KEYS.
    """
    ours = key_ids()
    newest = ours[0]
    ring = _ring(tuple(settings.CONTENT_KEYS))
    changed = []
    with transaction.atomic():
        rows: list[Any] = list(
            model._default_manager.select_for_update()
            .filter(key_id__in=ours[1:], body__isnull=False, pk__gt=after)
            .order_by("pk")[:batch]
        )
        for row in rows:
            try:
                plain = _decrypt(row.key_id, bytes(row.body))
            except Damaged:
                continue
            row.key_id, row.body = newest, _encrypt(ring[newest], plain)
            changed.append(row)
        model._default_manager.bulk_update(changed, ["key_id", "body"])
    return len(changed), rows[-1].pk if rows else 0


def forget_unused_keys() -> list[str]:
    """Register exactly the newest key and those that something stored still needs; returns the registered ids."""
    _make_registry()
    with transaction.atomic():
        row = State.objects.select_for_update().get(name=REGISTRY)
        used: set[str] = set()
        for model in sealed_models():
            rows = model._default_manager.filter(body__isnull=False).order_by()
            used |= set(rows.values_list("key_id", flat=True).distinct())
        newest = key_ids()[0]
        row.value = {"ids": [newest, *sorted(used - {newest})]}
        row.save()
    return list(row.value["ids"])
