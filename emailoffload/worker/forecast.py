"""What passes will do with rows that are not due yet: the decision of a pass, made now and kept to ourselves.

The same code decides as in a pass (`intercept`), in the same order: routing rules, the source's own gates and
rendering, suppressed addresses, what SES would take, the stops of claims, earlier claims of the row. Nothing is
locked, stored or claimed. It is what holds now: until the row is due a learner may complete, or somebody may change a
rule.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings

from emailoffload.delivery import health, message
from emailoffload.feedback import claimstop
from emailoffload.moodle import cronlock
from emailoffload.moodle.errors import require_ready, translated
from emailoffload.outbox import intents, switches
from emailoffload.policy.routing import RoutingRules
from emailoffload.sources import reasons, registry
from emailoffload.sources.protocol import Candidate, Clock, Decision, Row
from emailoffload.worker import suppressed
from emailoffload.worker.routing import Router


@dataclass(frozen=True, slots=True)
class Forecast:
    """What becomes of one row, as things stand."""

    row: Row
    claimed: bool
    reason: str
    """Why it is claimed, or why it is left to Moodle: a code of `sources.reasons`."""
    detail: str = ""
    until: str = ""
    """Of one that would be claimed: why nothing is claimed at this moment; '' where nothing is in the way."""
    barred: bool = False
    """Of one that would be claimed: the user's own mail is recorded and not sent, as the address is suppressed."""
    others_only: bool = False
    """Of one that would be claimed: the user is mailed nothing, third parties and copies are."""


def foresee(name: str, rows: Sequence[Row]) -> list[Forecast]:
    """One forecast for each row of a source, in the order given.

    Some fifty small queries for any number of rows. Raises MoodleProblem where a pass could not even begin, and
    database errors of our own database.
    """
    if not rows:
        return []
    with translated():
        variant = require_ready(name)
        router = Router(name, RoutingRules.load())
        source = registry.get(name, variant)
        found = {row.id: Decision(row.id, reason) for row in rows if (reason := router.anyway(row))}
        clock = Clock(int(time.time()), settings.CLAIM_MARGIN_SECONDS, settings.MOODLE_CRON_PERIOD_SECONDS)
        decided = source.decide([row for row in rows if row.id not in found], clock)
        without_lock = cronlock.lock_availability().kind is None
    found |= {decision.row_id: decision for decision in suppressed.heed(router.route(decided).decisions)}
    candidates = [decision.candidate for decision in found.values() if decision.candidate]
    taken = intents.taken_by_others(candidates) if candidates else {}
    stops, until = claimstop.known(), _stopped()
    forecasts = []
    for row in rows:
        decision = found[row.id]
        candidate = decision.candidate
        if candidate is None:
            forecasts.append(Forecast(row, False, decision.reason, decision.detail))
        elif reason := _kept_back(candidate, without_lock=without_lock) or taken.get(row.id, ""):
            forecasts.append(Forecast(row, False, reason))
        else:
            now = until or (reasons.REPUTATION if stops.bar(candidate) else "")
            own = {number for number, mail in enumerate(candidate.mails) if mail.role == "user"}
            barred = bool(own & candidate.suppressed)
            forecasts.append(
                Forecast(row, True, decision.reason, until=now, barred=barred, others_only=not own)
            )
    return forecasts


def _kept_back(candidate: Candidate, *, without_lock: bool) -> str:
    if not all(message.sendable(mail) for mail in candidate.mails):
        return reasons.UNSENDABLE
    return reasons.LOCK_UNAVAILABLE if candidate.under_lock and without_lock else ""


def _stopped() -> str:
    """Why no pass claims anything now; nobody outside is asked."""
    if switches.pause().claims:
        return reasons.CLAIMS_PAUSED
    breaker = health.breaker()
    return reasons.DELIVERY_UNHEALTHY if breaker and breaker.open else ""
