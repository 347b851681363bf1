"""The figures of the overview: is it healthy, what happened in the last day, what is next, who must act.

People bound to companies (`outbox.scope`) see the figures of those, and of the site's records only whether a
worker is alive. The number of queries is fixed and each one is bounded: counts stop at a cap, and only the
counts by state read a day of emails (perf-facts: 9–65 ms at ten million).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Max, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from emailoffload.dashboard import alarm_lines
from emailoffload.dashboard.paging import Capped, capped_count
from emailoffload.delivery import rate
from emailoffload.delivery.health import BREAKER
from emailoffload.feedback import alarms, claimstop, subscription
from emailoffload.outbox import guardstate, scope, switches
from emailoffload.outbox.models import Claim, Email, Lease, RowError, Run, State
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.sources import reasons
from emailoffload.worker import reconcile_words

ALIVE_WITHIN = timedelta(minutes=3)
"""A worker starts a pass every minute; three missed ones are no longer a busy moment."""
LATE_AFTER = timedelta(minutes=2)
KINDS = ("intercept", "dispatch", "recover")
DAY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Health:
    """One line about one thing that must be well: its name, tone, the words, and what to do if it is not."""

    name: str
    tone: str
    text: str
    at: datetime | None = None
    cure: str = ""


@dataclass(frozen=True, slots=True)
class StateCount:
    """Emails of the last day in one state, with its reasons: (code, emails), most frequent first."""

    state: str
    emails: int
    reasons: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Task:
    """Something that needs a person: how many, what, and where to look (a query of *Emails*)."""

    count: Capped
    text: str
    query: str = ""
    anchor: str = ""
    page: str = ""
    """The name of another page's address."""


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the page shows."""

    alarms: Sequence[alarm_lines.Line]
    """Those that last."""
    health: Sequence[Health]
    day: Sequence[StateCount]
    day_total: int
    next_due: Sequence[Email]
    due_in_hour: Capped
    tasks: Sequence[Task]
    row_errors: Sequence[RowError]
    passes: Sequence[Run]
    whole_site: bool
    """False: figures of some companies only, and none of the site's own records."""


def collect(user: scope.Person, now: datetime | None = None) -> Overview:
    """Read everything that `user` may see; about a dozen queries whatever the tables hold."""
    now = now or timezone.now()
    emails = scope.emails_for(user)
    day = last_day(emails, now)
    queued = emails.filter(state=EmailState.QUEUED)
    whole = not scope.is_bound(user)
    row_errors = RowError.objects.filter(last_seen__gte=now - DAY)
    return Overview(
        alarms=alarm_lines.open_alarms() if whole else [],
        health=[
            worker(now),
            *(
                [*last_runs(now), *queue(now), *ses_account(), *webhook(), *paused(), *reputation()]
                if whole
                else ()
            ),
        ],
        day=day,
        day_total=sum(entry.emails for entry in day),
        next_due=list(queued.order_by("next_try_at").select_related("claim")[:5]),
        due_in_hour=capped_count(queued.filter(next_try_at__lte=now + timedelta(hours=1))),
        tasks=[
            *tasks(emails, scope.claims_for(user), now),
            *findings(user),
            *(failing_rows(row_errors) if whole else ()),
        ],
        row_errors=list(row_errors.order_by("-last_seen")[:5]) if whole else [],
        passes=list(Run.objects.filter(kind="intercept").order_by("-id")[:5]) if whole else [],
        whole_site=whole,
    )


def worker(now: datetime) -> Health:
    """Is a worker alive? Its heartbeats and its passes say so; two queries."""
    # Who watches the queue, or looks after alarms, may live in another process than the passes.
    beat = Lease.objects.exclude(name__in=(guardstate.LEASE, alarms.LEASE)).aggregate(last=Max("beat_at"))[
        "last"
    ]
    started = Run.objects.order_by("-id").values_list("started_at", "finished_at").first() or (None, None)
    signs = [sign for sign in (beat, *started) if sign is not None]
    cure = _("Start it with “manage.py qcluster”. Until then Moodle's cron sends what is not claimed.")
    if not signs:
        return Health(_("Worker"), "warn", _("No worker has run yet."), None, cure)
    last = max(signs)
    if now - last <= ALIVE_WITHIN:
        return Health(_("Worker"), "good", _("Alive. Its last sign of life:"), last)
    return Health(_("Worker"), "bad", _("Silent. No pass has run since"), last, cure)


def last_runs(now: datetime) -> list[Health]:
    """How the newest pass of each kind ended; one query for each kind."""
    found = []
    names = {"intercept": _("Claiming"), "dispatch": _("Sending"), "recover": _("Recovery")}
    for kind in KINDS:
        run = Run.objects.filter(kind=kind).order_by("-id").first()
        found.append(_health_of(run, names[kind], now))
    return found


