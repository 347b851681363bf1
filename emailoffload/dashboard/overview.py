"""The overview: is all well, what needs a person, how much went how in a period, what is next.

People bound to companies (`outbox.scope`) see the figures of those, and of the site's records only whether a worker is
alive. The number of queries is fixed whatever the tables hold, and each one is bounded: figures come from the hourly
counts, everything else from an index and with a cap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.http import QueryDict
from django.utils import timezone

from emailoffload.dashboard import access, alarm_lines, funnel, health_cards, health_ses, needs, period
from emailoffload.dashboard.health_cards import Health, Verdict
from emailoffload.dashboard.needs import Task
from emailoffload.dashboard.paging import Capped, capped_count
from emailoffload.outbox import rollups, scope
from emailoffload.outbox.models import Email, RowError, Run
from emailoffload.outbox.states import EmailState

STALE_AFTER = timedelta(minutes=5)
"""Counts are made each minute; older ones are said to be old."""
LISTED = 20
"""Rows of Moodle with an error that are listed."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """How new the figures are: what they contain, and whether that is too old. `missing`: nothing is counted yet."""

    until: datetime | None
    since: datetime | None
    """While older hours are still being counted for the first time: the oldest one done."""
    stale: bool

    @property
    def missing(self) -> bool:
        """Whether nothing has been counted yet."""
        return self.until is None


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the page shows."""

    verdict: Verdict
    link: bool
    """Whether the reader may open the page that the verdict names."""
    alarms: Sequence[alarm_lines.Line]
    """Those that last."""
    tasks: Sequence[Task]
    health: Sequence[Health]
    chosen: period.Selection
    funnel: funnel.Funnel
    fresh: Freshness
    gauge: health_ses.Gauge | None
    next_due: Sequence[Email]
    due_in_hour: Capped
    row_errors: Sequence[RowError]
    more_row_errors: bool
    """There are more of them than these."""
    passes: Sequence[Run]
    whole_site: bool
    """False: figures of some companies only, and none of the site's own records."""
    now: datetime

    @property
    def worker_alive(self) -> bool:
        """Whether a worker shows signs of life, also where no pass has claimed anything yet."""
        return any(card.code == "worker" and card.tone == "good" for card in self.health)


def collect(user: scope.Person, params: QueryDict, now: datetime | None = None) -> Overview:
    """Read everything that `user` may see of what the address (`params`) asks for; a fixed number of queries."""
    now = now or timezone.now()
    whole = not scope.is_bound(user)
    row_errors = RowError.objects.filter(last_seen__gte=now - needs.DAY) if whole else None
    listed = [] if row_errors is None else list(row_errors.order_by("-last_seen")[: LISTED + 1])
    alarms = alarm_lines.open_alarms() if whole else []
    tasks = needs.collect(user, row_errors, now)
    cards = [health_cards.worker(now), *(_site(alarms, now) if whole else ())]
    verdict = health_cards.verdict(cards, len(tasks), tasks[0].sentence if tasks else "")
    chosen = period.choose(params, user, now)
    queued = scope.emails_for(user).filter(state=EmailState.QUEUED)
    may_see_left = user.has_perm(access.VIEW_LEFTROW)  # type: ignore[union-attr]
    return Overview(
        verdict=verdict,
        link=health_cards.may_open(user, verdict.page),
        alarms=alarms,
        tasks=tasks,
        health=cards,
        chosen=chosen,
        funnel=funnel.collect(chosen, may_see_left=may_see_left),
        fresh=freshness(chosen.period.start, now),
        gauge=health_ses.gauge(now) if whole else None,
        next_due=list(queued.order_by("next_try_at").select_related("claim")[:5]),
        due_in_hour=capped_count(queued.filter(next_try_at__lte=now + timedelta(hours=1))),
        row_errors=listed[:LISTED],
        more_row_errors=len(listed) > LISTED,
        passes=list(Run.objects.filter(kind="intercept").order_by("-id")[:5]) if whole else [],
        whole_site=whole,
        now=now,
    )


def _site(alarms: Sequence[alarm_lines.Line], now: datetime) -> list[Health]:
    """The cards about the whole site."""
    return [
        *health_cards.last_runs(now),
        health_cards.lag(now),
        *health_cards.queue(now),
        *health_ses.ses_account(),
        health_ses.events(now),
        *health_ses.webhook(),
        health_cards.paused(),
        health_ses.reputation(),
        health_cards.alarmed(alarms),
    ]


def freshness(start: datetime, now: datetime) -> Freshness:
    """How new the figures of a period that begins at `start` are; two queries of one row."""
    until, since = rollups.counted_until(), rollups.counted_from()
    return Freshness(
        until, since if since and since > start else None, until is not None and now - until > STALE_AFTER
    )
