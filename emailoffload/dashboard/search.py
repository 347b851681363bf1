"""What a person typed into the search box of *Emails*, understood as the one thing that an index can find.

A user id, an address, an SES message id or our own id is found at once at any size. Free text is searched in
subjects and names of the newest emails only: a search through all of ten million takes seconds (perf-facts).
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from emailoffload.dashboard.paging import MAX_ID
from emailoffload.outbox.models import Email

WINDOW = 200_000
MESSAGE_ID = re.compile(r"<?([0-9a-zA-Z][0-9a-zA-Z_.-]{19,127})(?:@[a-z0-9.-]+\.amazonses\.com)?>?")


@dataclass(frozen=True, slots=True)
class Search:
    """How the text was understood: the condition, a sentence that says so, if it reads a window only."""

    condition: Q
    note: str
    windowed: bool = False


def understand(text: str) -> Search:
    """Decide what `text` is: a user id, our id, an address, a message id, or free text."""
    text = text.strip()
    if text.isascii() and text.isdigit() and int(text[:20]) <= MAX_ID:
        return Search(Q(user_id=int(text)), _("Mails about user %(id)s.") % {"id": text})
    if ref := _reference(text):
        return Search(Q(ref=ref), _("The mail with our id %(id)s.") % {"id": ref.hex})
    found = MESSAGE_ID.fullmatch(text)
    if (
        found
        and any(char.isdigit() for char in text)
        and ("@" not in text or text.rstrip(">").endswith("amazonses.com"))
    ):
        return Search(
            Q(message_id=found[1]), _("The mail with the SES message id %(id)s.") % {"id": found[1]}
        )
    if "@" in text and " " not in text:
        if re.fullmatch(r"[^@]+@[^@]+\.[^@.]+", text):
            return Search(Q(address__in={text, text.lower()}), _("Mails to the address %(a)s.") % {"a": text})
        return Search(
            Q(address__istartswith=text), _("Mails to addresses that begin with %(a)s.") % {"a": text}
        )
    return Search(
        Q(subject__icontains=text) | Q(name__icontains=text),
        _("Mails with “%(text)s” in the subject or the recipient's name, among the newest %(n)s.")
        % {"text": text, "n": f"{WINDOW:,}"},
        windowed=True,
    )


def _reference(text: str) -> uuid.UUID | None:
    if not re.fullmatch(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text):
        return None
    return uuid.UUID(text)


def apply(emails: QuerySet[Email, Any], search: Search, until: Any = None) -> QuerySet[Email, Any]:
    """Filter emails by an understood search; free text reads the newest `WINDOW` ids rendered before `until`.

    Costs one query more for free text: the newest id, found through an index.
    """
    if search.windowed:
        newest = Email.objects.all() if until is None else Email.objects.filter(created_at__lte=until)
        order = "-pk" if until is None else "-created_at"
        last = newest.order_by(order).values_list("pk", flat=True).first() or 0
        emails = emails.filter(pk__gt=last - WINDOW)
    return emails.filter(search.condition)
