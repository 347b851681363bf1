"""The stop of claims before SES pauses the account: who is stopped now, and a person's word against it.

The pass over alarms judges the rates each minute and remembers what is to stop (`judge`); whoever claims asks
`stops`, one query. Mails with credentials are never stopped. What is not claimed Moodle sends, by its own mail server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from emailoffload.feedback.rates import Rate, Scope, rates
from emailoffload.outbox import shared
from emailoffload.outbox.models import State
from emailoffload.sources.protocol import Candidate

NAME = "reputation"
OVERRIDE = "reputation_override"
BELIEVED = timedelta(minutes=10)
"""How long a judgement holds; an older one is made anew by whoever asks."""
LIFTED_AT = 0.9
"""A stop ends when the rate is below this share of what it began at, so that it does not come and go."""
LONGEST_OVERRIDE = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Override:
    """Claiming goes on in spite of the rates: until when, by whose word and why."""

    until: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Stops:
    """What is not claimed now because of its rates, but for mails with credentials."""

    account: bool = False
    identities: frozenset[str] = field(default_factory=frozenset)
    """Sender's domains."""
    companies: frozenset[int] = field(default_factory=frozenset)
    override: Override | None = None
    """In force: nothing is stopped, whatever the rates are."""

    @property
    def any(self) -> bool:
        """Whether anything is stopped."""
        return bool(self.account or self.identities or self.companies)

    def bar(self, candidate: Candidate) -> bool:
        """Whether this row stays with Moodle."""
        if candidate.sensitive or not self.any:
            return False
        if self.account or candidate.company_id in self.companies:
            return True
        return any(
            mail.from_address.rpartition("@")[2].lower() in self.identities for mail in candidate.mails
        )


def stops(now: datetime | None = None) -> Stops:
    """What is stopped now; one query, and the judgement itself where nobody has made it lately."""
    now = now or timezone.now()
    override, stopped, at = _remembered(now)
    # Too old, or of a clock ahead of ours: it says nothing about now.
    if override is None and (at is None or abs(now - at) > BELIEVED):
        stopped = judge(rates(now), now)
    return _stops(override, stopped)


def known(now: datetime | None = None) -> Stops:
    """What is stopped, as it was judged last; one query, and nothing is written: for pages."""
    override, stopped, _at = _remembered(now or timezone.now())
    return _stops(override, stopped)


def judge(found: Sequence[Rate], now: datetime) -> set[tuple[Scope, str]]:
    """Remember for all processes which of these rates stop claims; returns their scopes and keys.

    What was stopped before stays so until its rate is well below (LIFTED_AT).
    """
    row = State.objects.filter(name=NAME).values_list("value", flat=True).first()
    before = {(scope, key) for scope, key in row["stopped"]} if row else set()
    share = settings.REPUTATION_STOP_PERCENT / 100
    stopped = {
        (rate.scope, rate.key)
        for rate in found
        if rate.window == "volume"
        and (rate.level == "stop" or ((rate.scope, rate.key) in before and rate.reaches(LIFTED_AT * share)))
    }
    value = {"at": now.isoformat(), "stopped": sorted(stopped)}
    shared.put(NAME, value)
    return stopped


def set_override(override: Override | None) -> None:
    """Let claiming go on in spite of the rates, or end that."""
    if override is None:
        State.objects.filter(name=OVERRIDE).delete()
        return
    value = {"until": override.until.isoformat(), "by": override.by, "reason": override.reason}
    shared.put(OVERRIDE, value)


def _stops(override: Override | None, stopped: set[tuple[Scope, str]]) -> Stops:
    if override:
        return Stops(override=override)
    return Stops(
        account=("account", "") in stopped,
        identities=frozenset(key for scope, key in stopped if scope == "identity"),
        companies=frozenset(int(key) for scope, key in stopped if scope == "company"),
    )


def _remembered(now: datetime) -> tuple[Override | None, set[tuple[Scope, str]], datetime | None]:
    """The override in force, what was judged to stop last, and when."""
    values = dict(State.objects.filter(name__in=(NAME, OVERRIDE)).values_list("name", "value"))
    value = values.get(NAME)
    stopped = {(scope, key) for scope, key in value["stopped"]} if value else set()
    return (
        _override(values.get(OVERRIDE), now),
        stopped,
        datetime.fromisoformat(value["at"]) if value else None,
    )


def _override(value: dict[str, Any] | None, now: datetime) -> Override | None:
    if not value:
        return None
    until = datetime.fromisoformat(value["until"])
    # A clock that was set back does not make it last for longer than anybody could have asked for.
    in_force = now < until <= now + LONGEST_OVERRIDE + timedelta(minutes=1)
    return Override(until, value["by"], value["reason"]) if in_force else None
