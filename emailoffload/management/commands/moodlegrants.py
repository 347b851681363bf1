"""`manage.py moodlegrants`: the GRANT statements for the account that reads Moodle's database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import connections

from emailoffload.management.reporting import ReportingCommand
from emailoffload.moodle import grants, models
from emailoffload.moodle.errors import MoodleProblem, check_reachable, translated

PURPOSES: dict[str, str] = {
    "reengagement": "the activities: when they remind, whom, with which texts",
    "reengagement_inprogress": "who is due when; a claim changes emailsent and emailtime and nothing else",
    "course": "names of courses in the texts",
    "course_modules": "where an activity stands, and that it still exists",
    "modules": "which activity plugins are installed and enabled",
    "course_modules_completion": "whether a reminder is suppressed because its target is complete",
    "user": "names, addresses and mail settings of learners",
    "user_preferences": "message preferences, and addresses that bounced",
    "user_info_field": "custom profile fields that texts may contain",
    "user_info_data": "their values",
    "groups": "names of groups in the texts",
    "groups_members": "who belongs to them",
    "context": "the tree of permissions and of text filters",
    "role_assignments": "whether a learner is still a participant",
    "role_capabilities": "what a role permits",
    "capabilities": "that the plugin's permission exists",
    "enrol": "enabled enrolment methods",
    "user_enrolments": "whether an enrolment is active",
    "config": "site settings: language, time zone, senders, diversion of mail",
    "config_plugins": "message defaults, filter settings and plugin versions",
    "message_providers": "that the plugin's message kind exists",
    "message_processors": "which ways of messages are enabled",
    "task_scheduled": "the name of the cron task, whose lock is respected",
    "task_adhoc": "which variant of the plugin runs, and whether it runs now",
    "task_log": "which variant of the plugin ran lately",
    "filter_active": "text filters that are on",
    "filter_config": "their settings in a course",
    "company": "IOMAD's companies",
    "company_users": "the company of a learner, and who manages it",
    "department": "the departments of a company, whose managers get copies",
    "email": "IOMAD's mail queue; a claim changes sent and modifiedtime and nothing else",
    "email_template": "which mails of the queue a company has switched off, and who else gets them",
    "job_assignment": "whether this is Totara",
    "notifications": "evidence for the reconciler: when the plugin itself notified whom, with which subject",
}
_MODULE_PURPOSE = "names of activities, which the filter activitynames turns into links"
_ACCOUNT = re.compile(r"'?(?P<user>[A-Za-z0-9_.-]{1,80})'?@'?(?P<host>[A-Za-z0-9_.:%/-]{1,255})'?\Z")


@dataclass(slots=True)
class _Basis:
    """What the statements are made from."""

    columns: Mapping[str, set[str]]
    modules: list[str] = field(default_factory=list)
    source: str = "database"
    notes: list[str] = field(default_factory=list)


class Command(ReportingCommand):
    """Prints the statements; executes none."""

    help = (
        "Print the GRANT statements for the account that reads Moodle's database, for its admin to execute."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        super().add_arguments(parser)
        parser.add_argument(
            "--account", default="'offload'@'%'", help="the account, e.g. \"'offload'@'10.0.0.5'\""
        )
        parser.add_argument(
            "--evidence",
            action="store_true",
            help="also what lets the reconciler see Moodle's own mails; the product works without it",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the statements for this site, or for a current IOMAD where the site cannot be read."""
        match = _ACCOUNT.match(options["account"].strip())
        if not match:
            raise CommandError("--account must look like 'offload'@'10.0.0.5'.", returncode=2)
        account = f"'{match['user']}'@'{match['host']}'"
        basis = _basis()
        prefix, more = settings.MOODLE_DB_PREFIX, bool(options["evidence"])
        if more and basis.source != "database":
            for table, names in grants.evidence_columns(prefix).items():
                basis.columns = {**basis.columns, table: basis.columns.get(table, set()) | names}
        sqlite = connections["moodle"].vendor != "mysql"
        database = "moodle" if sqlite else str(connections["moodle"].settings_dict["NAME"])
        lines = grants.statements(account, database, prefix, basis.columns, basis.modules, with_evidence=more)
        tables = grants.required(prefix, basis.columns, basis.modules, with_evidence=more)
        report = {
            "account": account,
            "database": database,
            "prefix": prefix,
            "source": basis.source,
            "create_user": f"CREATE USER {account} IDENTIFIED BY 'choose a long password'",
            "statements": [
                {
                    "table": table,
                    "purpose": PURPOSES.get(table.removeprefix(prefix), _MODULE_PURPOSE),
                    "sql": sql,
                }
                for table, sql in zip(tables, lines, strict=True)
            ]
            + _perhaps(account, database, basis),
            "notes": basis.notes,
        }
        self.report(report, _as_sql(report), as_json=options["json"])


