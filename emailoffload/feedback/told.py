"""What is stored about some emails: what `fold` needs to know of their events and attempts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from django.db.models import Min

from emailoffload.feedback.fold import BOUNCED_TRANSIENT, PERMANENT, SES_LIST, Fact, Rank, rank
from emailoffload.feedback.models import Event, EventType
from emailoffload.outbox.models import Attempt, Email
from emailoffload.outbox.states import EmailState

_WITHOUT_END = (EventType.OPEN, EventType.CLICK)


def facts(ids: Collection[int]) -> tuple[dict[int, list[Fact]], set[int]]:
    """All that is stored about these mails, and the ids of what is noted only.

    Of opens and clicks the first: whoever has a mail can open it without end.
    """
    found: dict[int, list[Fact]] = defaultdict(list)
    was_noted: set[int] = set()
    about = Event.objects.filter(email__in=ids).order_by()
    rows: Iterable[tuple[Any, ...]] = about.exclude(type__in=_WITHOUT_END).values_list(
        "email_id", "noted", "pk", "type", "at", "message_id", "kind", "subkind", "diagnostic"
    )
    for email_id, noted, *values in rows:
        found[email_id].append(Fact(*values))
        if noted:
            was_noted.add(values[0])
    each = about.filter(type__in=_WITHOUT_END).values("email_id", "type", "message_id")
    firsts = each.annotate(pk_of_one=Min("pk"), first=Min("at"))
    for email_id, *rest in firsts.values_list("email_id", "pk_of_one", "type", "first", "message_id"):
        found[email_id].append(Fact(*rest))
    return found, was_noted


_COLUMNS: Final = (
    (EventType.DELIVERY, "delivered_at", (Rank.DELIVERED,)),
    (EventType.OPEN, "opened_at", (Rank.OPENED,)),
    (EventType.CLICK, "clicked_at", (Rank.CLICKED,)),
    (EventType.BOUNCE, "bounced_at", (Rank.PERMANENT, Rank.TRANSIENT)),
    (EventType.COMPLAINT, "complained_at", (Rank.COMPLAINED,)),
)
"""Which column of a mail keeps the first time of which events."""


def remembered(email: Email, facts: Collection[Fact]) -> list[Fact]:
    """What the row of a mail tells of events that are gone by retention; nothing while they are all there.

    So an event that comes a year late is folded with what is known, and takes nothing back. The facts have negative
    ids: they are no rows.
    """
    found = []
    for number, (type_, column, levels) in enumerate(_COLUMNS, 1):
        at = getattr(email, column)
        if at is None or any(fact.at <= at and rank(fact) in levels for fact in facts):
            continue
        kind = subkind = said = ""
        if type_ == EventType.BOUNCE:
            # A transient bounce that something outranked is no longer believed, so it left no time.
            transient = email.state == EmailState.BOUNCED and email.reason == BOUNCED_TRANSIENT
            kind = "transient" if transient else PERMANENT
            subkind = "Suppressed" if email.reason == SES_LIST else ""
            said = email.detail if email.state == EmailState.BOUNCED else ""
        found.append(Fact(-number, type_, at, email.message_id, kind, subkind, said))
    return found


def differ(email: Email, facts: Iterable[Fact]) -> bool:
    """Whether SES has more than one id for this mail: it was sent more than once."""
    return len({fact.message_id for fact in facts if fact.message_id} | ({email.message_id} - {""})) > 1


def answers(emails: Sequence[Email]) -> dict[int, str]:
    """What SES answered us last, for mails of which it has several ids; '' where it never answered."""
    if not emails:
        return {}
    found = {email.pk: "" for email in emails}
    tries = Attempt.objects.filter(email__in=emails, message_id__gt="").order_by("number")
    return found | dict(tries.values_list("email_id", "message_id"))
