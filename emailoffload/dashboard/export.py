# mypy: allow-untyped-calls
# django-filter has no types.
"""Emails as CSV: the columns of the record for what the filters ask, never what a mail said.

Rows are read and sent in batches, so that memory stays flat; at most `EXPORT_MAX_ROWS` of them. Spreadsheets run
what begins like a formula: such cells get an apostrophe (`safe`). Who exported what, and how many rows, is on record.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from emailoffload.dashboard import access, walk
from emailoffload.dashboard.chips import chips, query_of
from emailoffload.dashboard.emails import load
from emailoffload.dashboard.filters import NAMES, EmailFilter
from emailoffload.dashboard.views import Page
from emailoffload.outbox import scope
from emailoffload.outbox.models import AuditEntry, Email

BATCH: Final = 1000
BOM: Final = "\ufeff"
"""Without it Excel takes UTF-8 for the country's old character set."""
TRIGGERS: Final = frozenset("=+-@")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SPLIT: Final = re.compile(r"([;\t|])(\s*)")


def _begins_formula(text: str) -> bool:
    """Whether the first visible character starts a formula, also as a full-width or small form of it."""
    for char in text:
        if char.isspace() or unicodedata.category(char) in ("Cf", "Cc"):
            continue
        return bool(TRIGGERS & set(unicodedata.normalize("NFKC", char)[:1]))
    return False


def safe(value: Any) -> str:
    """A cell that no spreadsheet runs: an apostrophe before what begins like a formula, control characters as blanks.

    Spreadsheets of some countries split at semicolons whatever is quoted: what follows one is a cell there.
    """
    text = str(value)
    parts = _SPLIT.split(text)
    # Text, then separator, blanks, text, again and again.
    done = _mark(parts[0], text)
    for at in range(1, len(parts), 3):
        done += parts[at] + parts[at + 1] + _mark(parts[at + 2], parts[at + 2])
    return _CONTROL.sub(" ", done)


def _mark(part: str, of: str) -> str:
    return "'" + part if _begins_formula(part) or of[:1] in ("\t", "\r", "\n") else part


def _time(moment: datetime | None) -> str:
    return timezone.localtime(moment).isoformat(timespec="seconds") if moment else ""


COLUMNS: Final[Mapping[str, Callable[[Email], Any]]] = {
    "email": lambda email: email.pk,
    "our_id": lambda email: email.ref.hex,
    "state": lambda email: email.state,
    "state_since": lambda email: _time(email.state_at),
    "reason": lambda email: email.reason,
    "route": lambda email: email.route,
    "source": lambda email: email.source,
    "template": lambda email: email.template,
    "role": lambda email: email.role,
    "user_id": lambda email: email.user_id,
    "recipient_id": lambda email: _or_empty(email.recipient_id),
    "name": lambda email: email.name,
    "address": lambda email: email.address,
    "subject": lambda email: email.subject,
    "activity_id": lambda email: email.activity_id,
    "activity": lambda email: email.claim.activity_name,
    "course_id": lambda email: email.course_id,
    "course": lambda email: email.claim.course_name,
    "company_id": lambda email: _or_empty(email.company_id),
    "company": lambda email: email.claim.company_name,
    "rendered": lambda email: _time(email.created_at),
    "due": lambda email: _time(email.due_at),
    "attempts": lambda email: email.attempts,
    "accepted": lambda email: _time(email.accepted_at),
    "delivered": lambda email: _time(email.delivered_at),
    "opened": lambda email: _time(email.opened_at),
    "clicked": lambda email: _time(email.clicked_at),
    "bounced": lambda email: _time(email.bounced_at),
    "complained": lambda email: _time(email.complained_at),
    "ses_message_id": lambda email: email.message_id,
    "erased": lambda email: _time(email.forgotten_at),
}
"""Headings, which stay the same in every language, and what stands below them."""


def _or_empty(value: int | None) -> int | str:
    return "" if value is None else value


class _Line:
    """A file for `csv.writer` that hands each line over."""

    def write(self, line: str) -> str:
        """The line itself."""
        return line


def lines(cells: Iterable[Iterable[Any]]) -> Iterator[str]:
    """CSV lines of cells that are made safe, every one in quotation marks."""
    writer = csv.writer(_Line(), quoting=csv.QUOTE_ALL)
    for row in cells:
        yield writer.writerow([safe(cell) for cell in row])


def recorded(params: QueryDict) -> dict[str, list[str]]:
    """The filters as they go on record: no address, and no text that may hold a name."""
    found = {}
    for name in params:
        values = ["(an address)" if "@" in value else value for value in params.getlist(name)]
        if name == "q":
            values = [
                value if value.strip().isdigit() or value == "(an address)" else "(text)" for value in values
            ]
        found[name] = values
    return found


def rows(user: scope.Person, wanted: walk.Wanted, most: int, entry: AuditEntry) -> Generator[str, None, None]:
    """The CSV in pieces of one batch. When it ends, also early, the number of rows goes to the audit entry."""
    sent, capped, finished = 0, False, False
    try:
        yield BOM + "".join(lines([COLUMNS]))
        for ids in walk.every(wanted, BATCH):
            capped = sent + len(ids) > most
            emails = load(user, ids[: most - sent])
            sent += len(emails)  # rather one batch too many on record than one too few
            if emails:
                yield "".join(lines([[cell(email) for cell in COLUMNS.values()] for email in emails]))
            if capped:
                text = _("Not complete: there are more than %(n)s emails; these are the newest of them.")
                yield "".join(lines([[text % {"n": number_format(most, force_grouping=True)}]]))
                break
        finished = True
    finally:
        entry.details |= {"rows": sent, "capped": capped, "finished": finished}
        entry.save(update_fields=["details"])


class ExportPage(Page):
    """What would be exported, and the button that does it."""

    template_name = "offload/emails_export.html"
    permissions = (access.VIEW_EMAIL, access.EXPORT_EMAIL)
    http_method_names = ("get", "head", "post", "options")

    @property
    def filters(self) -> EmailFilter:
        """The filters of the address."""
        return EmailFilter(
            self.request.GET, queryset=scope.emails_for(self.request.user), request=self.request
        )

    @property
    def back(self) -> str:
        """The list with these filters."""
        query = query_of(self.request.GET, NAMES).urlencode()
        return f"{reverse('emails')}?{query or 'view=0'}"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The filters in words, and how many emails they find."""
        filters = self.filters
        found = walk.find(filters.wanted, 1) if filters.valid else None
        return super().get_context_data(
            valid=filters.valid,
            chips=chips(filters) if filters.valid else [],
            notes=filters.notes,
            count=found.count if found else None,
            cut=found.cut if found else None,
            most=settings.EXPORT_MAX_ROWS,
            columns=list(COLUMNS),
            query=query_of(self.request.GET, NAMES).urlencode(),
            back=self.back,
            **kwargs,
        )

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """The file; filters that cannot be used lead back to the list, which says why."""
        filters = self.filters
        if not filters.valid:
            return HttpResponseRedirect(self.back)
        params = query_of(request.GET, NAMES)
        entry = AuditEntry.objects.create(
            actor=request.user.get_username(),
            action="export",
            object_type="email",
            details={"filters": recorded(params), "rows": 0, "finished": False},
        )
        name = f"emails-{timezone.localtime():%Y%m%d-%H%M}.csv"
        response: HttpResponse | StreamingHttpResponse = StreamingHttpResponse(
            rows(request.user, filters.wanted, settings.EXPORT_MAX_ROWS, entry),
            content_type="text/csv; charset=utf-8",
        )
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response
