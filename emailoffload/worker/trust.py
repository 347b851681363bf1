"""Can what Moodle's database says be relied on? Asked before anything is claimed, recovered or handed back.

After a failover the connection may reach a replica that lags behind, or a former replica that lost the last writes.
Its rows are older than what we wrote: claimed rows look unclaimed, and whoever believed them would claim mails again
that have left, or give up mails that Moodle will not send. Such a server needs no privilege to be found out: the
rows of our newest claims hold, by primary key, what they held *before* the claim.

A database carries out commits in their order. So a claim whose row has its old values is evidence only if no newer
claim can be seen: one that can shows that somebody set the older row back by hand. Rows that moved on or are gone
say nothing. Somebody who sets the row of the very newest claim back looks like a replica, until Moodle has mailed
that row.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.moodle import claims, server
from emailoffload.moodle.errors import MoodleOutdated, MoodleProblem, read_only, translated
from emailoffload.moodle.targets import TARGETS
from emailoffload.outbox import shared
from emailoffload.outbox.models import AuditEntry, Claim, State
from emailoffload.outbox.states import ClaimState

log = logging.getLogger(__name__)
WITNESSES = 40
"""Claims whose rows are looked at."""
SERVER = "moodle_server"
ACCEPTED = "moodle_accepted"
Value = dict[str, Any] | None
"""What a row of the table State holds."""


@dataclass(frozen=True, slots=True)
class Change:
    """The server behind MOODLE_DATABASE_URL is another one since a time."""

    before: str
    after: str
    at: datetime


def require() -> None:
    """Make sure that Moodle's database takes writes and knows what we wrote last.

    Two queries on ours, one about the server, one for each source that was claimed from. A change of the server is
    logged and put on record. Raises MoodleReadOnly, MoodleOutdated, and MoodleUnreachable and its like.
    """
    known = _known()
    with translated():
        found = server.ask()
    if found is not None:
        _note(found, known.get(SERVER))
    wrong = _problem(found, known)
    if wrong is not None:
        raise wrong


def problem() -> MoodleProblem | None:
    """What `require` would raise, found out without writing anything down."""
    try:
        with translated():
            found = server.ask()
        return _problem(found, _known())
    except MoodleProblem as wrong:
        return wrong


def _known() -> dict[str, Any]:
    return dict(State.objects.filter(name__in=(SERVER, ACCEPTED)).values_list("name", "value"))


def _problem(found: server.Server | None, known: dict[str, Any]) -> MoodleProblem | None:
    if found is not None and found.read_only:
        return read_only()
    with translated():
        missing, looked_at = _missing(known.get(ACCEPTED))
    if not missing:
        return None
    return MoodleOutdated(
        _(
            "Moodle's database does not have our last writes: %(n)s of our %(all)s newest claims "
            "are as before the claim, first claim %(first)s. It is a replica that lags, or was "
            "set back."
        )
        % {"n": len(missing), "all": looked_at, "first": min(missing)},
        _(
            "Name the primary server in MOODLE_DATABASE_URL. Claiming goes on by itself once the "
            "rows are there or Moodle has mailed them. If this is Moodle's database now, after a "
            "restore or a failover: `manage.py recover --accept-moodle`."
        ),
    )


def accept(*, actor: str, reason: str) -> None:
    """A person says that Moodle's database is right as it is: claims made until now are no evidence any more."""
    now = timezone.now()
    with transaction.atomic():
        shared.put(ACCEPTED, {"until": now.isoformat()})
        AuditEntry.objects.create(actor=actor[:150], action="accept_moodle", reason=reason[:500])


def last_change() -> Change | None:
    """When the server changed last, None if it never did."""
    row = State.objects.filter(name=SERVER).first()
    if row is None or not row.value.get("before"):
        return None
    value = row.value
    return Change(value["before"], value["name"], datetime.fromisoformat(value["since"]))


def _note(found: server.Server, known: Value) -> None:
    if known and known.get("identity") == found.identity:
        return
    value = {"identity": found.identity, "name": found.name, "since": datetime.now(UTC).isoformat()}
    if known:
        value["before"] = known.get("name", "")
        log.warning(
            "Moodle's database is on another server now: %s, before it was %s. Claiming goes on if it has our last "
            "claims. After a failover nothing is to be done; if it is a copy, correct MOODLE_DATABASE_URL.",
            found.name,
            value["before"],
        )
    shared.put(SERVER, value)


def _missing(accepted: Value) -> tuple[list[int], int]:
    """Claims that this server does not know of, by their ids, and how many were looked at."""
    witnesses = _witnesses(accepted)
    at_before: list[Claim] = []
    newest_seen: datetime | None = None
    for source in sorted({claim.source for claim in witnesses}):
        mine = [claim for claim in witnesses if claim.source == source]
        rows = claims.values(source, {claim.row_id for claim in mine})
        for claim in mine:
            found = rows.get(claim.row_id)
            if claims.holds(source, found, claim.after):
                newest_seen = max(filter(None, (newest_seen, claim.claimed_at)), default=None)
            elif claims.holds(source, found, claim.before):
                at_before.append(claim)
    if newest_seen is not None:
        at_before = [claim for claim in at_before if claim.claimed_at and claim.claimed_at > newest_seen]
    if not at_before:
        return [], len(witnesses)
    # What was handed back since we asked has its old values for a good reason.
    ids = [claim.pk for claim in at_before]
    still = Claim.objects.filter(pk__in=ids, state=ClaimState.CLAIMED).values_list("pk", flat=True)
    return sorted(still), len(witnesses)


def _witnesses(accepted: Value) -> Sequence[Claim]:
    """The newest claims, without those that a person has said not to look at."""
    found = Claim.objects.filter(state=ClaimState.CLAIMED).order_by("-created_at")
    if accepted:
        found = found.filter(created_at__gt=datetime.fromisoformat(accepted["until"]))
    fields = ("pk", "source", "row_id", "before", "after", "claimed_at")
    return [claim for claim in found.only(*fields)[:WITNESSES] if _is_whole(claim)]


def _is_whole(claim: Claim) -> bool:
    """Whether a claim's record names what its row held and was given; one that is damaged must not stop the others."""
    target = TARGETS.get(claim.source)
    return target is not None and set(target.written) <= claim.before.keys() & claim.after.keys()
