"""What people can do with mails that did not go by the cloud: again, to Moodle, by SMTP, or dealt with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.actions import cancel, release
from emailoffload.actions.settle import Decision, settle
from emailoffload.delivery import smtp
from emailoffload.outbox import hourchanges
from emailoffload.outbox.models import AuditEntry, Claim, Content, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import smtp_route

S = EmailState
DEALT_WITH: Final = "dealt_with"
MOST = 500
"""Mails that one request deals with."""


@dataclass
class Acted:
    """How many mails an action moved, and why it left the others alone: words → mails.

    `others`: mails that nobody chose and that went along, because their claim did.
    """

    done: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    others: int = 0

    @property
    def left_alone(self) -> list[tuple[str, int]]:
        """Why mails are left alone, and how many, for templates: these ask a Counter for its key `items` first."""
        return self.refused.most_common()


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that a person can do: its name, what exactly will happen, for which states, and the doing."""

    title: Promise
    effect: Promise
    states: frozenset[str]
    do: Callable[[Sequence[int], str, str], Acted]


def act(name: str, email_ids: Sequence[int], *, actor: str, reason: str) -> Acted:
    """Do it to at most MOST emails; each that moves leaves an audit entry. Raises KeyError for an unknown action,
    ValueError without a reason or for too many, and database errors."""
    if not reason.strip():
        raise ValueError("this needs a reason")
    if len(email_ids) > MOST:
        raise ValueError(f"at most {MOST} mails at a time")
    action = ACTIONS[name]
    fit = set(Email.objects.filter(pk__in=email_ids, state__in=action.states).values_list("pk", flat=True))
    acted = action.do([pk for pk in dict.fromkeys(email_ids) if pk in fit], actor[:150], reason.strip()[:500])
    others = len(set(email_ids) - fit)
    if others:
        acted.refused[_("It has moved on meanwhile.")] += others
    return acted


def expect(name: str, email_ids: Sequence[int]) -> Acted:
    """What `act` would do with at most MOST emails, by our own rows and without doing it; a handful of queries.

    What only Moodle's row, its cron or the SMTP server tell is not asked. Raises KeyError for an unknown action.
    """
    action = ACTIONS[name]
    emails = list(Email.objects.filter(pk__in=email_ids[:MOST]).select_related("claim"))
    stored = set(Content.objects.filter(pk__in=[email.pk for email in emails]).values_list("pk", flat=True))
    found = Acted()
    handing_back = name == "moodle"
    barred, of_claim = _going_back({email.claim for email in emails}) if handing_back else ({}, Counter())
    for email in emails:
        if email.state not in action.states:
            why = _("It has moved on meanwhile.")
        elif handing_back:
            why = barred[email.claim_id]
        else:
            why = _bars(name, email, stored=email.pk in stored)
        if why:
            found.refused[why] += 1
        else:
            found.done += 1
    if handing_back:
        chosen = Counter(email.claim_id for email in emails)
        going = [claim_id for claim_id, why in barred.items() if not why]
        found.others = sum(of_claim[claim_id] - chosen[claim_id] for claim_id in going)
    return found


def _going_back(of: set[Claim]) -> tuple[dict[int, str], Counter[int]]:
    """By claim why it cannot go back ('' where it can), and how many mails it has; two queries."""
    mails: dict[int, list[Email]] = {claim.pk: [] for claim in of}
    for mail in Email.objects.filter(claim__in=list(mails)):
        mails[mail.claim_id].append(mail)
    unsure = release.unanswered([mail for several in mails.values() for mail in several])
    barred = {claim.pk: release.why_not(claim, mails[claim.pk], unsure) for claim in of}
    return barred, Counter({pk: len(several) for pk, several in mails.items()})


def _bars(name: str, email: Email, *, stored: bool) -> str:
    """Why one mail is left alone by an action other than handing back, in words; '' where it is not."""
    if name != "accepted" and email.claim.state != ClaimState.CLAIMED:
        return _("Its claim is no longer ours: the mail is Moodle's.")
    if name in ("retry", "smtp", "again") and not stored:
        return _("What it said is no longer stored.")
    if name != "accepted" and name != "again" and email.lease:
        return _("It is just being sent, or set aside for the SMTP server already.")
    return ""


def _ours(email_ids: Sequence[int]) -> set[int]:
    """Those of these emails whose claim is ours, which is locked until the transaction ends."""
    of = dict(Email.objects.filter(pk__in=email_ids).values_list("pk", "claim_id"))
    locked = Claim.objects.select_for_update().filter(pk__in=set(of.values()), state=ClaimState.CLAIMED)
    claims = set(locked.order_by("pk").values_list("pk", flat=True))
    return {pk for pk, claim_id in of.items() if claim_id in claims}


def _audit(action: str, ids: Sequence[int] | set[int], actor: str, reason: str) -> None:
    AuditEntry.objects.bulk_create(
        AuditEntry(actor=actor, action=action, object_type="email", object_id=str(pk), reason=reason)
        for pk in sorted(ids)
    )


