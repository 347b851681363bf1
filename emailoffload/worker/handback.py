"""Give claims back to Moodle: the exact reverse of the claim, where nothing of it has left (design §6).

When may a row's old values be restored while a run of Moodle's may be in progress? A run reads the rows it
will handle once, then for minutes mails them and overwrites or deletes each without looking again (facts §3.1).
A restored row is safe from a run that did not read it: a run that reads later sees the old values and mails the
row once, as if we had never been there. So the question is whether a run in progress can have read the row
while it held *our* values:

* A row of IOMAD's queue: no. Such a run selects only rows with `sent` NULL (facts §7.2), ours had a time.
* A reminder whose next time, as we wrote it, lies in the future, and whose completion time does too: no. Runs
  in progress began before now, and select what was due, or to be completed, before they began (facts §2.5, §2.6).
* A reminder that was marked completed: no. Its `emailsent` is the number of all reminders, and phase B asks for
  rows that are not completed.
* Any other reminder: yes. Its next reminder may be in the run's list, and the run would overwrite what we restore
  with that one's values; or its completion, and the run would delete it. The mail that was handed back would be
  lost. Such rows are restored only while the cron lock is ours, and with the ad hoc variant while no ad hoc task
  exists; where that lock cannot be shared they are not handed back.

That the restored due time may lie in the past does not matter: it only means that the next run mails the row.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.moodle import claims, cronlock
from emailoffload.moodle.errors import MoodleProblem, TaskMissing
from emailoffload.moodle.targets import REENGAGEMENT
from emailoffload.outbox import deadlocks, hourchanges, transitions
from emailoffload.outbox.models import Attempt, AuditEntry, Claim, Email
from emailoffload.outbox.states import LEFT as LEFT_STATES
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.sources import registry
from emailoffload.sources.reengagement.timing import TWO_DAYS
from emailoffload.worker import killpoints, trust
from emailoffload.worker.late_claims import needs_lock
from emailoffload.worker.recover_intents import finish_releases

BATCH = 500
NO_CLAIM = "no_claim"
NOT_CLAIMED = "not_claimed"
TOO_LATE = "too_late"
LEFT = "left"
CHANGED = "row_changed"
CRON_RUNNING = "cron_running"
LOCK_UNAVAILABLE = "lock_unavailable"
MOODLE_AWAY = "moodle_unreachable"
"""Moodle's database cannot be used, or not be relied on, now: try again later."""


@dataclass(frozen=True, slots=True)
class Released:
    """What became of one claim: handed back, or why not, as a code and in words."""

    claim_id: int
    released: bool
    why_not: str = ""
    code: str = ""


def hand_back(claim_ids: Sequence[int], *, actor: str, reason: str) -> list[Released]:
    """Hand claims back to Moodle; one outcome per id, in the order given.

    Refused are claims of which a mail has left or may have left, which Moodle would no longer send (the two-day
    rule of reminders; rows of IOMAD's queue may go back at any time), whose row does not hold our values, or
    that need the cron lock while it is not to be had. While Moodle's database is read-only or older than what we
    wrote (`trust`) all are refused. What happens is recorded in the audit log under `actor`. Raises
    `claims.ClaimUnknown` and database errors; recovery settles claims that were caught in between.
    """
    try:
        trust.require()
    except MoodleProblem as problem:
        return [Released(pk, False, str(problem), MOODLE_AWAY) for pk in claim_ids]
    outcomes: dict[int, Released] = {}
    for part in _rounds(claim_ids):
        for start in range(0, len(part), BATCH):
            outcomes |= _hand_back_batch(part[start : start + BATCH], actor, reason)
    return [outcomes[claim_id] for claim_id in claim_ids]


def _rounds(claim_ids: Sequence[int]) -> list[list[int]]:
    """The claims, each once, such that of one row the newest is handed back first and one at a time.

    A row has several claims where its reminders follow each other within the lead; each was made on the
    values that the one before it wrote.
    """
    ids = list(dict.fromkeys(claim_ids))
    rows: dict[int, tuple[str, int]] = {}
    for start in range(0, len(ids), BATCH):
        found = Claim.objects.filter(pk__in=ids[start : start + BATCH])
        rows |= {pk: (source, row_id) for pk, source, row_id in found.values_list("pk", "source", "row_id")}
    before: Counter[tuple[str, int]] = Counter()
    place: dict[int, int] = {}
    for claim_id in sorted(ids, reverse=True):
        row = rows.get(claim_id, ("", claim_id))
        place[claim_id] = before[row]
        before[row] += 1
    rounds: list[list[int]] = [[] for _ in range(max(before.values(), default=0))]
    for claim_id in ids:
        rounds[place[claim_id]].append(claim_id)
    return rounds


