"""One pass of the fallback: what the cloud did not take in time goes another way (design §6).

For each claim with overdue mails (`overdue`), by the policy that it was claimed under:

| Policy | First | Then | Last |
|---|---|---|---|
| `moodle` | handed back, if nothing of it has left and Moodle would still send it (`handback`) | SMTP | held |
| `smtp` | SMTP | held | |
| `hold` | held | | |

A claim of which some mail has left is never handed back: the rest of it goes by SMTP or is held. *Held* is
`failed` with the reason `held:` and the cause; a person decides. Waiting, instead of the next step, are claims
whose row a run of Moodle's may just be working on (for one more deadline at most), claims that only Moodle's
database keeps from going back, and, while a person has paused sending, all that would be sent or held.

Every move is a guarded UPDATE, so passes and dispatchers may run at once; the lease only saves work.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.utils import timezone

from emailoffload import logs
from emailoffload.delivery import smtp
from emailoffload.moodle.claims import ClaimUnknown, RowsLocked
from emailoffload.moodle.errors import MoodleProblem, check_reachable, translated
from emailoffload.outbox import content, deadlocks, hourchanges
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import handback, killpoints, lease, overdue, runs, smtp_route, stopping
from emailoffload.worker.overdue import Case, Situation
from emailoffload.worker.smtp_route import HELD, LONGEST_CAUSE

log = logging.getLogger(__name__)
ACTOR = "worker"
BUDGET_SECONDS = 45.0
S = EmailState


@dataclass
class FallbackResult:
    """What one pass did with mails; `handed_back` counts claims."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    busy: bool = False
    problem: str = ""
    """Why SMTP takes nothing, if so."""

    def as_dict(self) -> dict[str, Any]:
        """The counts under stable keys."""
        names = ("handed_back", "smtp", "held", "uncertain", "failed", "suppressed", "smtp_retried")
        return {name: self.counts[name] for name in names} | {
            "seconds": round(self.seconds, 3),
            "busy": self.busy,
            "problem": self.problem,
        }


def run(*, at_once: bool = False, lane: str = "", budget: float = BUDGET_SECONDS) -> FallbackResult:
    """One pass; leaves a record if there was anything to do.

    `at_once` deals with all that is due whatever its deadline, because the worker is to be stopped. Passes in
    different `lane`s may run at once; the product uses one. Raises database errors of ours.
    """
    started = time.monotonic()
    result = FallbackResult()
    seen = overdue.situation(at_once=at_once)
    if not _anything(seen):
        return result
    with lease.hold(f"fallback{lane}") as held:
        if held is None:
            result.busy = True
            return result
        with runs.record("fallback", held.holder) as recording:
            _decide(held, seen, result, started + budget)
            if not seen.paused:
                _send(held, result, started + budget)
            result.seconds = time.monotonic() - started
            recording.counts = result.as_dict()
            if result.problem:
                recording.refused(result.problem)
    return result


def _anything(seen: Situation) -> bool:
    cases, _ = overdue.find(timezone.now(), seen)
    return bool(cases) or smtp_route.wanted().exists() or smtp_route.taken().exists()


def _send(held: lease.Held, result: FallbackResult, until: float) -> None:
    """Send what is set aside for SMTP; without that route it is a person's."""
    if not smtp.configured():
        words = "EMAIL_URL names no SMTP server any more."
        result.counts["held"] += smtp_route.hold_expired(timezone.now(), words, all_of_them=True)
        return
    try:
        content.ensure_keys()
    except content.ForeignKeys as error:
        result.problem = str(error)
        return
    sending = smtp_route.Sending(held, until)
    try:
        sending.go()
    finally:
        result.counts += sending.counts
    if sending.problem:
        result.problem = f"{sending.problem.code}: {sending.problem.message}"


def _decide(held: lease.Held, seen: Situation, result: FallbackResult, until: float) -> None:
    """Find a way for each case, some hundred mails at a time."""
    above, more = 0, True
    while more and held.beat() and not stopping.requested() and time.monotonic() < until:
        cases, above = overdue.find(timezone.now(), seen, above)
        more = above > 0
        if cases:
            _deal_with(cases, seen, result)


