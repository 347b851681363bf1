"""What needs a person now, the most urgent first: how many, what, what to do, and where exactly they are.

Only what is there is named; counts are capped and go through indexes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from emailoffload.dashboard.health_cards import LATE_AFTER, LINKS, may_open
from emailoffload.dashboard.paging import Capped, capped_count
from emailoffload.feedback.models import EventProblem
from emailoffload.outbox import scope
from emailoffload.outbox.models import Claim, Email, RowError
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import reconcile_words

DAY = timedelta(hours=24)
NAMED = 5
"""Of what no list has, so many are named."""


@dataclass(frozen=True, slots=True)
class Task:
    """Something that needs a person: how many, what, what to do, and where to look."""

    count: Capped
    text: str
    cure: str
    tone: str = "bad"
    query: str = ""
    """Of *Emails*, which has exactly these."""
    anchor: str = ""
    page: str = ""
    """The name of another page's address."""
    more: str = ""
    """The name of the address of the page where they are dealt with."""
    emails: Sequence[int] = ()
    """Where no list has exactly these: an email of each of the first ones."""

    @property
    def link(self) -> str:
        """The words of a link to that page; empty without one."""
        return str(LINKS[self.more]) if self.more else ""

    @property
    def sentence(self) -> str:
        """Number and words as one text."""
        values = {"n": self.count.value, "what": self.text}
        return (_("more than %(n)s %(what)s") if self.count.more else _("%(n)s %(what)s")) % values


def collect(user: scope.Person, row_errors: QuerySet[RowError] | None, now: datetime) -> list[Task]:
    """Everything that waits for a person, in the order of urgency; one capped count for each kind.

    `row_errors` None: a person who sees some companies only, and no record of the whole site.
    """
    emails, claims = scope.emails_for(user), scope.claims_for(user)
    found = [*_mails(emails, now), *_handing_back(claims, now), *_findings(user)]
    if row_errors is not None:
        found += [*_failing_rows(row_errors), *_problems(user, now)]
    return [task for task in found if task.count.value]


def _mails(emails: QuerySet[Email], now: datetime) -> Iterable[Task]:
    yield Task(
        capped_count(emails.filter(state=EmailState.FAILED)),
        _("failed: nothing more is tried"),
        _("See why by cause, then send them again, by SMTP, or hand them back to Moodle."),
        query="state=failed",
        more="fallbacks",
    )
    yield Task(
        capped_count(emails.filter(state=EmailState.QUEUED, next_try_at__lt=now - LATE_AFTER)),
        _("should have left more than two minutes ago"),
        _(
            "The health of sending above says what holds them up. Past its deadline a mail takes its fallback, by "
            "the worker."
        ),
        query="state=queued&late=1",
    )
    yield Task(
        capped_count(emails.filter(state=EmailState.UNCERTAIN)),
        _("uncertain: sent without an answer, waiting for evidence"),
        _(
            "Most are settled by an event of Amazon SES's. What stays: ask the recipient, then say what is true."
        ),
        tone="warn",
        query="state=uncertain",
        more="fallbacks",
    )


def _handing_back(claims: QuerySet[Claim], now: datetime) -> Iterable[Task]:
    stuck = claims.filter(state=ClaimState.RELEASING, settled_at__lt=now - timedelta(hours=1))
    count = capped_count(stuck)
    first = stuck.order_by("pk").values("pk")[:NAMED] if count.value else []
    yield Task(
        count,
        ngettext(
            "claim has been on its way back for more than an hour",
            "claims have been on their way back for more than an hour",
            count.value,
        ),
        _(
            "Recovery tries again each minute. If Moodle's database answers, “manage.py recover” says what is in "
            "the way."
        ),
        emails=_an_email_of_each([claim["pk"] for claim in first]),
    )


def _an_email_of_each(claims: Sequence[int]) -> list[int]:
    found = Email.objects.filter(claim__in=claims).order_by("-pk").values_list("claim_id", "pk")
    return sorted(dict(found).values()) if claims else []


def _findings(user: scope.Person) -> Iterable[Task]:
    asking = scope.findings_for(user).filter(
        closed_at__isnull=True, verdict__in=sorted(reconcile_words.NEEDS_PERSON)
    )
    count = capped_count(asking)
    text = ngettext(
        "claim does not agree with Moodle's row: a possible double or loss, not picked up, or changed by others",
        "claims do not agree with Moodle's rows: possible doubles or losses, not picked up, or changed by others",
        count.value,
    )
    yield Task(count, text, _("Each one says what was seen in Moodle and what to do."), page="reconciliation")


def _failing_rows(row_errors: QuerySet[RowError]) -> Iterable[Task]:
    count = capped_count(row_errors)
    text = ngettext(
        "row of Moodle could not be handled in the last 24 hours",
        "rows of Moodle could not be handled in the last 24 hours",
        count.value,
    )
    yield Task(
        count,
        text,
        _("They stay with Moodle. The list below says what is wrong with each."),
        "warn",
        anchor="row-errors",
    )


def _problems(user: scope.Person, now: datetime) -> Iterable[Task]:
    if not may_open(user, "event-problems"):
        return
    count = capped_count(EventProblem.objects.filter(last_seen__gte=now - DAY))
    text = ngettext(
        "message came as an event in the last 24 hours and is none that we can read",
        "messages came as events in the last 24 hours and are none that we can read",
        count.value,
    )
    cure = _("They block nothing and are kept. Each says what is wrong with it.")
    yield Task(count, text, cure, "warn", page="event-problems")
