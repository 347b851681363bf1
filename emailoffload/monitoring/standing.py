"""How the product stands, as far as one bounded query each can tell: migrations, the worker, what is late."""

from __future__ import annotations

from datetime import datetime
from functools import cache

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState


@cache
def _wanted() -> frozenset[tuple[str, str]]:
    """The migrations of this version; they cannot change while the process lives."""
    loader = MigrationLoader(None)
    return frozenset((app, name) for app, name in loader.graph.nodes)


def missing_migrations() -> int:
    """How many migrations of this version our database lacks; one query. Raises database errors."""
    applied = MigrationRecorder(connection).migration_qs.values_list("app", "name")
    return len(_wanted().difference(applied))


def oldest_due(now: datetime) -> datetime | None:
    """When the mail that is due for longest should have left; None where none is due. One query through an index."""
    due = Email.objects.filter(state=EmailState.QUEUED, next_try_at__lte=now).order_by("next_try_at")
    return due.values_list("next_try_at", flat=True).first()
