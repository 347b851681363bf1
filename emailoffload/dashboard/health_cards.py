"""Is all well? One card for each thing that must work, and the one line that says it all.

A card says how a thing is, since when, and what to do if it is not well. `line` takes the worst of them. Nothing is
asked of Amazon SES or of Moodle: cards tell what the worker last learned, and how long ago that was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from emailoffload.dashboard import access
from emailoffload.dashboard.alarm_lines import Line as AlarmLine
from emailoffload.outbox import guardstate, scope, switches
from emailoffload.outbox.models import Email, Run
from emailoffload.outbox.states import EmailState
from emailoffload.sources import reasons
from emailoffload.worker.alarm_conditions import last_sign

ALIVE_WITHIN = timedelta(minutes=3)
"""A worker starts a pass every minute; three missed ones are no longer a busy moment."""
LATE_AFTER = timedelta(minutes=2)
VERY_LATE = timedelta(minutes=10)
CLAIMS_WITHIN = timedelta(minutes=12)
"""A claiming pass starts every four minutes."""
KINDS = ("intercept", "dispatch", "recover")
TONES: Final = ("bad", "warn")
ORDER: Final = (
    "worker", "pause", "ses", "lag", "dispatch", "intercept", "reputation", "recover", "alarms", "events", "webhook",
    "queue",
)  # fmt: skip
"""What is told first where several things are equally bad: the nearer to the mails the sooner."""
PAGES: Final[Mapping[str, str]] = {
    "pause": access.PAUSE,
    "reputation": access.VIEW_REPUTATION,
    "alarms": access.VIEW_ALARM,
    "runs": access.VIEW_RUN,
    "events": access.VIEW_EVENT,
    "event-problems": access.VIEW_EVENTPROBLEM,
    "fallbacks": access.VIEW_EMAIL,
    "reconciliation": access.VIEW_EMAIL,
}
"""Pages that cards and tasks lead to, and the permission that each needs."""
LINKS: Final[Mapping[str, Promise]] = {
    "pause": gettext_lazy("Open Pause"),
    "reputation": gettext_lazy("Open Reputation"),
    "alarms": gettext_lazy("Open Alarms"),
    "runs": gettext_lazy("Open Runs"),
    "events": gettext_lazy("Open Events"),
    "event-problems": gettext_lazy("Open the unreadable events"),
    "fallbacks": gettext_lazy("Open Fallbacks"),
    "reconciliation": gettext_lazy("Open Reconciliation"),
}
"""The words of a link to each of them."""


@dataclass(frozen=True, slots=True)
class Health:
    """One card: its name, tone, the words, since when, what to do if it is not well, and the page for that."""

    name: str
    tone: str
    text: str
    at: datetime | None = None
    cure: str = ""
    code: str = ""
    page: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one line: all is well, or the worst thing and what to do. `more`: how many other things are not well."""

    tone: str
    text: str
    at: datetime | None = None
    cure: str = ""
    page: str = ""
    more: str = ""

    @property
    def link(self) -> str:
        """The words of a link to the page; empty without one."""
        return str(LINKS[self.page]) if self.page else ""

    @property
    def key(self) -> str:
        """What changes when the line says something else: it is read aloud only then."""
        return f"{self.tone}: {self.text} {self.cure} {self.more}"


def may_open(user: scope.Person, page: str) -> bool:
    """Whether a person may open the page that a card or a task names."""
    return bool(page) and user.has_perm(PAGES[page])  # type: ignore[union-attr]


def verdict(cards: Sequence[Health], needs: int, first: str) -> Verdict:
    """The line of these cards; where they are all well, whether something waits for a person (`needs`, the `first`)."""
    wrong = sorted(
        (card for card in cards if card.tone in TONES),
        key=lambda card: (TONES.index(card.tone), ORDER.index(card.code)),
    )
    if wrong:
        worst = wrong[0]
        text = _("%(what)s: %(how)s") % {"what": worst.name, "how": worst.text}
        others = len(wrong) - 1
        more = ngettext("%(n)d more thing is not well.", "%(n)d more things are not well.", others) % {
            "n": others
        }
        return Verdict(worst.tone, text, worst.at, worst.cure, worst.page, more if others else "")
    if needs:
        text = ngettext(
            "All runs well, but something needs a person: %(first)s.",
            "All runs well, but %(n)d things need a person. The first: %(first)s.",
            needs,
        )
        return Verdict("warn", text % {"n": needs, "first": first}, cure=_("See below what to do."))
    return Verdict("good", _("All is well."))


def worker(now: datetime) -> Health:
    """Is a worker alive? Its heartbeats and its passes say so; two queries."""
    name, code = _("Worker"), "worker"
    last = last_sign()
    cure = _("Start it with “manage.py qcluster”. Until then Moodle's cron sends what is not claimed.")
    if last is None:
        return Health(name, "warn", _("No worker has run yet."), None, cure, code)
    if now - last <= ALIVE_WITHIN:
        return Health(name, "good", _("Alive. Its last sign of life:"), last, code=code)
    return Health(name, "bad", _("Silent. Its last sign of life:"), last, cure, code)


def last_runs(now: datetime) -> list[Health]:
    """How the newest pass of each kind ended; one query for each kind."""
    names = {"intercept": _("Claiming"), "dispatch": _("Sending"), "recover": _("Recovery")}
    return [
        _health_of(Run.objects.filter(kind=kind).order_by("-id").first(), names[kind], kind) for kind in KINDS
    ]


