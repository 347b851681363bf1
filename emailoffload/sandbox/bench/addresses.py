"""Every page of the dashboard as people ask for it: with its usual filters, and with the worst there are.

A page that is missing here is a finding of `bench pages`, so that none is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl

from django.contrib import admin
from django.db.models import Max, Model
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse
from django.utils.http import urlencode

from emailoffload.feedback.models import Event, EventProblem, Suppression
from emailoffload.monitoring import metrics, readiness
from emailoffload.outbox.models import AuditEntry, Content, Email, Run
from emailoffload.sandbox.bench.seed_plan import Plan

NO_PAGES: Final[Mapping[str, str]] = {
    "login": "reads no records",
    "logout": "is a POST",
    "password_change": "reads no records",
    "password_change_done": "reads no records",
    "saved-view-save": "is a POST",
    "set-language": "is a POST",
    "saved-view-change": "is a POST",
    "events-sns": "is called by SNS",
}
"""Names of addresses that are not measured, and why."""
COMING: Final = (
    "it runs the decisions of a pass for one user, and Moodle's table of reminders has no index on users; beyond"
    " a million rows it is shown only to those who ask for it"
)
SCRAPE_MS: Final = 50.0
"""What a scrape of `/metrics` may take, and an answer of `/readyz`: they are asked for all day long."""
TEXT: Final = "zzz nobody is called this"
"""A text that no mail has: the worst one to search for."""


@dataclass(frozen=True, slots=True)
class Address:
    """One page with its filters. `name` is that of its address, `what` tells it from others of the same name."""

    name: str
    what: str
    path: str
    bound: bool = False
    """Asked for by a person who is bound to a company."""
    search: bool = False
    """A search by something that an index finds: the database's part has a limit of its own."""
    excused: str = ""
    """Why what is found against it does not count: it is known, and somebody has to ask for it on purpose."""
    lines: int = 0
    """For a file: so many lines of it are read. It is asked for by POST."""
    limit_ms: float = 0.0
    """What it may take, where that is less than any page may."""
    also: int = 0
    """A status that is an answer too, although it is no success."""
    anew: Callable[[], None] | None = None
    """Called before each request: makes a page forget the answer that it gives again within a second."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows that addresses name."""

    until: datetime
    email: Email
    newest: Email
    kept: int
    """An email whose content is stored."""
    busy_user: int
    busy_address: str
    busy_claim_email: int
    company: int
    """One of middle size; company 1 is the largest, company 40 the smallest."""
    message_id: str
    suppression: int
    problem: int
    run: int
    event: int
    audit: int

    @property
    def week(self) -> dict[str, Any]:
        """A week of long ago, as filters of days."""
        start = (self.until - timedelta(days=300)).date()
        return {"date_from": f"{start}", "date_to": f"{start + timedelta(days=6)}"}


