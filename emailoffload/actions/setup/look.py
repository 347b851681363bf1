"""What can be known of the Moodle site from its database, with the account and the prefix that were entered.

`manage.py setup` runs this in a process of its own, because the names of Moodle's tables are fixed when a process
starts. It reads; the cron lock is taken and given back, which writes nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

from django.conf import settings
from django.db import connections

from emailoffload.moodle import cronlock, errors, grants, models, senders, site, variants
from emailoffload.moodle.targets import IOMAD_QUEUE, REENGAGEMENT
from emailoffload.sources import registry

_TASKS: Final = {REENGAGEMENT: "mod_reengagement", IOMAD_QUEUE: "local_email"}
_PERIODS: Final = (60, 120, 180, 240, 300, 600, 900, 1200, 1800, 3600, 7200, 21600, 43200, 86400)
_USUAL: Final = 300
"""The schedule that both tasks are installed with (facts §3.7)."""
_RUNS: Final = 60


def look() -> dict[str, Any]:
    """Everything under stable keys; what could not be found out has a sentence under `problems`, with its cure.

    Keys: tables, missing, excess, variant, queue, sources, lock, handshake, periods, sender, lang, shortname, problems.
    """
    found: dict[str, Any] = {"problems": []}

    def ask(name: str, question: Callable[[], Any]) -> None:
        try:
            with errors.translated():
                found[name] = question()
        except errors.MoodleProblem as problem:
            found["problems"].append({"about": name, "text": str(problem), "cure": problem.cure})

    ask("tables", lambda: len(errors.check_reachable()))
    if "tables" not in found:
        return found
    ask("grants", _grants)
    ask("variant", _variant)
    ask("lock", _lock)
    ask("handshake", _handshake)
    ask("periods", lambda: {source: period for source in _TASKS if (period := cron_period(source))})
    ask("site", _site)
    return found


def _grants() -> dict[str, list[str]]:
    modules = models.Module.objects.values_list("name", flat=True)
    found = grants.check_grants(connections["moodle"], modules)
    return {"missing": found.missing, "excess": found.excess}


def _variant() -> dict[str, Any]:
    found = variants.detect()
    queue = variants.detect_queue() if found.iomad else None
    return {
        "kind": found.kind,
        "supported": found.supported,
        "why": found.why,
        "iomad": found.iomad,
        "queue_supported": queue.supported if queue else False,
        "queue_why": queue.why if queue else "",
        "sources": list(registry.installed(found)),
    }


def _lock() -> dict[str, Any]:
    found = cronlock.lock_availability()
    return {"shared": found.kind is not None, "reason": found.reason}


def _handshake() -> dict[str, Any]:
    """Whether the cron's lock can be taken under the name that we work out; None where there is nothing to try."""
    if not cronlock.lock_availability().kind:
        return {"taken": None}
    with cronlock.CronLock(cronlock.reengagement_lock_target()) as lock:
        return {"taken": lock.acquired and lock.still_held(), "reason": lock.reason}


def cron_period(source: str) -> int | None:
    """How often Moodle's cron runs a source's task, in seconds, as its traces tell; None where there are none.

    The schedule itself is not granted to us. Moodle's log of tasks has when the last runs began; where it has too few,
    the time between the last run and the next one tells whether it is longer than usual: a run may have been late, so
    the period is never taken for shorter by that (facts §3.6). Rounded to what schedules have.
    """
    task = (
        models.ScheduledTask.objects.filter(component=_TASKS[source], classname__endswith="\\cron_task")
        .values_list("classname", "lastruntime", "nextruntime")
        .first()
    )
    if task is None:
        return None
    name, last, following = task
    since = int(time.time()) - 14 * 86400
    log = models.TaskLog.objects.filter(classname=name.lstrip("\\"), timestart__gt=since)
    starts = sorted(
        float(start) for start in log.order_by("-timestart").values_list("timestart", flat=True)[:_RUNS]
    )
    gaps = [after - before for before, after in pairwise(starts)]
    if len(gaps) >= 3:
        return min(_PERIODS, key=lambda period: abs(period - statistics.median(gaps)))
    if last and following and following > last:
        least = max(following - last, _USUAL)
        return next((period for period in _PERIODS if period >= least), _PERIODS[-1])
    return None


def _site() -> dict[str, Any]:
    loaded = site.load_site()
    sender, refusal = senders.identify(loaded)
    return {
        "shortname": loaded.shortname,
        "fullname": loaded.fullname,
        "lang": loaded.lang,
        "sender": "" if refusal else sender.from_address,
        "refusal": refusal.reason if refusal else "",
        "wwwroot": settings.MOODLE_WWWROOT,
    }