def _health_of(run: Run | None, name: str, now: datetime) -> Health:
    if run is None:
        return Health(name, "quiet", _("No pass yet."))
    at = run.finished_at or run.started_at
    if run.outcome == "running":
        return Health(name, "wait", _("A pass is running, started"), run.started_at)
    if run.outcome == "ok":
        return Health(name, "good", _("The last pass went well, it ended"), at)
    cure = _("“manage.py doctor” says what is wrong and how to cure it.")
    texts = {
        "errors": _("The last pass could not handle some rows, it ended"),
        "refused": _("The last pass refused to work, it ended"),
        "interrupted": _("The last pass was interrupted"),
        "failed": _("The last pass failed, it ended"),
    }
    tone = "bad" if run.outcome in {"failed", "refused"} else "warn"
    message = run.message if run.outcome == "refused" and run.message else cure
    return Health(name, tone, texts.get(run.outcome, run.outcome), at, message)


def queue(now: datetime) -> list[Health]:
    """Is somebody there when IOMAD queues a mail? One query; a site without IOMAD has no such line."""
    guard = guardstate.load()
    if guard is None or guard.last_look is None:
        return []
    name, at, cure = _("IOMAD's queue"), guard.last_look, ""
    if now - at > ALIVE_WITHIN:
        cure = _("IOMAD's own cron sends what waits there. The watch runs in the worker.")
        return [Health(name, "warn", _("Not watched since"), at, cure)]
    if guard.why_not == reasons.LOCK_UNAVAILABLE:
        text = _("Watched for mails that are due later; what is due already stays with IOMAD. Last look:")
        return [Health(name, "good", text, at)]
    if guard.why_not:
        codes = {reasons.CLAIMS_PAUSED, reasons.DELIVERY_UNHEALTHY}
        cure = _("%(why)s. IOMAD's own cron sends meanwhile.") % {
            "why": str(reasons.meaning(guard.why_not)).capitalize().rstrip(".")
            if guard.why_not in codes
            else guard.why_not.rstrip(".")
        }
        return [Health(name, "warn", _("Nothing is claimed from it. Last look:"), at, cure)]
    if guard.held_since:
        return [Health(name, "good", _("Watched; the lock of IOMAD's cron is ours since"), guard.held_since)]
    texts = {
        "hold": _("Watched; IOMAD's cron has its turn. Last look:"),
        "tick": _("Watched, also just before each run of IOMAD's cron. Last look:"),
    }
    return [Health(name, "good", texts.get(guard.mode, _("Watched. Last look:")), at)]


def webhook() -> list[Health]:
    """Topics whose subscription has ended or could not be confirmed: their events do not come. One query, where
    the webhook is used at all."""
    if not settings.SNS_TOPICS:
        return []
    texts = {
        "ended": _("The subscription of the topic %(topic)s has ended. Since"),
        "refused": _("The subscription of the topic %(topic)s was not confirmed. Since"),
    }
    cure = _("Run `manage.py doctor`: it says what to do.")
    return [
        Health(
            _("SES events"), "bad", texts[found.state] % {"topic": arn.rpartition(":")[2]}, found.since, cure
        )
        for arn, found in subscription.standings().items()
        if arn in settings.SNS_TOPICS and found.state in texts
    ]


def ses_account() -> list[Health]:
    """What the worker last learned of the SES account, and whether its breaker is open; SES is not asked.

    One query. An account that was never read is not shown.
    """
    rows = {row.name: row for row in State.objects.filter(name__in=(rate.ACCOUNT, BREAKER))}
    name = _("Amazon SES")
    broken = rows[BREAKER].value if BREAKER in rows else None
    if broken:
        text = _("Sending has stopped (%(code)s); it is tried again by itself. Since")
        cure = str(broken.get("why", ""))
        return [Health(name, "bad", text % {"code": broken.get("code", "")}, rows[BREAKER].updated_at, cure)]
    read = rows.get(rate.ACCOUNT)
    if read is None:
        return []
    problem, account = read.value.get("problem"), read.value.get("account")
    if problem:
        text = _("The account could not be read (%(code)s),") % {"code": problem.get("code", "")}
        return [Health(name, "warn", text, read.updated_at, str(problem.get("message", "")))]
    if not account:
        return []
    if not account["sending_enabled"]:
        text = _("Sending is switched off for the account, read")
        return [Health(name, "bad", text, read.updated_at, _("Resume sending in the SES console."))]
    quota = account["max_24h"]
    if quota is None:
        text = _("Sending is on; %(sent)s mails in 24 hours, no daily limit, read")
    else:
        text = _("Sending is on; %(sent)s of %(quota)s mails in 24 hours, read")
    values = {"sent": f"{account['sent_24h']:,}", "quota": f"{quota or 0:,}"}
    used_up = quota is not None and account["sent_24h"] >= quota
    cure = (
        ""
        if account["production"]
        else _("The account is in the SES sandbox: only verified addresses get mail.")
    )
    return [Health(name, "warn" if used_up or cure else "good", text % values, read.updated_at, cure)]


