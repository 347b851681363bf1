"""The doctor's looks at the way of SES's events: configuration set, topic, queue or webhook, and what has arrived.

All of them read. What the credentials may not look at is `unknown`, with the right that is missing; the product works
without it.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from emailoffload.actions.diagnosis.finding import Found, Look, ok, problem, unknown, warning
from emailoffload.delivery import ses
from emailoffload.delivery.errors import classify
from emailoffload.feedback import queue, queuestate, subscription, topics
from emailoffload.feedback.models import Event
from emailoffload.feedback.queue import QueueProblem
from emailoffload.outbox.models import Email

NEEDED = frozenset(
    {"SEND", "REJECT", "BOUNCE", "COMPLAINT", "DELIVERY", "DELIVERY_DELAY", "RENDERING_FAILURE"}
)
"""Without one of these, some mails' states stay behind what became of them."""
SILENCE = timedelta(minutes=5)
"""The worker asks the queue all the time; after this long nobody does."""
LONG_BACKLOG = timedelta(minutes=15)
PATIENCE = timedelta(hours=1)
"""SES publishes that it took a mail within seconds."""
RECENT = 1000
"""Emails that are looked at for whether their events came."""
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "AuthorizationError"})


def _configured() -> bool:
    return bool(settings.SES_EVENTS_QUEUE_URL or settings.SNS_TOPICS)


def _off() -> Found:
    return ok(_("SES's events are not set up."))


def configured() -> Found:
    """Events have a way to us, and mails name what publishes them."""
    malformed = [arn for arn in settings.SNS_TOPICS if topics.read(arn) is None]
    if malformed:
        return problem(
            _("SNS_TOPICS names what is no topic: %(arn)s.") % {"arn": malformed[0][:100]},
            _("Enter ARNs, such as arn:aws:sns:eu-west-1:123456789012:email-offload-events."),
        )
    if not _configured():
        return warning(
            _("Nobody learns what becomes of mails after SES took them: no queue and no topic is named."),
            _("Run `manage.py sessetup`, and set what it prints: see docs/events.md."),
        )
    if not settings.SES_CONFIGURATION_SET:
        return problem(
            _("Mails name no configuration set, so SES publishes no events about them."),
            _("Run `manage.py sessetup` and set SES_CONFIGURATION_SET."),
        )
    if settings.SES_EVENTS_QUEUE_URL:
        return ok(_("SES's events come by a queue."))
    return ok(_("SES's events come by the webhook."))


def destination() -> Found:
    """The configuration set publishes what we need, to where we listen."""
    if not _configured() or not settings.SES_CONFIGURATION_SET:
        return _off()
    found = _destinations()
    if isinstance(found, tuple):
        return found
    ours = [each for each in found if each.get("Enabled") and _listened(each)]
    if not ours:
        return problem(
            _("The configuration set %(name)s publishes its events nowhere that we listen.")
            % {"name": settings.SES_CONFIGURATION_SET},
            _("Run `manage.py sessetup --check`; --apply adds the event destination."),
        )
    missing = sorted(NEEDED - {kind for each in ours for kind in each.get("MatchingEventTypes", [])})
    if missing:
        return warning(
            _("The configuration set does not publish: %(kinds)s.") % {"kinds": ", ".join(missing)},
            _("Run `manage.py sessetup --apply`, or add them in the SES console."),
        )
    return ok(_("The configuration set publishes what is needed."))


def _destinations() -> list[dict[str, Any]] | Found:
    """The set's event destinations, or what keeps us from seeing them."""
    name = settings.SES_CONFIGURATION_SET
    try:
        answer: Any = ses.client().get_configuration_set_event_destinations(ConfigurationSetName=name)
        return list(answer.get("EventDestinations", []))
    except Exception as error:
        # Broad on purpose, as everywhere that SES is asked: the outcome says what it was.
        outcome = classify(error)
    if outcome.code in _DENIED:
        return unknown(
            _("The AWS credentials may not look."),
            _("Allow ses:GetConfigurationSetEventDestinations to have it checked."),
        )
    if outcome.http_status == 404:
        return problem(
            _("SES knows no configuration set %(name)s in this region.") % {"name": name},
            _("Run `manage.py sessetup --apply`, or correct SES_CONFIGURATION_SET."),
        )
    return problem(_("SES cannot be asked (%(code)s).") % {"code": outcome.code}, outcome.message)


