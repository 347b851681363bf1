"""The conditions that are alarms while they last: one small function each, and the table of all of them.

A function gets the time and returns what it sees, nothing where all is well; it reads our own database only and
asks nobody else. Texts and figures name no learner and no address. docs/reputation.md explains each code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import Max
from django.urls import NoReverseMatch, reverse
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from emailoffload.delivery import errors, health, rate
from emailoffload.feedback import alarms, claimstop, queuestate, rates, subscription
from emailoffload.feedback.models import Alarm, Event
from emailoffload.feedback.rates import Rate
from emailoffload.outbox import guardstate
from emailoffload.outbox.models import Email, Lease, Run, State
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.outbox.states import EmailState
from emailoffload.worker import reconcile_words
from emailoffload.worker.smtp_route import HELD

WARNING, CRITICAL = Alarm.Level.WARNING, Alarm.Level.CRITICAL
SILENT = timedelta(minutes=5)
"""A worker starts a pass every minute."""
QUEUE_SILENT = timedelta(minutes=10)
BACKLOG = timedelta(minutes=30)
NO_EVENTS = timedelta(hours=1)
"""SES publishes that it took a mail within seconds."""
RECENT = 1000
"""Mails, the newest, that are looked at for whether events came."""
MOST_FALLBACKS = 5000
"""Mails of a state, the newest, that are looked at."""
MOST_FINDINGS = 1000
"""Open findings of the reconciler that are looked at."""
HOUR = timedelta(hours=1)
FAILED_PASSES = 3
"""Passes of a kind, one after the other, that did not do their work."""
KINDS = ("intercept", "dispatch", "recover", "reconcile", "feedback")
CREDENTIAL_CODES = frozenset(
    {
        "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidSignatureException",
        "IncompleteSignature", "MissingAuthenticationToken", "RequestExpired", "ExpiredToken",
        "ExpiredTokenException", "NotAuthorized", *errors.LOCAL,
    }
)  # fmt: skip
"""Answers and failures that mean: these AWS credentials cannot be used."""
_AWAY = (EmailState.RELEASED, EmailState.SENT_SMTP, EmailState.FAILED)
_PERSONS = frozenset({"dealt_with", "settled_by_person", "drain"})
"""Reasons of mails that a person sent another way: nothing to be told of."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that is wrong now."""

    code: str
    level: str
    text: str
    cure: str
    subject: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What it is known by while it lasts."""
        return alarms.key_of(self.code, self.subject)


@dataclass(frozen=True, slots=True)
class Condition:
    """What is looked at together: a name for the log, its codes, the look."""

    name: str
    codes: frozenset[str]
    holds: Callable[[], timedelta]
    """How long it must hold before it is an alarm."""
    look: Callable[[datetime], Sequence[Seen]]


TITLES: Final[Mapping[str, Promise]] = {
    "reputation_warning": gettext_lazy("many bounces or complaints"),
    "reputation_stop": gettext_lazy("claiming has stopped because of bounces or complaints"),
    "worker_silent": gettext_lazy("the worker is silent"),
    "breaker_open": gettext_lazy("Amazon SES takes no mails"),
    "credentials": gettext_lazy("the AWS credentials cannot be used"),
    "events_late": gettext_lazy("the queue of SES's events is not read"),
    "events_missing": gettext_lazy("no events come from Amazon SES"),
    "subscription_ended": gettext_lazy("the webhook gets no events any more"),
    "fallbacks": gettext_lazy("many mails do not go by the cloud"),
    "findings": gettext_lazy("claims and Moodle's rows do not agree"),
    "passes_failing": gettext_lazy("passes of the worker fail"),
    "test": gettext_lazy("a test"),
}
"""What each code means, in few words."""
_PAGES: Final[Mapping[str, str]] = {
    "reputation_warning": "reputation",
    "reputation_stop": "reputation",
    "fallbacks": "fallbacks",
    "findings": "reconciliation",
    "passes_failing": "runs",
}


def title(code: str) -> str:
    """An alarm's code in few words; the code itself where this version does not know it."""
    return str(TITLES.get(code, code))


def page(code: str) -> str:
    """The path of the page that has more about it."""
    try:
        return reverse(_PAGES.get(code, "overview"))
    except NoReverseMatch:
        # A site that serves the dashboard elsewhere.
        return "/"


