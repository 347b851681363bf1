"""Suppressed addresses where mails are claimed, and where they leave.

Whose own mail would go to a suppressed address is mailed by nobody: the row is claimed, and what would go there is
recorded as *suppressed*; or, where the routing rule says so, the row is left to Moodle. Copies to suppressed addresses
are recorded the same way and never keep a row from being claimed; what else a claim yields is sent.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

from emailoffload.feedback import suppression
from emailoffload.outbox.models import Email
from emailoffload.sources import reasons
from emailoffload.sources.protocol import Candidate, Decision
from emailoffload.worker.senders import Job


def heed(decisions: Sequence[Decision]) -> list[Decision]:
    """The decisions of a batch, with what goes to suppressed addresses marked; one query."""
    candidates = [decision.candidate for decision in decisions if decision.candidate]
    barred = suppression.suppressed(mail.to_address for each in candidates for mail in each.mails)
    if not barred:
        return list(decisions)
    return [_heeded(decision, decision.candidate, barred) for decision in decisions]


def _heeded(decision: Decision, candidate: Candidate | None, barred: Container[str]) -> Decision:
    if candidate is None:
        return decision
    places = frozenset(
        number for number, mail in enumerate(candidate.mails) if suppression.key(mail.to_address) in barred
    )
    own = any(candidate.mails[number].role == "user" for number in places)
    if own and candidate.on_suppressed == "moodle":
        return Decision(decision.row_id, reasons.SUPPRESSED_LEFT)
    return replace(decision, candidate=replace(candidate, suppressed=places)) if places else decision


def among(jobs: Sequence[Job]) -> set[int]:
    """Which of these, by the ids of their emails, go to addresses that are suppressed now; two queries.

    What is suppressed between this look and the sending leaves all the same.
    """
    rows = Email.objects.filter(pk__in=[job.email_id for job in jobs]).values_list("pk", "address")
    addresses = {pk: suppression.key(address) for pk, address in rows}
    barred = suppression.suppressed(addresses.values())
    return {pk for pk, address in addresses.items() if address in barred}
