"""The tables of the sample Moodle, in SQLite: those that the product reads, with Moodle's columns (facts §1).

Columns are written `name type [default]`; i = whole number, t = text, n = nullable whole number, x = nullable
text. Indexes are Moodle's own where a query depends on them; `reengagement_inprogress` has none but its
primary key, as on every real site.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any

Rows = Sequence[Sequence[object]]

VERSION = 3
"""Goes up with every change of the tables below or of what is in them, so that an older sample is not mistaken for
this one."""
_TABLES: dict[str, str] = {
    "config": "name:t value:t",
    "config_plugins": "plugin:t name:t value:t",
    "course": "category:i fullname:t shortname:t lang:t visible:i=1 enddate:i enablecompletion:i=1"
    " format:t sortorder:i",
    "course_categories": "name:t parent:i path:t visible:i=1",
    "course_modules": "course:i module:i instance:i visible:i=1 deletioninprogress:i availability:x"
    " completion:i=2 lang:x",
    "course_modules_completion": "coursemoduleid:i userid:i completionstate:i overrideby:n timemodified:i",
    "modules": "name:t visible:i=1",
    "quiz": "course:i name:t",
    "user": "auth:t=manual confirmed:i=1 deleted:i suspended:i mnethostid:i=1 username:t firstname:t"
    " lastname:t"
    " email:t emailstop:i institution:t department:t city:t lang:t=en timezone:t=99 mailformat:i=1"
    " maildisplay:i=2"
    " firstnamephonetic:x lastnamephonetic:x middlename:x alternatename:x",
    "user_preferences": "userid:i name:t value:t",
    "user_info_category": "name:t sortorder:i",
    "user_info_field": "shortname:t name:t datatype:t categoryid:i sortorder:i visible:i=2 param1:x"
    " param2:x param3:x"
    " param4:x param5:x",
    "user_info_data": "userid:i fieldid:i data:t dataformat:i",
    "groups": "courseid:i name:t",
    "groups_members": "groupid:i userid:i",
    "context": "contextlevel:i instanceid:i path:x depth:i locked:i",
    "role": "name:t shortname:t archetype:t sortorder:i",
    "role_assignments": "roleid:i contextid:i userid:i",
    "role_capabilities": "contextid:i roleid:i capability:t permission:i",
    "capabilities": "name:t captype:t contextlevel:i component:t riskbitmask:i",
    "enrol": "enrol:t status:i courseid:i roleid:i sortorder:i",
    "user_enrolments": "status:i enrolid:i userid:i timestart:i timeend:i=2147483647",
    "message_providers": "name:t component:t capability:x",
    "message_processors": "name:t enabled:i=1",
    "task_scheduled": "component:t classname:t lastruntime:n nextruntime:n minute:t hour:t=* day:t=*"
    " month:t=*"
    " dayofweek:t=* faildelay:n customised:i disabled:i timestarted:n hostname:x pid:n",
    "task_adhoc": "component:t classname:t nextruntime:i faildelay:n customdata:x userid:n timecreated:i"
    " timestarted:n"
    " hostname:x pid:n attemptsavailable:n firststartingtime:n",
    "task_log": "type:i component:t classname:t userid:i timestart:i timeend:i dbreads:i dbwrites:i"
    " result:i output:t",
    "filter_active": "filter:t contextid:i active:i sortorder:i",
    "filter_config": "filter:t contextid:i name:t value:x",
    "reengagement": "course:i name:t timecreated:i timemodified:i emailuser:i=1 emailcontent:t"
    " emailcontentformat:i"
    " emailsubject:t emailcontentmanager:t emailcontentmanagerformat:i emailsubjectmanager:t emailrecipient:i"
    " thirdpartyemails:x emailcontentthirdparty:x emailcontentthirdpartyformat:i emailsubjectthirdparty:x"
    " duration:i=604800 remindercount:i=1 suppresstarget:i emaildelay:i=604800",
    "reengagement_inprogress": "reengagement:i userid:i completiontime:i emailtime:i emailsent:i completed:i",
    "company": "name:t shortname:t city:t country:t suspended:i hostname:x profileid:i emailprofileid:n"
    " managernotify:i"
    " parentid:i category:i",
    "company_users": "companyid:i userid:i managertype:i departmentid:i suspended:i educator:i lastused:n",
    "department": "name:t shortname:t company:i parent:i",
    "email": "templatename:x modifiedtime:i sent:n subject:t body:t varsreplaced:n companyid:i courseid:n"
    " userid:i"
    " invoiceid:n classroomid:n senderid:n headers:x due:i",
    "email_template": "companyid:i name:t lang:t=en subject:t body:t signature:t disabled:i disabledmanager:i"
    " disabledsupervisor:i emailto:x emailtoother:x emailcc:x emailccother:x emailfrom:n emailfromother:x"
    " emailreplyto:n emailreplytoother:x repeatperiod:i repeatvalue:i repeatday:i emailfromothername:x",
}
_UNIQUE: dict[str, str] = {
    "config": "name",
    "config_plugins": "plugin, name",
    "user": "mnethostid, username",
    "user_preferences": "userid, name",
    "course_modules_completion": "userid, coursemoduleid",
    "user_info_data": "userid, fieldid",
    "groups_members": "userid, groupid",
    "context": "contextlevel, instanceid",
    "role_capabilities": "roleid, contextid, capability",
    "capabilities": "name",
    "user_enrolments": "enrolid, userid",
    "message_providers": "component, name",
    "task_scheduled": "classname",
    "filter_active": "contextid, filter",
}
_INDEXES: tuple[tuple[str, str], ...] = (
    ("course_modules", "instance"),
    ("course_modules_completion", "coursemoduleid"),
    ("user_enrolments", "userid"),
    ("enrol", "courseid"),
    ("role_assignments", "userid, contextid"),
    ("groups", "courseid"),
    ("company_users", "companyid"),
    ("reengagement", "course"),
)
_TYPES = {"i": "INTEGER NOT NULL", "n": "INTEGER", "t": "TEXT NOT NULL", "x": "TEXT"}


def create_tables(connection: sqlite3.Connection, prefix: str) -> None:
    """Create every table, and two of the sandbox's own: `sandbox_moodle_mail`, the record of what the simulated
    cron mailed, and `sandbox_site`, with the address that the site's texts link to."""
    for name, columns in _TABLES.items():
        parts = [_column(text) for text in columns.split()]
        connection.execute(
            f'CREATE TABLE "{prefix}{name}" (id INTEGER PRIMARY KEY AUTOINCREMENT, {", ".join(parts)})'
        )
    for name, columns in _UNIQUE.items():
        connection.execute(f'CREATE UNIQUE INDEX "{prefix}{name}_ux" ON "{prefix}{name}" ({columns})')
    for number, (name, columns) in enumerate(_INDEXES):
        connection.execute(f'CREATE INDEX "{prefix}{name}_ix{number}" ON "{prefix}{name}" ({columns})')
    connection.execute(
        "CREATE TABLE sandbox_moodle_mail (id INTEGER PRIMARY KEY AUTOINCREMENT, timesent INTEGER NOT NULL,"
        " source TEXT NOT NULL, role TEXT NOT NULL, row_id INTEGER NOT NULL, activity_id INTEGER NOT NULL,"
        " user_id INTEGER NOT NULL, address TEXT NOT NULL, due INTEGER NOT NULL, ordinal INTEGER NOT NULL)"
    )
    connection.execute("CREATE TABLE sandbox_site (wwwroot TEXT NOT NULL)")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def version(connection: sqlite3.Connection) -> int:
    """Which edition of the sample a file holds; one that is not `VERSION` has to be made again."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def named(sql: str, prefix: str) -> str:
    """Moodle's own way to write table names: `{user}` stands for the table with the site's prefix."""
    return re.sub(r"\{(\w+)\}", lambda found: prefix + found[1], sql)


class Writer:
    """Statements on a sample Moodle, with table names as Moodle writes them."""

    def __init__(self, connection: sqlite3.Connection, prefix: str) -> None:
        self.connection = connection
        self.prefix = prefix

    def insert(self, table: str, columns: str, rows: Rows) -> None:
        """Insert rows; `columns` are names with spaces between them."""
        names = columns.split()
        into = f"INTO {{{table}}} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        self.run("INSERT " + into, rows)

    def run(self, sql: str, rows: Rows) -> None:
        """Run one statement for each of `rows`."""
        self.connection.executemany(named(sql, self.prefix), rows)

    def query(self, sql: str, args: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The result of a query."""
        return self.connection.execute(named(sql, self.prefix), args).fetchall()


def _column(text: str) -> str:
    head, _, default = text.partition("=")
    name, _, kind = head.partition(":")
    clause = f"{name} {_TYPES[kind]}"
    if kind in "it":
        clause += f" DEFAULT '{default}'" if kind == "t" else f" DEFAULT {default or 0}"
    return clause
