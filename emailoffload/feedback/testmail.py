"""The doctor's test mails to SES's mailbox simulator: no mail of anybody's, so they count for nothing.

SES developer guide, "Using the mailbox simulator": these addresses behave always the same, and neither they nor their
bounces and complaints count for the account's quota, rates or suppression list.
"""

from __future__ import annotations

import uuid

from emailoffload.feedback.models import EventType

EXPECTED = {
    "success@simulator.amazonses.com": EventType.DELIVERY,
    "bounce@simulator.amazonses.com": EventType.BOUNCE,
    "complaint@simulator.amazonses.com": EventType.COMPLAINT,
    "suppressionlist@simulator.amazonses.com": EventType.BOUNCE,
}
"""The simulator's addresses and what SES publishes about a mail to each."""
PREFIX = "0" * 16
"""No mail's own reference begins so: those are random UUIDs, whose 13th digit is a 4."""


def new_ref() -> str:
    """A reference for one test mail: 32 hex digits."""
    return PREFIX + uuid.uuid4().hex[16:]


def is_test(ref: str) -> bool:
    """Whether a reference is a test mail's."""
    return ref.startswith(PREFIX)
