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
    State,
)
from emailoffload.policy.models import CopyRule, GroupCompany, SensitiveTemplate

__all__ = [
    "Attempt",
    "AuditEntry",
    "Claim",
    "Content",
    "CopyRule",
    "Email",
    "GroupCompany",
    "Lease",
    "RowError",
    "Run",
    "SensitiveTemplate",
    "State",
]
