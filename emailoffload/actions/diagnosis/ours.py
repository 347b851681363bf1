"""The doctor's looks at our own side: settings, database, keys, switches."""

from __future__ import annotations

from django.conf import settings
from django.core import checks
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from emailoffload.actions.diagnosis.finding import Found, Look, ok, problem, warning
from emailoffload.outbox import content, switches, trouble
from emailoffload.outbox.models import State

_PROBE = "doctor"


def reachable() -> Found:
    """Our database answers."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else type(error).__name__
        return problem(
            _("Our database cannot be used (error %(number)s).") % {"number": number},
            _("Check DATABASE_URL: host, port, database, account and password; and that the server runs."),
        )
    return ok(_("Our database answers (%(kind)s).") % {"kind": connection.display_name})


def migrated() -> Found:
    """Our tables are those of this version."""
    executor = MigrationExecutor(connection)
    missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    if missing:
        return problem(
            ngettext("%(n)d migration is missing.", "%(n)d migrations are missing.", missing)
            % {"n": missing},
            _("Run `manage.py migrate`."),
        )
    return ok(_("All migrations are applied."))


def writable() -> Found:
    """Our database takes a row (it is taken back at once)."""
    try:
        with transaction.atomic():
            State.objects.update_or_create(name=_PROBE, defaults={"value": {}})
            transaction.set_rollback(True)
    except DatabaseError as error:
        found = trouble.of(error)
        if found.kind != trouble.OTHER:
            return problem(str(found.cause), str(found.cure))
        return problem(
            _("Our database takes no row (%(error)s).") % {"error": type(error).__name__},
            _("Give the account of DATABASE_URL all rights on its database; look at disk space."),
        )
    return ok(_("Our database takes rows."))


def keys() -> Found:
    """Every stored mail can be opened with the keys of this host."""
    missing = content.missing_keys()
    if missing:
        return problem(
            _("Stored mails need keys that this host does not have: %(keys)s.")
            % {"keys": ", ".join(missing)},
            _("Add them to CONTENT_KEYS, behind the newest. All hosts need the same keys."),
        )
    return ok(_("Stored mails are encrypted with the key %(key)s.") % {"key": content.key_ids()[0]})


def settings_fit() -> Found:
    """The settings do not contradict each other (`emailoffload.checks`)."""
    messages = checks.run_checks(tags=["emailoffload"])
    if not messages:
        return ok(_("The settings fit each other."))
    text = " ".join(str(message.msg) for message in messages)
    cure = " ".join(str(message.hint) for message in messages)
    serious = any(message.is_serious() for message in messages)
    return problem(text, cure) if serious else warning(text, cure)


def switched_on() -> Found:
    """Nobody has paused claiming or sending, and the site sends mail at all."""
    if settings.MOODLE_NOEMAILEVER:
        return warning(
            _("MOODLE_NOEMAILEVER is on: nothing is claimed."),
            _("Switch it off here once `$CFG->noemailever` is gone from Moodle's config.php."),
        )
    pause = switches.pause()
    if pause.claims or pause.sends:
        what = _("Claiming and sending are paused.") if pause.claims and pause.sends else (
            _("Claiming is paused.") if pause.claims else _("Sending is paused.")
        )  # fmt: skip
        if pause.since:
            what += " " + _("Last changed at %(time)s.") % {"time": f"{pause.since:%Y-%m-%d %H:%M:%S} UTC"}
        return warning(what, _("Run `manage.py drain --resume` when it shall go on."))
    return ok(_("Nothing is paused."))


LOOKS = [
    Look("settings.fit", gettext_lazy("Settings"), settings_fit),
    Look("database.reachable", gettext_lazy("Our database"), reachable),
    Look("database.migrated", gettext_lazy("Our tables"), migrated, ("database.reachable",)),
    Look("database.writable", gettext_lazy("Writing to our database"), writable, ("database.migrated",)),
    Look("keys.content", gettext_lazy("Keys of stored mails"), keys, ("database.migrated",)),
    Look("claims.switches", gettext_lazy("Switches"), switched_on, ("database.migrated",)),
]