def percent(value: float) -> str:
    """A rate for people: 0.023 is 2.30 %."""
    return _("%(n)s %%") % {"n": number_format(100 * value, 2)}


# --- bounces and complaints ---


def reputation(now: datetime) -> list[Seen]:
    """Rates near what SES reviews or pauses accounts for. Stops are told one by one, warnings of companies together."""
    found = rates.rates(now)
    stopped = claimstop.judge(found, now)
    seen = [_stopped(each) for each in found if each.window == "volume" and (each.scope, each.key) in stopped]
    warned: dict[tuple[str, str], Rate] = {}
    for each in found:
        if each.level == "warning" and (each.scope, each.key) not in stopped:
            warned.setdefault((each.scope, each.key), each)
    companies = [each for each in warned.values() if each.scope == "company"]
    seen += [_warned([each], each.key) for each in warned.values() if each.scope != "company"]
    if companies:
        seen.append(_warned(companies, "companies"))
    return seen


def _stopped(each: Rate) -> Seen:
    text = _("%(whose)s: claiming has stopped, but for mails with credentials. Moodle sends the others.")
    return Seen(
        "reputation_stop", CRITICAL, f"{text % {'whose': whose(each)}} {_figures(each)}",
        _("Find out why these addresses bounce or complain and correct them in Moodle. Whoever may pause can let "
          "claiming go on for a while: page Reputation."),
        f"{each.scope}:{each.key}" if each.key else "", _details([each]),
    )  # fmt: skip


def _warned(those: Sequence[Rate], subject: str) -> Seen:
    worst = sorted(those, key=lambda each: max(each.bounces, 20 * each.complained), reverse=True)
    lines = [f"{whose(each)}: {_figures(each)}" for each in worst[:5]]
    if len(worst) > len(lines):
        lines.append(_("And %(n)d more.") % {"n": len(worst) - len(lines)})
    cure = _("Look at the bounced addresses on Emails (state bounced) and correct them in Moodle.")
    return Seen("reputation_warning", WARNING, "\n".join(lines), cure, subject, _details(worst))


def whose(each: Rate) -> str:
    """Whose rate it is, in words."""
    if each.scope == "identity":
        return _("Sender's domain %(domain)s") % {"domain": each.key}
    if each.scope == "company":
        return _("Company %(id)s") % {"id": each.key}
    return _("The whole account")


def _figures(each: Rate) -> str:
    values = {
        "n": each.permanent_bounces, "rate": percent(each.bounces), "complaints": each.complaints,
        "complained": percent(each.complained), "mails": each.mails, "time": f"{each.since:%Y-%m-%d %H:%M} UTC",
    }  # fmt: skip
    text = _(
        "Of %(mails)d mails since %(time)s, %(n)d bounced for good (%(rate)s; SES reviews an account at 5 %% and "
        "pauses it at 10 %%) and %(complaints)d were complained of (%(complained)s; 0.1 %% and 0.5 %%)."
    )
    return text % values


def _details(those: Sequence[Rate]) -> dict[str, Any]:
    return {
        "rates": [
            {
                "scope": each.scope, "key": each.key, "window": each.window, "since": each.since.isoformat(),
                "mails": each.mails, "permanent_bounces": each.permanent_bounces, "complaints": each.complaints,
            }
            for each in those[:50]
        ]
    }  # fmt: skip


# --- the worker ---


def worker_silent(now: datetime) -> list[Seen]:
    """No pass has begun and no lease of one was renewed for SILENT. A worker that never ran is no alarm."""
    last = last_sign()
    if last is None or now - last <= SILENT:
        return []
    text = _("No pass has run since %(time)s. What is claimed already waits here; Moodle sends the rest.")
    return [
        Seen("worker_silent", CRITICAL, text % {"time": f"{last:%Y-%m-%d %H:%M} UTC"},
             _("Start the worker, and look into its log for why it ended."))
    ]  # fmt: skip


def last_sign() -> datetime | None:
    """The worker's last sign of life; two queries. Others hold the leases of the watch and of this pass too."""
    leases = Lease.objects.exclude(name__in=(guardstate.LEASE, alarms.LEASE))
    beat = leases.aggregate(last=Max("beat_at"))["last"]
    started = Run.objects.order_by("-id").values_list("started_at", "finished_at").first() or (None, None)
    return max((sign for sign in (beat, *started) if sign is not None), default=None)