def _health_of(run: Run | None, name: str, code: str) -> Health:
    if run is None:
        return Health(name, "quiet", _("No pass yet."), code=code)
    at = run.finished_at or run.started_at
    if run.outcome == "running":
        return Health(name, "wait", _("A pass is running, started"), run.started_at, code=code)
    if run.outcome == "ok":
        return Health(name, "good", _("The last pass went well, it ended"), at, code=code)
    cure = _("“manage.py doctor” says what is wrong and how to cure it.")
    texts = {
        "errors": _("The last pass could not handle some rows, it ended"),
        "refused": _("The last pass refused to work, it ended"),
        "interrupted": _("The last pass was interrupted"),
        "failed": _("The last pass failed, it ended"),
    }
    tone = "bad" if run.outcome in {"failed", "refused"} else "warn"
    message = run.message if run.outcome == "refused" and run.message else cure
    return Health(name, tone, texts.get(run.outcome, run.outcome), at, message, code, "runs")


def lag(now: datetime) -> Health:
    """How late the oldest due mail is, and how old the newest claiming pass; two queries through indexes."""
    name, code = _("On time"), "lag"
    waiting = Email.objects.filter(state=EmailState.QUEUED, next_try_at__lt=now - LATE_AFTER)
    oldest = waiting.order_by("next_try_at").values_list("next_try_at", flat=True).first()
    if oldest is not None:
        text = _("The oldest mail in the outbox is %(time)s late. It was due") % {
            "time": timesince(oldest, now)
        }
        cure = _(
            "The cards Sending and Amazon SES say what holds it up; past its deadline it takes its fallback."
        )
        return Health(name, "bad" if now - oldest > VERY_LATE else "warn", text, oldest, cure, code, "runs")
    claimed = (
        Run.objects.filter(kind="intercept").order_by("-id").values_list("started_at", flat=True).first()
    )
    if claimed is not None and now - claimed > CLAIMS_WITHIN:
        cure = _(
            "Moodle's cron sends what is not claimed. Restart the worker, and look at its passes on Runs."
        )
        return Health(
            name, "warn", _("No claiming pass begins. The last one began"), claimed, cure, code, "runs"
        )
    if claimed is None:
        return Health(name, "quiet", _("Nothing is late. No claiming pass yet."), code=code)
    return Health(name, "good", _("Nothing is late. The last claiming pass began"), claimed, code=code)


def queue(now: datetime) -> list[Health]:
    """Is somebody there when IOMAD queues a mail? One query; a site without IOMAD has no such card."""
    guard = guardstate.load()
    if guard is None or guard.last_look is None:
        return []
    tone, text, at, cure = _watch(guard, guard.last_look, now)
    return [Health(_("IOMAD's queue"), tone, text, at, cure, "queue")]


def _watch(guard: guardstate.Guard, at: datetime, now: datetime) -> tuple[str, str, datetime, str]:
    if now - at > ALIVE_WITHIN:
        cure = _("IOMAD's own cron sends what waits there. The watch runs in the worker.")
        return "warn", _("Not watched. The last look was"), at, cure
    if guard.why_not == reasons.LOCK_UNAVAILABLE:
        text = _("Watched for mails that are due later; what is due already stays with IOMAD. Last look:")
        return "good", text, at, ""
    if guard.why_not:
        codes = {reasons.CLAIMS_PAUSED, reasons.DELIVERY_UNHEALTHY}
        cure = _("%(why)s. IOMAD's own cron sends meanwhile.") % {
            "why": capfirst(reasons.meaning(guard.why_not)).rstrip(".")
            if guard.why_not in codes
            else guard.why_not.rstrip(".")
        }
        return "warn", _("Nothing is claimed from it. Last look:"), at, cure
    if guard.held_since:
        return "good", _("Watched; the lock of IOMAD's cron is ours. It was taken"), guard.held_since, ""
    texts = {
        "hold": _("Watched; IOMAD's cron has its turn. Last look:"),
        "tick": _("Watched, also just before each run of IOMAD's cron. Last look:"),
    }
    return "good", texts.get(guard.mode, _("Watched. Last look:")), at, ""


def paused() -> Health:
    """What people have paused; one query."""
    pause = switches.pause()
    name, code, page = _("Pause"), "pause", "pause"
    if not (pause.claims or pause.sends):
        return Health(name, "good", _("Nothing is paused."), code=code)
    if pause.claims and pause.sends:
        what = _("Claiming and sending are paused. Last changed")
    elif pause.claims:
        what = _("Claiming is paused. Last changed")
    else:
        what = _("Sending is paused. Last changed")
    who = _("By %(who)s: %(why)s") % {"who": pause.by or "–", "why": pause.reason or _("no reason given")}
    # What is claimed waits here, past its time, while sending is paused; while claiming is, Moodle sends.
    return Health(name, "bad" if pause.sends else "warn", what, pause.since, who, code, page)


def alarmed(lines: Sequence[AlarmLine]) -> Health:
    """Whether alarms are open, and the first of them; no query."""
    name, code = _("Alarms"), "alarms"
    if not lines:
        return Health(name, "good", _("No alarm is open."), code=code)
    text = ngettext(
        "One alarm is open: %(first)s. Since",
        "%(n)s alarms are open. The first: %(first)s. Since",
        len(lines),
    )
    first = lines[0]
    values = {"n": number_format(len(lines)), "first": first.title}
    return Health(name, first.tone, text % values, first.alarm.raised_at, first.alarm.cure, code, "alarms")
