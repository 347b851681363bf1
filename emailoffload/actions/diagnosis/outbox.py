"""The doctor's looks at what waits: the breaker, mails that nobody sends, mails that need a person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from emailoffload.actions.diagnosis.finding import Found, Look, ok, problem, warning
from emailoffload.delivery import health
from emailoffload.outbox import switches
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker.smtp_route import HELD

MOST = 1000
"""Counts stop here."""
STUCK_RELEASE = timedelta(hours=1)


def breaker() -> Found:
    """The breaker is closed: SES takes mails."""
    found = health.breaker()
    if found is None:
        return ok(_("The breaker is closed."))
    values = {"code": found.code, "since": _when(found.since), "times": found.times}
    if found.open:
        until = _when(found.open_until)
        return problem(
            _(
                "The breaker has been open since %(since)s (%(code)s): nothing is sent or claimed, "
                "next try at %(until)s."
            )
            % {**values, "until": until},
            (found.why and _(found.why)) or _("Cure what SES says; it is tried again by itself."),
        )
    return warning(
        _("The breaker opened at %(since)s (%(code)s), %(times)d times in a row; SES is being tried again.")
        % values,
        (found.why and _(found.why)) or _("Nothing: the first mail that SES takes closes it."),
    )


def _when(seconds: float) -> str:
    return (
        f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC" if seconds else _("an unknown time")
    )


def draining() -> Found:
    """What is due leaves."""
    since = health.stuck_since()
    if since is None:
        return ok(_("What is due leaves."))
    text = _("Mails are due since %(time)s and nothing is sent; nothing more is claimed meanwhile.") % {
        "time": f"{since:%Y-%m-%d %H:%M:%S} UTC"
    }
    if switches.pause().sends:
        return warning(text, _("Sending is paused. Run `manage.py drain --resume` when it shall go on."))
    if health.breaker() is not None:
        return warning(text, _("SES takes no mails: see the breaker."))
    return problem(text, _("Start the worker, or look at its log: no dispatcher is at work."))


def uncertain() -> Found:
    """No mail waits for evidence for longer than it may."""
    over = timezone.now() - timedelta(seconds=settings.UNCERTAIN_AFTER_SECONDS)
    number = _count(Email.objects.filter(state=EmailState.UNCERTAIN, state_at__lt=over))
    if not number:
        return ok(_("No uncertain mail waits for a decision."))
    return warning(
        ngettext(
            "%(n)s mail is uncertain, and its time for evidence is over.",
            "%(n)s mails are uncertain, and their time for evidence is over.",
            number,
        )
        % {"n": _shown(number)},
        _("Decide on the page Fallbacks, or with `manage.py settle`: docs/failure.md says how to find out."),
    )


def by_person() -> Found:
    """No mail waits for a person because no route took it."""
    number = _count(Email.objects.filter(state=EmailState.FAILED, reason__startswith=HELD))
    if not number:
        return ok(_("No mail waits for a person."))
    return warning(
        ngettext(
            "%(n)s mail went no way and waits for a person.",
            "%(n)s mails went no way and wait for a person.",
            number,
        )
        % {"n": _shown(number)},
        _("Decide on the page Fallbacks: send, hand back, or mark as dealt with."),
    )


def releases() -> Found:
    """No hand-back is left half done."""
    since = timezone.now() - STUCK_RELEASE
    number = _count(Claim.objects.filter(state=ClaimState.RELEASING, settled_at__lt=since))
    number += _count(Claim.objects.filter(state=ClaimState.INTENDED, created_at__lt=since))
    if not number:
        return ok(_("No claim is left half made or half handed back."))
    return warning(
        ngettext(
            "%(n)s claim has been half made or half handed back for more than an hour.",
            "%(n)s claims have been half made or half handed back for more than an hour.",
            number,
        )
        % {"n": _shown(number)},
        _("Recovery settles them as soon as Moodle's database can be asked: look at its last pass on Runs."),
    )


def _count(rows: QuerySet[Email] | QuerySet[Claim]) -> int:
    return rows.order_by()[: MOST + 1].count()


def _shown(number: int) -> str:
    return str(number) if number <= MOST else _("More than %(n)d") % {"n": MOST}


_NEEDS = ("database.migrated",)
LOOKS = [
    Look("ses.breaker", gettext_lazy("Breaker"), breaker, _NEEDS),
    Look("outbox.draining", gettext_lazy("Mails that are due"), draining, _NEEDS),
    Look("outbox.uncertain", gettext_lazy("Uncertain mails"), uncertain, _NEEDS),
    Look("outbox.held", gettext_lazy("Mails for a person"), by_person, _NEEDS),
    Look("outbox.open_claims", gettext_lazy("Half-made claims"), releases, _NEEDS),
]
