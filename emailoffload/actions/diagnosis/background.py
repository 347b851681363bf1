"""The doctor's looks at the worker: do its passes run, and how did they end."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django_q.brokers import get_broker
from django_q.models import Schedule

from emailoffload.actions.diagnosis.finding import Found, Look, ok, problem, warning
from emailoffload.feedback import alarms
from emailoffload.outbox import guardstate, retention
from emailoffload.outbox.models import Claim, Lease, Run
from emailoffload.worker import reconcile, reconcile_findings, schedules
from emailoffload.worker import reconcile_words as words
from emailoffload.worker.broker import Unusable
from emailoffload.worker.privacy import steps

RECONCILED_WITHIN = timedelta(hours=3)
"""The reconciler starts every hour; two missed passes and a long one are no longer a busy moment."""
_START = gettext_lazy("Start the worker: see docs/install.md.")


def heartbeat() -> Found:
    """A worker is alive: a pass began, or the lease of one was renewed, within the last minutes."""
    newest = Run.objects.order_by("-id").values_list("started_at", flat=True).first()
    if newest is None:
        return warning(_("The worker has never run."), str(_START))
    patience = timedelta(seconds=120 + settings.DISPATCH_BUDGET_SECONDS)
    # The watch over IOMAD's queue and the pass over alarms may live in another process than the passes.
    held = (
        Lease.objects.filter(expires_at__gt=Now()).exclude(name__in=(guardstate.LEASE, alarms.LEASE)).exists()
    )
    if not held and timezone.now() - newest > patience:
        return problem(
            _("The worker's last pass began at %(time)s.") % {"time": f"{newest:%Y-%m-%d %H:%M:%S} UTC"},
            str(_START),
        )
    return ok(_("The worker is alive."))


def scheduled() -> Found:
    """The schedules exist and are those of this version."""
    rows = {
        name: (func, cron)
        for name, func, cron in Schedule.objects.filter(repeats=-1).values_list("name", "func", "cron")
    }
    wrong = sorted(name for name, right in schedules.wanted().items() if rows.get(name) != right)
    if wrong:
        return warning(
            _("Schedules are missing or were changed: %(names)s.")
            % {"names": ", ".join(name.removeprefix(schedules.NAME) for name in wrong)},
            _("Run `manage.py offloadschedules`, or restart the worker."),
        )
    return ok(_("All passes are scheduled."))


def outcomes() -> Found:
    """The last pass of each kind ended well."""
    for kind in ("intercept", "dispatch", "recover"):
        last = Run.objects.filter(kind=kind).exclude(outcome="running").order_by("-id").first()
        if last and last.outcome in {"refused", "failed"}:
            return warning(
                _("The last pass of kind “%(kind)s” did not do its work: %(message)s")
                % {"kind": kind, "message": last.message},
                _("Cure what is named there; the next pass tries again."),
            )
    return ok(_("The last passes did their work."))


PERIODS = {"intercept": 240, "dispatch": 60, "recover": 60}
"""How often a pass of each kind begins, in seconds."""
MISSED = 3


def lag() -> Found:
    """Passes of each kind begin when they should."""
    now = timezone.now()
    held = " ".join(Lease.objects.filter(expires_at__gt=Now()).values_list("name", flat=True))
    for kind, period in PERIODS.items():
        last = Run.objects.filter(kind=kind).order_by("-id").values_list("started_at", flat=True).first()
        if last is None or kind in held:
            continue
        silence = (now - last).total_seconds()
        if silence > MISSED * period + settings.DISPATCH_BUDGET_SECONDS:
            return warning(
                _(
                    "The last %(kind)s pass began %(minutes)d minutes ago; one should begin every %(period)d s."
                )
                % {"kind": kind, "minutes": silence / 60, "period": period},
                _("The worker is alive but does not get on: look at its log, and at the queue of its tasks."),
            )
    return ok(_("Passes begin when they should."))


def _began_lately(kind: str) -> bool:
    began = Run.objects.filter(kind=kind).order_by("-id").values_list("started_at", flat=True).first()
    return began is not None and timezone.now() - began <= RECONCILED_WITHIN


def reconciled() -> Found:
    """Our claims were compared with Moodle's rows a moment ago, and nothing serious is open."""
    counts = reconcile_findings.open_counts()
    serious = {
        verdict: counts[verdict] for verdict in words.VERDICTS if verdict in words.SERIOUS and counts[verdict]
    }
    if serious:
        named = ", ".join(f"{number} {words.VERDICTS[verdict][0]}" for verdict, number in serious.items())
        return problem(
            _("Claims do not agree with Moodle's rows: %(what)s.") % {"what": named},
            _("The page Reconciliation lists them, each with what was seen and what to do."),
        )
    found = reconcile.summary()
    last = found["last"]
    if last is None or timezone.now() - datetime.fromisoformat(last["finished_at"]) > RECONCILED_WITHIN:
        if not Claim.objects.exists():
            return ok(_("Nothing is claimed yet, so there is nothing to compare with Moodle's rows."))
        if found["sweep"] and _began_lately("reconcile"):
            return ok(_("Claims are being compared with Moodle's rows."))
        first = Claim.objects.order_by("id").values_list("created_at", flat=True).first()
        if last is None and first is not None and timezone.now() - first <= RECONCILED_WITHIN:
            return ok(
                _("The first claims were made lately; they are compared with Moodle's rows within the hour.")
            )
        return warning(
            _("Claims were not compared with Moodle's rows within the last hours."),
            _("Run `manage.py reconcile`; the worker does it every hour."),
        )
    return ok(
        ngettext(
            "%(n)d claim was compared with Moodle's rows; it needs no person at once.",
            "%(n)d claims were compared with Moodle's rows; none needs a person at once.",
            last["claims"],
        )
        % {"n": last["claims"]}
    )


