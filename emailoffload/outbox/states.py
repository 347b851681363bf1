"""The states of emails and claims, and what may follow what (design §4).

One table, tested as a table. A late or lower-ranked event never pulls a state back: `TRANSITIONS` says which
moves exist, everything else is refused.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy


class EmailState(models.TextChoices):
    """Where one email is, and on what evidence."""

    PREPARED = "prepared", _("prepared")
    QUEUED = "queued", _("queued")
    SENDING = "sending", _("sending")
    UNCERTAIN = "uncertain", _("uncertain")
    ACCEPTED = "accepted", _("accepted")
    DELAYED = "delayed", _("delayed")
    DELIVERED = "delivered", _("delivered")
    OPENED = "opened", _("opened")
    CLICKED = "clicked", _("clicked")
    BOUNCED = "bounced", _("bounced")
    COMPLAINED = "complained", _("complained")
    REJECTED = "rejected", _("rejected")
    SUPPRESSED = "suppressed", _("suppressed")
    SENT_SMTP = "sent_smtp", _("sent by SMTP")
    RELEASED = "released", _("released")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


class ClaimState(models.TextChoices):
    """Where one claim of a Moodle row is."""

    INTENDED = "intended", _("intended")
    CLAIMED = "claimed", _("claimed")
    LOST = "lost", pgettext_lazy("state of a claim", "lost")
    DROPPED = "dropped", _("dropped")
    RELEASING = "releasing", _("releasing")
    RELEASED = "released", _("released")


S = EmailState
ADDRESS_SUPPRESSED = "address_suppressed"
"""Reason of a mail that is suppressed, or will be once it is claimed, because its address gets no mail."""
AFTER_ACCEPTANCE = frozenset(
    {S.DELAYED, S.DELIVERED, S.OPENED, S.CLICKED, S.BOUNCED, S.COMPLAINED, S.REJECTED}
)
TRANSITIONS: dict[EmailState, frozenset[EmailState]] = {
    # `prepared` mails of a claim that was not made are deleted with it, so they have no end state.
    # One for a suppressed address is never queued.
    S.PREPARED: frozenset({S.QUEUED, S.SUPPRESSED}),
    # An unanswered send that was put back, or given up, may have left after all: an event of SES's says so.
    S.QUEUED: frozenset({S.SENDING, S.SUPPRESSED, S.RELEASED, S.CANCELLED, S.SENT_SMTP, S.FAILED, S.ACCEPTED})
    | AFTER_ACCEPTANCE,
    # Back to `queued` only where nothing was transmitted.
    S.SENDING: frozenset({S.QUEUED, S.UNCERTAIN, S.ACCEPTED, S.FAILED, S.SENT_SMTP}) | AFTER_ACCEPTANCE,
    S.UNCERTAIN: frozenset({S.QUEUED, S.ACCEPTED, S.SENT_SMTP, S.FAILED, S.CANCELLED}) | AFTER_ACCEPTANCE,
    S.ACCEPTED: AFTER_ACCEPTANCE,
    S.DELAYED: frozenset({S.DELIVERED, S.OPENED, S.CLICKED, S.BOUNCED, S.COMPLAINED, S.REJECTED}),
    S.DELIVERED: frozenset({S.OPENED, S.CLICKED, S.COMPLAINED, S.BOUNCED}),
    S.OPENED: frozenset({S.CLICKED, S.COMPLAINED}),
    S.CLICKED: frozenset({S.COMPLAINED}),
    S.FAILED: frozenset({S.QUEUED, S.RELEASED, S.SENT_SMTP, S.CANCELLED, S.ACCEPTED}) | AFTER_ACCEPTANCE,
    # A transient bounce is outranked by a delivery, any bounce by an open (`feedback.fold`).
    S.BOUNCED: frozenset({S.DELIVERED, S.OPENED, S.CLICKED, S.COMPLAINED}),
    S.COMPLAINED: frozenset(),
    S.REJECTED: frozenset({S.DELIVERED, S.OPENED, S.CLICKED, S.BOUNCED, S.COMPLAINED}),
    S.SUPPRESSED: frozenset(),
    S.SENT_SMTP: frozenset(),
    S.RELEASED: frozenset(),
    S.CANCELLED: frozenset(),
}

C = ClaimState
CLAIM_TRANSITIONS: dict[ClaimState, frozenset[ClaimState]] = {
    C.INTENDED: frozenset({C.CLAIMED, C.LOST, C.DROPPED}),
    C.CLAIMED: frozenset({C.RELEASING}),
    C.RELEASING: frozenset({C.RELEASED, C.CLAIMED}),
    C.LOST: frozenset(),
    # A process that recovery thought dead may still have claimed the row: Moodle's row decides.
    C.DROPPED: frozenset({C.CLAIMED, C.LOST}),
    C.RELEASED: frozenset(),
}

OPEN = frozenset({S.PREPARED, S.QUEUED, S.SENDING, S.UNCERTAIN})
"""States in which the product still has something to do."""
LEFT = frozenset({S.SENDING, S.UNCERTAIN, S.ACCEPTED, S.SENT_SMTP}) | AFTER_ACCEPTANCE
"""States of a mail that has, or may have, left: its claim can no longer be released."""


class IllegalTransition(Exception):
    """A move that the table does not have."""


def check(old: str, new: str) -> None:
    """Raise IllegalTransition unless the table allows an email to move from `old` to `new`."""
    if EmailState(new) not in TRANSITIONS[EmailState(old)]:
        raise IllegalTransition(f"an email cannot go from {old} to {new}")


def sources_of(new: EmailState) -> frozenset[EmailState]:
    """The states from which an email may move to `new`; what a guarded UPDATE filters by."""
    return frozenset(old for old, targets in TRANSITIONS.items() if new in targets)
