"""What is stored about some emails: what `fold` needs to know of their events and attempts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from django.db.models import Min

from emailoffload.feedback.fold import Fact
from emailoffload.feedback.models import Event, EventType
from emailoffload.outbox.models import Attempt, Email

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
