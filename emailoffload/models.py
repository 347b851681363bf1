"""Django looks for models here; they live in `outbox`, `policy` and `feedback`."""

from emailoffload.feedback.models import Alarm, Event, EventProblem, ReputationHour, Suppression
from emailoffload.outbox.models import (
    Attempt,
    AuditEntry,
    Claim,
    Content,
    Email,
    Lease,
    RowError,
    Run,
    Shadow,
    State,
)
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.policy.models import CopyRule, GroupCompany, RoutingRule, SensitiveTemplate

__all__ = [
    "Alarm",
    "Attempt",
    "AuditEntry",
    "Claim",
    "Content",
    "CopyRule",
    "Email",
    "Event",
    "EventProblem",
    "GroupCompany",
    "Lease",
    "ReconcileFinding",
    "ReputationHour",
    "RoutingRule",
    "RowError",
    "Run",
    "SensitiveTemplate",
    "Shadow",
    "State",
    "Suppression",
]
