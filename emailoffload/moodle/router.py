"""Reads of Moodle's tables go to Moodle's database; writes and migrations are refused.

Moodle's database is somebody else's (promise P3). The one statement that changes it lives in `claims.py`
and is not an ORM write.
"""

from __future__ import annotations

from typing import Any

from django.db import models


class MoodleIsReadOnly(Exception):
    """Something tried to write one of Moodle's tables through the ORM."""


class MoodleRouter:
    """Sends models of the application `moodle` to the database `moodle`, for reading only."""

    def db_for_read(self, model: type[models.Model], **hints: Any) -> str | None:
        """Moodle's models are read from Moodle's database, everything else from ours."""
        return "moodle" if model._meta.app_label == "moodle" else None

    def db_for_write(self, model: type[models.Model], **hints: Any) -> str | None:
        """Refuse to write a Moodle model."""
        if model._meta.app_label == "moodle":
            raise MoodleIsReadOnly(f"{model._meta.db_table} belongs to Moodle; claims.py alone writes to it")
        return None

    def allow_relation(self, obj1: models.Model, obj2: models.Model, **hints: Any) -> bool | None:
        """No relation crosses the two databases."""
        return obj1._meta.app_label == obj2._meta.app_label or None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        """Nothing is ever migrated in Moodle's database, and no Moodle table is made in ours."""
        return db != "moodle" and app_label != "moodle"