def _topic(destination: dict[str, Any]) -> str:
    return str(destination.get("SnsDestination", {}).get("TopicArn", ""))


def _listened(destination: dict[str, Any]) -> bool:
    """Whether what goes there may come to us. Where a queue is used, the queue's policy says more."""
    if settings.SES_EVENTS_QUEUE_URL:
        return bool(_topic(destination) or destination.get("EventBridgeDestination"))
    return _topic(destination) in settings.SNS_TOPICS


def queue_reachable() -> Found:
    """The queue can be read, and takes what the configuration set's topic sends."""
    if not settings.SES_EVENTS_QUEUE_URL:
        return ok(_("No queue is used."))
    attributes = _attributes(settings.SES_EVENTS_QUEUE_URL, "Policy")
    if isinstance(attributes, tuple):
        return attributes
    found = _destinations() if settings.SES_CONFIGURATION_SET else []
    wanted = {_topic(each) for each in found if _topic(each)} if isinstance(found, list) else set()
    allowed = _senders(attributes.get("Policy", ""))
    if wanted and not wanted & allowed and "*" not in allowed:
        return warning(
            _("The queue's policy does not name the topic that the configuration set publishes to."),
            _("Run `manage.py sessetup --check`; --apply lets the topic send to the queue."),
        )
    return ok(_("The queue can be read, and its policy lets events in."))


def _attributes(url: str, *names: Any) -> dict[str, str] | Found:
    """Attributes of a queue, or what keeps us from reading them."""
    try:
        queue.backlog()
        answer = queue.client().get_queue_attributes(QueueUrl=url, AttributeNames=list(names))
    except QueueProblem as trouble:
        return problem(str(trouble), trouble.cure)
    except (ClientError, BotoCoreError) as error:
        outcome = classify(error)
        if outcome.code in _DENIED:
            return unknown(
                _("The AWS credentials may not look."),
                _("Allow sqs:GetQueueAttributes on the queue and its dead letter queue."),
            )
        return problem(_("SQS cannot be asked (%(code)s).") % {"code": outcome.code}, outcome.message)
    return {str(name): value for name, value in answer.get("Attributes", {}).items()}


def _senders(policy: str) -> set[str]:
    """The sources that a queue's policy lets send; * where a statement does not limit them."""
    statements = json.loads(policy).get("Statement", []) if policy else []
    found: set[str] = set()
    for statement in statements if isinstance(statements, list) else [statements]:
        if statement.get("Effect") != "Allow":
            continue
        limits = [
            value
            for test in statement.get("Condition", {}).values()
            for name, value in test.items()
            if name.lower() == "aws:sourcearn"
        ]
        for value in limits or ["*"]:
            found.update(value if isinstance(value, list) else [value])
    return found


def backlog() -> Found:
    """Somebody reads the queue, and keeps up with it. Nothing in it is older than when it was last empty."""
    if not settings.SES_EVENTS_QUEUE_URL:
        return ok(_("No queue is used."))
    state, now = queuestate.load(), timezone.now()
    start = _("Start the worker: see docs/install.md.")
    if state.polled_at is None:
        return warning(_("The queue has never been read."), start)
    values = {
        "waiting": number_format(state.waiting, force_grouping=True),
        "time": f"{state.polled_at:%Y-%m-%d %H:%M:%S} UTC",
    }
    if state.error:
        return problem(state.error, state.cure)
    if now - state.polled_at > SILENCE:
        return problem(_("The queue was last read at %(time)s.") % values, start)
    since = state.drained_at
    if state.waiting and (since is None or now - since > LONG_BACKLOG):
        values["since"] = f"{since:%Y-%m-%d %H:%M} UTC" if since else _("its creation")
        return warning(
            ngettext(
                "%(waiting)s event waits; the queue has not been empty since %(since)s.",
                "%(waiting)s events wait; the queue has not been empty since %(since)s.",
                state.waiting,
            )
            % values,
            _("The oldest may be that old. If it lasts, see docs/events.md, 'When events are late'."),
        )
    text = ngettext(
        "The queue is read; %(waiting)s event waits.",
        "The queue is read; %(waiting)s events wait.",
        state.waiting,
    )
    return ok(text % values)


