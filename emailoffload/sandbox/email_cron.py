"""A simulated cron of IOMAD's mail queue: `local_email`'s task as facts §7.2 and §7.3 describe it.

As careless as the original: a run reads all rows that are due into memory, mails them one by one, and then
overwrites every column of each row with what it read, whatever has happened to the row meanwhile. A claim
that lands in between is mailed twice, and nothing in the table shows it. It shares no code with the product.

Left out is what does not decide who gets a mail: the text, the sender, diversion, and the pass for the shop
administrator (user −999), which IOMAD 4.4's version of the plugin does not have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from emailoffload.sandbox.moodle_side import Lock, Row, ScheduledTask
from emailoffload.sandbox.php_serialize import unserialize

QUEUE_CLASS = r"\local_email\task\cron_task"
KEPT = 6 * 30 * 86400
"""Seconds that a row is kept."""
USER_TEMPLATES = frozenset(
    {
        "completion_course_user", "course_not_started_warning", "completion_warn_user", "expiry_warn_user",
        "license_allocated", "license_removed", "password_update", "user_added_to_course", "user_create",
        "user_deleted", "user_programcompleted", "user_promoted", "user_removed_from_event", "user_reset",
        "user_signed_up_for_event", "user_suspended", "user_unsuspended",
    }
)  # fmt: skip
"""Mails of which managers and supervisors may get a copy (facts §7.3)."""


@dataclass(slots=True)
class QueueRun:
    """What one run did. `locked_out`: the lock was taken, so that nothing happened."""

    purged: int = 0
    rows: int = 0
    mails: int = 0
    disabled: int = 0
    locked_out: bool = False

    def __str__(self) -> str:
        if self.locked_out:
            return "skipped: the task's lock is taken"
        return (
            f"{self.rows} queued rows mailed, {self.mails} mails, {self.disabled} deleted as disabled, "
            f"{self.purged} old rows removed"
        )


class SimulatedEmailCron(ScheduledTask):
    """IOMAD's mail queue cron on any DB-API connection (`paramstyle` "qmark" or "format", autocommit on).

    `connect` opens a connection; `lock` takes Moodle's lock of a resource (None: none is taken); `mail` gets
    each mail as it is sent: source, role ("user", "to", "cc", "manager", "supervisor"), row_id, template,
    user_id, address, due, timesent, and activity_id 0 and ordinal 1 for a record shared with the other cron.
    What it returns is the result of sending: False is a failure, on which the rest of the row's mails are
    given up, and the row counts as sent all the same. `mail_seconds` is how long one transmission takes.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        *,
        prefix: str,
        paramstyle: str,
        lock: Lock | None,
        mail: Callable[[Row], object],
        mail_seconds: float,
        now: Callable[[], float] = time.time,
        period: int = 300,
    ) -> None:
        super().__init__(
            QUEUE_CLASS, connect, prefix=prefix, paramstyle=paramstyle, lock=lock, now=now, period=period
        )
        self.mail = mail
        self.mail_seconds = mail_seconds
        self._run = QueueRun()

    def run_if_due(self) -> QueueRun | None:
        """What Moodle's cron does each minute: a run when the task's next run time has passed, else None."""
        return self.run_queue() if self.due() else None

    def run_queue(self) -> QueueRun:
        """One run of the scheduled task, under its lock from beginning to end; skipped when that is taken."""
        self._run = QueueRun()
        with self.locked(QUEUE_CLASS) as obtained:
            if not obtained:
                self._run.locked_out = True
                return self._run
            started = int(self.now())
            self.starting(started)
            self._email_cron(started)
            self.finished(started)
        return self._run

    def _email_cron(self, now: int) -> None:
        self._run.purged = self.execute(
            "DELETE FROM {email} WHERE modifiedtime < %s AND due < %s", now - KEPT, now
        )
        self._mail_all(
            self.rows(
                "SELECT e.* FROM {email} e JOIN {user} u ON u.id = e.userid WHERE e.sent IS NULL AND e.due < %s"
                " AND u.deleted = 0 AND u.suspended = 0 ORDER BY e.id",
                now,
            )
        )
        # The people of a suspended company are suspended themselves; this mail reaches them all the same.
        self._mail_all(
            self.rows(
                "SELECT e.* FROM {email} e JOIN {user} u ON u.id = e.userid WHERE e.sent IS NULL AND e.due < %s"
                " AND u.deleted = 0 AND e.templatename = 'company_suspended' ORDER BY e.id",
                now,
            )
        )

    def _mail_all(self, rows: list[Row]) -> None:
        for row in rows:
            if not self._enabled(row):
                self.execute("DELETE FROM {email} WHERE id = %s", row["id"])
                self._run.disabled += 1
                continue
            self._send_to_user(row)
            self._run.rows += 1
            moment = int(self.now())
            written = {name: value for name, value in row.items() if name != "id"}
            written |= {"modifiedtime": moment, "sent": moment}
            columns = ", ".join(f"{name} = %s" for name in written)
            self.execute(f"UPDATE {{email}} SET {columns} WHERE id = %s", *written.values(), row["id"])

    def _enabled(self, row: Row) -> bool:
        """`company::email_template_is_enabled` (facts §7.5), for the kind of manager in the name (§7.1)."""
        name = row["templatename"] or ""
        rows = self.rows(
            "SELECT disabled, disabledmanager, disabledsupervisor FROM {email_template}"
            " WHERE companyid = %s AND name = %s",
            row["companyid"],
            name,
        )
        if any(not any(switches.values()) for switches in rows):
            return True
        kind = "disabled"
        if name.find("supervisor") > 0:
            kind = "disabledsupervisor"
        elif name.find("manager") > 0:
            kind = "disabledmanager"
        return not any(switches[kind] for switches in rows)

    # --- who gets it (facts §7.3) ---

    def _send_to_user(self, row: Row) -> None:
        for role, address in self._recipients(row):
            if self.mail_seconds > 0:
                time.sleep(self.mail_seconds)
            self._run.mails += 1
            mail = {
                "source": "iomad_queue", "role": role, "row_id": row["id"], "template": row["templatename"],
                "user_id": row["userid"], "address": address, "due": row["due"], "activity_id": 0,
                "ordinal": 1, "timesent": int(self.now()),
            }  # fmt: skip
            if self.mail(mail) is False:
                return

    def _recipients(self, row: Row) -> Iterator[tuple[str, str]]:
        """Role and address of each mail of a row; an address may come twice, as it does in IOMAD."""
        template = self._template(row)
        yield "user", self._users([row["userid"]])[0]["email"]
        for role, column in (("to", "emailto"), ("cc", "emailcc")):
            for user in self._users([int(id_) for id_ in _split(template.get(column))]):
                if not user["deleted"] and not user["suspended"]:
                    yield role, user["email"]
        for role, column in (("to", "emailtoother"), ("cc", "emailccother")):
            for address in _split(template.get(column)):
                yield role, address
        if row["templatename"] in USER_TEMPLATES:
            if not _set(template.get("disabledmanager")):
                for address in self._managers(row):
                    yield "manager", address
            if not _set(template.get("disabledsupervisor")):
                for address in self._supervisors(row):
                    yield "supervisor", address

    def _template(self, row: Row) -> Row:
        """The template as it was stored in `headers`; without headers, as it is now; {} if never stored."""
        if row["headers"]:
            return dict(unserialize(row["headers"])["template"].properties)
        found = self.rows(
            "SELECT * FROM {email_template} WHERE companyid = %s AND name = %s ORDER BY id",
            row["companyid"],
            row["templatename"],
        )
        return found[0] if found else {}

    def _users(self, ids: list[int]) -> list[Row]:
        marks = ", ".join(["%s"] * len(ids))
        return self.rows(f"SELECT * FROM {{user}} WHERE id IN ({marks}) ORDER BY id", *ids) if ids else []

    def _managers(self, row: Row) -> list[str]:
        """Company managers of the user's departments and of all departments above them."""
        parents = {item["id"]: item["parent"] for item in self.rows("SELECT id, parent FROM {department}")}
        found = self.rows(
            "SELECT departmentid FROM {company_users} WHERE companyid = %s AND userid = %s",
            row["companyid"],
            row["userid"],
        )
        departments: set[int] = set()
        for item in found:
            department = item["departmentid"]
            while department and department not in departments:
                departments.add(department)
                department = parents.get(department)
        if not departments:
            return []
        marks = ", ".join(["%s"] * len(departments))
        managers = self.rows(
            "SELECT DISTINCT u.id, u.email FROM {company_users} cu JOIN {user} u ON u.id = cu.userid"
            f" WHERE cu.managertype = 1 AND cu.departmentid IN ({marks}) AND u.deleted = 0 AND u.suspended = 0"
            " ORDER BY u.id",
            *sorted(departments),
        )
        return [manager["email"] for manager in managers]

    def _supervisors(self, row: Row) -> list[str]:
        """The addresses in the user's profile field that the company, else the site, names for them."""
        found = self.rows("SELECT emailprofileid FROM {company} WHERE id = %s", row["companyid"])
        field = found[0]["emailprofileid"] if found else None
        if not field:
            config = self.rows("SELECT value FROM {config} WHERE name = 'companyemailprofileid'")
            field = config[0]["value"] if config else None
        if not field:
            return []
        values = self.rows(
            "SELECT data FROM {user_info_data} WHERE userid = %s AND fieldid = %s", row["userid"], field
        )
        # Split without trimming: an address after a blank is not a valid one.
        parts = [part for value in values for part in str(value["data"]).split(",")]
        return [part for part in parts if "@" in part and " " not in part]


def _split(value: object) -> list[str]:
    return [part.strip() for part in str(value or "").split(",") if part.strip()]


def _set(value: object) -> bool:
    """PHP's opinion of a switch that may be text."""
    return value not in (None, "", "0", 0)
