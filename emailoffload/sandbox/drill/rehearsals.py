"""The rehearsals in which Amazon SES fails, and the table of all rehearsals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.delivery import health
from emailoffload.outbox.states import EmailState
from emailoffload.sandbox.drill import stoppages
from emailoffload.sandbox.drill.notes import Notes
from emailoffload.sandbox.drill.site import Owed
from emailoffload.sandbox.drill.stage import Stage

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as StrPromise

S = EmailState


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """One rehearsal: its name for `--only`, what it is about, about how many seconds it takes, and the play."""

    title: StrPromise
    seconds: int
    play: Callable[[Stage, Notes], None]


def normal(stage: Stage, notes: Notes) -> None:
    """Nothing fails: what the others are measured against."""
    notes.did(_("Nothing was broken. Mails came due: reminders, and IOMAD's mails to new users."))
    mails = notes.owe_claimed(stage, 1, 1)
    stage.wait(lambda: stage.by_ses(mails) >= len(mails), stage.pace.patience)
    stage.site.run_cron()
    notes.number(_("They leave through Amazon SES when they are due"), len(mails), stage.by_ses(mails))
    notes.number(_("Moodle does not send them as well"), 0, stage.by_moodle(mails))


def refused(stage: Stage, notes: Notes) -> None:
    """Nothing listens at SES's address."""

    def fail() -> None:
        notes.did(_("Then Amazon SES could not be reached any more: every connection was refused."))
        stage.ses_down()

    _outage(stage, notes, fail, at_once=False)


def paused(stage: Stage, notes: Notes) -> None:
    """SES takes nothing from this account."""

    def fail() -> None:
        notes.did(_("Then Amazon SES paused sending for the account, as AWS does after too many complaints."))
        stage.ses.fault(mode="pause")

    _outage(stage, notes, fail, at_once=True)


def _outage(stage: Stage, notes: Notes, fail: Callable[[], None], *, at_once: bool) -> None:
    """SES takes nothing for longer than the deadline, and comes back."""
    notes.did(_("Mails came due, a third of them under each choice of fallback."))
    mails = notes.owe_claimed(stage, 3, 1)
    fail()
    opened = stage.wait(lambda: _stopped() != "", stage.pace.patience)
    seen = _("yes, because of %(code)s") % {"code": _stopped()} if opened else _("no")
    notes.check(
        _("The product notices, and stops trying for a while (the breaker opens)"), _("yes"), seen, opened
    )
    later = stage.owe(notes.name, 1, ahead=5)
    notes.did(
        _("%(n)s more reminders, due a few seconds later, could have been claimed then.") % {"n": len(later)}
    )
    stage.wait(
        lambda: stage.in_state(mails, S.QUEUED, S.SENDING) == 0, stage.pace.deadline + stage.pace.patience
    )
    stage.wait_until(later[0].due + 1)
    notes.number(_("No new mail is claimed meanwhile"), 0, stage.claims(later).count())
    _fallbacks(stage, notes, mails, at_once=at_once)
    stage.site.run_cron()
    back = [mail for mail in mails if mail.policy == "moodle"]
    notes.did(_("Moodle's own cron ran once."))
    notes.number(_("Moodle sends what was handed back to it"), len(back), stage.by_moodle(back))
    notes.number(_("Moodle sends what was never claimed"), len(later), stage.by_moodle(later))
    _resumes(stage, notes)


def _stopped() -> str:
    """Why the breaker is open, '' if it is not."""
    breaker = health.breaker()
    return breaker.code if breaker and breaker.open else ""


def _fallbacks(stage: Stage, notes: Notes, mails: list[Owed], *, at_once: bool) -> None:
    """What became of the mails under each of the policies, and when."""
    for policy, words in _WAYS.items():
        mine = [mail for mail in mails if mail.policy == policy]
        way = policy if policy != "smtp" or stage.sink else "hold"
        number = {
            "moodle": lambda mine=mine: min(stage.in_state(mine, S.RELEASED), stage.site.untouched(mine)),
            "smtp": lambda mine=mine: stage.by_smtp(mine),
            "hold": lambda mine=mine: stage.held(mine),
        }[way]()
        what = str(words if way == policy else _NO_SMTP)
        if policy == settings.DEFAULT_FALLBACK:
            what = _("%(what)s [this is your site's choice]") % {"what": what}
        notes.number(what, len(mine), number)
        # SES refuses the whole account: nothing is gained by waiting, except where a person would have to act.
        _when(stage, notes, mine, at_once=at_once and way != "hold")


