"""Django looks for models here; they live in `outbox` and `policy`."""

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
    "Attempt",
    "AuditEntry",
    "Claim",
    "Content",
    "CopyRule",
    "Email",
    "GroupCompany",
    "Lease",
    "ReconcileFinding",
    "RoutingRule",
    "RowError",
    "Run",
    "SensitiveTemplate",
    "Shadow",
    "State",
]
