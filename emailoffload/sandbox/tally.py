"""How the sample site's mails went: by us, by its own cron, and whether any went out twice."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import EmailState

CHUNK = 500


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts since the sample site was created."""

    accepted: int
    """Mails that SES accepted from us."""
    waiting: int
    """Mails claimed and not yet due, or on their way."""
    by_moodle: int
    """Mails that the simulated cron sent itself."""
    twice: int
    """Rows of Moodle's whose mail went out from both: always 0."""

    def __str__(self) -> str:
        verdict = f"{self.twice} SENT TWICE" if self.twice else "none twice"
        return (
            f"{self.accepted} mails accepted by SES, {self.waiting} waiting for their time, "
            f"{self.by_moodle} sent by Moodle's own cron, {verdict}"
        )


def take(moodle: sqlite3.Connection) -> Tally:
    """Count now. A mail is the same on both sides when the source, Moodle's row and the due time are."""
    total = moodle.execute("SELECT count(*) FROM sandbox_moodle_mail").fetchone()[0]
    theirs = moodle.execute("SELECT DISTINCT source, row_id, due FROM sandbox_moodle_mail").fetchall()
    twice = 0
    for start in range(0, len(theirs), CHUNK):
        batch = set(theirs[start : start + CHUNK])
        rows = {row for _source, row, _due in batch}
        ours = (
            Claim.objects.filter(row_id__in=rows, emails__accepted_at__isnull=False)
            .values_list("source", "row_id", "due_at")
            .distinct()
        )
        twice += len(batch & {(source, row, int(due.timestamp())) for source, row, due in ours})
    return Tally(
        accepted=Email.objects.filter(accepted_at__isnull=False).count(),
        waiting=Email.objects.filter(state__in=[EmailState.QUEUED, EmailState.SENDING]).count(),
        by_moodle=int(total),
        twice=twice,
    )
