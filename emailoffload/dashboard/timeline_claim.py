"""The beginning of a mail's timeline: the row in Moodle as it was read, the mail as it was written, the claim."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from django.utils.html import format_html
from django.utils.translation import gettext as _

from emailoffload.dashboard import words
from emailoffload.dashboard.sentences import say
from emailoffload.dashboard.tags import when
from emailoffload.dashboard.timeline_entry import Entry
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ADDRESS_SUPPRESSED, ClaimState

TIMES: Final = frozenset({"emailtime", "completiontime", "sent", "modifiedtime", "due"})
"""Columns of Moodle's that hold UNIX seconds (facts §1.1, §7.2)."""
LONGEST: Final = 253402300799
"""The last second that a datetime can hold."""


def held(name: str, value: Any) -> str:
    """A column's value as Moodle's database shows it; beside a time the moment that it means."""
    if value is None:
        return "NULL"
    if name in TIMES and isinstance(value, int) and 0 < value <= LONGEST:
        return format_html("{} ({})", value, when(datetime.fromtimestamp(value, UTC)))
    return str(value)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """(column, former value → written value) for each column that changes."""
    return tuple(
        (
            name,
            format_html("{} → {}", held(name, before[name]) if name in before else "?", held(name, value)),
        )
        for name, value in after.items()
        if name not in before or before[name] != value
    )


def claim_entries(email: Email) -> list[Entry]:
    """What led to a mail, from its claim (already loaded): found, rendered, claimed, settled otherwise."""
    claim = email.claim
    row = _("row %(row)d of %(source)s") % {"row": claim.row_id, "source": words.source(claim.source)}
    found = [
        Entry(
            claim.created_at,
            _("Found in Moodle"),
            "wait",
            _("%(row)s, with these values") % {"row": row},
            tuple((name, held(name, value)) for name, value in claim.before.items()),
        )
    ]
    if email.resend_of_id is None:
        found.append(
            Entry(
                email.created_at,
                _("Rendered, and meant to be claimed"),
                "wait",
                _("written as Moodle would have written it, for %(name)s (%(role)s)")
                % {"name": email.shown_name or email.shown_address, "role": words.role(email.role)},
            )
        )
    if claim.claimed_at:
        how = (
            _("while we held Moodle's cron lock")
            if claim.under_lock
            else _("ahead of time, before it was due")
        )
        found.append(
            Entry(
                claim.claimed_at,
                _("Claimed in Moodle"),
                "good",
                _("%(row)s; %(how)s. From here on Moodle counts it as sent, and sending it is ours")
                % {"row": row, "how": how},
                changes(claim.before, claim.after),
            )
        )
        if email.resend_of_id is None and email.reason != ADDRESS_SUPPRESSED:
            found.append(
                Entry(
                    claim.claimed_at,
                    _("Queued in our outbox"),
                    "wait",
                    say(_("to leave when it is due, on {at}"), at=email.due_at),
                )
            )
    return [*found, *_settled(claim)]


def _settled(claim: Claim) -> list[Entry]:
    if not claim.settled_at or claim.state == ClaimState.CLAIMED:
        return []
    title = {
        ClaimState.LOST: _("Lost: Moodle changed the row first"),
        ClaimState.DROPPED: _("Dropped: the claim was not made"),
        ClaimState.RELEASING: _("Being handed back to Moodle"),
        ClaimState.RELEASED: _("Released: the row has its former values again"),
    }.get(ClaimState(claim.state), words.humanised(claim.state))
    details = changes(claim.after, claim.before) if claim.state == ClaimState.RELEASED else ()
    written = tuple((name, value) for name, value in details if name in claim.after)
    return [Entry(claim.settled_at, title, "quiet", claim.note, written)]
