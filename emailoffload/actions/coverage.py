"""Have coverage counted anew: the worker does it, since it reads a whole table of Moodle's."""

from __future__ import annotations

from django.utils import timezone
from django_q.tasks import async_task

from emailoffload.outbox import shared
from emailoffload.outbox.models import AuditEntry
from emailoffload.worker import coverage, tasks


def ask(actor: str) -> bool:
    """Have the worker count now; False where a count is waited for already. Leaves an audit entry."""
    if coverage.known().asked_at:
        return False
    shared.put(coverage.ASKED, {"at": timezone.now().isoformat()})
    AuditEntry.objects.create(actor=actor[:150], action="coverage_count", object_type="site")
    async_task(f"{tasks.MODULE}.coverage")
    return True
