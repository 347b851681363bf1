"""Which code sends the reminders on this site, judged from the database alone (facts §2.11).

Only code whose behaviour is known is claimed from. The rule, in this order:

1. no version of mod_reengagement in `config_plugins` → `absent`;
2. the plugin, its scheduled task or the whole cron is switched off → `disabled`: Moodle would send nothing
now; 3. a task of class `send_email` was ever queued, scheduled or logged → `enovation`, the fork whose tasks
   send without looking at the row (facts §2.10): refused;
4. an ad hoc task of class `reengagement_adhoc_task` is queued, or one ran in the last week → `adhoc`:
   supported, whatever its version, because its conditions are those of the scheduled task, one activity at a
time; 5. the version is one of `MONOLITHIC_VERSIONS` → `monolithic`: supported;
6. anything else → `unknown`: refused. A site that has just been upgraded to the ad hoc code is unknown until
   its first ad hoc task ran, a few minutes later.

Moodle before 4.0 and Totara have other rules for messages and recipients: refused too. Two things cannot be
seen in the database: the branch `MOODLE_400_STABLE-noemail`, which carries a stable version number and sends
nothing, and local changes to the plugin's code.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from django.db import connections
from django.utils.translation import gettext as _

from emailoffload.moodle import models
from emailoffload.moodle.schema import readable_columns

Kind = Literal["monolithic", "adhoc", "enovation", "disabled", "unknown", "absent"]

COMPONENT = "mod_reengagement"
ADHOC_CLASS = r"\mod_reengagement\task\reengagement_adhoc_task"
ENOVATION_CLASS = r"\mod_reengagement\task\send_email"

MONOLITHIC_VERSIONS: frozenset[int] = frozenset(
    {2020102201, 2020102202, 2021080101, 2021080102, 2022031100, 2022031700, 2022041300, 2022102900}
) | frozenset(range(2023020800, 2023020806))
"""Published versions whose selection, gates, counters and rendering were read and are the same: the branches
for Moodle 3.9, 3.11 and 4.0 since texts pass format_text (March 2022), and 2023020805 for 4.0–4.4. Earlier
ones render otherwise (facts §2.11)."""

QUEUE_COMPONENT = "local_email"
OLDEST_QUEUE, NEWEST_QUEUE = 2020042100, 2024123199
"""Versions of local_email whose behaviour is known: 3.10 to 4.4 (facts §7.6)."""

RECENT_SECONDS = 7 * 86400
"""An ad hoc task that ran within this time shows that the code is the ad hoc one (they are frequent)."""
OLDEST_BRANCH = 400


@dataclass(frozen=True, slots=True)
class Variant:
    """What was found. `why` says it in a sentence; `supported` is whether anything may be claimed."""

    kind: Kind
    version: int | None
    supported: bool
    why: str
    company_cc: bool = False
    """The site's patch that mails a company's own Cc addresses exists (facts §2.11, P-akt): learners of
    companies with an address there, and activities with suppresstarget −1, follow rules of their own."""
    iomad: bool = False
    totara: bool = False


def detect() -> Variant:
    """Find the installed variant; about ten small queries. Raises the database's errors."""
    held = readable_columns(connections["moodle"])
    plugins = dict(
        models.ConfigPlugin.objects.filter(plugin__in=[COMPONENT, "local_iomad"], name="version").values_list(
            "plugin", "value"
        )
    )
    config = _config()
    iomad = "local_iomad" in plugins or held.keys() >= models.IOMAD_TABLES
    totara = models.table("job_assignment") in held or any(name.startswith("totara_") for name in config)
    version = _number(plugins.get(COMPONENT, ""))
    company_cc = version is not None and _has_company_cc(
        "reengccemail" in held.get(models.table("company"), {})
    )
    kind, why = _judge(version, config)
    supported = kind in {"monolithic", "adhoc"}
    branch = branch_of(config)
    if supported and totara:
        supported, why = False, _("This site is Totara, whose rules for messages and recipients are others.")
    elif supported and branch < OLDEST_BRANCH:
        supported, why = (
            False,
            _("This site is older than Moodle 4.0 (its branch is %(branch)s).")
            % {"branch": branch or "not recorded"},
        )
    return Variant(kind, version, supported, why, company_cc, iomad, totara)


@dataclass(frozen=True, slots=True)
class QueueVariant:
    """What was found of IOMAD's mail queue, as in `Variant`."""

    kind: Literal["known", "disabled", "unknown"]
    version: int | None
    supported: bool
    why: str


