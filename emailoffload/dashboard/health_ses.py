"""Cards about Amazon SES: the account and its breaker, the queue of its events, the webhook, the reputation; the gauge
of quota and rate. SES is not asked: the worker asks it each minute, and its answer is on record."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from emailoffload.dashboard import reasons
from emailoffload.dashboard.health_cards import Health
from emailoffload.delivery import rate
from emailoffload.delivery.health import BREAKER
from emailoffload.feedback import claimstop, queuestate, subscription
from emailoffload.outbox.models import Attempt, State
from emailoffload.worker.alarm_conditions import BACKLOG, QUEUE_SILENT

PRESENT = timedelta(minutes=1)
"""How far back the present sending rate looks."""
MOST_ATTEMPTS = 500


def ses_account() -> list[Health]:
    """What the worker last learned of the SES account, and whether its breaker is open.

    One query. An account that was never read is not shown.
    """
    rows = {row.name: row for row in State.objects.filter(name__in=(rate.ACCOUNT, BREAKER))}
    name, code = _("Amazon SES"), "ses"
    broken = rows[BREAKER].value if BREAKER in rows else None
    if broken:
        text = _("Sending has stopped (%(code)s); it is tried again by itself. Since")
        cure = reasons.written(str(broken.get("why", "")))
        since = (
            datetime.fromtimestamp(broken["since"], UTC) if broken.get("since") else rows[BREAKER].updated_at
        )
        return [Health(name, "bad", text % {"code": broken.get("code", "")}, since, cure, code)]
    read = rows.get(rate.ACCOUNT)
    if read is None:
        return []
    problem, account = read.value.get("problem"), read.value.get("account")
    if problem:
        text = _("The account could not be read (%(code)s),") % {"code": problem.get("code", "")}
        cure = reasons.written(str(problem.get("message", "")))
        return [Health(name, "warn", text, read.updated_at, cure, code)]
    if not account:
        return []
    if not account["sending_enabled"]:
        text = _("Sending is switched off for the account, read")
        return [Health(name, "bad", text, read.updated_at, _("Resume sending in the SES console."), code)]
    quota = account["max_24h"]
    if quota is None:
        text = _("Sending is on; %(sent)s mails in 24 hours, no daily limit, read")
    else:
        text = _("Sending is on; %(sent)s of %(quota)s mails in 24 hours, read")
    values = {
        "sent": number_format(account["sent_24h"], force_grouping=True),
        "quota": number_format(quota or 0, force_grouping=True),
    }
    cure = ""
    if quota is not None and account["sent_24h"] >= quota:
        cure = _("The 24-hour quota is used up. Moodle sends meanwhile; ask AWS for a higher quota.")
    elif not account["production"]:
        cure = _("The account is in the SES sandbox: only verified addresses get mail.")
    return [Health(name, "warn" if cure else "good", text % values, read.updated_at, cure, code)]


def events(now: datetime) -> Health:
    """Whether what SES reports is read: backlog, last look, last event; one query."""
    name, code = _("SES events"), "events"
    if not settings.SES_EVENTS_QUEUE_URL:
        if settings.SNS_TOPICS:
            return Health(name, "good", _("They come by the webhook."), code=code, page="events")
        text = _("Not set up: mails stay at “accepted”, bounces are not seen.")
        cure = _("“manage.py sessetup” sets the queue up; docs/events.md explains it.")
        return Health(name, "quiet", text, cure=cure, code=code)
    seen = queuestate.load()
    if seen.error_at:
        text = _("The queue cannot be read: %(why)s Since") % {"why": seen.error}
        return Health(name, "bad", text, seen.error_at, seen.cure, code, "events")
    if seen.polled_at is None:
        text = _("The queue has not been read yet.")
        return Health(
            name, "quiet", text, cure=_("The worker reads it each minute."), code=code, page="events"
        )
    if now - seen.polled_at > QUEUE_SILENT:
        cure = _("Start the worker, or look at its feedback passes on Runs.")
        return Health(
            name,
            "warn",
            _("The queue is not being read. The last time was"),
            seen.polled_at,
            cure,
            code,
            "events",
        )
    waiting = ngettext("%(n)s event waits", "%(n)s events wait", seen.waiting)
    values = {"waiting": waiting % {"n": number_format(seen.waiting, force_grouping=True)}}
    if seen.waiting and (seen.drained_at is None or now - seen.drained_at > BACKLOG):
        text = _("%(waiting)s, and the queue has not been empty for a long time. Last read") % values
        cure = _("If the number grows the database is too slow; see docs/events.md, “When events are late”.")
        return Health(name, "warn", text, seen.polled_at, cure, code, "events")
    if seen.event_at is None:
        return Health(name, "good", _("No event yet. Last read") % values, seen.polled_at, "", code, "events")
    text = _("%(waiting)s. The last one came") % values
    return Health(name, "good", text, seen.event_at, "", code, "events")


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
            _("Webhook"),
            "bad",
            texts[found.state] % {"topic": arn.rpartition(":")[2]},
            found.since,
            cure,
            "webhook",
        )
        for arn, found in subscription.standings().items()
        if arn in settings.SNS_TOPICS and found.state in texts
    ]


def reputation() -> Health:
    """What the rates of bounces and complaints stop, or would stop if nobody had said otherwise; one query."""
    stops = claimstop.known()
    name, code, page = _("Reputation"), "reputation", "reputation"
    cure = _("The page Reputation has the figures, and what to do.")
    if stops.override:
        values = {"who": stops.override.by or "–", "why": stops.override.reason}
        text = _("Claiming goes on whatever the rates are, until")
        who = _("By %(who)s: %(why)s") % values
        return Health(name, "warn", text, stops.override.until, who, code, page)
    if stops.account:
        text = _("Only mails with credentials are claimed: too many mails bounced or were complained of.")
        return Health(name, "bad", text, None, cure, code, page)
    if stops.any:
        text = _("Of some senders or companies only mails with credentials are claimed: too many bounced.")
        return Health(name, "bad", text, None, cure, code, page)
    return Health(name, "good", _("Bounces and complaints stop nothing."), code=code, page=page)


@dataclass(frozen=True, slots=True)
class Gauge:
    """What the SES account still allows, by what is on record. Mails; rates are mails per second."""

    quota: int | None
    """Of 24 hours; None: no limit."""
    used: int
    reserve: int
    """The last part of the quota, kept for mails with credentials."""
    sending: float
    """Mails per second that were tried in the last minute."""
    rate: float
    """The most that we send now: less than `most` for a while after SES throttled us, or where a setting says so."""
    most: float
    read_at: datetime

    @property
    def free(self) -> int:
        """Mails that may still be sent within the quota."""
        return max(0, (self.quota or 0) - self.used)

    @property
    def tone(self) -> str:
        """Good, warn where only the reserve is left, bad where nothing is."""
        if self.quota is None:
            return "good"
        return "bad" if not self.free else "warn" if self.free <= self.reserve else "good"

    @property
    def used_percent(self) -> str:
        """The used part, as an SVG attribute takes it."""
        return f"{min(100.0, 100 * self.used / self.quota):.2f}" if self.quota else "0"

    @property
    def reserve_from(self) -> str:
        """Where the reserve begins, in percent."""
        return f"{100 * (self.quota - self.reserve) / self.quota:.2f}" if self.quota else "100"

    @property
    def reserve_percent(self) -> str:
        """How wide the reserve is."""
        return f"{100 * self.reserve / self.quota:.2f}" if self.quota else "0"

    @property
    def sending_percent(self) -> str:
        """The present rate as a part of the most."""
        return f"{min(100.0, 100 * self.sending / self.most):.2f}" if self.most else "0"

    @property
    def rate_at(self) -> str:
        """Where the rate that we allow ourselves stands, in percent of the most."""
        return f"{min(100.0, 100 * self.rate / self.most):.2f}" if self.most else "0"

    @property
    def throttled(self) -> bool:
        """Whether we send more slowly than the account allows."""
        return self.rate < self.most * 0.995


def gauge(now: datetime) -> Gauge | None:
    """Quota and rate; None where the account was never read. Four small queries."""
    known = rate.remembered()
    if known.account is None:
        return None
    free = rate.available_24h(known)
    quota = known.account.max_24h
    used = known.account.sent_24h if quota is None or free is None else quota - free
    read_at = datetime.fromtimestamp(known.read_at or time.time(), UTC)
    return Gauge(
        quota, used, rate.reserved_24h(known), sending(now), known.rate, known.account.max_send_rate, read_at
    )


def sending(now: datetime) -> float:
    """Attempts per second of the last minute, by SES; judged by the newest MOST_ATTEMPTS. One query."""
    newest = Attempt.objects.order_by("-pk").values_list("route", "started_at")[:MOST_ATTEMPTS]
    times = [at for route, at in newest if route == "ses" and now - PRESENT < at <= now]
    if not times:
        return 0.0
    span = PRESENT.total_seconds()
    if len(times) == MOST_ATTEMPTS:
        span = max(0.001, (now - min(times)).total_seconds())
    return math.floor(10 * len(times) / span + 0.5) / 10