def passes_failing(now: datetime) -> list[Seen]:
    """The last FAILED_PASSES passes of a kind were refused or failed; one query for each kind."""
    seen = []
    for kind in KINDS:
        runs = Run.objects.filter(kind=kind).exclude(outcome="running").order_by("-id")
        last = list(runs.values_list("outcome", "message")[:FAILED_PASSES])
        if len(last) < FAILED_PASSES or any(
            outcome not in {"refused", "failed"} for outcome, _message in last
        ):
            continue
        text = _("The last %(n)d passes of kind “%(kind)s” did not do their work: %(why)s")
        values = {"n": FAILED_PASSES, "kind": kind, "why": last[0][1] or last[0][0]}
        cure = _("Cure what is named there; `manage.py doctor` looks at everything.")
        seen.append(Seen("passes_failing", CRITICAL, text % values, cure, kind))
    return seen


# --- Amazon SES ---


def breaker_open(now: datetime) -> list[Seen]:
    """The breaker has not closed: SES has taken no mail since it opened."""
    broken = health.breaker()
    if broken is None or broken.code in CREDENTIAL_CODES:
        return []
    text = _("Amazon SES takes no mails (%(code)s): %(why)s Nothing is claimed; Moodle sends.")
    values = {"code": broken.code, "why": _(broken.why) if broken.why else ""}
    return [
        Seen("breaker_open", CRITICAL, text % values, _("Cure what is named; sending goes on by itself."))
    ]


def credentials(now: datetime) -> list[Seen]:
    """AWS refused the credentials when the account was read or a mail sent."""
    rows = dict(State.objects.filter(name__in=(rate.ACCOUNT, health.BREAKER)).values_list("name", "value"))
    problem = (rows.get(rate.ACCOUNT) or {}).get("problem") or {}
    broken = rows.get(health.BREAKER) or {}
    for code, why in ((problem.get("code"), problem.get("message")), (broken.get("code"), broken.get("why"))):
        if code in CREDENTIAL_CODES:
            text = _("Amazon SES cannot be used (%(code)s). Nothing is claimed; Moodle sends.")
            return [Seen("credentials", CRITICAL, text % {"code": code}, str(why or ""))]
    return []


# --- events ---


def events_late(now: datetime) -> list[Seen]:
    """The queue cannot be read, is not read, or has not been empty for long while events wait."""
    if not settings.SES_EVENTS_QUEUE_URL:
        return []
    state = queuestate.load()
    if state.polled_at is None and state.error_at is None:
        return []
    why = cure = ""
    if state.error_at and now - state.error_at > QUEUE_SILENT:
        why, cure = state.error, state.cure
    elif not state.error_at and state.polled_at and now - state.polled_at > QUEUE_SILENT:
        why = _("It was last read at %(time)s.") % {"time": f"{state.polled_at:%Y-%m-%d %H:%M} UTC"}
        cure = _("Start the worker, or look at its feedback passes on Runs.")
    elif state.waiting and (state.drained_at is None or now - state.drained_at > BACKLOG):
        why = ngettext(
            "%(n)s event waits, and it has not been empty for a long time.",
            "%(n)s events wait, and it has not been empty for a long time.",
            state.waiting,
        ) % {"n": number_format(state.waiting, force_grouping=True)}
        cure = _("If the number grows the database is too slow; see docs/events.md, 'When events are late'.")
    if not why:
        return []
    text = _("The queue of SES's events: %(why)s Bounces are not seen meanwhile.") % {"why": why}
    details = {"waiting": state.waiting}
    return [Seen("events_late", WARNING, text, cure, details=details)]


def events_missing(now: datetime) -> list[Seen]:
    """SES took mails long ago and no event came since: the configuration set does not publish to us."""
    if not (settings.SES_EVENTS_QUEUE_URL or settings.SNS_TOPICS):
        return []
    newest = Event.objects.order_by("-pk").values_list("received_at", flat=True).first()
    accepted = Email.objects.order_by("-pk").values_list("accepted_at", "route")[:RECENT]
    waited = [
        at for at, route in accepted
        if at and route == "ses" and at < now - NO_EVENTS and (newest is None or at > newest)
    ]  # fmt: skip
    if not waited:
        return []
    text = _("SES took %(n)d mails or more since %(time)s, and no event has come of them.")
    values = {"n": len(waited), "time": f"{min(waited):%Y-%m-%d %H:%M} UTC"}
    cure = _("Run `manage.py doctor --send-test` to see which part of the way is broken.")
    return [Seen("events_missing", WARNING, text % values, cure, details={"mails": len(waited)})]


