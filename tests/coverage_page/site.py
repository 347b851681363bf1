"""The restored site with reminders brought due, and what was counted of it."""

from __future__ import annotations

import time

from emailoffload.dashboard.coverage_lines import Line, lines
from emailoffload.policy.routing import RoutingRules
from emailoffload.worker import coverage
from tests.conftest import Moodle

ACTIVITY, CMID, COURSE, DAY = 13, 14, 6, 86400
IN_FUTURE = 30 * DAY


def soon(moodle: Moodle, *, due: int = 300, completes: int = IN_FUTURE) -> None:
    """One learner of one activity on the way, with a reminder due soon (seconds from now) and nothing sent."""
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE reengagement <> %s", [ACTIVITY])
    first = moodle.value("SELECT MIN(id) FROM mdl_reengagement_inprogress")
    moodle.execute("DELETE FROM mdl_reengagement_inprogress WHERE id > %s", [first])
    now = int(time.time())
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailtime = %s, completiontime = %s, emailsent = 0, completed = 0",
        [now + due, now + completes],
    )


def counted() -> list[Line]:
    """Every line after a fresh count, with the rules of now."""
    result = coverage.run()
    assert not result.refused
    return lines(coverage.known().counted, RoutingRules.load())


def line_of(activity: int = ACTIVITY) -> Line:
    """The line of one activity after a fresh count."""
    return next(line for line in counted() if line.item.activity_id == activity)


def kind(template: str) -> Line:
    """The line of one kind of IOMAD mail after a fresh count."""
    return next(line for line in counted() if line.item.template == template)


def as_the_form_saves(moodle: Moodle, activity: int, **values: int) -> None:
    """Change an activity's settings as its form in Moodle does."""
    sets = ", ".join(f"{name} = %s" for name in values)
    moodle.execute(f"UPDATE mdl_reengagement SET {sets} WHERE id = %s", [*values.values(), activity])
