"""Hand a claim back to Moodle: the exact reverse of the claim, where nothing of it has left (design §6)."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.moodle import claims
from emailoffload.moodle.targets import REENGAGEMENT
from emailoffload.outbox.models import AuditEntry, Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.sources.reengagement.timing import TWO_DAYS
from emailoffload.worker import killpoints
from emailoffload.worker.recover_intents import finish_releases

BATCH = 500


@dataclass(frozen=True, slots=True)
class Released:
    """What became of one claim: handed back, or why not, in words."""

    claim_id: int
    released: bool
    why_not: str = ""


def release(claim_ids: Sequence[int], *, actor: str, reason: str) -> list[Released]:
    """Hand claims back to Moodle; one outcome per id, in the order given.

    Refused, with the reason in words, where a mail of the claim has left or may have left, where Moodle
    would no longer send it (the two-day rule of reminders; rows of IOMAD's queue may go back at any time), and
    where Moodle's row does not hold our values. What happens is recorded in the audit log. Raises
    `claims.ClaimUnknown` and database errors; recovery settles claims that were caught in between.
    """
    outcomes: dict[int, Released] = {}
    for part in _rounds(claim_ids):
        for start in range(0, len(part), BATCH):
            outcomes |= _release_batch(part[start : start + BATCH], actor, reason)
    return [outcomes[claim_id] for claim_id in claim_ids]


def _rounds(claim_ids: Sequence[int]) -> list[list[int]]:
    """The claims, each once, such that of one row the newest is handed back first and one at a time.

    A row has several claims where its reminders follow each other within the lead; each was made on the
    values that the one before it wrote.
    """
    ids = list(dict.fromkeys(claim_ids))
    rows: dict[int, tuple[str, int]] = {}
    for start in range(0, len(ids), 1000):
        found = Claim.objects.filter(pk__in=ids[start : start + 1000])
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


def _release_batch(claim_ids: Sequence[int], actor: str, reason: str) -> dict[int, Released]:
    reserved, outcomes = _reserve(claim_ids)
    if not reserved:
        return outcomes
    killpoints.reached("release_reserved")
    back = _give_back(reserved)
    killpoints.reached("release_written")
    done = [claim.pk for claim in reserved if claim.pk in back]
    refused = [claim.pk for claim in reserved if claim.pk not in back]
    note = _("Moodle's row does not hold our values any more, so it was not handed back")
    with transaction.atomic():
        finish_releases(done, refused, note)
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
    outcomes |= {pk: Released(pk, True) for pk in done}
    return outcomes | {pk: Released(pk, False, note) for pk in refused}


def _give_back(reserved: Sequence[Claim]) -> set[int]:
    """Write the reverse of these claims in Moodle; returns the ids of the claims that are handed back."""
    back: set[int] = set()
    for source in sorted({claim.source for claim in reserved}):
        mine = {claim.row_id: claim for claim in reserved if claim.source == source}
        swaps = [claims.swap_of(source, c.row_id, c.before, c.after).reversed() for c in mine.values()]
        back |= {mine[row_id].pk for row_id in claims.apply(source, swaps)}
    return back


def _reserve(claim_ids: Sequence[int]) -> tuple[list[Claim], dict[int, Released]]:
    """Take claims and their mails out of the dispatcher's reach; the others get an outcome that says why not."""
    now = timezone.now()
    last_chance = now - dt.timedelta(seconds=TWO_DAYS - settings.MOODLE_CRON_PERIOD_SECONDS)
    refused: dict[int, Released] = {}
    with transaction.atomic():
        found = {claim.pk: claim for claim in Claim.objects.select_for_update().filter(pk__in=claim_ids)}
        waiting: Counter[int] = Counter()
        gone: set[int] = set()
        mails = Email.objects.select_for_update().filter(claim__in=list(found))
        for claim_id, state, lease in mails.values_list("claim_id", "state", "lease"):
            if state == EmailState.FAILED or (state == EmailState.QUEUED and not lease):
                waiting[claim_id] += 1
            else:
                gone.add(claim_id)
        reserved = []
        for claim_id in claim_ids:
            claim = found.get(claim_id)
            if claim is None:
                why = _("There is no claim %(id)s.") % {"id": claim_id}
            elif claim.state != ClaimState.CLAIMED:
                why = _("The claim is %(state)s, not claimed.") % {"state": claim.get_state_display()}
            elif claim.source == REENGAGEMENT and claim.due_at < last_chance:
                why = _("It is almost two days overdue: Moodle would drop it instead of sending it.")
            elif claim_id in gone or not waiting[claim_id]:
                why = _("A mail of this claim has left, may have left, or is just being sent.")
            else:
                reserved.append(claim)
                continue
            refused[claim_id] = Released(claim_id, False, why)
        ids = [claim.pk for claim in reserved]
        Email.objects.filter(claim__in=ids, state=EmailState.QUEUED).update(
            lease=f"r{uuid.uuid4().hex}", leased_until=now + dt.timedelta(days=3650)
        )
        Claim.objects.filter(pk__in=ids).update(state=ClaimState.RELEASING, settled_at=now)
    return reserved, refused
