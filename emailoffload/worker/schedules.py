"""What runs when: our rows in django-q's table of schedules, made right at every start of a worker."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django_q.models import Schedule

from emailoffload.worker import feedback, tasks

MODULE = "emailoffload.worker.tasks"
NAME = "Email Offload: "
SETTLED_IN = timedelta(minutes=3)
"""How long after the start of a worker each of its passes has run, but the hourly ones."""


def wanted() -> dict[str, tuple[str, str]]:
    """Our schedules by name: (function, cron expression)."""
    every_minute = "* * * * *"
    table = {
        f"{NAME}intercept": (f"{MODULE}.intercept", "*/4 * * * *"),
        f"{NAME}recover": (f"{MODULE}.recover", every_minute),
        f"{NAME}alarms": (f"{MODULE}.alarms", every_minute),
        f"{NAME}rollups": (f"{MODULE}.rollups", every_minute),
        f"{NAME}reconcile": (f"{MODULE}.reconcile", "17 * * * *"),
        f"{NAME}coverage": (f"{MODULE}.coverage", "41 * * * *"),
        f"{NAME}logins": (f"{MODULE}.logins", "53 * * * *"),
        f"{NAME}retention": (f"{MODULE}.retention", "9-59/10 * * * *"),
    }
    table[f"{NAME}checkup"] = (tasks.CHECKUP, "43 * * * *")
    # Also without SES's list: what is suppressed for a while ends.
    table[f"{NAME}suppressions"] = (f"{MODULE}.suppressions", "*/5 * * * *")
    if feedback.configured():
        table[f"{NAME}feedback"] = (f"{MODULE}.feedback", every_minute)
    for slot in range(1, settings.DISPATCH_SLOTS + 1):
        table[f"{NAME}dispatch {slot}"] = (f"{MODULE}.dispatch", every_minute)
    return table


def check_up_soon() -> None:
    """Have the doctor look when the first passes have done their work: before, it would find that they have not."""
    now = timezone.now()
    soon = now + SETTLED_IN
    # What is planned for the next minutes stays: else a worker that starts again and again would never get there.
    planned = Schedule.objects.filter(name=f"{NAME}checkup").exclude(next_run__gt=now, next_run__lte=soon)
    planned.update(next_run=soon)


def ensure() -> Counter[str]:
    """Create what is missing, repair what was changed, remove what is ours and no longer wanted.

    Returns how many were "created", "repaired" and "removed". Safe on several hosts at once: whoever comes
    second finds the rows of the first. Schedules that are not ours are not touched.
    """
    counts: Counter[str] = Counter()
    table = wanted()
    with transaction.atomic():
        rows = list(
            Schedule.objects.select_for_update().filter(func__startswith=f"{MODULE}.").order_by("pk")
        ) + list(
            Schedule.objects.select_for_update()
            .filter(name__startswith=NAME)
            .exclude(func__startswith=f"{MODULE}.")
            .order_by("pk")
        )
        seen = set()
        for row in rows:
            if row.name not in table or row.name in seen:
                row.delete()
                counts["removed"] += 1
                continue
            seen.add(row.name)
            func, cron = table[row.name]
            right = {
                "func": func, "cron": cron, "schedule_type": Schedule.CRON, "repeats": -1, "args": None,
                "kwargs": None, "hook": None, "cluster": None, "minutes": None,
            }  # fmt: skip
            if any(getattr(row, name) != value for name, value in right.items()):
                Schedule.objects.filter(pk=row.pk).update(**right, next_run=timezone.now())
                counts["repaired"] += 1
        for name in sorted(table.keys() - seen):
            func, cron = table[name]
            Schedule.objects.create(name=name, func=func, cron=cron, schedule_type=Schedule.CRON, repeats=-1)
            counts["created"] += 1
    return counts