def _basis() -> _Basis:
    """The columns that exist, as far as they can be known from here."""
    connection = connections["moodle"]
    if connection.vendor != "mysql":
        note = "The sample Moodle needs no account. These are the statements for a current IOMAD on MariaDB."
        return _Basis(grants.expected_columns(iomad=True), source="expected", notes=[note])
    try:
        held = check_reachable()
        with translated():
            installed = _installed(held)
    except MoodleProblem as problem:
        return _Basis(
            grants.expected_columns(iomad=True),
            source="expected",
            notes=[
                f"{problem} So these are the statements for a current IOMAD; on plain Moodle leave out "
                f"{', '.join(sorted(models.IOMAD_TABLES))}.",
                *_AS_ADMIN,
            ],
        )
    seen = {table: set(columns) for table, columns in held.items()}
    if "password" in seen.get(models.table("user"), ()) and models.table("role") in seen:
        # An account that sees what we never ask for sees everything: what it does not see does not exist.
        return _Basis(seen, installed)
    columns = grants.expected_columns(iomad=bool(models.IOMAD_TABLES & seen.keys()))
    merged = {
        table: columns.get(table, set()) | seen.get(table, set()) for table in columns.keys() | seen.keys()
    }
    return _Basis(merged, installed, source="account", notes=list(_AS_ADMIN))


def _perhaps(account: str, database: str, basis: _Basis) -> list[dict[str, str]]:
    """What IOMAD 4 has and cannot be seen from here: by itself and last, so that nothing else fails with it."""
    table = models.EmailTemplate._meta.db_table
    if basis.source == "database" or table not in basis.columns:
        return []
    wanted = {column for name, column in models.OPTIONAL_COLUMNS if name == table} - basis.columns[table]
    lines = grants.statements(account, database, models.table(""), {table: wanted})
    purpose = "the language of these, and the sender's name; IOMAD 5 refuses this one, and can do without it"
    return [{"table": table, "purpose": purpose, "sql": sql} for sql in lines]


_AS_ADMIN = (
    "Run `manage.py moodlegrants` once with an admin's login in MOODLE_DATABASE_URL: then it sees which tables exist, "
    "and adds the names of activities (for the filter activitynames) and columns that only some sites have.",
)


def _installed(held: Mapping[str, Mapping[str, frozenset[str]]]) -> list[str]:
    if "name" not in held.get(models.table("modules"), {}):
        return []
    return list(models.Module.objects.order_by("name").values_list("name", flat=True))


def _as_sql(report: Mapping[str, Any]) -> str:
    parts = [
        f"-- What Email Offload may do in {report['database']} (prefix {report['prefix']!r}).",
        *_comments(report),
    ]
    for statement in report["statements"]:
        parts += [f"-- {statement['table']}: {statement['purpose']}", f"{statement['sql']};"]
    return "\n".join(parts)


def _comments(report: Mapping[str, Any]) -> list[str]:
    return [
        *(f"-- Note: {note}" for note in report["notes"]),
        "-- The account must exist; to make it:",
        f"-- {report['create_user']};",
    ]