def dead_letters() -> Found:
    """The dead letter queue, where there is one, is empty."""
    if not settings.SES_EVENTS_QUEUE_URL:
        return ok(_("No queue is used."))
    found = _attributes(settings.SES_EVENTS_QUEUE_URL, "RedrivePolicy")
    if isinstance(found, tuple):
        return found
    policy = json.loads(found.get("RedrivePolicy", "{}"))
    name = str(policy.get("deadLetterTargetArn", "")).rpartition(":")[2]
    if not name:
        return ok(_("The queue has no dead letter queue; it needs none."))
    # The queue's neighbour: the same endpoint, account and region.
    url = settings.SES_EVENTS_QUEUE_URL.rpartition("/")[0] + f"/{name}"
    held = _attributes(url, "ApproximateNumberOfMessages")
    if isinstance(held, tuple):
        return held
    count = int(held.get("ApproximateNumberOfMessages", "0"))
    if count:
        return warning(
            ngettext(
                "%(n)d event is in the dead letter queue %(name)s: it was received often and never stored.",
                "%(n)d events are in the dead letter queue %(name)s: they were received often and never stored.",
                count,
            )
            % {"n": count, "name": name},
            _("Look into the worker's log, cure the cause, then use 'Start DLQ redrive' in the SQS console."),
        )
    return ok(_("The dead letter queue is empty."))


def webhook() -> Found:
    """Each topic's subscription is confirmed and has not ended."""
    if not settings.SNS_TOPICS:
        return ok(_("No webhook is used."))
    standings = subscription.standings()
    for arn in settings.SNS_TOPICS:
        standing = standings.get(arn)
        values = {"topic": arn.rpartition(":")[2], "detail": standing.detail if standing else ""}
        if standing is None:
            return warning(
                _("The topic %(topic)s has not asked for its subscription to be confirmed.") % values,
                _("Run `manage.py sessetup --webhook URL --apply`; SNS must reach the address from outside."),
            )
        if standing.state == "ended":
            return problem(
                _("The subscription of the topic %(topic)s has ended: no event comes.") % values,
                _("Find out who ended it; then run `manage.py sessetup --webhook URL --apply`."),
            )
        if standing.state == "refused":
            return problem(
                _("AWS did not let us confirm the subscription of %(topic)s (%(detail)s).") % values,
                _("Allow sns:ConfirmSubscription, then run `manage.py sessetup --webhook URL --apply`."),
            )
    return ok(_("Each topic's subscription is confirmed."))


def last_event() -> Found:
    """Events of the mails that SES took lately have come."""
    if not _configured():
        return _off()
    newest = Event.objects.order_by("-pk").values_list("received_at", flat=True).first()
    accepted = Email.objects.order_by("-pk").values_list("accepted_at", flat=True)[:RECENT]
    late = timezone.now() - PATIENCE
    waited = [at for at in accepted if at and at < late and (newest is None or at > newest)]
    if waited:
        values = {"n": len(waited), "time": f"{newest:%Y-%m-%d %H:%M} UTC" if newest else ""}
        cure = _("Run `manage.py doctor --send-test` to see which part of the way is broken.")
        if newest is None:
            return warning(_("SES took %(n)d mails, and no event has ever come.") % values, cure)
        return warning(_("SES took %(n)d mails since the last event, at %(time)s.") % values, cure)
    if newest is None:
        return ok(_("No event has come yet, and none is due."))
    return ok(_("The last event came at %(time)s.") % {"time": f"{newest:%Y-%m-%d %H:%M} UTC"})


_NEEDS = ("events.configured", "ses.account")
LOOKS = [
    Look("events.configured", gettext_lazy("SES events"), configured),
    Look("events.destination", gettext_lazy("Event destination"), destination, _NEEDS),
    Look("events.queue", gettext_lazy("Event queue"), queue_reachable, ("events.configured",)),
    Look("events.backlog", gettext_lazy("Events waiting"), backlog, ("events.queue", "database.migrated")),
    Look("events.dead_letters", gettext_lazy("Dead letter queue"), dead_letters, ("events.queue",)),
    Look(
        "events.webhook",
        gettext_lazy("Webhook"),
        webhook,
        ("events.configured", "database.migrated"),
    ),
    Look("events.last", gettext_lazy("Last event"), last_event, ("events.configured", "database.migrated")),
]
