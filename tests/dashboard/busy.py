"""A busy site as its pictures show it: a week of mails in the rhythm of a working day, and something on every page."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from emailoffload.dashboard.models import SavedView
from emailoffload.feedback import alarms, claimstop, rates
from emailoffload.feedback.models import EventProblem, EventType, ReputationHour
from emailoffload.moodle.models import User as MoodleUser
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import AuditEntry, Claim, Email, Lease, Shadow, State
from emailoffload.outbox.states import EmailState
from emailoffload.policy.models import CopyRule, RoutingRule
from emailoffload.worker import coverage, rollups
from tests.dashboard.conftest import make_user
from tests.dashboard.factories import (
    make_claim,
    make_email,
    make_finding,
    make_row_error,
    make_run,
    make_suppression,
)
from tests.dashboard.reported import make_event, make_problem, no_mailbox

S = EmailState
PEOPLE = (
    "Ada Lovelace", "Grace Hopper", "Alan Turing", "Hedy Lamarr", "Katherine Johnson", "Niels Abel", "Emmy Noether",
    "Srinivasa Ramanujan", "Maria Gaetana Agnesi", "Chien-Shiung Wu", "Muhammad ibn Musa al-Khwarizmi", "Bo Li",
    "Jürgen Müller-Lüdenscheidt", "Zoë Ó Súilleabháin", "Ángela Ruiz Robles", "Tu Youyou",
)  # fmt: skip
COMPANIES = (
    "Northwind Mills",
    "Brightwater Foods",
    "Harbour & Sons",
    "Meadow Care Homes",
    "Alpine Rail Services GmbH",
)
COURSES = (
    "Fire safety 2026", "First aid at work", "Data protection for everybody", "Working at height",
    "Manual handling", "Food hygiene, level 2", "Anti-bribery and corruption: what everybody needs to know",
)  # fmt: skip
KINDS = {
    "license_allocated": "A licence has been allocated to you",
    "user_added_to_course": "You have been added to a course",
    "completion_course_supervisor": "A member of your team has completed a course",
    "advertise_classroom_based_course": "New dates for classroom training",
}
ENDS = (
    (S.DELIVERED, 640, ""), (S.OPENED, 190, ""), (S.CLICKED, 70, ""), (S.ACCEPTED, 40, ""),
    (S.DELAYED, 6, "delivery_delayed"), (S.BOUNCED, 14, "bounced_permanent"), (S.BOUNCED, 5, "bounced_transient"),
    (S.COMPLAINED, 1, ""), (S.SUPPRESSED, 9, "not_enrolled"), (S.SUPPRESSED, 6, "address_suppressed"),
    (S.SENT_SMTP, 7, "deadline"), (S.RELEASED, 12, "deadline"), (S.CANCELLED, 2, ""),
)  # fmt: skip
"""How mails end, how often, and why."""
ARRIVED = {S.DELIVERED, S.OPENED, S.CLICKED, S.COMPLAINED}
LEFT = (
    ("not_enrolled", 31),
    ("target_complete", 12),
    ("too_late", 3),
    ("cron_running", 5),
    ("claims_paused", 8),
)
WEEK = timedelta(days=7)
HTML = (
    "<html><head><title>Fire safety</title></head><body><h1>Fire safety 2026</h1>"
    "<p>Dear Ada,</p><p>your certificate ends on <b>Friday</b>. Please complete "
    '<a href="https://learn.example.org/mod/quiz/view.php?id=345">the short test</a> before then; it takes about ten '
    'minutes.</p><p><img src="https://learn.example.org/banner.png" alt="Two people with a fire extinguisher"></p>'
    "<p>Kind regards<br>The training team</p></body></html>"
)


@dataclass(frozen=True)
class Busy:
    """What stands out: mails that arrived, failed, wait, bounced; who is suppressed, and a learner of the real site."""

    arrived: Email
    failed: Email
    waiting: Email
    bounced: Email
    suppression: int
    run: int
    problem: int
    known_user: int


def make_busy_site() -> Busy:
    """Fill every page; the counts of hours and of coverage are made as the worker makes them."""
    now = timezone.now()
    _a_week(now)
    _running(now)
    _rules(now)
    _people(now)
    arrived = _the_mail(now)
    failed = _fallbacks(now)
    bounced, suppression, problem = _feedback(now)
    _findings(now)
    known = _known(now)
    coverage.run()
    rollups.run(rebuild=True)
    return Busy(
        arrived=arrived,
        failed=failed,
        waiting=Email.objects.filter(state=S.QUEUED).latest("pk"),
        bounced=bounced,
        suppression=suppression,
        run=make_run(
            counts={"seen": 1184, "claimed": 21, "left": {"not_enrolled": 6, "too_late": 1}, "errors": 0}
        ).pk,
        problem=problem,
        known_user=known,
    )


def _a_week(now: datetime) -> None:
    """Claims and emails of seven days, more of them by day than by night."""
    chance = random.Random(7)
    moments = sorted(
        (
            moment
            for moment in (now - WEEK * chance.random() ** 1.7 for _ in range(2600))
            if chance.random() < _busy(moment)
        ),
    )
    claims = Claim.objects.bulk_create(
        _claim(chance, number, moment) for number, moment in enumerate(moments)
    )
    Email.objects.bulk_create(_mail(chance, claim) for claim in Claim.objects.order_by("pk")[: len(claims)])
    for number in range(9):
        due = now + timedelta(minutes=2 + 3 * number)
        name = PEOPLE[number]
        claim = make_claim(
            due_at=due,
            user_id=15093 + number,
            user_name=name,
            course_id=60 + number % 7,
            course_name=COURSES[number % 7],
        )
        make_email(
            S.QUEUED, claim, due_at=due, name=name, address=_address(name), recipient_id=claim.user_id, body={},
            subject=f"Reminder: {COURSES[number % 7]}",
        )  # fmt: skip
    rows = []
    for reason, count in LEFT:
        for number in range(count):
            seen = now - WEEK * chance.random()
            rows.append(
                LeftRow(
                    source="reengagement",
                    row_id=50_000 + len(rows),
                    due_at=seen,
                    reason=reason,
                    user_id=15094 + number % 15,
                    activity_id=12 + number % 5,
                    course_id=60 + number % 7,
                    company_id=3 + number % 5,
                    first_seen=seen,
                    last_seen=seen + timedelta(minutes=number),
                )
            )
    LeftRow.objects.bulk_create(rows)


def _busy(moment: datetime) -> float:
    """How much is going on, from 0 to 1: little at night, less at weekends."""
    day = max(0.06, math.sin(math.pi * (moment.hour - 5) / 15)) if 5 <= moment.hour < 20 else 0.06
    return day * (0.35 if moment.weekday() >= 5 else 1.0)


def _address(name: str) -> str:
    plain = (
        name.lower().replace("ü", "u").replace("ó", "o").replace("ú", "u").replace("á", "a").replace("ë", "e")
    )
    return f"{plain.replace(' ', '.')}@{'northwind' if len(name) % 2 else 'brightwater'}.example"


def _claim(chance: random.Random, number: int, moment: datetime) -> Claim:
    person, place = chance.randrange(len(PEOPLE)), min(int(chance.expovariate(0.7)), len(COMPANIES) - 1)
    course, emailtime = chance.randrange(len(COURSES)), int(moment.timestamp()) + 600
    queued = chance.random() < 0.3
    return Claim(
        source="iomad_queue" if queued else "reengagement",
        template=chance.choice(list(KINDS)) if queued else "",
        row_id=20_000 + number,
        state="claimed",
        before={"emailsent": 0, "emailtime": emailtime, "completed": 0},
        after={"emailsent": 1, "emailtime": emailtime + 604_800},
        user_id=15093 + person,
        user_name=PEOPLE[person],
        user_email=_address(PEOPLE[person]),
        activity_id=0 if queued else 12 + course,
        activity_name="" if queued else f"Reminder: {COURSES[course]}",
        cmid=0 if queued else 340 + course,
        course_id=60 + course,
        course_name=COURSES[course],
        company_id=3 + place,
        company_name=COMPANIES[place],
        due_at=moment + timedelta(minutes=10),
        created_at=moment,
        claimed_at=moment + timedelta(seconds=1),
    )


def _mail(chance: random.Random, claim: Claim) -> Email:
    state, _weight, reason = chance.choices(ENDS, [end[1] for end in ENDS])[0]
    due = claim.due_at
    taken = state in ARRIVED | {S.ACCEPTED, S.DELAYED, S.BOUNCED}
    return Email(
        claim=claim, source=claim.source, template=claim.template, role="user", user_id=claim.user_id,
        recipient_id=claim.user_id, activity_id=claim.activity_id, course_id=claim.course_id,
        company_id=claim.company_id, address=claim.user_email, name=claim.user_name,
        subject=KINDS[claim.template] if claim.template else claim.activity_name, state=state, reason=reason,
        state_at=due + timedelta(seconds=9), created_at=claim.created_at, due_at=due, next_try_at=due,
        deadline_at=due + timedelta(minutes=15), attempts=1 if taken else 0,
        message_id=f"0102018f{claim.pk:08x}-aaaabbbb-cccc-dddd-eeee-ffff00001111-000000" if taken else "",
        accepted_at=due + timedelta(seconds=2) if taken else None,
        delivered_at=due + timedelta(seconds=9) if state in ARRIVED else None,
        bounced_at=due + timedelta(seconds=9) if state == S.BOUNCED else None,
    )  # fmt: skip


def _running(now: datetime) -> None:
    """A worker that is alive, an account at SES, and passes."""
    for name in ("dispatch-1", "intercept", "feedback", "rollups"):
        Lease.objects.create(name=name, holder="mail-1:4711", beat_at=now)
    account = {
        "sending_enabled": True, "max_send_rate": 14.0, "max_24h": 50_000, "sent_24h": 18_234, "production": True,
    }  # fmt: skip
    State.objects.create(name="ses_account", value={"account": account})
    for minutes in range(30, 0, -5):
        begin = {
            "started_at": now - timedelta(minutes=minutes),
            "finished_at": now - timedelta(minutes=minutes, seconds=-3),
        }
        counts = {
            "seen": 1200 - minutes,
            "claimed": minutes // 2,
            "lost": 0,
            "left": {"not_enrolled": 6},
            "errors": 0,
        }
        make_run(counts=counts, **begin)
        make_run(
            "dispatch", counts={"sent": 12 + minutes, "suppressed": 1, "retried": 2, "seconds": 4.2}, **begin
        )
    make_run("recover", counts={})
    make_run("feedback", counts={"messages": 212, "events": 208, "repeated": 4, "seconds": 1.7})
    make_run(
        outcome="errors", counts={"seen": 900, "claimed": 0, "left": {"no_course_module": 3}, "errors": 3},
        started_at=now - timedelta(hours=2), finished_at=now - timedelta(hours=2),
    )  # fmt: skip
    make_row_error()


def _rules(now: datetime) -> None:
    """Routing and copy rules of each kind, and a shadow of each verdict."""
    RoutingRule.objects.create(name="Whole site", mode="on", note="Since the pilot in May went well")
    RoutingRule.objects.create(name="Pilot activity", activity_id=13, percentage=10, fallback="hold")
    RoutingRule.objects.create(name="Golden course, watched", mode="shadow", course_id=6)
    RoutingRule.objects.create(name="Not used now", mode="off", company_id=5, enabled=False)
    CopyRule.objects.create(
        name="To HR", kind=CopyRule.Kind.FIXED, value="hr@northwind.example", company_id=3
    )
    CopyRule.objects.create(name="To nobody", kind=CopyRule.Kind.FIXED, value="not an address")
    for number, verdict in enumerate(("waiting", "sent", "untouched", "gone", "changed")):
        Shadow.objects.create(
            source="iomad_queue", row_id=number, template="user_added_to_course", user_id=15107, activity_id=0,
            course_id=4, mails=1, due_at=now, seen_at=now, verdict=verdict, detail="not_handled",
        )  # fmt: skip


def _people(now: datetime) -> None:
    """Who works here, what they keep and what they did."""
    sam = make_user("Support staff", "sam")
    ada = make_user("superuser", "ada")
    for owner, name, query, shared in (
        (sam, "Bounced this week", "state=bounced&when=7d", True),
        (ada, "Northwind, problems", "company=Northwind+Mills&state=problem", False),
        (ada, "Reminders of today", "source=reengagement&when=24h", False),
    ):
        SavedView.objects.create(owner=owner, name=name, query=query, shared=shared)
    deeds: Sequence[tuple[str, str, str, str, str, dict[str, Any]]] = (
        ("sam", "login", "user", str(sam.pk), "", {}),
        ("sam", "view_content", "email", "1", "", {"part": "html"}),
        ("sam", "resend", "email", "1", "The learner's mailbox was full", {"email": 2}),
        ("ada", "pause", "pause", "", "Amazon SES is being moved to another region", {"what": "claims"}),
        ("ada", "resume", "pause", "", "The move is done", {"what": "claims"}),
        ("ada", "export", "email", "", "", {"rows": 812}),
        ("(login page)", "login_failed", "user", str(sam.pk), "", {"failures": 1}),
    )
    for actor, action, kind, pk, reason, details in deeds:
        AuditEntry.objects.create(
            actor=actor, action=action, object_type=kind, object_id=pk, reason=reason, details=details
        )


def _the_mail(now: datetime) -> Email:
    """The mail that everybody asks for: delivered and opened, with a copy to HR and one to the manager."""
    due = now - timedelta(minutes=25)
    claim = make_claim(due_at=due, course_id=60, user_email=_address("Ada Lovelace"))
    email = make_email(
        S.OPENED, claim, address=_address("Ada Lovelace"), subject="Reminder: Fire safety 2026", body={"html": HTML},
    )  # fmt: skip
    make_event(EventType.SEND, email)
    make_event(EventType.DELIVERY, email, diagnostic="250 2.0.0 OK queued as 4711")
    make_event(EventType.OPEN, email)
    make_email(
        S.DELIVERED, claim, role="copy", name="", address="hr@northwind.example", recipient_id=None,
        origin="copy rule To HR", subject="Reminder: Fire safety 2026",
    )  # fmt: skip
    manager = make_email(
        S.BOUNCED, claim, role="manager", name="Charles Babbage", address="charles@northwind.example", recipient_id=77,
        subject="Ada Lovelace has not completed Fire safety 2026",
    )  # fmt: skip
    no_mailbox(manager)
    return email


def _known(now: datetime) -> int:
    """A learner whom Moodle knows, with mails that arrived and one that waits; their id."""
    learner = MoodleUser.objects.get(pk=3)
    name = f"{learner.firstname} {learner.lastname}"
    states = (S.QUEUED, S.DELIVERED, S.CLICKED, S.BOUNCED, S.OPENED)
    for days, state, course in reversed([*zip(range(5), states, COURSES, strict=False)]):
        due = now - timedelta(days=days, hours=2) if days else now + timedelta(minutes=12)
        claim = make_claim(
            user_id=learner.pk, user_name=name, user_email=learner.email, course_id=60 + days,
            course_name=course, due_at=due, activity_name=f"Reminder: {course}",
        )  # fmt: skip
        make_email(
            state, claim, address=learner.email, name=name, recipient_id=learner.pk, due_at=due, body={"html": HTML},
            subject=f"Reminder: {course}",
        )  # fmt: skip
    return int(learner.pk)


def _fallbacks(now: datetime) -> Email:
    """Mails that did not go by the cloud, by several causes; returns one that can still be acted on."""
    for number, (state, reason) in enumerate(
        (
            *[(S.FAILED, "MessageRejected")] * 2,
            *[(S.FAILED, "held:deadline")] * 5,
            (S.FAILED, "smtp_recipient"),
            *[(S.UNCERTAIN, "ReadTimeoutError")] * 3,
            (S.REJECTED, "ses_rejected"),
        )
    ):
        name = PEOPLE[1 + number % (len(PEOPLE) - 1)]
        due = now - timedelta(hours=1, minutes=3 * number)
        claim = make_claim(
            user_id=15093 + number,
            user_name=name,
            course_id=60 + number % 7,
            course_name=COURSES[number % 7],
            due_at=due,
        )
        make_email(
            state, claim, reason=reason, name=name, address=_address(name), recipient_id=claim.user_id, due_at=due,
            body={"html": HTML}, subject=f"Reminder: {COURSES[number % 7]}",
        )  # fmt: skip
    return Email.objects.filter(reason="held:deadline").latest("pk")


def _feedback(now: datetime) -> tuple[Email, int, int]:
    """Bounces with evidence, suppressions for every reason, rates of companies, alarms, an unreadable event."""
    bounced = make_email(
        S.BOUNCED, make_claim(user_id=15096, user_name="Hedy Lamarr"), name="Hedy Lamarr",
        address="hedy@closed.example", recipient_id=15096, subject="Reminder: First aid at work",
    )  # fmt: skip
    no_mailbox(bounced)
    row = make_suppression(bounced)
    make_suppression(
        address="full@northwind.example", reason="transient", until=now + timedelta(days=2), agreement="ours"
    )
    make_suppression(
        address="eve@northwind.example", reason="person", origin="person", added_by="ada", agreement="to_add"
    )
    make_suppression(
        address="mallory@brightwater.example", reason="complaint", origin="ses", added_by="Amazon SES"
    )
    make_suppression(
        address="charles@northwind.example", active_key=None, removed_at=now, removed_by="sam",
        removal_reason="The mailbox was made anew",
    )  # fmt: skip
    make_event(EventType.SEND, at=now, match_again_at=now + timedelta(minutes=30))
    make_problem()
    hour = now.replace(minute=0, second=0, microsecond=0)
    for company, mails, bounces, complaints in ((3, 1000, 12, 0), (5, 800, 30, 1), (7, 40, 1, 0)):
        ReputationHour.objects.create(
            hour=hour, identity="learn.example.org", company_id=company, sends=mails, permanent_bounces=bounces,
            complaints=complaints,
        )  # fmt: skip
    claimstop.judge(rates.rates(now), now)
    alarms.raise_alarm(
        "fallbacks",
        "",
        "warning",
        "Within an hour 60 mails did not go by the cloud.",
        "Look at Fallbacks for the cause.",
    )
    alarms.raise_alarm(
        "worker_silent", "", "critical", "No pass has run since 10:02 UTC.", "Start the worker."
    )
    alarms.end_alarm("worker_silent")
    return bounced, row.pk, EventProblem.objects.latest("pk").pk


def _findings(now: datetime) -> None:
    """A finding of some verdicts, one that is closed, and the comparison that they come from."""
    for verdict, detail in {
        "possible_double": "overwritten",
        "overdue": "passed_over",
        "touched": "other_values",
    }.items():
        make_finding(make_claim(), verdict=verdict, detail=detail)
    make_finding(make_claim(), closed_at=now, closed_because="agrees")
    last = {"finished_at": now.isoformat(), "days": 7, "claims": 48_210, "counts": {"agrees": 48_202}}
    evidence = {"notifications": False, "task_log": False}
    State.objects.create(name="reconcile", value={"sweep": None, "last": last | {"evidence": evidence}})
