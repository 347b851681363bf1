"""SQLite that goes away on demand: while the file `AWAY` lies beside the database, every use of it fails as with a
MariaDB that does not answer."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3 import base

AWAY = "moodle-is-away"
GONE = 2006
"""MariaDB's and MySQL's number for `server has gone away`."""


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's SQLite, and the switch."""

    @property
    def _away(self) -> bool:
        return Path(self.settings_dict["NAME"]).with_name(AWAY).exists()

    def _refuse(self) -> None:
        if self._away:
            raise sqlite3.OperationalError(GONE, "Server has gone away")

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect, unless the server is away."""
        self._refuse()
        return super().get_new_connection(conn_params)

    def create_cursor(self, name: Any = None) -> Any:
        """Every query begins here."""
        self._refuse()
        return super().create_cursor(name)

    def is_usable(self) -> bool:
        """Whether the server answers."""
        return not self._away and bool(super().is_usable())
