"""Whatever happens to emails, claims and left rows: after a pass the counts are those of the rows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from hypothesis.strategies import integers, none, sampled_from

from emailoffload.outbox import hourchanges, intents, reported, transitions
from emailoffload.outbox.figures import HourChange, LeftRow
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import rollups
from emailoffload.worker.recover_intents import finish_releases
from tests.rollups.rows import (
    in_the_counts,
    in_the_rows,
    store_claims,
    store_emails,
    store_left,
    sums_in_the_counts,
    sums_in_the_rows,
)

SOURCES = sampled_from(["reengagement", "iomad_queue"])
COMPANIES = none() | integers(0, 3)
MINUTES_AGO = integers(0, 5 * 24 * 60)
SEEDS = integers(0, 2**32)
S = EmailState


def some(ids: Sequence[int], seed: int) -> list[int]:
    """A few of these, as chance wants it."""
    chance = random.Random(seed)
    return chance.sample(ids, min(len(ids), chance.randint(1, 4)))


class History(RuleBasedStateMachine):
    """Days of the product's life in any order, with passes in between."""

    counted = True

    def __init__(self) -> None:
        super().__init__()
        self.now = timezone.now()

    def emails(self, seed: int, *states: EmailState) -> list[int]:
        found = Email.objects.order_by("pk")
        if states:
            found = found.filter(state__in=states)
        return some(list(found.values_list("pk", flat=True)), seed)

    def claims(self, seed: int, *states: ClaimState) -> list[int]:
        found = Claim.objects.filter(state__in=states).order_by("pk")
        return some(list(found.values_list("pk", flat=True)), seed)

    @rule(minutes=MINUTES_AGO, source=SOURCES, company=COMPANIES, mails=integers(1, 3), seed=SEEDS)
    def claim(self, minutes: int, source: str, company: int | None, mails: int, seed: int) -> None:
        at = self.now - timedelta(minutes=minutes)
        kind = {"source": source, "company_id": company}
        for claim_id in store_claims(2, at, state=ClaimState.INTENDED, **kind):
            store_emails(mails, at, claim_id, state=S.PREPARED, **kind)
        self.counted = False

    @rule(seed=SEEDS)
    def settle(self, seed: int) -> None:
        ids = self.claims(seed, ClaimState.INTENDED)
        intents.settle(ids[::2], ids[1::2])
        self.counted = False

    @rule(seed=SEEDS)
    def drop(self, seed: int) -> None:
        intents.drop(self.claims(seed, ClaimState.INTENDED), "the claim was never made")
        intents.forget_dropped(timezone.now())
        self.counted = False

    @rule(minutes=MINUTES_AGO, company=COMPANIES)
    def resend(self, minutes: int, company: int | None) -> None:
        claim = Claim.objects.filter(state=ClaimState.CLAIMED).order_by("pk").first()
        if claim:
            store_emails(1, self.now - timedelta(minutes=minutes), claim.pk, company_id=company)
            self.counted = False

    @rule(seed=SEEDS)
    def send(self, seed: int) -> None:
        ids = self.emails(seed, S.QUEUED)
        Email.objects.filter(pk__in=ids).update(lease="ours")
        numbered = list(Email.objects.filter(pk__in=ids).values_list("pk", "attempts"))
        soon = self.now + timedelta(minutes=1)
        transitions.mark_sending([(pk, n + 1) for pk, n in numbered], "ours", "me", now=self.now, until=soon)
        self.counted = False

    @rule(seed=SEEDS, state=sampled_from([S.ACCEPTED, S.FAILED, S.QUEUED, S.UNCERTAIN]))
    def record(self, seed: int, state: EmailState) -> None:
        ended = [
            transitions.Ended(pk, state, "accepted", self.now, self.now, message_id=f"message-{pk}")
            for pk in self.emails(seed, S.SENDING)
        ]
        transitions.record(ended, "ours", "me", now=self.now)
        self.counted = False

    @rule(seed=SEEDS, state=sampled_from([S.CANCELLED, S.SUPPRESSED, S.RELEASED, S.FAILED, S.QUEUED]))
    def move(self, seed: int, state: EmailState) -> None:
        transitions.move(self.emails(seed), state, now=self.now)
        self.counted = False

    @rule(seed=SEEDS, state=sampled_from([S.DELIVERED, S.BOUNCED, S.COMPLAINED, S.DELAYED]))
    def event(self, seed: int, state: EmailState) -> None:
        """SES reports what happened days ago: the state is dated by the event, not by now."""
        then = self.now - timedelta(days=3)
        with transaction.atomic():
            found = Email.objects.select_for_update().filter(pk__in=self.emails(seed))
            said = reported.Reported(state, then, "", "", "message", then, None, None, None, None, None)
            reported.apply([(email, said) for email in found], self.now)
        self.counted = False

    @rule(seed=SEEDS)
    def hand_back(self, seed: int) -> None:
        ids = self.claims(seed, ClaimState.CLAIMED)
        with transaction.atomic():
            Claim.objects.filter(pk__in=ids).update(state=ClaimState.RELEASING)
            hourchanges.claims(ids)
        finish_releases(ids[::2], ids[1::2], "")
        self.counted = False

    @rule(minutes=MINUTES_AGO, source=SOURCES, company=COMPANIES, reason=sampled_from(["off", "too_late"]))
    def leave(self, minutes: int, source: str, company: int | None, reason: str) -> None:
        at = self.now - timedelta(minutes=minutes)
        store_left(2, at, source=source, company_id=company, reason=reason)
        self.counted = False

    @rule(seed=SEEDS, gone=sampled_from([True, False]))
    def left_changes(self, seed: int, gone: bool) -> None:
        ids = some(list(LeftRow.objects.order_by("pk").values_list("pk", flat=True)), seed)
        with transaction.atomic():
            hourchanges.left_rows(ids)
            rows = LeftRow.objects.filter(pk__in=ids)
            if gone:
                rows.delete()
            else:
                rows.update(reason="no_address")
        self.counted = False

    @rule()
    def a_pass_runs(self) -> None:
        result = rollups.run()
        # Not by the walk, which would find it in the end: each change has said so itself.
        assert (result.repaired, result.left) == (0, 0)
        self.counted = True

    @invariant()
    def counts_are_those_of_the_rows(self) -> None:
        if self.counted:
            assert in_the_counts() == in_the_rows()
            assert sums_in_the_counts() == sums_in_the_rows()
            assert not HourChange.objects.exists()


@pytest.mark.django_db
def test_after_any_history_a_pass_makes_the_counts_those_of_the_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rollups, "WALKED", timedelta(0))  # no walk: it would make right what was not noted

    class OneHistory(History):
        def __init__(self) -> None:
            super().__init__()
            self.savepoint = transaction.savepoint()
            rollups.run()

        def teardown(self) -> None:
            self.a_pass_runs()
            self.counts_are_those_of_the_rows()
            transaction.savepoint_rollback(self.savepoint)

    run_state_machine_as_test(
        OneHistory,
        settings=settings(
            max_examples=10,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
