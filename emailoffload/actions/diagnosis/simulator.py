"""`doctor --send-test`: mails to SES's mailbox simulator, and whether their events come back by the configured way.

It is the only look that sends anything, and it is taken only when asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.conf import settings
from django.utils.translation import gettext as _

from emailoffload.actions.diagnosis.finding import Finding, Found, ok, problem, warning
from emailoffload.delivery import message, ses
from emailoffload.feedback import testmail
from emailoffload.feedback.models import Event
from emailoffload.moodle import senders, site
from emailoffload.outbox.content import Parts

WAIT_SECONDS = 90
"""How long events are waited for. SES needs seconds, for complaints up to a minute."""
LOOK_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class _Sent:
    address: str
    ref: str
    message_id: str


def send_and_watch(
    wait: float = WAIT_SECONDS, pause: Callable[[float], None] = time.sleep
) -> Iterator[Finding]:
    """Send a mail to each of the simulator's addresses; yields what SES said, then what came of each.

    Waits up to `wait` seconds for the worker or the webhook to store the events; `pause` is how. Raises what Moodle's
    database raises.
    """
    sender, refusal = senders.identify(site.load_site())
    if refusal is not None:
        yield _finding("accepted", problem(
            _("Moodle's settings give no usable sender (%(reason)s).") % {"reason": refusal.reason},
            _("See the finding about the sender's identity."),
        ))  # fmt: skip
        return
    sent, trouble = [], None
    for address in testmail.EXPECTED:
        ref = testmail.new_ref()
        outcome = ses.send(message.build(_parts(sender, address), ref, "doctor"))
        if outcome.kind != "accepted":
            trouble = problem(
                _("SES did not take a test mail (%(code)s).") % {"code": outcome.code},
                outcome.message or _("See the findings about SES above."),
            )
            break
        sent.append(_Sent(address, ref, outcome.message_id))
    yield _finding("accepted", trouble or ok(_("SES took %(n)d test mails.") % {"n": len(sent)}))
    if trouble is None:
        yield from _watch(sent, wait, pause)


def _parts(sender: senders.From, address: str) -> Parts:
    return Parts(
        to_address=address,
        to_name="",
        from_address=sender.from_address,
        from_name="",
        reply_to_address="",
        reply_to_name="",
        subject="Email Offload: test of the event chain",
        text="This mail tests whether the events of Amazon SES arrive. Nobody reads it.\n",
        html=None,
    )


def _watch(sent: list[_Sent], wait: float, pause: Callable[[float], None]) -> Iterator[Finding]:
    if not (settings.SES_EVENTS_QUEUE_URL or settings.SNS_TOPICS):
        text = _("Their events cannot come: neither a queue nor a topic is named.")
        yield _finding("events", warning(text, _("Run `manage.py sessetup`.")))
        return
    started = time.monotonic()
    missing = {each.ref: each for each in sent}
    arrived = False
    while missing:
        seconds = time.monotonic() - started
        seen = set(
            Event.objects.filter(address__in=testmail.EXPECTED, ref__in=missing).values_list("ref", "type")
        )
        arrived = arrived or bool(seen)
        for each in list(missing.values()):
            kind = testmail.EXPECTED[each.address]
            if (each.ref, kind) in seen:
                del missing[each.ref]
                yield _of(
                    each,
                    ok(
                        _("Its event (%(kind)s) came after %(seconds)d s.")
                        % {"kind": kind.value, "seconds": seconds}
                    ),
                )
        if missing and seconds >= wait:
            break
        if missing:
            pause(LOOK_EVERY)
    for each in missing.values():
        yield _of(each, _nothing(each, arrived, wait))


def _nothing(sent: _Sent, arrived: bool, wait: float) -> Found:
    values = {"kind": testmail.EXPECTED[sent.address].value, "seconds": wait}
    text = _("No event of kind %(kind)s came within %(seconds)d s.") % values
    if arrived:
        return problem(text, _("Others came: see whether the event destination publishes this kind."))
    return problem(
        text,
        _(
            "No event came at all: see the findings about events above, from the event destination to the worker."
        ),
    )


def _of(sent: _Sent, found: Found) -> Finding:
    return _finding(sent.address.partition("@")[0], found)


def _finding(part: str, found: Found) -> Finding:
    return Finding(f"send_test.{part}", _("Test mail: %(part)s") % {"part": part}, *found)
