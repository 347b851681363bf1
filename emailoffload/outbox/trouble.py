"""What is wrong with our own database, from the error it gave: cause and cure in words."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import Error, connection
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

AWAY, FULL, READ_ONLY, LOCKED, OTHER = "away", "full", "read_only", "locked", "other"
_CODES = {
    **dict.fromkeys((1114, 1021, 1030, 1041), FULL),
    **dict.fromkeys((1290, 1836, 1792, 1142), READ_ONLY),
    **dict.fromkeys((1205, 1213), LOCKED),
    **dict.fromkeys((1040, 1044, 1045, 1049, 1053, 1129, 1130, 1203, 1226, 1698, 1927, 4031), AWAY),
}
_WORDS = {
    "disk is full": FULL,
    "readonly": READ_ONLY,
    "is locked": LOCKED,
    "unable to open": AWAY,
    "disk i/o error": FULL,
}
"""What SQLite says; it has no numbers."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """`kind` is stable; cause and cure are for people and name no host, account or value."""

    kind: str
    cause: Promise
    cure: Promise


KINDS: dict[str, Trouble] = {
    found.kind: found
    for found in (
        Trouble(
            AWAY,
            _("Our database does not answer."),
            _("Check that its server runs and is reached from here, and DATABASE_URL: host, port, account."),
        ),
        Trouble(
            FULL,
            _("Our database is full."),
            _("Make room on the disk of our database. What waits there is safe; nothing new is claimed."),
        ),
        Trouble(
            READ_ONLY,
            _("Our database is read-only."),
            _("Name the primary server in DATABASE_URL, and give its account all rights on its database."),
        ),
        Trouble(
            LOCKED,
            _("Our database is locked by somebody for too long."),
            _(
                "Look for a backup or a statement that holds its tables. With several processes use MariaDB or "
                "MySQL instead of SQLite."
            ),
        ),
        Trouble(
            OTHER,
            _("Our database refused a statement."),
            _("The log names the error. Run `manage.py migrate` after an upgrade."),
        ),
    )
}


def of(error: Error) -> Trouble:
    """What an error of our own database means."""
    code = error.args[0] if error.args else None
    if isinstance(code, int) and connection.vendor == "mysql":
        return KINDS[AWAY if 2000 <= code < 3000 or code == 0 else _CODES.get(code, OTHER)]
    text = str(error).lower()
    return KINDS[next((kind for words, kind in _WORDS.items() if words in text), OTHER)]
