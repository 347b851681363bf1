"""The rehearsals in which the product itself, or Moodle's database, is not there."""

from __future__ import annotations

import json
import subprocess
import time

from django.conf import settings
from django.utils.translation import gettext as _

from emailoffload.sandbox.drill import plan
from emailoffload.sandbox.drill.notes import Notes
from emailoffload.sandbox.drill.stage import Stage

COMMAND_SECONDS = 60
AHEAD_OF_DRAIN = 15
"""A drain takes some seconds to start, and must be over before the mails are due."""


def killed(stage: Stage, notes: Notes) -> None:
    """Every process of the worker ends at once."""
    notes.did(_("Reminders were about to be due."))
    mails = notes.owe_claimed(stage, 2)
    stage.kill_worker()
    notes.did(_("Every process of the worker was killed at once, as by a power failure."))
    later = stage.owe(notes.name, 1, 1, ahead=2)
    notes.did(_("%(n)s more mails came due; then Moodle's own cron ran once.") % {"n": len(later)})
    stage.rest_until(max(mails[0].due, later[0].due) + 1)
    stage.site.run_cron()
    notes.number(_("Moodle sends what was not claimed, at its next run"), len(later), stage.by_moodle(later))
    notes.number(_("Moodle does not send what was claimed"), 0, stage.by_moodle(mails))
    took = stage.start_worker()
    notes.did(_("The worker was started again; that took %(n)s s.") % {"n": f"{took:.0f}"})
    stage.wait(lambda: stage.by_ses(mails) >= len(mails), stage.pace.patience)
    stage.site.run_cron()
    notes.number(_("The claimed mails leave then, through Amazon SES"), len(mails), stage.by_ses(mails))
    notes.number(_("Moodle still does not send them as well"), 0, stage.by_moodle(mails))


def moodle(stage: Stage, notes: Notes) -> None:
    """Moodle's database gives no answer for a few seconds, around the due time."""
    notes.did(_("Reminders were about to be due."))
    mails = notes.owe_claimed(stage, 2)
    stage.site.go_away()
    notes.did(_("Then Moodle's database did not answer the product any more."))
    later = stage.owe(notes.name, 1, ahead=4)
    stage.wait_until(max(mails[0].due, later[0].due) + 2)
    notes.number(
        _("Mails that are due wait: it cannot be asked whether they are still wanted"), 0, stage.by_ses(mails)
    )
    waiting = stage.records(mails).filter(reason="moodle_unreachable").count()
    notes.number(_("Their pages say why they wait"), len(mails), waiting)
    stage.site.come_back()
    notes.did(_("Moodle's database was there again, and Moodle's own cron ran once."))
    stage.site.run_cron()
    notes.number(
        _("Nothing was claimed meanwhile; Moodle sends those itself"), len(later), stage.by_moodle(later)
    )
    stage.wait(lambda: stage.by_ses(mails) >= len(mails), stage.pace.patience)
    stage.site.run_cron()
    notes.number(_("The claimed mails leave through Amazon SES"), len(mails), stage.by_ses(mails))
    notes.number(_("Moodle does not send them as well"), 0, stage.by_moodle(mails))


def stop(stage: Stage, notes: Notes) -> None:
    """`manage.py drain` before downtime, `--resume` after it."""
    notes.did(_("Reminders were about to be due."))
    mails = notes.owe_claimed(stage, 2, ahead=AHEAD_OF_DRAIN)
    released = _drain("--json").get("released", 0)
    notes.did(_("`manage.py drain` was run, then the worker was told to stop."))
    notes.number(_("The drain hands every claim back to Moodle"), len(mails), released)
    notes.number(_("Moodle's rows are as before"), len(mails), stage.site.untouched(mails))
    begun = time.monotonic()
    status = stage.stop_worker()
    seen = _("status %(n)s after %(s)d s") % {"n": status, "s": time.monotonic() - begun}
    notes.check(
        _("The worker ends by itself"),
        _("status 0"),
        seen if status is not None else _("it had to be killed"),
        status == 0,
    )
    stage.rest_until(mails[0].due + 1)
    stage.site.run_cron()
    notes.did(_("Moodle's own cron ran once."))
    notes.number(_("Moodle sends all of them, at its next run"), len(mails), stage.by_moodle(mails))
    _drain("--resume", "--json")
    stage.start_worker()
    notes.did(_("`manage.py drain --resume` was run, and the worker was started again."))
    again = notes.owe_claimed(stage, 1)
    stage.wait(lambda: stage.by_ses(again) >= len(again), stage.pace.patience)
    stage.site.run_cron()
    notes.number(_("The product claims and sends again"), len(again), stage.by_ses(again))


def _drain(*options: str) -> dict[str, int]:
    """Run the command; what it reported, {} where it failed before it could report."""
    done = subprocess.run(
        plan.process("drain", *options), cwd=settings.BASE_DIR, capture_output=True, text=True,
        timeout=COMMAND_SECONDS, check=False,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    return dict(json.loads(lines[-1])) if lines else {}