def _deal_with(cases: Sequence[Case], seen: Situation, result: FallbackResult) -> None:
    refused = _to_moodle([case for case in cases if case.policy == "moodle"], result)
    by_smtp: list[Case] = []
    by_person: list[Case] = []
    for case in cases:
        refusal = refused.get(case.claim_id)
        if case.policy == "moodle" and refusal is None:
            continue  # it is Moodle's again
        if seen.paused or (refusal and refusal.code == handback.CRON_RUNNING and not case.late):
            continue
        if case.policy != "hold" and smtp.configured() and overdue.by_smtp(case.causes.values()):
            by_smtp.append(case)
        elif case.final and not (refusal and refusal.code == handback.MOODLE_AWAY):
            by_person.append(case)
    _to_smtp(by_smtp, refused)
    result.counts["held"] += _hold(by_person, refused)


def _to_moodle(cases: Sequence[Case], result: FallbackResult) -> dict[int, handback.Released]:
    """Hand these back; returns the refusals by claim. A claim without one is Moodle's again."""
    refused: dict[int, handback.Released] = {}
    by_cause: dict[str, list[Case]] = {}
    for case in cases:
        by_cause.setdefault(case.cause, []).append(case)
    for cause, mine in by_cause.items():
        ids = {case.claim_id for case in mine}
        try:
            check_reachable()
            with translated():
                outcomes = handback.hand_back([*ids, *_newer(mine)], actor=ACTOR, reason=f"fallback: {cause}")
        except (MoodleProblem, ClaimUnknown, RowsLocked) as problem:
            # What was caught in between is settled by recovery; everything else waits for the next pass.
            log.warning(
                "%d claims could not be handed back to Moodle now (%s). The next pass of the fallback tries again; "
                "`manage.py doctor` says whether Moodle's database answers.",
                len(ids),
                logs.named(problem),
            )
            refused |= {pk: handback.Released(pk, False, str(problem), handback.MOODLE_AWAY) for pk in ids}
            continue
        done = [outcome.claim_id for outcome in outcomes if outcome.released]
        result.counts["handed_back"] += len(done)
        Email.objects.filter(claim__in=done, state=S.RELEASED).update(reason=cause[:60])
        refused |= {o.claim_id: o for o in outcomes if not o.released and o.claim_id in ids}
    return refused


def _newer(cases: Iterable[Case]) -> list[int]:
    """Later reminders of the same rows that are claimed already: the row holds their values, so they go back first."""
    by_row = {case.row: case.claim_id for case in cases}
    others = Claim.objects.filter(
        state=ClaimState.CLAIMED, source__in={row[0] for row in by_row}, row_id__in={row[1] for row in by_row}
    )
    return [
        pk
        for pk, source, row_id in others.values_list("pk", "source", "row_id")
        if pk > by_row.get((source, row_id), pk)
    ]


def _to_smtp(cases: Sequence[Case], refused: dict[int, handback.Released]) -> None:
    causes = {pk: cause for case in cases for pk, cause in case.causes.items()}
    if not causes:
        return
    done = deadlocks.survive(lambda: smtp_route.want(causes, timezone.now()))
    _explain([case for case in cases if done.intersection(case.causes)], refused)
    killpoints.reached("fallback_reserved")


def _explain(cases: Sequence[Case], refused: dict[int, handback.Released]) -> None:
    """Note with the mails why they were not handed back, as far as they were to be."""
    words: dict[str, list[int]] = {}
    for case in cases:
        if case.claim_id in refused:
            words.setdefault(refused[case.claim_id].why_not, []).extend(case.causes)
    for text, ids in words.items():
        Email.objects.filter(pk__in=ids, lease=smtp_route.WANTED).update(detail=text[:500])


def _hold(cases: Sequence[Case], refused: dict[int, handback.Released]) -> int:
    """Leave these to a person, with the cause and why no other route took them; returns how many mails."""
    now = timezone.now()
    groups: dict[tuple[str, str], list[int]] = {}
    for case in cases:
        why = refused[case.claim_id].why_not if case.claim_id in refused else ""
        for pk, cause in case.causes.items():
            groups.setdefault((cause, why), []).append(pk)
    held = 0
    for (cause, why), ids in groups.items():
        new = {
            "state": S.FAILED,
            "state_at": now,
            "reason": f"{HELD}{cause[:LONGEST_CAUSE]}",
            "detail": why[:500],
        }
        with transaction.atomic():
            free = Email.objects.filter(pk__in=ids, claim__state=ClaimState.CLAIMED, lease="")
            queued = list(free.filter(state=S.QUEUED).values_list("pk", flat=True))
            failed = list(free.filter(state=S.FAILED, reason=cause).values_list("pk", flat=True))
            held += Email.objects.filter(pk__in=queued, state=S.QUEUED, lease="").update(**new)
            held += Email.objects.filter(pk__in=failed, state=S.FAILED, reason=cause).update(**new)
            hourchanges.emails([*queued, *failed])
    return held
