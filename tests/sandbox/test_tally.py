"""A reminder that both we and the sample's cron sent is found."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from emailoffload.outbox.models import Claim, Email
from emailoffload.sandbox import tally
from tests.sandbox.conftest import NOW


def test_a_reminder_that_went_out_from_both_sides_is_counted_as_twice(
    sample: sqlite3.Connection, db: None
) -> None:
    now = datetime.fromtimestamp(NOW, UTC)
    for row, accepted in ((1, now), (2, now), (3, None)):
        claim = Claim.objects.create(
            source="reengagement",
            row_id=row,
            user_id=5,
            activity_id=3,
            course_id=2,
            due_at=now,
            created_at=now,
        )
        Email.objects.create(
            claim=claim, source="reengagement", role="user", user_id=5, activity_id=3, course_id=2,
            address="a@learn.example", state="accepted" if accepted else "queued", state_at=now, created_at=now,
            due_at=now, next_try_at=now, deadline_at=now, accepted_at=accepted,
        )  # fmt: skip
    assert str(tally.take(sample)).endswith("0 sent by Moodle's own cron, none twice")
    sample.executemany(
        "INSERT INTO sandbox_moodle_mail (timesent, source, role, row_id, activity_id, user_id, address, due,"
        " ordinal) VALUES (?, ?, 'user', ?, 3, 5, 'a@learn.example', ?, 1)",
        [
            (NOW, "reengagement", 1, NOW),
            (NOW, "reengagement", 2, NOW + 900),
            (NOW, "reengagement", 3, NOW),
            (NOW, "iomad_queue", 2, NOW),  # another row: that of the mail queue
        ],
    )
    assert tally.take(sample) == tally.Tally(accepted=2, waiting=1, by_moodle=4, twice=1)
