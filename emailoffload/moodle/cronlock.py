"""The lock that Moodle's cron takes for a scheduled task, taken by us for the time of a claim (design §3.1).

While it is ours no run of that task is in progress and none starts: Moodle skips the task and runs it next
time (facts §3.5). Holding it writes nothing. The server frees it with the connection, so when this process
dies Moodle goes on by itself. Moodle's own "run now" waits ten seconds for it: hold it for seconds only.

A process that lives and does not get on (frozen, or waiting for a database of ours that does not answer) must not
keep Moodle from its work either: the server ends a connection that was silent for PATIENCE_SECONDS.
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from django.conf import settings
from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext as _

from emailoffload.moodle import models
from emailoffload.moodle.errors import TaskMissing

LockKind = Literal["mysql"]

PATIENCE_SECONDS = 30
"""How long the server keeps the lock for a holder that is silent; `still_held` is a sign of life."""

_AUTO = {"", "auto"}
_MYSQL = {"mysql", "mysql_lock_factory", r"core\lock\mysql_lock_factory"}
_POSTGRES = {"postgres", "postgres_lock_factory", r"core\lock\postgres_lock_factory"}


def lock_name_mysql(dbname: str, prefix: str, classname: str) -> str:
    """Moodle's name for GET_LOCK of a scheduled task (`mysql_lock_factory`, facts §3.5).

    `classname` as stored in `task_scheduled`, with its leading backslash; without it the name locks nothing.
    """
    # The algorithm is Moodle's; nothing rests on its strength.
    return hashlib.sha1(f"{dbname}:{prefix}_cron_{classname}".encode(), usedforsecurity=False).hexdigest()


def lock_keys_postgres(dbname: str, prefix: str, classname: str) -> tuple[int, int]:
    """Moodle's two keys for pg_try_advisory_lock of a task (`postgres_lock_factory`, facts §3.5)."""
    first = zlib.crc32(f"{dbname}:{prefix}".encode())
    second = hashlib.sha1(f"cron_{classname}".encode(), usedforsecurity=False).hexdigest()[:7]
    return first - (1 << 32) if first >= 1 << 31 else first, int(second, 16)


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether the lock can be shared with Moodle; `reason` says why not, '' when it can."""

    kind: LockKind | None
    reason: str = ""


def available(factory: str, vendor: str) -> Availability:
    """Whether a site's lock factory is one whose lock we can hold without writing to Moodle.

    `factory` is MOODLE_LOCK_FACTORY (a short name or Moodle's class name), `vendor` Django's name of the kind
    of database. Says nothing about the server itself: see `lock_availability`.
    """
    name = factory.strip().lstrip("\\").lower()
    if vendor != "mysql":
        return Availability(
            None, _("Only MariaDB and MySQL have a lock that can be shared with Moodle's cron here.")
        )
    if name in _AUTO | _MYSQL:
        return Availability("mysql")
    if name in _POSTGRES:
        return Availability(
            None, _("MOODLE_LOCK_FACTORY names PostgreSQL's locks, but the database is no PostgreSQL.")
        )
    return Availability(
        None,
        _(
            "Moodle's lock factory %(name)s keeps its locks where they cannot be held without "
            "writing to Moodle or its disk."
        )
        % {"name": factory.strip()},
    )


def lock_availability() -> Availability:
    """Whether Moodle's cron lock can be held on this site, by factory, kind of database and server.

    On a cluster that takes writes on several nodes, and on a replica, a lock of this server binds nobody
    else. Two queries. Raises the database's errors.
    """
    connection = connections["moodle"]
    found = available(settings.MOODLE_LOCK_FACTORY, connection.vendor)
    if found.kind is None:
        return found
    reason = _server_refuses(connection)
    return Availability(None, reason) if reason else found


_VARIABLES = ("wsrep_on", "wsrep_cluster_address", "read_only", "group_replication_group_name",
              "group_replication_single_primary_mode")  # fmt: skip


def _server_refuses(connection: BaseDatabaseWrapper) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN (" + ", ".join(["%s"] * len(_VARIABLES)) + ")",
            _VARIABLES,
        )
        variables = {str(name).lower(): str(value).upper() for name, value in cursor.fetchall()}
        cursor.execute("SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'")
        row = cursor.fetchone()
    return server_reason(variables, int(row[1]) if row and str(row[1]).isdigit() else 0)


def server_reason(variables: dict[str, str], cluster_size: int) -> str:
    """Why a lock on a server with these variables (values in capitals) binds nobody else; '' if it does."""
    if variables.get("wsrep_on") in {"ON", "1"} or cluster_size > 0:
        return _("The server is part of a Galera cluster, whose locks hold on one node only.")
    if variables.get("group_replication_group_name") and variables.get(
        "group_replication_single_primary_mode"
    ) in {"OFF", "0"}:
        return _(
            "The server is part of a replication group with several primaries; its locks hold on one only."
        )
    if variables.get("read_only", "OFF") not in {"OFF", "0"}:
        return _("The server is read-only, so it is not the one that Moodle's cron locks on.")
    return ""


def is_free(classname: str) -> bool:
    """Whether nobody holds a task's lock now, so that it is worth trying; False where it cannot be known.

    Raises the database's errors.
    """
    connection = connections["moodle"]
    if connection.vendor != "mysql":
        return False
    name = lock_name_mysql(settings.MOODLE_DB_NAME, settings.MOODLE_DB_PREFIX, classname)
    with connection.cursor() as cursor:
        cursor.execute("SELECT IS_FREE_LOCK(%s)", [name])
        return bool(cursor.fetchone()[0] == 1)


def reengagement_lock_target() -> str:
    """The plugin's task as Moodle stores and locks it, with its leading backslash.

    Raises TaskMissing when Moodle does not have it.
    """
    return task_of("mod_reengagement")


def task_of(component: str) -> str:
    """The scheduled task `cron_task` of a component, as Moodle stores and locks it.

    Raises TaskMissing when Moodle does not have it, and the database's errors.
    """
    names = models.ScheduledTask.objects.filter(component=component).values_list("classname", flat=True)
    for name in names:
        if name.endswith("\\cron_task"):
            return name
    raise TaskMissing(
        _("Moodle's list of scheduled tasks has no cron_task of %(component)s.") % {"component": component},
        _("Finish Moodle's upgrade or reset its scheduled tasks; until then due rows stay with Moodle."),
    )


class CronLock:
    """Try to take a task's lock, once and without waiting; give it back at the end of the block.

    Uses a connection of its own, which lives as long as the block. `acquired` is False where the cron runs
    right now (then Moodle deals with those rows) or the lock cannot be held here; `reason` says which. Raises
    the database's errors when the server cannot be reached.
    """

    def __init__(self, classname: str, *, patience: int = PATIENCE_SECONDS) -> None:
        self.classname = classname
        self.patience = patience
        """Seconds of silence after which the server frees the lock."""
        self.name = lock_name_mysql(settings.MOODLE_DB_NAME, settings.MOODLE_DB_PREFIX, classname)
        self.acquired = False
        self.reason = ""
        self._connection: BaseDatabaseWrapper | None = None
        self._connection_id = 0
        self._one_at_a_time = threading.Lock()

    def __enter__(self) -> Self:
        found = lock_availability()
        if found.kind is None:
            self.reason = found.reason
            return self
        connection = connections["moodle"].copy()
        # Whoever claims under the lock may do so in another thread than the one that took it.
        connection.inc_thread_sharing()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION wait_timeout = %s", [self.patience])
                cursor.execute("SELECT GET_LOCK(%s, 0), CONNECTION_ID()", [self.name])
                got, self._connection_id = cursor.fetchone()
        except BaseException:
            connection.close()
            raise
        self.acquired = got == 1
        if self.acquired:
            self._connection = connection
        else:
            connection.close()
            self.reason = _("Moodle's cron is running the task.")
        return self

    def still_held(self) -> bool:
        """Whether the lock is ours at this moment; False also when its connection is lost."""
        with self._one_at_a_time:
            if self._connection is None:
                return False
            try:
                with self._connection.cursor() as cursor:
                    cursor.execute("SELECT IS_USED_LOCK(%s)", [self.name])
                    return bool(cursor.fetchone()[0] == self._connection_id)
            except DatabaseError:
                return False

    def binds(self) -> bool:
        """Whether the connection that claims are made on is to the server that the lock is on.

        Behind a proxy that shares out connections, or after a failover, they can be two servers: the lock would
        then bind nobody. Raises the database's errors.
        """
        with connections["moodle"].cursor() as cursor:
            cursor.execute("SELECT IS_USED_LOCK(%s)", [self.name])
            return bool(self._connection_id and cursor.fetchone()[0] == self._connection_id)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._one_at_a_time:
            connection, self._connection = self._connection, None
            self.acquired = False
            if connection is None:
                return
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT RELEASE_LOCK(%s)", [self.name])
            except DatabaseError:
                # The connection is gone, and the lock with it.
                return
            finally:
                connection.close()