def examples(emails: int, until: datetime) -> Examples:
    """Rows of a seeded database that are worth asking for; a few queries."""
    plan = Plan(emails, 0, until)
    email = Email.objects.filter(pk__gte=emails // 2, state="delivered").order_by("pk").first()
    newest = Email.objects.order_by("-pk").first()
    problem = EventProblem.objects.order_by("-pk").values_list("pk", flat=True).first()
    suppression = Suppression.objects.order_by("-pk").values_list("pk", flat=True).first()
    run = Run.objects.filter(pk__gte=plan.runs // 2).order_by("pk").first()
    if email is None or newest is None or problem is None or suppression is None or run is None:
        raise LookupError("The database has no seeded rows. Fill it: manage.py bench seed")
    return Examples(
        until=until,
        email=email,
        newest=newest,
        kept=Content.objects.order_by("email_id").values_list("email_id", flat=True).first() or newest.pk,
        busy_user=plan.busy_user,
        busy_address="hr@company1.example",
        busy_claim_email=email.pk,
        company=12,
        message_id=email.message_id,
        suppression=suppression,
        problem=problem,
        run=run.pk,
        event=Event.objects.aggregate(most=Max("pk"))["most"] or 0,
        audit=AuditEntry.objects.aggregate(most=Max("pk"))["most"] or 0,
    )


def addresses(seen: Examples) -> Iterator[Address]:
    """Every page with its filters. Those whose page this version does not have yet have an empty path."""
    yield from _overview(seen)
    yield from _emails(seen)
    yield from _email(seen)
    yield from _users(seen)
    yield from _events(seen)
    yield from _suppressions(seen)
    yield from _decisions(seen)
    yield from _operation(seen)
    yield from _admin()


def _at(
    name: str, what: str = "", /, *args: Any, bound: bool = False, search: bool = False, **query: Any
) -> Address:
    return Address(name, what, _path(name, *args, **query), bound=bound, search=search)


def _path(name: str, *args: Any, **query: Any) -> str:
    try:
        address = reverse(name, args=args)
    except NoReverseMatch:
        return ""
    return f"{address}?{urlencode(query, doseq=True)}" if query else address


def _overview(seen: Examples) -> Iterator[Address]:
    yield _at("overview")
    for when in ("1h", "24h", "today", "7d", "30d"):
        yield _at("overview", when, when=when)
    yield _at("overview", "company, 30 days", company=1, when="30d")
    yield _at("overview", "a week of long ago", **seen.week)
    yield _at("overview", "bound", bound=True)
    yield _at("left", "a day")
    yield _at("left", "a reason, 30 days", when="30d", reason="reputation")
    yield _at("left", "lost, 30 days", when="30d", show="lost")
    yield _at("left", "a company, an old week", company=40, **seen.week)
    yield _at("left", "bound", bound=True, when="30d")
    yield _at("pause")
    yield _at("healthz")
    yield _at("healthz-worker")
    yield replace(_at("readyz"), limit_ms=SCRAPE_MS, also=503, anew=readiness.forget)
    yield replace(_at("metrics"), limit_ms=SCRAPE_MS, anew=metrics.forget_answers)
    yield replace(_at("metrics", "the first of a process"), anew=metrics.forget)


def _emails(seen: Examples) -> Iterator[Address]:
    email = seen.email
    yield _at("emails")
    yield _at("emails", "user id", search=True, q=seen.busy_user)
    yield _at("emails", "address", search=True, q=email.address)
    yield _at("emails", "address with many mails", search=True, q=seen.busy_address)
    yield _at("emails", "message id", search=True, q=seen.message_id)
    yield _at("emails", "our id", search=True, q=email.ref.hex)
    yield _at("emails", "address that begins with", q="ada.lovelace@")
    yield _at("emails", "text without a match", q=TEXT)
    yield _at("emails", "text without a match, an old week", q=TEXT, **seen.week)
    yield _at("emails", "text with matches", q="first aid")
    for state in ("delivered", "failed", "queued", "prepared"):
        yield _at("emails", state, state=state)
    yield _at("emails", "delivered and bounced, 30 days", state=["delivered", "bounced"], when="30d")
    yield _at("emails", "failed, an old week", state="failed", **seen.week)
    yield _at("emails", "a company", company=seen.company)
    yield _at("emails", "the largest company", company=1)
    yield _at("emails", "the smallest company, failed", company=40, state="failed")
    yield _at("emails", "the largest company, delivered", company=1, state="delivered")
    yield _at("emails", "the largest company, text without a match", company=1, q=TEXT)
    yield _at("emails", "company by name", company="Company 7")
    yield _at("emails", "a source", source="iomad_queue")
    yield _at("emails", "a role", role="manager")
    yield _at("emails", "a role, the smallest company", role="copy", company=40)
    yield _at("emails", "route", route="smtp")
    yield _at("emails", "template", template="password_update")
    yield _at("emails", "reason", reason="content_missing")
    yield _at("emails", "reason that none has", reason="no_such_reason")
    yield _at("emails", "activity", activity=email.activity_id or 1)
    yield _at("emails", "activity by name", activity="Fire safety")
    yield _at("emails", "course", course=email.course_id)
    yield _at("emails", "a week of long ago", **seen.week)
    yield _at("emails", "24 hours", when="24h")
    yield _at("emails", "half-way down", before=email.pk)
    yield _at("emails", "half-way down, delivered", before=email.pk, state="delivered")
    yield _at("emails", "half-way down, back", after=email.pk)
    yield _at("emails", "the oldest", before=60)
    yield _at("emails", "bound", bound=True)
    yield _at("emails", "bound, failed", bound=True, state="failed")
    yield _at("emails", "bound, text without a match", bound=True, q=TEXT)
    hour = seen.until - timedelta(hours=30)
    yield _at(
        "emails", "an hour of a chart", since=hour.isoformat(), until=(hour + timedelta(hours=1)).isoformat()
    )
    yield _at("emails-columns")
    yield _at("saved-views")
    yield _at("emails-export", "the question", state="failed")
    for what, query in (("all", {}), ("failed", {"state": "failed"}), ("a role", {"role": "copy"})):
        path = _path("emails-export", **query)
        yield Address("emails-export", f"1,000 lines, {what}", path, lines=1000)


def _email(seen: Examples) -> Iterator[Address]:
    yield _at("email", "delivered", seen.email.pk)
    yield _at("email", "the newest", seen.newest.pk)
    yield _at("email", "bound", _of_company(1), bound=True)
    for state in (
        "bounced",
        "failed",
        "uncertain",
        "released",
        "suppressed",
        "queued",
        "sent_smtp",
        "clicked",
    ):
        found = Email.objects.filter(state=state).order_by("-pk").values_list("pk", flat=True).first()
        if found:
            yield _at("email", state, found)
    resent = Email.objects.filter(pk__gte=seen.email.pk - seen.email.pk % 120).order_by("pk").first()
    yield _at("email", "with a resend", resent.pk if resent else seen.email.pk)
    yield _at("email-preview", "stored", seen.kept)
    yield _at("email-preview", "erased", seen.email.pk)
    yield _at("email-preview-html", "stored", seen.kept)
    failed = Email.objects.filter(state="failed").order_by("-pk").values_list("pk", flat=True).first()
    for name in ("email-resend", "email-cancel", "email-hand-back", "email-smtp", "email-suppress"):
        yield _at(name, "", failed or seen.email.pk)


def _of_company(company: int) -> int:
    newest = Email.objects.filter(company_id=company).order_by("-pk").values_list("pk", flat=True).first()
    return newest or 0


def _users(seen: Examples) -> Iterator[Address]:
    yield _at("users")
    yield _at("users", "by name", q="Ada Lovelace")
    yield _at("users", "by a name that many have", q="Ma")
    yield _at("users", "by a name that nobody has", q=TEXT)
    yield _at("users", "by address", search=True, q=seen.email.address)
    yield _at("users", "by an address with many mails", search=True, q=seen.busy_address)
    yield _at("users", "by name, bound", bound=True, q="Ada Lovelace")
    yield _at("user", "with many mails", seen.busy_user)
    coming = _at("user", "what is coming", seen.busy_user, coming=1)
    yield replace(coming, excused=COMING)
    yield _at("user", "with some mails", seen.email.user_id)
    yield _at("user", "with none", 4_000_000)
    yield _at("user", "half-way down", seen.busy_user, before=seen.email.pk)
    yield _at("user", "bound", seen.busy_user, bound=True)
    for name in ("user-export", "user-erase"):
        yield _at(name, "with many mails", seen.busy_user)
        yield _at(name, "with some mails", seen.email.user_id)


def _events(seen: Examples) -> Iterator[Address]:
    yield _at("events")
    yield _at("events", "message id", search=True, q=seen.message_id)
    yield _at("events", "our id", search=True, q=seen.email.ref.hex)
    yield _at("events", "address", search=True, q=seen.email.address)
    yield _at("events", "address with many mails", search=True, q=seen.busy_address)
    yield _at("events", "address that none has", search=True, q="nobody@nowhere.example")
    yield _at("events", "message id that none has", search=True, q="0102018f00000000-aaaabbbb-none")
    for kind in ("delivery", "complaint", "rendering_failure"):
        yield _at("events", kind, type=kind)
    for match in ("matched", "noted", "searched", "given_up"):
        yield _at("events", match, match=match)
    yield _at("events", "half-way down", before=seen.event // 2)
    yield _at("events", "half-way down, a kind", before=seen.event // 2, type="complaint")
    yield _at("events", "bound", bound=True)
    yield _at("events", "bound, a kind", bound=True, type="complaint")
    yield _at("events", "bound, address", bound=True, q="hr@company1.example")
    yield _at("event-problems")
    yield _at("event-problem", "", seen.problem)
    yield _at("event-problem-body", "", seen.problem)


def _suppressions(seen: Examples) -> Iterator[Address]:
    yield _at("suppressions")
    yield _at("suppressions", "address", search=True, q=seen.email.address)
    yield _at("suppressions", "beginning of an address", q="ada.")
    yield _at("suppressions", "user id", search=True, q=seen.busy_user)
    yield _at("suppressions", "over", state="over")
    yield _at("suppressions", "all, a reason that none has", state="all", reason="person")
    yield _at("suppressions", "not on both lists", agreement="to_remove")
    yield _at("suppressions", "half-way down", before=seen.suppression // 2)
    yield _at("suppressions", "bound", bound=True)
    yield _at("suppressions", "bound, a reason that none has", bound=True, state="all", reason="person")
    yield _at("suppression", "", seen.suppression)
    yield _at("suppression-add", "", address="ada@example.org")
    yield _at("reputation")
    yield _at("reputation", "bound", bound=True)


def _decisions(seen: Examples) -> Iterator[Address]:
    yield _at("fallbacks")
    yield _at("fallbacks", "bound", bound=True)
    for state, reason in (("failed", "deadline"), ("uncertain", "ReadTimeoutError"), ("queued", ""),
                          ("sent-smtp", "deadline"), ("sent_smtp", "deadline"), ("released", "deadline"),
                          ("released", "no_such_reason")):  # fmt: skip
        if state != "sent-smtp":
            yield _at("fallback-group", f"{state} {reason}".strip(), state, reason=reason)
    yield _at("fallback-group", "half-way down", "released", reason="deadline", before=seen.email.pk)
    yield _at("fallback-group", "bound", "released", bound=True, reason="deadline")
    yield _at("routing")
    yield _at("routing", "an email", email=seen.email.pk)
    yield _at("routing", "a user", user=seen.email.user_id, company=1)
    yield _at("shadows")
    for verdict in ("sent", "waiting", "changed"):
        yield _at("shadows", verdict, verdict=verdict)
    yield _at("copies")
    yield _at("copies", "a user", user=seen.email.user_id, template="user_create")
    yield _at("coverage")


def _operation(seen: Examples) -> Iterator[Address]:
    yield _at("alarms")
    yield _at("alarms", "open", show="open")
    yield _at("alarms", "past, a kind that none has", show="past", code="credentials")
    yield _at("runs")
    yield _at("runs", "claiming", kind="intercept")
    yield _at("runs", "claiming, failed", kind="intercept", outcome="failed")
    yield _at("runs", "an outcome that none has", outcome="interrupted")
    yield _at("runs", "half-way down", before=seen.run)
    yield _at("run", "", seen.run)
    yield _at("reconciliation")
    yield _at("reconciliation", "closed", status="closed")
    yield _at("reconciliation", "all, a source", status="all", source="iomad_queue")
    yield _at("reconciliation", "a user without any", status="all", user=seen.busy_user)
    yield _at("reconciliation", "bound", bound=True, status="all")
    yield _at("audit")
    yield _at("audit", "a person", who="person7")
    yield _at("audit", "an action", action="pause")
    yield _at("audit", "a person, an action", who="person7", action="pause")
    yield _at("audit", "a person who did nothing, an action", who="nobody", action="view_content")
    yield _at("audit", "an email", kind="email", which=seen.email.pk)
    yield _at("audit", "an old week", **seen.week)
    yield _at("audit", "an action, an old week", action="export", **seen.week)
    yield _at("audit", "half-way down", before=seen.audit // 2)
    yield _at("configuration")
    yield _at("configuration", "only what was changed", show="changed")


def _admin() -> Iterator[Address]:
    """Django's admin: the index, and of each kind of record the list, its filters, its search, one record."""
    yield _at("admin:index")
    for model, shown in admin.site._registry.items():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        yield _at(f"{name}_changelist")
        newest = model._default_manager.order_by("pk").values_list("pk", flat=True).last()
        if newest is not None:
            yield _at(f"{name}_change", "", newest)
        if shown.search_fields or getattr(shown, "searched", ()):
            yield _at(f"{name}_changelist", "a search without a match", q="4000000")
        for query in _choices(model, shown):
            what = ", ".join(f"{lookup}={value}" for lookup, value in query.items())
            yield Address(f"{name}_changelist", what, _path(f"{name}_changelist", **query))


def _choices(model: type[Model], shown: Any) -> Iterator[dict[str, str]]:
    """Of each filter of an admin's list the links that a person can click, but the first, which shows all."""
    from django.contrib.auth import get_user_model
    from django.test import RequestFactory

    from emailoffload.sandbox.bench.seed import ADMINISTRATOR

    request = RequestFactory().get("/")
    request.user = get_user_model().objects.get(username=ADMINISTRATOR)
    changelist = shown.get_changelist_instance(request)
    for each in changelist.filter_specs:
        links = [choice["query_string"] for choice in each.choices(changelist)][1:]
        # The rarest value is often the last that is offered, and all are asked for where there are few.
        for link in links[:2] + links[-2:]:
            query = dict(parse_qsl(link.removeprefix("?")))
            if query:
                yield query


def forgotten(measured: Mapping[str, int]) -> list[str]:
    """Names of the dashboard's addresses that are neither measured nor in `NO_PAGES`."""
    return sorted(set(_names(get_resolver().url_patterns)) - measured.keys() - NO_PAGES.keys())


def _names(patterns: Any) -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver) and pattern.app_name != "admin":
            yield from _names(pattern.url_patterns)
        elif isinstance(pattern, URLPattern) and pattern.name:
            yield pattern.name