_CARRIERS = {"redis": "Redis", "sqs": "SQS"}
BACKLOG = 200
"""Triggers that may wait: about ten minutes of them. A worker that keeps up leaves a few at most."""


def carrier() -> Found:
    """Triggers reach the workers: what BROKER names answers, and not too many wait."""
    name = _CARRIERS.get(settings.BROKER, "")
    try:
        waiting = get_broker().queue_size()
    except Unusable as error:
        return warning(
            _(
                "%(name)s cannot be used (%(error)s). Triggers go through our database meanwhile; no mail waits for it."
            )
            % {"name": name, "error": error},
            _("Look at its server, at the way there from this host, and at REDIS_URL or BROKER_QUEUE_URL."),
        )
    if waiting > BACKLOG:
        return warning(
            ngettext("%(n)d trigger waits for a worker.", "%(n)d triggers wait for a worker.", waiting)
            % {"n": waiting},
            _(
                "The workers do not keep up, or none runs with this BROKER and BROKER_NAME: look at their log. All "
                "hosts need the same values, and the same SECRET_KEY."
            ),
        )
    if name:
        return ok(_("Triggers go through %(name)s, with our database behind it.") % {"name": name})
    return ok(_("Triggers go through our database."))


BEHIND = timedelta(days=7)
"""What is kept for so much longer than its time is no busy moment any more."""


def retained() -> Found:
    """Retention keeps up: nothing is kept for a week longer than the ladder says (docs/privacy.md)."""
    now = timezone.now()
    texts, names = retention.cutoff("content", now), retention.cutoff("addresses", now)
    cure = _(
        "The pass that lets go of what is old runs every ten minutes: Runs shows how it ended. `manage.py retention "
        "--until-done` catches up at once."
    )
    if texts and (oldest := steps.oldest_content(texts - BEHIND)):
        return warning(
            _("What mails of %(date)s say is still kept, although RETAIN_CONTENT_DAYS is %(days)s.")
            % {"date": f"{oldest:%Y-%m-%d}", "days": retention.days("content")},
            cure,
        )
    if names and (oldest := steps.oldest_names(names - BEHIND)):
        return warning(
            _("Names and addresses of %(date)s are still kept, although RETAIN_ADDRESSES_DAYS is %(days)s.")
            % {"date": f"{oldest:%Y-%m-%d}", "days": retention.days("addresses")},
            cure,
        )
    return ok(_("Nothing is kept for much longer than its time."))


LOOKS = [
    Look("worker.broker", gettext_lazy("Triggers"), carrier, ("database.migrated",)),
    Look("worker.schedules", gettext_lazy("Schedules"), scheduled, ("database.migrated",)),
    Look("worker.heartbeat", gettext_lazy("The worker"), heartbeat, ("database.migrated",)),
    Look("worker.lag", gettext_lazy("Passes in time"), lag, ("database.migrated", "worker.heartbeat")),
    Look("reconcile", gettext_lazy("Reconciliation"), reconciled, ("database.migrated",)),
    Look("worker.outcomes", gettext_lazy("The last passes"), outcomes, ("database.migrated",)),
    Look("worker.retention", gettext_lazy("What is kept"), retained, ("database.migrated",)),
]