@dataclass(slots=True)
class _Locks:
    """The cron locks of sources that are ours now, and the codes of those that are not to be had."""

    ours: dict[str, cronlock.CronLock] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def bar(self, claim: Claim, now: int) -> str:
        """The code of what keeps this claim's row from being restored now, or ''."""
        if claim.source in self.ours or not needs_lock(claim, now):
            return ""
        return self.refused.get(claim.source, CRON_RUNNING)

    def lost(self) -> set[str]:
        """The sources whose lock went with its connection: a run of Moodle's may have begun since."""
        return {source for source, lock in self.ours.items() if not lock.still_held()}


def _hand_back_batch(claim_ids: Sequence[int], actor: str, reason: str) -> dict[int, Released]:
    now = int(time.time())
    # No lock for those that are refused anyway. Which these are may change until they are reserved: see `_reserve`.
    hopeful = Claim.objects.filter(pk__in=claim_ids, state=ClaimState.CLAIMED).exclude(
        emails__state__in=LEFT_STATES
    )
    with _locks({claim.source for claim in hopeful if needs_lock(claim, now)}) as locks:
        return _exchange(claim_ids, locks, actor, reason)


@contextmanager
def _locks(sources: set[str]) -> Iterator[_Locks]:
    """Hold the cron locks of these sources for a block, as far as they are to be had."""
    locks = _Locks()
    with ExitStack() as stack:
        for name in sorted(sources):
            source = registry.get(name)
            try:
                lock = stack.enter_context(cronlock.CronLock(source.lock_target()))
            except TaskMissing:
                locks.refused[name] = LOCK_UNAVAILABLE
                continue
            if not lock.acquired:
                shared = cronlock.lock_availability().kind is not None
                locks.refused[name] = CRON_RUNNING if shared else LOCK_UNAVAILABLE
            elif source.obstacle():
                locks.refused[name] = CRON_RUNNING
            else:
                locks.ours[name] = lock
        yield locks


def _words(code: str) -> str:
    if code == CRON_RUNNING:
        return _("Moodle's cron is at work on it at this moment: try again in a few minutes.")
    return _("Moodle's cron could be at work on it, and its lock cannot be shared here.")


def _left() -> str:
    return _("A mail of this claim has left, may have left, is just being sent, or was stopped.")


def _exchange(claim_ids: Sequence[int], locks: _Locks, actor: str, reason: str) -> dict[int, Released]:
    """Reserve, write the reverse in Moodle, settle."""
    reserved, outcomes = deadlocks.survive(lambda: _reserve(claim_ids, locks))
    if not reserved:
        return outcomes
    killpoints.reached("release_reserved")
    back = _give_back(reserved)
    killpoints.reached("release_written")
    doubtful = _take_back_unlocked([claim for claim in reserved if claim.pk in back], locks)
    back -= doubtful
    done = [claim.pk for claim in reserved if claim.pk in back]
    refused = [claim.pk for claim in reserved if claim.pk not in back]
    note = _("Moodle's row does not hold our values any more, so it was not handed back")
    kept: set[int] = set()

    def settle() -> int:
        with transaction.atomic():
            AuditEntry.objects.bulk_create(
                AuditEntry(
                    actor=actor,
                    action="release" if claim.pk in back else "release_refused",
                    object_type="claim",
                    object_id=str(claim.pk),
                    reason=reason,
                )
                for claim in reserved
            )
            return finish_releases(done, refused, note)

    settled = deadlocks.survive(settle)
    if settled < len(done):
        kept = _after_sleep([claim for claim in reserved if claim.pk in back], locks)
    outcomes |= {pk: Released(pk, True) for pk in done}
    outcomes |= {pk: Released(pk, False, note, CHANGED) for pk in refused}
    outcomes |= {pk: Released(pk, False, _words(CRON_RUNNING), CRON_RUNNING) for pk in doubtful}
    return outcomes | {pk: Released(pk, False, _left(), LEFT) for pk in kept}


def _take_back_unlocked(done: Sequence[Claim], locks: _Locks) -> set[int]:
    """Claim again those rows that were restored under a lock that was lost meanwhile; returns the claims' ids.

    A run of Moodle's may have read such a row before it was restored, and would overwrite it.
    """
    lost = locks.lost()
    now = int(time.time())
    doubtful = [claim for claim in done if claim.source in lost and needs_lock(claim, now)]
    _claim_again(doubtful)
    return {claim.pk for claim in doubtful}


