"""Django looks for models here; they live in `outbox`."""

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

__all__ = ["Attempt", "AuditEntry", "Claim", "Content", "Email", "Lease", "RowError", "Run", "State"]
