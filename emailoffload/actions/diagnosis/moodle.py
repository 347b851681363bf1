"""The doctor's looks at Moodle's side: database, account, plugin, cron lock, clocks and cron."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import DatabaseError, NotSupportedError, connections
from django.db.models import Max
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from emailoffload.actions.diagnosis.finding import Found, Look, ok, problem, unknown, warning
from emailoffload.moodle import cronlock, errors, grants, models, variants
from emailoffload.worker import trust

RECENT = timedelta(days=1)
"""A change of the server is worth a look for so long."""
LATE_RUNS = 3
"""A task that has missed this many of its periods is not running."""


def reachable() -> Found:
    """Moodle's database answers, and Moodle's tables are in it."""
    try:
        held = errors.check_reachable()
    except errors.MoodleProblem as found:
        if isinstance(found.__cause__, NotSupportedError):
            return problem(
                _("The database server is too old for this version of Django."),
                _("MariaDB 10.5, MySQL 8.0.11 or newer is needed."),
            )
        return problem(str(found), found.cure)
    return ok(_("Moodle's database answers; %(n)d of its tables can be read.") % {"n": len(held)})


def server() -> Found:
    """Which server it is, and that it is the one that Moodle's cron writes to."""
    connection = connections["moodle"]
    if connection.vendor != "mysql":
        return ok(_("It is the sample Moodle (SQLite)."))
    with connection.cursor() as cursor:
        cursor.execute("SELECT VERSION(), @@global.read_only")
        version, read_only = cursor.fetchone()
        replica = _replica(cursor)
    values = {"kind": connection.display_name, "version": str(version).split("-", 1)[0]}
    if str(read_only) not in {"0", "OFF"} or replica:
        return problem(
            _("%(kind)s %(version)s is a replica or read-only: Moodle's cron works on another server.")
            % values,
            _("Name the primary server in MOODLE_DATABASE_URL."),
        )
    if replica is None:
        return ok(
            _("%(kind)s %(version)s; it takes writes. This account may not see whether it is also a replica.")
            % values
        )
    return ok(_("%(kind)s %(version)s, the primary server.") % values)


def _replica(cursor: object) -> bool | None:
    """Whether the server follows another one; None where the account may not know."""
    for statement in ("SHOW REPLICA STATUS", "SHOW SLAVE STATUS"):
        try:
            cursor.execute(statement)  # type: ignore[attr-defined]
            return bool(cursor.fetchall())  # type: ignore[attr-defined]
        except DatabaseError:
            continue
    return None


def current() -> Found:
    """The server knows what we wrote last, and is the one that it was yesterday."""
    found = trust.problem()
    if found is not None:
        return problem(str(found), found.cure)
    change = trust.last_change()
    if change and timezone.now() - change.at < RECENT:
        return warning(
            _("Moodle's database is on another server since %(time)s: %(after)s, before it was %(before)s.")
            % {"time": f"{change.at:%Y-%m-%d %H:%M:%S} UTC", "after": change.after, "before": change.before},
            _(
                "After a failover that is fine; it has our last claims. If it changes again and again, a proxy shares "
                "out the connections: name the primary server itself in MOODLE_DATABASE_URL."
            ),
        )
    return ok(_("The server has what we wrote last."))


def account() -> Found:
    """The account may do what it must, and no more."""
    modules = models.Module.objects.values_list("name", flat=True)
    found = grants.check_grants(connections["moodle"], modules)
    if found.missing:
        return problem(
            _("The account of MOODLE_DATABASE_URL lacks: %(what)s.") % {"what": _some(found.missing)},
            _("Run `manage.py moodlegrants` and have Moodle's database admin execute what it prints."),
        )
    if found.excess:
        return warning(
            _("The account of MOODLE_DATABASE_URL may do more than it needs: %(what)s.")
            % {"what": _some(found.excess)},
            _("Use an account of its own that has only what `manage.py moodlegrants` prints."),
        )
    if connections["moodle"].vendor != "mysql":
        return ok(_("The sample Moodle (SQLite) knows no privileges."))
    return ok(_("The account may read the listed columns and update those of a claim, and nothing else."))


def _some(items: list[str]) -> str:
    more = _("; and %(n)d more") % {"n": len(items) - 5} if len(items) > 5 else ""
    return "; ".join(items[:5]) + more


def variant() -> Found:
    """The installed plugin is one whose behaviour is known."""
    found = variants.detect()
    if found.supported:
        extra = " " + _(
            "The site mails copies to companies by a patch of its own: they go out as mails of their own, and "
            "activities that are suppressed by course completion stay with Moodle."
        )
        return ok(found.why + (extra if found.company_cc else ""))
    if found.kind == "disabled":
        return warning(found.why, _("Nothing is claimed until it is switched on again in Moodle."))
    return problem(
        found.why, _("Nothing is claimed; Moodle goes on sending. docs/claiming.md has the variants.")
    )


def shared_lock() -> Found:
    """Moodle's cron lock is one that can be shared."""
    found = cronlock.lock_availability()
    if found.kind:
        return ok(_("Moodle's cron lock is a lock of the database server, which can be shared."))
    if settings.SAMPLE_SITE:
        return ok(_("The sample Moodle has no cron lock: reminders that are already due stay with it."))
    return warning(
        _("Reminders that are already due stay with Moodle. %(reason)s") % {"reason": found.reason},
        _("Leave `$CFG->lock_factory` in config.php at its default, and MOODLE_LOCK_FACTORY at auto."),
    )