def _retry(ids: Sequence[int], actor: str, reason: str) -> Acted:
    acted = Acted()
    now = timezone.now()
    with transaction.atomic():
        ours = _ours(ids)
        stored = set(Content.objects.filter(pk__in=ids).values_list("pk", flat=True))
        free = Email.objects.select_for_update().filter(pk__in=ours & stored, state=S.FAILED, lease="")
        todo = set(free.values_list("pk", flat=True))
        Email.objects.filter(pk__in=todo).update(
            state=S.QUEUED, state_at=now, route="ses", reason="", detail="", next_try_at=now,
            deadline_at=now + timedelta(seconds=settings.SEND_DEADLINE_SECONDS),
        )  # fmt: skip
        hourchanges.emails(todo)
        _audit("retry", todo, actor, reason)
    acted.done = len(todo)
    _count(acted, len(ours - stored), _("What it said is no longer stored."))
    _count(acted, len(set(ids) - ours), _("Its claim is no longer ours: the mail is Moodle's."))
    _count(acted, len((ours & stored) - todo), _("It has moved on meanwhile."))
    return acted


def _by_smtp(ids: Sequence[int], actor: str, reason: str) -> Acted:
    acted = Acted()
    if not smtp.configured():
        _count(acted, len(ids), _("There is no SMTP route: EMAIL_URL is not set."))
        return acted
    stored = set(Content.objects.filter(pk__in=ids).values_list("pk", flat=True))
    causes = {
        pk: code.removeprefix(smtp_route.HELD) or "deadline"
        for pk, code in Email.objects.filter(pk__in=stored).values_list("pk", "reason")
    }
    with transaction.atomic():
        done = smtp_route.want(causes, timezone.now(), only_waiting=False)
        _audit("smtp", done, actor, reason)
    acted.done = len(done)
    _count(acted, len(set(ids) - stored), _("What it said is no longer stored."))
    _count(acted, len(stored - done), _("It is just being sent, or its claim is no longer ours."))
    return acted


def _hand_back(ids: Sequence[int], actor: str, reason: str) -> Acted:
    acted = Acted()
    mails = Counter(Email.objects.filter(pk__in=ids).values_list("claim_id", flat=True))
    others = Email.objects.filter(claim__in=list(mails)).exclude(pk__in=ids)
    along = Counter(others.values_list("claim_id", flat=True))
    for outcome in release.release(sorted(mails), actor=actor, reason=reason):
        if outcome.released:
            acted.done += mails[outcome.claim_id]
            acted.others += along[outcome.claim_id]
        else:
            acted.refused[outcome.why_not] += mails[outcome.claim_id]
    return acted


def _dismiss(ids: Sequence[int], actor: str, reason: str) -> Acted:
    now = timezone.now()
    with transaction.atomic():
        ours = _ours(ids)
        free = Email.objects.select_for_update().filter(
            pk__in=ours, state__in=[S.FAILED, S.UNCERTAIN], lease=""
        )
        mails = list(free)
        todo, unsure = {mail.pk for mail in mails}, cancel.unsure(mails)
        for of, why in ((todo - unsure, DEALT_WITH), (unsure, cancel.STOPPED_UNSURE)):
            Email.objects.filter(pk__in=of).update(state=S.CANCELLED, state_at=now, reason=why)
        hourchanges.emails(todo)
        _audit("dismiss", todo, actor, reason)
    acted = Acted(len(todo))
    _count(acted, len(set(ids) - todo), _("It has moved on meanwhile."))
    return acted


def _settled(decision: Decision) -> Callable[[Sequence[int], str, str], Acted]:
    def do(ids: Sequence[int], actor: str, reason: str) -> Acted:
        acted = Acted()
        for outcome in settle(ids, decision=decision, actor=actor, reason=reason):
            if outcome.state:
                acted.done += 1
            else:
                acted.refused[outcome.why_not] += 1
        return acted

    return do


def _count(acted: Acted, number: int, why: str) -> None:
    if number > 0:
        acted.refused[why] += number


FAILED, UNCERTAIN = frozenset({S.FAILED.value}), frozenset({S.UNCERTAIN.value})
ACTIONS: Final[Mapping[str, Action]] = {
    "retry": Action(
        gettext_lazy("Send by Amazon SES"),
        gettext_lazy("Each is queued, and Amazon SES is tried anew until a new deadline, if it is still owed."),
        FAILED,
        _retry,
    ),
    "moodle": Action(
        gettext_lazy("Hand back to Moodle"),
        gettext_lazy(
            "In Moodle the row of each gets its former values, and Moodle sends it when it is due, at its next run at "
            "the earliest. All mails of a claim go together, and none does where one has left, where the row was "
            "changed, or where Moodle would drop it."
        ),
        FAILED | {S.QUEUED.value},
        _hand_back,
    ),
    "smtp": Action(
        gettext_lazy("Send by SMTP"),
        gettext_lazy(
            "Each is set aside for the SMTP server of EMAIL_URL and leaves within a minute, if it is still owed."
        ),
        FAILED | {S.QUEUED.value},
        _by_smtp,
    ),
    "accepted": Action(
        gettext_lazy("It arrived"),
        gettext_lazy("Each counts as sent from now on, on your word. Nothing is sent."),
        UNCERTAIN,
        _settled("accepted"),
    ),
    "again": Action(
        gettext_lazy("It did not arrive: send again"),
        gettext_lazy(
            "Each is queued and leaves by Amazon SES, if it is still owed. Who got the first one after all gets two."
        ),
        UNCERTAIN,
        _settled("resend"),
    ),
    "dismiss": Action(
        gettext_lazy("Mark as dealt with"),
        gettext_lazy("Each is cancelled: nobody sends it any more, and it leaves this list."),
        FAILED | UNCERTAIN,
        _dismiss,
    ),
}  # fmt: skip
"""By the name that forms use."""