def paused() -> list[Health]:
    """What people have paused; one query."""
    pause = switches.pause()
    if not (pause.claims or pause.sends):
        return []
    if pause.claims and pause.sends:
        what = _("Claiming and sending are paused. Last changed")
    elif pause.claims:
        what = _("Claiming is paused. Last changed")
    else:
        what = _("Sending is paused. Last changed")
    who = _("By %(who)s: %(why)s") % {"who": pause.by or "–", "why": pause.reason or _("no reason given")}
    return [Health(_("Pause"), "warn", what, pause.since, who)]


def reputation() -> list[Health]:
    """What the rates of bounces and complaints stop, or would stop if nobody had said otherwise; one query."""
    stops = claimstop.known()
    name = _("Reputation")
    cure = _("The page Reputation has the figures, and what to do.")
    if stops.override:
        values = {"who": stops.override.by or "–", "why": stops.override.reason}
        text = _("Claiming goes on whatever the rates are, until")
        return [Health(name, "warn", text, stops.override.until, _("By %(who)s: %(why)s") % values)]
    if stops.account:
        text = _("Only mails with credentials are claimed: too many mails bounced or were complained of.")
        return [Health(name, "bad", text, None, cure)]
    if stops.any:
        text = _("Of some senders or companies only mails with credentials are claimed: too many bounced.")
        return [Health(name, "bad", text, None, cure)]
    return []


def last_day(emails: QuerySet[Email], now: datetime) -> list[StateCount]:
    """Emails rendered in the last 24 hours by present state, in the order of a mail's life; one query."""
    rows = (
        emails.filter(created_at__gte=now - DAY)
        .order_by()
        .values_list("state", "reason")
        .annotate(emails=Count("pk"))
    )
    by_state: dict[str, list[tuple[str, int]]] = {}
    for state, reason, number in rows:
        by_state.setdefault(state, []).append((reason, number))
    return [
        StateCount(
            state,
            sum(number for _reason, number in by_state[state]),
            tuple(sorted(((code, n) for code, n in by_state[state] if code), key=lambda pair: -pair[1])),
        )
        for state in EmailState.values
        if state in by_state
    ]


def tasks(emails: QuerySet[Email], claims: QuerySet[Claim], now: datetime) -> list[Task]:
    """What needs a person among these emails and claims, only what is there; capped counts through indexes."""
    found = [
        Task(
            capped_count(emails.filter(state=EmailState.FAILED)),
            _("failed: nothing more is tried"),
            "state=failed",
        ),
        Task(
            capped_count(emails.filter(state=EmailState.UNCERTAIN)),
            _("uncertain: sent without an answer, waiting for evidence"),
            "state=uncertain",
        ),
        Task(
            capped_count(emails.filter(state=EmailState.QUEUED, next_try_at__lt=now - LATE_AFTER)),
            _("should have left more than two minutes ago"),
            "state=queued",
        ),
        Task(
            capped_count(claims.filter(state=ClaimState.RELEASING, settled_at__lt=now - timedelta(hours=1))),
            _("claims are being handed back for more than an hour"),
        ),
    ]
    return [task for task in found if task.count.value]


def findings(user: scope.Person) -> list[Task]:
    """Findings of the reconciler that ask for a person, if there are any; one capped count."""
    asking = scope.findings_for(user).filter(
        closed_at__isnull=True, verdict__in=sorted(reconcile_words.NEEDS_PERSON)
    )
    count = capped_count(asking)
    text = ngettext(
        "claim does not agree with Moodle's row: a possible double or loss, not picked up, or changed by others",
        "claims do not agree with Moodle's rows: possible doubles or losses, not picked up, or changed by others",
        count.value,
    )
    return [Task(count, text, page="reconciliation")] if count.value else []


def failing_rows(row_errors: QuerySet[RowError]) -> list[Task]:
    """Rows of Moodle that could not be handled, if there are any; one capped count."""
    errors = capped_count(row_errors)
    text = ngettext(
        "row of Moodle could not be handled in the last 24 hours",
        "rows of Moodle could not be handled in the last 24 hours",
        errors.value,
    )
    return [Task(errors, text, anchor="row-errors")] if errors.value else []
