"""Django looks for models here; they live in `outbox`, `policy`, `feedback` and `dashboard`."""

from emailoffload.dashboard.models import Choice, SavedView
from emailoffload.feedback.models import Alarm, Event, EventProblem, ReputationHour, Suppression
from emailoffload.outbox.figures import CountSum, HourChange, HourCount, LeftRow
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
from emailoffload.outbox.persons import ErasedPerson
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.policy.models import CopyRule, GroupCompany, RoutingRule, SensitiveTemplate

__all__ = [
    "Alarm",
    "Attempt",
    "AuditEntry",
    "Choice",
    "Claim",
    "Content",
    "CopyRule",
    "CountSum",
    "Email",
    "ErasedPerson",
    "Event",
    "EventProblem",
    "GroupCompany",
    "HourChange",
    "HourCount",
    "Lease",
    "LeftRow",
    "ReconcileFinding",
    "ReputationHour",
    "RoutingRule",
    "RowError",
    "Run",
    "SavedView",
    "SensitiveTemplate",
    "Shadow",
    "State",
    "Suppression",
]