def _when(stage: Stage, notes: Notes, mails: list[Owed], *, at_once: bool) -> None:
    """When the first and the last of these went another way."""
    moments = sorted(stage.records(mails).values_list("state_at", flat=True))
    what = _("When")
    if not moments:
        notes.check(what, _("at some time"), _("never"), False)
        return
    first, last = (moment.timestamp() - mails[0].due for moment in (moments[0], moments[-1]))
    deadline = stage.pace.deadline
    times = {"first": number_format(first, 1), "last": number_format(last, 1)}
    seen = (
        _("%(first)s s after they were due")
        if last - first < 0.1
        else _("%(first)s to %(last)s s after they were due")
    ) % times
    if at_once:
        notes.check(
            what, _("without waiting for the deadline of %(n)s s") % {"n": deadline}, seen, last < deadline
        )
    else:
        # The clocks of the databases are read to the microsecond, due times are whole seconds.
        fits = deadline - 0.1 <= first and last < deadline + stage.pace.patience
        notes.check(what, _("at the deadline, %(n)s s, or at the next look") % {"n": deadline}, seen, fits)


def _resumes(stage: Stage, notes: Notes) -> None:
    """SES is well again."""
    stage.ses_up()
    notes.did(_("Amazon SES was well again."))
    stage.wait(lambda: _stopped() == "", stage.pace.breaker + stage.pace.patience)
    again = notes.owe_claimed(stage, 1)
    stage.wait(lambda: stage.by_ses(again) >= len(again), stage.pace.patience)
    stage.site.run_cron()
    notes.number(_("Sending resumes by itself with the next mails"), len(again), stage.by_ses(again))
    closed = stage.wait(lambda: health.breaker() is None, 3)
    notes.check(_("The breaker closes"), _("yes"), _("yes") if closed else _("no"), closed)


def silent(stage: Stage, notes: Notes) -> None:
    """SES takes mails and never says so."""
    notes.did(_("Mails came due."))
    mails = notes.owe_claimed(stage, 2)
    unanswered = len(mails) // 2
    stage.ses.fault(mode="hang_after", count=unanswered)
    notes.did(
        _(
            "Amazon SES read %(n)s of them and then did not answer. It had taken them, but nobody could know that."
        )
        % {"n": unanswered}
    )
    stage.wait(
        lambda: stage.by_ses(mails) >= len(mails) and stage.in_state(mails, S.QUEUED, S.SENDING) == 0,
        stage.pace.patience,
    )
    stage.wait_until(mails[0].due + stage.pace.deadline + 3 * stage.pace.passes)
    stage.site.run_cron()
    notes.did(_("The deadline passed, and Moodle's own cron ran once."))
    notes.number(
        _("Those without an answer are shown as uncertain, for a person to look into"),
        unanswered,
        stage.in_state(mails, S.UNCERTAIN),
    )
    notes.number(
        _("Nothing was sent a second time: Amazon SES has each mail once"), len(mails), stage.by_ses(mails)
    )
    others = stage.by_smtp(mails) + stage.by_moodle(mails)
    notes.number(_("Neither Moodle nor SMTP sent one of them as well"), 0, others)


_WAYS = {
    "moodle": gettext_lazy("Fallback “moodle”: they are handed back to Moodle, whose rows are as before"),
    "smtp": gettext_lazy("Fallback “smtp”: they are sent by SMTP"),
    "hold": gettext_lazy("Fallback “hold”: they are left to a person, on the page Fallbacks"),
}
_NO_SMTP = gettext_lazy(
    "Fallback “smtp”: your site has no SMTP server (EMAIL_URL), so they are left to a person"
)
ALL: Mapping[str, Rehearsal] = {
    "normal": Rehearsal(gettext_lazy("A day on which all is well"), 10, normal),
    "refused": Rehearsal(gettext_lazy("Amazon SES cannot be reached"), 30, refused),
    "paused": Rehearsal(gettext_lazy("Amazon SES pauses the account"), 30, paused),
    "silent": Rehearsal(gettext_lazy("Amazon SES does not answer"), 20, silent),
    "killed": Rehearsal(gettext_lazy("The worker dies"), 20, stoppages.killed),
    "moodle": Rehearsal(gettext_lazy("Moodle's database is away for a while"), 15, stoppages.moodle),
    "stop": Rehearsal(gettext_lazy("A planned stop"), 30, stoppages.stop),
}
"""By name, in the order in which they are played."""
