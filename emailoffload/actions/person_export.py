"""Everything that is held about one person, as they may be given it (`actions.person`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.actions.person import CHUNK, MOST, OBJECT, counted, held_by
from emailoffload.feedback.models import Event
from emailoffload.outbox import content
from emailoffload.outbox.models import Attempt, AuditEntry, Content, Email
from emailoffload.outbox.persons import ErasedPerson
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.policy.credentials import sensitive_templates
from emailoffload.worker.privacy import person


def export(user_id: int, *, actor: str, reason: str, also: Collection[str] = ()) -> dict[str, Any]:
    """Everything that is held about a person, ready for JSON, with an audit entry that has numbers only.

    What mails say is in it where they went to the person; mails with credentials say nothing, and of mails about them
    that went to others neither their names, addresses and text nor what servers said of their mailboxes. Raises
    ValueError without a reason, and database errors of ours.
    """
    if not reason.strip():
        raise ValueError("an export needs a reason")
    held = person.find(user_id, also)
    entry = AuditEntry.objects.create(
        actor=actor[:150],
        action="export_person",
        object_type=OBJECT,
        object_id=str(user_id),
        reason=reason.strip()[:500],
    )
    found: dict[str, Any] = {
        "user_id": user_id,
        "exported_at": timezone.now().isoformat(),
        "addresses": sorted(held.addresses.own),
        "shared_addresses": sorted(held.addresses.shared),
        "moodle_was_asked": held.addresses.asked_moodle,
        "erased_at": _text(
            ErasedPerson.objects.filter(user_id=user_id).values_list("erased_at", flat=True).first()
        ),
        "incomplete": sorted(name for name, rows in held_by(held).items() if counted(rows) == MOST),
    }
    found["claims"] = _plain(held.claims, _CLAIM)
    found["mails_about"] = list(_mails(held.about, user_id, all_to_them=False))
    found["mails_to"] = list(_mails(held.to, user_id, all_to_them=True))
    found["other_events"] = _plain(held.events, _EVENT)
    found["suppressions"] = _plain(held.suppressions, _SUPPRESSION)
    found["left_to_moodle"] = _plain(held.left, _LEFT)
    found["shadows"] = _plain(held.shadows, _SHADOW)
    found["row_errors"] = _plain(held.row_errors, _ROW_ERROR)
    found["findings"] = _plain(ReconcileFinding.objects.filter(user_id=user_id), _FINDING)
    found["audit"] = _plain(_audit(user_id, found).order_by("pk"), _AUDIT)
    found["saved_views"] = len(held.views)
    entry.details = {name: len(value) for name, value in found.items() if isinstance(value, list)}
    entry.save(update_fields=["details"])
    return found


def _names(columns: str) -> tuple[str, ...]:
    return tuple(columns.split())


# Columns of each kind of record that an export has.
_CLAIM: Final = _names(
    "id source row_id template state user_name user_email activity_id activity_name course_id course_name "
    "company_id company_name ordinal due_at created_at claimed_at settled_at note forgotten_at"
)
_MAIL: Final = _names(
    "id claim_id role origin source template state state_at reason detail route created_at due_at "
    "message_id accepted_at delivered_at opened_at clicked_at bounced_at complained_at erased_at "
    "forgotten_at subject sensitive recipient_id name address"
)
_EVENT: Final = _names("id type at received_at address kind subkind status diagnostic message_id")
_SUPPRESSION: Final = _names("id address reason origin detail since until removed_at removal_reason")
_LEFT: Final = _names(
    "id source row_id due_at reason detail template activity_id course_id first_seen last_seen"
)
_SHADOW: Final = _names("id source row_id template activity_id course_id mails due_at seen_at verdict")
_ROW_ERROR: Final = _names("id source row_id activity_id reason detail first_seen last_seen times")
_FINDING: Final = _names("id claim_id verdict detail seen first_seen closed_at closed_because")
_AUDIT: Final = _names("id at actor action object_type object_id reason")
_ATTEMPT: Final = _names("email_id number route started_at finished_at outcome error_code error_message")


def _plain(rows: QuerySet[Any], names: Sequence[str]) -> list[dict[str, Any]]:
    newest = list(rows.order_by("-pk").values(*names)[:MOST])
    return [{name: _text(value) for name, value in row.items()} for row in reversed(newest)]


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _mails(rows: QuerySet[Email], user_id: int, *, all_to_them: bool) -> Iterable[dict[str, Any]]:
    """The mails with their attempts and events; what they say only where they went to the person."""
    secret = sensitive_templates()
    every = _plain(rows, _MAIL)
    for start in range(0, len(every), CHUNK):
        part = {mail["id"]: mail for mail in every[start : start + CHUNK]}
        tries = _by_mail(Attempt.objects.filter(email__in=part), _ATTEMPT)
        told = _by_mail(Event.objects.filter(email__in=part), (*_EVENT, "email_id"))
        sealed = {row.pk: row for row in Content.objects.filter(pk__in=part)}
        for pk, mail in part.items():
            mine = all_to_them or mail["role"] == "user" or mail["recipient_id"] == user_id
            mail["attempts"], mail["events"] = tries.get(pk, []), told.get(pk, [])
            if not mine:
                mail["name"] = mail["address"] = mail["detail"] = None
                for event in mail["events"]:
                    event["address"] = event["diagnostic"] = None
                for attempt in mail["attempts"]:
                    attempt["error_message"] = None
            mail["text"] = _said(mail, sealed.get(pk), mine, secret)
            yield mail


def _by_mail(rows: QuerySet[Any], names: Sequence[str]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows.order_by("pk").values(*names):
        found.setdefault(row.pop("email_id"), []).append({name: _text(value) for name, value in row.items()})
    return found


def _said(mail: Mapping[str, Any], sealed: Content | None, mine: bool, secret: Collection[str]) -> str:
    """What a mail says as plain text, or why that is not told."""
    if mail["sensitive"] or mail["template"] in secret:
        return _("(It carries credentials: what it says is never shown.)")
    if sealed is None:
        return _("(What it said is erased.)")
    if not mine:
        return _("(It went to somebody else, and speaks to them.)")
    try:
        return content.open_(sealed).text
    except content.ContentError as error:
        return f"({error})"


def _audit(user_id: int, found: Mapping[str, Any]) -> QuerySet[AuditEntry]:
    """What people did with this person, their claims and mails, by numbers; the newest of each."""
    mails = [str(mail["id"]) for name in ("mails_about", "mails_to") for mail in found[name]]
    claims = [str(claim["id"]) for claim in found["claims"]]
    barred = [str(row["id"]) for row in found["suppressions"]]
    ids: set[int] = set(
        AuditEntry.objects.filter(object_type=OBJECT, object_id=str(user_id)).values_list("pk", flat=True)
    )
    for kind, numbers in (("email", mails), ("claim", claims), ("suppression", barred)):
        for start in range(0, len(numbers), CHUNK):
            rows = AuditEntry.objects.filter(object_type=kind, object_id__in=numbers[start : start + CHUNK])
            ids |= set(rows.values_list("pk", flat=True))
    return AuditEntry.objects.filter(pk__in=sorted(ids)[-MOST:])