def _claim_again(mine: Sequence[Claim]) -> None:
    """Write our values again into rows that hold their old ones."""
    for source in sorted({claim.source for claim in mine}):
        claims.apply(
            source,
            [claims.swap_of(source, c.row_id, c.before, c.after) for c in mine if c.source == source],
        )


def _after_sleep(done: Sequence[Claim], locks: _Locks) -> set[int]:
    """Settle hand-backs that recovery had given up while this process slept; returns the ids that stay ours.

    Recovery saw our values in the row and let the mails leave; then this process woke up and restored the row. Where
    no mail has left yet, the claim is handed back after all. Where one has, our values are written again at once:
    only a run of Moodle's that read the row in this moment would send a second mail.
    """
    ours = Claim.objects.filter(state=ClaimState.CLAIMED).in_bulk([claim.pk for claim in done])
    again, refused = deadlocks.survive(lambda: _reserve(list(ours), locks))
    finish_releases([claim.pk for claim in again], [], "")
    _claim_again([ours[pk] for pk in refused])
    return set(refused)


def _give_back(reserved: Sequence[Claim]) -> set[int]:
    """Write the reverse of these claims in Moodle; returns the ids of the claims that are handed back."""
    back: set[int] = set()
    for source in sorted({claim.source for claim in reserved}):
        mine = {claim.row_id: claim for claim in reserved if claim.source == source}
        swaps = [claims.swap_of(source, c.row_id, c.before, c.after).reversed() for c in mine.values()]
        back |= {mine[row_id].pk for row_id in claims.apply(source, swaps)}
    return back


def too_late(claim: Claim, now: dt.datetime) -> bool:
    """Whether Moodle's next run would drop the claim's reminder instead of sending it: the two-day rule."""
    last_chance = now - dt.timedelta(seconds=TWO_DAYS - settings.MOODLE_CRON_PERIOD_SECONDS)
    return claim.source == REENGAGEMENT and claim.due_at < last_chance


def _reserve(claim_ids: Sequence[int], locks: _Locks) -> tuple[list[Claim], dict[int, Released]]:
    """Take claims and their mails out of everybody's reach; the others get an outcome that says why not.

    What needs a lock is judged anew: a claim whose mail was being sent when the locks were taken may be free by now.
    """
    now = timezone.now()
    refused: dict[int, Released] = {}
    with transaction.atomic():
        locked = Claim.objects.select_for_update().filter(pk__in=claim_ids).order_by("pk")
        found = {claim.pk: claim for claim in locked}
        waiting: set[int] = set()
        gone: set[int] = set()
        # A try without an answer may have been followed by another one, in which nothing was transmitted (`uncertain`).
        tries = Attempt.objects.filter(email=OuterRef("pk"), outcome=transitions.NO_ANSWER)
        mails = Email.objects.select_for_update().filter(claim__in=list(found)).annotate(unsure=Exists(tries))
        for claim_id, state, lease, unsure in mails.values_list("claim_id", "state", "lease", "unsure"):
            if not unsure and (state == EmailState.FAILED or (state == EmailState.QUEUED and not lease)):
                waiting.add(claim_id)
            else:
                gone.add(claim_id)
        reserved = []
        for claim_id in claim_ids:
            claim = found.get(claim_id)
            if claim is None:
                code, why = NO_CLAIM, _("There is no claim %(id)s.") % {"id": claim_id}
            elif claim.state != ClaimState.CLAIMED:
                code = NOT_CLAIMED
                why = _("The claim is %(state)s, not claimed.") % {"state": claim.get_state_display()}
            elif too_late(claim, now):
                code = TOO_LATE
                why = _("It is almost two days overdue: Moodle would drop it instead of sending it.")
            elif claim_id in gone or claim_id not in waiting:
                code, why = LEFT, _left()
            elif code := locks.bar(claim, int(now.timestamp())):
                why = _words(code)
            else:
                reserved.append(claim)
                continue
            refused[claim_id] = Released(claim_id, False, why, code)
        ids = [claim.pk for claim in reserved]
        Email.objects.filter(claim__in=ids, state=EmailState.QUEUED).update(
            lease=f"r{uuid.uuid4().hex}", leased_until=now + dt.timedelta(days=3650)
        )
        Claim.objects.filter(pk__in=ids).update(state=ClaimState.RELEASING, settled_at=now)
        hourchanges.claims(ids)
    return reserved, refused