def detect_queue() -> QueueVariant:
    """Which code works off the mail queue of an IOMAD site; four small queries. Raises the database's errors.

    Supported are the versions between the oldest and the newest whose code was read (facts §7.6), on Moodle 4.0
    and later; from IOMAD 5 on templates and mail settings are stored elsewhere.
    """
    found = models.ConfigPlugin.objects.filter(plugin=QUEUE_COMPONENT, name="version")
    version = _number(found.values_list("value", flat=True).first() or "")
    config = _config()
    branch = branch_of(config)
    off = _queue_switched_off(config)
    if off:
        return QueueVariant("disabled", version, False, off)
    if branch < OLDEST_BRANCH:
        why = _("This site is older than Moodle 4.0 (its branch is %(branch)s).") % {
            "branch": branch or "not recorded"
        }
    elif version is None or not OLDEST_QUEUE <= version <= NEWEST_QUEUE:
        why = _("%(plugin)s is not a version whose behaviour is known.") % {
            "plugin": f"local_email {version}" if version else _("local_email without a version")
        }
    else:
        return QueueVariant(
            "known",
            version,
            True,
            _("local_email %(version)s works off IOMAD's mail queue.") % {"version": version},
        )
    return QueueVariant("unknown", version, False, why)


def _queue_switched_off(config: dict[str, str]) -> str:
    if config.get("cron_enabled", "1") in {"", "0"}:
        return _(
            "Moodle's cron is switched off (cron_enabled is 0), so IOMAD sends nothing from its queue now."
        )
    tasks = models.ScheduledTask.objects.filter(component=QUEUE_COMPONENT).values_list(
        "classname", "disabled"
    )
    if any(disabled for name, disabled in tasks if name.lstrip("\\") == r"local_email\task\cron_task"):
        return _("The scheduled task of local_email is disabled, so IOMAD sends nothing from its queue.")
    return ""


def adhoc_tasks_present() -> bool:
    """Whether an ad hoc task of the plugin is queued or running, on any activity.

    Such tasks run under locks of their own, so rows that are already due may be claimed under the lock of the
    scheduled task only while there are none (facts §3.5).
    """
    return models.AdhocTask.objects.filter(classname=ADHOC_CLASS).exists()


def branch_of(config: dict[str, str]) -> int:
    """Moodle's branch as a number (404 is 4.4, 500 is 5.0), from `branch`, else from `release`, else 0."""
    branch = _number(config.get("branch", ""))
    if branch:
        return branch
    major, _dot, rest = config.get("release", "").partition(".")
    minor = "".join(
        character for character in rest.partition(".")[0].partition(" ")[0] if character.isdigit()
    )
    return int(major) * 100 + int(minor or 0) if major.isdigit() else 0


def _judge(version: int | None, config: dict[str, str]) -> tuple[Kind, str]:
    if version is None:
        return "absent", _("The activity plugin mod_reengagement is not installed on this site.")
    off = _switched_off(config)
    if off:
        return "disabled", off
    if _enovation():
        return "enovation", _(
            "mod_reengagement %(version)s is the Enovation fork: its send_email tasks send "
            "without looking at the row, "
            "so a claim could not stop them."
        ) % {"version": version}
    if adhoc_tasks_present() or _ran_recently(ADHOC_CLASS):
        return "adhoc", _("mod_reengagement %(version)s runs one ad hoc task per activity.") % {
            "version": version
        }
    if version in MONOLITHIC_VERSIONS:
        return "monolithic", _("mod_reengagement %(version)s runs as one scheduled task.") % {
            "version": version
        }
    return "unknown", _("%(plugin)s is not a version whose behaviour is known.") % {
        "plugin": f"mod_reengagement {version}"
    }


def _switched_off(config: dict[str, str]) -> str:
    """Why Moodle's cron would not run the plugin at all; '' when it would (facts §3.5)."""
    if config.get("cron_enabled", "1") in {"", "0"}:
        return _("Moodle's cron is switched off (cron_enabled is 0), so Moodle sends no reminders now.")
    if not models.Module.objects.filter(name="reengagement", visible=1).exists():
        return _("The plugin mod_reengagement is disabled for the whole site, so Moodle sends no reminders.")
    tasks = models.ScheduledTask.objects.filter(component=COMPONENT).values_list("classname", "disabled")
    if any(disabled for name, disabled in tasks if name.lstrip("\\") == r"mod_reengagement\task\cron_task"):
        return _("The scheduled task of mod_reengagement is disabled, so Moodle sends no reminders.")
    return ""


def _config() -> dict[str, str]:
    named = models.Config.objects.filter(name__in=["branch", "release", "cron_enabled"])
    totara = models.Config.objects.filter(name__startswith="totara_")
    return dict(named.values_list("name", "value")) | dict(totara.values_list("name", "value")[:1])


def _enovation() -> bool:
    return (
        models.AdhocTask.objects.filter(classname=ENOVATION_CLASS).exists()
        or models.ScheduledTask.objects.filter(classname=ENOVATION_CLASS).exists()
        or models.TaskLog.objects.filter(classname=ENOVATION_CLASS.lstrip("\\")).exists()
    )


def _ran_recently(classname: str) -> bool:
    since = int(time.time()) - RECENT_SECONDS
    return models.TaskLog.objects.filter(classname=classname.lstrip("\\"), timestart__gt=since).exists()


def _has_company_cc(column_exists: bool) -> bool:
    return column_exists or models.Reengagement.objects.filter(suppresstarget=-1).exists()


def _number(text: str) -> int | None:
    """A version number; Moodle also writes them with decimals."""
    whole = text.strip().partition(".")[0]
    return int(whole) if whole.isdigit() else None
