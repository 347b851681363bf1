"""Telling people of alarms: by e-mail through the SMTP route and by webhook, once when raised, once when ended.

Each address and the webhook is a channel of its own. Before a telling the alarm's row says until when nobody else
tries (the back-off), so two who tell at once do not tell twice; after it the row says that it is told. A process
that dies between the two tells once more later, with the same Message-ID, or id. An alarm that ended before anybody
could be told is told of in one message, which has both times.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from emailoffload.delivery import smtp
from emailoffload.feedback.models import Alarm
from emailoffload.outbox.content import Parts
from emailoffload.worker import alarm_conditions

What = Literal["raised", "ended"]
GIVE_UP: Final = timedelta(days=1)
"""How long after its end it is tried to tell of an alarm."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
WEBHOOK_SECONDS = 10.0
_IDS = uuid.UUID("6b7ac1d2-9f0e-5c6b-8a4e-0d7f3b1c2e90")


class NotTold(Exception):
    """Nobody was told; the text says why, without addresses."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One way to tell: `name` is its key in `Alarm.told` and gives no address away."""

    name: str
    send: Callable[[Alarm, What, smtp.Connection], None]
    """Raises NotTold."""


@dataclass
class Told:
    """How many tellings were done, and how many failed."""

    told: int = 0
    failed: int = 0


def channels() -> list[Channel]:
    """The ways that the settings name."""
    found = [Channel(_name(address), _mailer(address)) for address in settings.ALARM_EMAILS]
    if settings.ALARM_WEBHOOK_URL:
        found.append(Channel("webhook", _post))
    return found


def tell(now: datetime, go_on: Callable[[], bool] = lambda: True) -> Told:
    """Tell what is to be told, over each channel, until `go_on` says no. Raises database errors only."""
    done = Told()
    ways = channels()
    if not ways:
        return done
    recent = Alarm.objects.filter(Q(ended_at=None) | Q(ended_at__gte=now - GIVE_UP)).order_by("pk")
    due = [
        (pk, way)
        for pk, ended_at, told in recent.values_list("pk", "ended_at", "told")
        for way in ways
        if _due(told.get(way.name, {}), ended_at, now)
    ]
    with _connection() as server:
        for pk, way in due:
            if not go_on():
                break
            taken = _take(pk, way.name, now)
            if taken is None:
                continue
            alarm, what = taken
            try:
                way.send(alarm, what, server)
            except NotTold as problem:
                _record(pk, way.name, {"error": str(problem)[:300]})
                done.failed += 1
                continue
            told_at = timezone.now().isoformat()
            _record(pk, way.name, {what: told_at, "tries": 0, "next": None, "error": ""})
            done.told += 1
    return done


def test() -> dict[str, str]:
    """Send a test message over each channel; returns by channel why it failed, '' where it did not."""
    now = timezone.now()
    alarm = Alarm(
        code="test", level=Alarm.Level.WARNING, raised_at=now, seen_at=now,
        text=_("This is a test of the alarms."), cure=_("Nothing is to be done."),
    )  # fmt: skip
    found = {}
    with _connection() as server:
        for way in channels():
            try:
                way.send(alarm, "raised", server)
                found[way.name] = ""
            except NotTold as problem:
                found[way.name] = str(problem)
    return found


def _due(entry: dict[str, Any], ended_at: datetime | None, now: datetime) -> What | None:
    """What this channel is to be told of now."""
    # A pause longer than any was noted by a clock that was ahead.
    if entry.get("next") and now < datetime.fromisoformat(entry["next"]) <= now + LONGEST_PAUSE:
        return None
    if ended_at:
        return None if "ended" in entry else "ended"
    return None if "raised" in entry else "raised"


def _take(pk: int, name: str, now: datetime) -> tuple[Alarm, What] | None:
    """Make this telling ours, until its back-off is over; None where it is not due any more."""
    with transaction.atomic():
        alarm = Alarm.objects.select_for_update().filter(pk=pk).first()
        entry = dict(alarm.told.get(name, {})) if alarm else {}
        what = _due(entry, alarm.ended_at, now) if alarm else None
        if alarm is None or what is None:
            return None
        tries = entry.get("tries", 0)
        entry["tries"] = tries + 1
        entry["next"] = (now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries, 10))).isoformat()
        alarm.told = {**alarm.told, name: entry}
        alarm.save(update_fields=["told"])
    return alarm, what


def _record(pk: int, name: str, values: dict[str, Any]) -> None:
    with transaction.atomic():
        alarm = Alarm.objects.select_for_update().filter(pk=pk).first()
        if alarm:
            alarm.told = {**alarm.told, name: {**alarm.told.get(name, {}), **values}}
            alarm.save(update_fields=["told"])