def subscription_ended(now: datetime) -> list[Seen]:
    """SNS has told that a topic does not post to our webhook any more, and it is not subscribed again; one query."""
    standings = subscription.standings() if settings.SNS_TOPICS else {}
    ended = {arn: standings[arn] for arn in settings.SNS_TOPICS if arn in standings}
    text = _("The subscription of the topic %(topic)s ended at %(time)s: no event comes by the webhook.")
    cure = _("Find out who ended it; then run `manage.py sessetup --webhook URL --apply`.")
    return [
        Seen("subscription_ended", CRITICAL,
             text % {"topic": arn.rpartition(":")[2], "time": f"{each.since:%Y-%m-%d %H:%M} UTC"}, cure, arn)
        for arn, each in ended.items() if each.state == "ended"
    ]  # fmt: skip


# --- what did not go by the cloud, or not as we think ---


def findings(now: datetime) -> list[Seen]:
    """Findings of the reconciler that need a person are open; one bounded query."""
    rows = ReconcileFinding.objects.filter(closed_at=None, verdict__in=sorted(reconcile_words.NEEDS_PERSON))
    counts = Counter(rows.order_by().values_list("verdict", flat=True)[:MOST_FINDINGS])
    if not counts:
        return []
    named = ", ".join(
        f"{counts[code]} {word}" for code, (word, _tone) in reconcile_words.VERDICTS.items() if counts[code]
    )
    text = _("Claims do not agree with Moodle's rows: %(what)s.") % {"what": named}
    cure = _("The page Reconciliation lists them, each with what was seen and what to do.")
    level = WARNING if reconcile_words.SERIOUS.isdisjoint(counts) else CRITICAL
    return [Seen("findings", level, text, cure, details=dict(counts))]


def fallbacks(now: datetime) -> list[Seen]:
    """Mails of the last hour that the cloud did not take, ALARM_FALLBACKS or more; one bounded query for each state."""
    if not settings.ALARM_FALLBACKS:
        return []
    counts = {}
    for state in _AWAY:
        rows = Email.objects.filter(state=state).order_by("-pk").values_list("state_at", "reason")
        counts[state.value] = sum(
            at > now - HOUR and reason.removeprefix(HELD) not in _PERSONS
            for at, reason in rows[:MOST_FALLBACKS]
        )
    total = sum(counts.values())
    if total < settings.ALARM_FALLBACKS:
        return []
    text = _(
        "Within an hour %(total)d mails did not go by the cloud: %(released)d handed back to Moodle, %(smtp)d sent by "
        "SMTP, %(failed)d failed."
    )
    values = {
        "total": total, "released": counts["released"], "smtp": counts["sent_smtp"], "failed": counts["failed"],
    }  # fmt: skip
    cure = _("The page Fallbacks has them by cause; failed ones wait for a person.")
    return [Seen("fallbacks", WARNING, text % values, cure, details=counts)]


def _at_once() -> timedelta:
    return timedelta()


def _a_while() -> timedelta:
    return timedelta(minutes=2)


def _breaker_minutes() -> timedelta:
    return timedelta(minutes=settings.ALARM_BREAKER_MINUTES)


CONDITIONS: Final[tuple[Condition, ...]] = (
    Condition("reputation", frozenset({"reputation_warning", "reputation_stop"}), _at_once, reputation),
    Condition("worker", frozenset({"worker_silent"}), _a_while, worker_silent),
    Condition("breaker", frozenset({"breaker_open"}), _breaker_minutes, breaker_open),
    Condition("credentials", frozenset({"credentials"}), _a_while, credentials),
    Condition("events", frozenset({"events_late"}), _a_while, events_late),
    Condition("no events", frozenset({"events_missing"}), _a_while, events_missing),
    Condition("subscription", frozenset({"subscription_ended"}), _at_once, subscription_ended),
    Condition("fallbacks", frozenset({"fallbacks"}), _at_once, fallbacks),
    Condition("findings", frozenset({"findings"}), _at_once, findings),
    Condition("passes", frozenset({"passes_failing"}), _a_while, passes_failing),
)
"""All of them. What lasts for less than a while is a restart or a busy moment."""
