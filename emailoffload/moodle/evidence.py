"""What Moodle wrote down about its own mails, where the account may read it; nothing but evidence (facts §5.9).

The plugin's `message_send` stores a row of `notifications` for each reminder, whatever way it goes; IOMAD's queue
stores none. Each run of a task leaves a row of `task_log`, of which Moodle keeps the last ones only. Both are
optional: `manage.py moodlegrants --evidence` adds the columns. Every query here names users or a class of tasks,
which Moodle has indexes for (facts §1.2), and a time.
"""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from django.db import connections

from emailoffload.moodle import models
from emailoffload.moodle.schema import chunks, readable_columns
from emailoffload.moodle.targets import IOMAD_QUEUE, REENGAGEMENT

COMPONENT = "mod_reengagement"
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "notifications": ("useridto", "subject", "component", "timecreated"),
    "task_log": ("timeend", "result"),
}
"""What `moodlegrants --evidence` adds, by table without prefix."""
MOST_RUNS = 3000
_TASKS: Mapping[str, tuple[str, ...]] = {
    REENGAGEMENT: (
        r"mod_reengagement\task\cron_task",
        r"mod_reengagement\task\reengagement_adhoc_task",
    ),
    IOMAD_QUEUE: (r"local_email\task\cron_task",),
}
"""What mails for a source, as `task_log` names it: without the leading backslash (facts §3.7)."""


@dataclass(frozen=True, slots=True)
class Readable:
    """Which evidence the account may read."""

    notifications: bool
    task_log: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification that the plugin created for a user: when, and its subject made comparable."""

    at: int
    subject: str


@dataclass(frozen=True, slots=True)
class TaskRun:
    """A run of a task: start and end in Moodle's seconds, and whether it failed."""

    start: float
    end: float
    failed: bool


def readable() -> Readable:
    """Which evidence can be read; one query. Raises database errors."""
    tables = {name: models.table(name) for name in COLUMNS}
    held = readable_columns(connections["moodle"], tuple(tables.values()))
    may = {
        name: all("SELECT" in held.get(tables[name], {}).get(column, frozenset()) for column in columns)
        for name, columns in COLUMNS.items()
    }
    return Readable(**may)


def now() -> int:
    """The clock of Moodle's database server, in whole seconds. Raises database errors."""
    connection = connections["moodle"]
    sql = "UNIX_TIMESTAMP()" if connection.vendor == "mysql" else "CAST(strftime('%s', 'now') AS INTEGER)"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {sql}")
        return int(cursor.fetchone()[0])


def notices(user_ids: Collection[int], since: int, until: int) -> dict[int, list[Notice]]:
    """Notifications of the plugin by recipient, created from `since` to `until`, oldest first.

    By the index on useridto, a thousand users per query; a user has a handful in a week. Raises database
    errors, also where the account may not read them.
    """
    found: defaultdict[int, list[Notice]] = defaultdict(list)
    connection = connections["moodle"]
    table = connection.ops.quote_name(models.table("notifications"))
    for part in chunks(user_ids):
        marks = ",".join(["%s"] * len(part))
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT useridto, timecreated, subject FROM {table} WHERE useridto IN ({marks})"  # noqa: S608
                " AND component = %s AND timecreated BETWEEN %s AND %s ORDER BY timecreated",
                [*part, COMPONENT, since, until],
            )
            for user_id, at, subject in cursor.fetchall():
                found[user_id].append(Notice(int(at), comparable(subject or "")))
    return found


def comparable(subject: str) -> str:
    """A subject as it reads: entities resolved (facts §4.4), blanks joined."""
    return " ".join(html.unescape(subject).split())


def runs(source: str, since: int) -> list[TaskRun]:
    """Runs of a source's task that began at `since` or later, oldest first, as far as Moodle kept them.

    Raises database errors.
    """
    connection = connections["moodle"]
    table = connection.ops.quote_name(models.table("task_log"))
    names = _TASKS[source]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT timestart, timeend, result FROM {table} WHERE classname IN ({','.join(['%s'] * len(names))})"  # noqa: S608
            " AND timestart >= %s ORDER BY timestart DESC LIMIT %s",
            [*names, since, MOST_RUNS],
        )
        found = [TaskRun(float(start), float(end), bool(result)) for start, end, result in cursor.fetchall()]
    return found[::-1]


def last_run(source: str) -> int:
    """When the scheduled task of a source last ended well (`lastruntime`); 0 if never. Raises database errors."""
    times = models.ScheduledTask.objects.filter(classname=f"\\{_TASKS[source][0]}")
    return times.values_list("lastruntime", flat=True).first() or 0