# --- what is said ---


def subject(alarm: Alarm, what: What) -> str:
    """The subject of the e-mail."""
    host = urlsplit(settings.DASHBOARD_URL or settings.MOODLE_WWWROOT).hostname or ""
    title = alarm_conditions.title(alarm.code)
    text = _("Over: %(title)s") if what == "ended" else _("Alarm: %(title)s")
    return f"[Email Offload {host}] {text % {'title': title}}"


def text(alarm: Alarm, what: What) -> str:
    """What the e-mail says: what, since when, what to do, where to look."""
    lines = [alarm.text, ""]
    lines.append(_("Since: %(time)s") % {"time": _utc(alarm.raised_at)})
    if what == "ended" and alarm.ended_at:
        lines.append(_("Over since: %(time)s") % {"time": _utc(alarm.ended_at)})
    elif alarm.cure:
        lines += ["", _("What to do: %(cure)s") % {"cure": alarm.cure}]
    if link := link_of(alarm):
        lines += ["", link]
    return "\n".join(lines) + "\n"


def link_of(alarm: Alarm) -> str:
    """The page of the dashboard that has more; '' without DASHBOARD_URL."""
    return f"{settings.DASHBOARD_URL}{alarm_conditions.page(alarm.code)}" if settings.DASHBOARD_URL else ""


def payload(alarm: Alarm, what: What) -> dict[str, Any]:
    """What is posted to the webhook. Stable keys; no address of anybody."""
    return {
        "id": _id(alarm, what, "webhook").hex,
        "event": what,
        "code": alarm.code,
        "subject": alarm.subject,
        "level": alarm.level,
        "title": alarm_conditions.title(alarm.code),
        "text": alarm.text,
        "cure": alarm.cure,
        "details": alarm.details,
        "raised_at": alarm.raised_at.isoformat(),
        "ended_at": alarm.ended_at.isoformat() if alarm.ended_at else None,
        "link": link_of(alarm),
    }


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


# --- how it is sent ---


def _name(address: str) -> str:
    return f"email:{hashlib.sha256(address.lower().encode()).hexdigest()[:12]}"


def _id(alarm: Alarm, what: What, way: str) -> uuid.UUID:
    """The same for each try of one telling. A test is a telling of its own each time."""
    return uuid.uuid5(_IDS, f"{alarm.pk}:{alarm.raised_at.isoformat()}:{what}:{way}")


@contextmanager
def _connection() -> Iterator[smtp.Connection]:
    with smtp.Connection() as server:
        yield server


def _mailer(address: str) -> Callable[[Alarm, What, smtp.Connection], None]:
    def send(alarm: Alarm, what: What, server: smtp.Connection) -> None:
        if not smtp.configured():
            raise NotTold(_("There is no SMTP server: set EMAIL_URL."))
        sender = (settings.ALARM_FROM or settings.ALARM_EMAILS)[0]
        parts = Parts(
            to_address=address, to_name="", from_address=sender, from_name="Email Offload",
            reply_to_address="", reply_to_name="", subject=subject(alarm, what), text=text(alarm, what),
            html=None,
        )  # fmt: skip
        outcome = server.send(parts, _id(alarm, what, address).hex)
        if outcome.kind != "accepted":
            raise NotTold(f"{outcome.code}: {outcome.message}")

    return send


def _post(alarm: Alarm, what: What, _server: smtp.Connection) -> None:
    url = str(settings.ALARM_WEBHOOK_URL)
    body = json.dumps(payload(alarm, what), ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "email-offload"}
    if settings.ALARM_WEBHOOK_SECRET:
        stamp = str(int(time.time()))
        headers["X-Email-Offload-Timestamp"] = stamp
        headers["X-Email-Offload-Signature"] = f"sha256={signature(stamp, body)}"
    # Only what is added here is there: no handler for redirects, other schemes, cookies or passwords.
    opener = urllib.request.OpenerDirector()
    opener.add_handler(urllib.request.ProxyHandler())
    opener.add_handler(urllib.request.HTTPSHandler())
    opener.add_handler(urllib.request.HTTPHandler())
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - see secure_address
    try:
        with opener.open(request, timeout=WEBHOOK_SECONDS) as answer:
            status = answer.status
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotTold(_("The webhook did not answer (%(name)s).") % {"name": type(error).__name__}) from error
    if not 200 <= status < 300:
        raise NotTold(_("The webhook answered %(status)d.") % {"status": status})


def signature(stamp: str, body: bytes) -> str:
    """HMAC-SHA256 over time stamp, a dot and the body, as hex digits: what a receiver compares."""
    key = settings.ALARM_WEBHOOK_SECRET.encode()
    return hmac.new(key, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