def handshake() -> Found:
    """The lock can be taken and given back; a task that seems to run has it."""
    target = _task()
    if not cronlock.lock_availability().kind:
        return ok(_("There is no lock to take."))
    with cronlock.CronLock(target.classname) as lock:
        taken = lock.acquired and lock.still_held()
    if not taken:
        return ok(_("Moodle's cron has the lock at this moment: it is the same lock."))
    # Read again after the lock: a run that began or ended meanwhile proves nothing.
    again = _task()
    if target.timestarted and again.timestarted == target.timestarted:
        return warning(
            _("Moodle's task has been marked as running since %(time)s, yet nobody has its lock.")
            % {"time": _when(target.timestarted)},
            _(
                "Either that run died, or the lock has another name: check that MOODLE_DB_NAME and "
                "MOODLE_DB_PREFIX are dbname and prefix of Moodle's config.php."
            ),
        )
    return ok(_("The lock was taken and given back."))


def _task() -> models.ScheduledTask:
    """The plugin's scheduled task. Raises TaskMissing."""
    return models.ScheduledTask.objects.get(classname=cronlock.reengagement_lock_target())


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def database_clock() -> Found:
    """Our clock and the database server's agree."""
    connection = connections["moodle"]
    if connection.vendor != "mysql":
        return ok(_("The sample Moodle uses the clock of this host."))
    before = time.time()
    with connection.cursor() as cursor:
        cursor.execute("SELECT UNIX_TIMESTAMP(SYSDATE(6))")
        theirs = float(cursor.fetchone()[0])
    return _skew((before + time.time()) / 2 - theirs, _("the database server's"))


def moodle_clock() -> Found:
    """Our clock does not lag that of Moodle's cron host, as far as its traces tell (facts §3.3)."""
    now = time.time()
    latest = models.ScheduledTask.objects.aggregate(run=Max("lastruntime"), start=Max("timestarted"))
    newest = max(latest["run"] or 0, latest["start"] or 0)
    if not newest:
        return unknown(_("Moodle's cron has left no time to compare with."))
    if newest <= now:
        return ok(_("No task of Moodle's ran in what is the future here."))
    return _skew(now - newest, _("the Moodle host's"))


def _skew(ours_minus_theirs: float, whose: str) -> Found:
    """The verdict on a difference between two clocks, in seconds."""
    margin = settings.CLAIM_MARGIN_SECONDS
    values = {"seconds": number_format(abs(ours_minus_theirs), 1), "whose": whose, "margin": margin}
    if abs(ours_minus_theirs) <= max(2, margin / 4):
        return ok(_("Our clock and %(whose)s agree within %(seconds)s s.") % values)
    text = _("Our clock and %(whose)s differ by %(seconds)s s; CLAIM_MARGIN_SECONDS is %(margin)d.") % values
    cure = _("Let both hosts keep their time by NTP.")
    return problem(text, cure) if abs(ours_minus_theirs) >= margin else warning(text, cure)


def cron() -> Found:
    """Moodle's cron runs the plugin's task, and it does not fail."""
    task, now = _task(), time.time()
    if task.disabled:
        return warning(
            _("The plugin's scheduled task is disabled: Moodle sends no reminders, and nothing is claimed."),
            _("Switch it on under Site administration, Server, Tasks, Scheduled tasks."),
        )
    if task.faildelay:
        return warning(
            _("The last run of the plugin's task failed."),
            _("Look at Moodle's task log; until it works, new reminders may not be created."),
        )
    period = settings.MOODLE_CRON_PERIOD_SECONDS
    silence = now - (task.lastruntime or 0)
    if not task.lastruntime:
        return warning(_("The plugin's task has never run."), _("Let Moodle's cron run, every minute."))
    if silence > LATE_RUNS * period:
        return problem(
            _("The plugin's task ran last at %(time)s; it should run every %(period)d s.")
            % {"time": _when(task.lastruntime), "period": period},
            _("Look after Moodle's cron: it creates the reminders and takes over when this product stops."),
        )
    text = ngettext(
        "The plugin's task ran %(n)d second ago.", "The plugin's task ran %(n)d seconds ago.", silence
    )
    return ok(text % {"n": silence})


LOOKS = [
    Look("moodle.reachable", gettext_lazy("Moodle's database"), reachable),
    Look("moodle.server", gettext_lazy("Moodle's database server"), server, ("moodle.reachable",)),
    Look(
        "moodle.current",
        gettext_lazy("Our claims in Moodle's database"),
        current,
        ("moodle.reachable", "moodle.server", "database.migrated"),
    ),
    Look("moodle.grants", gettext_lazy("The account's privileges"), account, ("moodle.reachable",)),
    Look("moodle.variant", gettext_lazy("The plugin"), variant, ("moodle.reachable",)),
    Look("lock.shared", gettext_lazy("Kind of cron lock"), shared_lock, ("moodle.reachable",)),
    Look("lock.handshake", gettext_lazy("Taking the cron lock"), handshake, ("lock.shared",)),
    Look(
        "clock.database", gettext_lazy("Clock of the database server"), database_clock, ("moodle.reachable",)
    ),
    Look("clock.moodle", gettext_lazy("Clock of the Moodle host"), moodle_clock, ("moodle.reachable",)),
    Look("cron.alive", gettext_lazy("Moodle's cron"), cron, ("moodle.reachable",)),
]
