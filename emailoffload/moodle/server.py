"""Which server the connection to Moodle's database reaches, and whether it takes writes."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connections

_NAMES = ("server_uid", "server_uuid", "server_id", "hostname", "port", "read_only", "super_read_only",
          "innodb_read_only")  # fmt: skip
_OFF = {"OFF", "0", ""}


@dataclass(frozen=True, slots=True)
class Server:
    """`identity` tells two servers apart; `name` is for people: host and port as the server knows them."""

    identity: str
    name: str
    read_only: bool


def ask() -> Server | None:
    """The server behind the connection, in one query that needs no privilege; None for the sample Moodle.

    MariaDB has a `server_uid`, MySQL a `server_uuid`; older versions are told apart by id, host and port. Raises the
    database's errors.
    """
    connection = connections["moodle"]
    if connection.vendor != "mysql":
        return None
    connection.close_if_unusable_or_obsolete()  # one that was lost with a restart is made anew
    with connection.cursor() as cursor:
        marks = ", ".join(["%s"] * len(_NAMES))
        cursor.execute(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({marks})", _NAMES)
        found = {str(name).lower(): str(value) for name, value in cursor.fetchall()}
    own = found.get("server_uuid") or found.get("server_uid") or ""
    name = f"{found.get('hostname', '')}:{found.get('port', '')}"
    blocked = any(
        found.get(variable, "").upper() not in _OFF
        for variable in ("read_only", "super_read_only", "innodb_read_only")
    )
    return Server(f"{own} {found.get('server_id', '')} {name}".strip(), name, blocked)
