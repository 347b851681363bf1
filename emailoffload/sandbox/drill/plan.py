"""What is rehearsed, with which of the site's settings, and how much faster than on the site."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from emailoffload.delivery import health
from emailoffload.sandbox.drill.pace import ENVIRONMENT, Pace

RECOVERY_SECONDS = 60
CLAIMING_SECONDS = 240
"""How often the worker's schedules start recovery and the interceptor (`worker.schedules`)."""
_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")
"""What a process of a rehearsal gets of our environment: nothing that names a server, an account or a proxy."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """One line of the report's table of times: what it is, how long on the site, how long here (seconds)."""

    what: str
    site: float
    here: float


@dataclass(frozen=True)
class Plan:
    """One drill. `only`: names of rehearsals, in order; `worker`: what is started as the product's worker."""

    only: tuple[str, ...]
    pace: Pace = field(default_factory=Pace)
    smtp: bool = True
    """Whether the site has an SMTP route."""
    fallback: str = "moodle"
    parity: str = "default"
    worker: tuple[str, ...] = field(default_factory=lambda: tuple(process("qcluster")))


def of_site(only: tuple[str, ...]) -> Plan:
    """The plan for this site, by its settings alone; no database is asked."""
    return Plan(
        only, smtp=settings.SMTP_ROUTE, fallback=settings.DEFAULT_FALLBACK, parity=settings.RENDER_PARITY
    )


def times(pace: Pace) -> list[Scaled]:
    """The site's times beside those of the rehearsals."""
    return [
        Scaled(
            _("deadline: a mail that could not be transmitted goes another way"),
            settings.SEND_DEADLINE_SECONDS,
            pace.deadline,
        ),
        Scaled(_("between two looks for overdue mails"), RECOVERY_SECONDS, pace.passes),
        Scaled(_("between two looks for new reminders"), CLAIMING_SECONDS, pace.passes),
        Scaled(
            _("reminders are claimed so long before they are due"), settings.CLAIM_LEAD_SECONDS, pace.lead
        ),
        Scaled(_("an answer of Amazon SES is waited for"), settings.SES_READ_TIMEOUT_SECONDS, pace.answer),
        Scaled(
            _("after a refusal, or ten failures in a row, Amazon SES is left alone for"),
            health.SHORTEST,
            pace.breaker,
        ),
        Scaled(_("a process that is silent for so long counts as dead"), settings.LEASE_SECONDS, pace.lease),
    ]


def meaning(pace: Pace) -> list[str]:
    """What the times that were seen mean on the site, by its own settings, in sentences."""
    deadline, look = settings.SEND_DEADLINE_SECONDS, RECOVERY_SECONDS
    cron = settings.MOODLE_CRON_PERIOD_SECONDS
    return [
        _("A mail that Amazon SES does not take goes another way %(first)s after it was due, or at the next look, "
          "%(last)s after it was due at the latest. Here that was %(here)s and %(passes)s.")
        % {"first": span(deadline), "last": span(deadline + look), "here": span(pace.deadline),
           "passes": span(pace.deadline + pace.passes)},
        _("What is handed back to Moodle is sent by Moodle's own cron at its next run, so within %(cron)s more: "
          "the learner has the mail about %(sum)s after it was due, or later if that cron is busy or late.")
        % {"cron": span(cron), "sum": span(deadline + look + cron)},
        _("If Amazon SES refuses the whole account, nothing is gained by waiting: mails go another way within "
          "about %(look)s of the first refusal. Only what would be left to a person waits for its deadline.")
        % {"look": span(look)},
        _("If the worker dies, Moodle sends what is not claimed, as if Email Offload were not there. Only the "
          "reminders of the next %(lead)s may be claimed already: they wait, and leave when the worker runs again.")
        % {"lead": span(settings.CLAIM_LEAD_SECONDS)},
    ]  # fmt: skip


def span(seconds: float) -> str:
    """A time as people say it."""
    for size, words in ((3600, _("%(n)s h")), (60, _("%(n)s min"))):
        if seconds >= 2 * size:
            return words % {"n": f"{seconds / size:.3g}"}
    return _("%(n)s s") % {"n": f"{seconds:.3g}"}


def environment(plan: Plan, folder: Path, ses_port: int, smtp_port: int) -> dict[str, str]:
    """The whole environment of a rehearsal's processes, which work in `folder` and on loopback alone.

    The home folder and AWS's files are replaced too: profiles could name another account or server.
    """
    values: Mapping[str, str] = {name: os.environ[name] for name in _KEPT if name in os.environ}
    smtp = {"EMAIL_URL": f"smtp://127.0.0.1:{smtp_port}"} if plan.smtp else {}
    return {
        **values,
        **smtp,
        ENVIRONMENT: plan.pace.json(),
        "DJANGO_SETTINGS_MODULE": f"{__package__}.settings",
        "HOME": str(folder),
        "OFFLOAD_ENV_FILE": os.devnull,
        "OFFLOAD_DATA_DIR": str(folder),
        "SANDBOX_PORT": str(ses_port),
        "AWS_ENDPOINT_URL_SESV2": f"http://127.0.0.1:{ses_port}",
        "AWS_ACCESS_KEY_ID": "drill",
        "AWS_SECRET_ACCESS_KEY": "drill",
        "AWS_REGION": "eu-west-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "DEFAULT_FALLBACK": plan.fallback,
        "RENDER_PARITY": plan.parity,
        "DISPATCH_THREADS": "4",
        "DISPATCH_SLOTS": "1",  # so few mails, shared by two, might not make up ten failures in a row
        "DISPATCH_BUDGET_SECONDS": "20",
        "LOG_LEVEL": "WARNING",
        "PYTHONUNBUFFERED": "1",
    }


def process(*arguments: str) -> list[str]:
    """The command line of one of a rehearsal's processes (`process.main`)."""
    return [sys.executable, "-m", f"{__package__}.process", *arguments]


def as_dict(plan: Plan) -> dict[str, Any]:
    """For the report: what was taken from the site's settings."""
    return {
        "DEFAULT_FALLBACK": plan.fallback,
        "EMAIL_URL": _("set: there is an SMTP route") if plan.smtp else _("not set: there is no SMTP route"),
        "RENDER_PARITY": plan.parity,
    }
