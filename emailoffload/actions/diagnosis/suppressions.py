"""The doctor's look at suppressed addresses: do our list and SES's agree, and may we see to it."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.actions.diagnosis.finding import Found, Look, ok, problem, unknown, warning
from emailoffload.delivery import ses
from emailoffload.feedback import liststate, seslist
from emailoffload.feedback.models import Suppression
from emailoffload.feedback.seslist import ListProblem
from emailoffload.outbox.models import Run
from emailoffload.worker import suppressions

OLD = timedelta(hours=3)
STUCK = timedelta(hours=2)
FIRST = timedelta(minutes=15)
"""After the very first pass of the worker: three periods of the pass that reads the list."""
START = gettext_lazy("Start the worker: see docs/install.md.")


def reachable() -> Found:
    """SES's list can be read."""
    if not settings.SES_SUPPRESSION_SYNC:
        return ok(_("SES's suppression list is not looked at: SES_SUPPRESSION_SYNC is off."))
    try:
        seslist.page(timezone.now())
    except ListProblem as trouble:
        if trouble.soon:
            return unknown(str(trouble), trouble.cure)
        return problem(str(trouble), trouble.cure)
    return ok(_("SES's suppression list can be read."))


def enforced() -> Found:
    """SES adds bounces and complaints to its list, and keeps to it."""
    try:
        found = ses.client().get_account().get("SuppressionAttributes", {}).get("SuppressedReasons", [])
    except Exception as error:
        return unknown(_("SES cannot be asked (%(error)s).") % {"error": type(error).__name__})
    missing = {"BOUNCE", "COMPLAINT"} - set(found)
    if missing:
        return warning(
            _("SES's own suppression list is switched off for: %(reasons)s.")
            % {"reasons": ", ".join(sorted(missing))},
            _("Run `aws sesv2 put-account-suppression-attributes --suppressed-reasons BOUNCE COMPLAINT`."),
        )
    return ok(_("SES keeps a suppression list of bounces and complaints."))


def agreement() -> Found:
    """The lists were compared lately, and nothing waits for long to be carried over."""
    if not settings.SES_SUPPRESSION_SYNC:
        return ok(_("The lists are not compared: SES_SUPPRESSION_SYNC is off."))
    state, now = liststate.load(), timezone.now()
    if state.error:
        return (warning if state.soon else problem)(state.error, state.cure)
    if state.listed_at is None:
        begun = Run.objects.order_by("id").values_list("started_at", flat=True).first()
        if begun is not None and now - begun <= FIRST:
            return ok(_("The worker has begun lately; it reads SES's suppression list within minutes."))
        return warning(_("SES's suppression list has never been read."), str(START))
    if now - state.listed_at > OLD:
        values = {"time": f"{state.listed_at:%Y-%m-%d %H:%M} UTC"}
        return warning(_("SES's suppression list was last read at %(time)s.") % values, str(START))
    late = now - STUCK
    adding = suppressions.to_add().filter(since__lt=late).count()
    removing = suppressions.to_remove().filter(removed_at__lt=late).count()
    if adding or removing:
        return warning(
            _("%(add)d addresses wait to be put on SES's list, %(remove)d to be taken off it.")
            % {"add": adding, "remove": removing},
            _("About one a second is carried over. If the number does not fall, look at the page Runs."),
        )
    refused = Suppression.objects.filter(
        active_key__isnull=False, until__isnull=True, agreement=Suppression.Agreement.OURS
    ).count()
    if refused:
        return ok(_("The lists agree, but for %(n)d addresses that SES does not take.") % {"n": refused})
    return ok(_("Our list and SES's agree."))


_NEEDS = ("ses.account",)
LOOKS = [
    Look("suppressions.list", gettext_lazy("SES's suppression list"), reachable, _NEEDS),
    Look("suppressions.enforced", gettext_lazy("SES's own suppressing"), enforced, _NEEDS),
    Look("suppressions.agreement", gettext_lazy("Suppressed addresses"), agreement, ("database.migrated",)),
]
