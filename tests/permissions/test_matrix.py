"""The table of `matrix.py`, asked of the site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, User
from django.db import connections, transaction
from django.test import Client
from django.urls import URLPattern, get_resolver
from django.utils import timezone
from django_q.models import OrmQ, Schedule, Task

from emailoffload.dashboard.models import SavedView
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import AuditEntry, Run, Shadow
from emailoffload.outbox.states import EmailState
from emailoffload.policy.models import RoutingRule, SensitiveTemplate
from emailoffload.worker.handback import Released
from tests.dashboard.conftest import make_user
from tests.dashboard.factories import make_email
from tests.dashboard.reported import make_problem
from tests.dashboard.world import FOREIGN, LAB, OWN, World, bind, signed_in
from tests.permissions.matrix import (
    ANONYMOUS,
    BOUND,
    LETTERS,
    NOBODY,
    OF_COMPANIES,
    PAGES,
    ROLES,
    TABLE,
    VIEWED,
    Row,
)
from tests.security.policy import FRAMES, faults_of_headers

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
WATCHED = ("emailoffload", "auth", "django_q")
"""Applications of which no row may change where somebody is refused."""


def addresses() -> Iterator[tuple[str, str]]:
    """Every pattern of the URLconf: its name, with its namespace, and its route."""

    def walk(patterns: Any, route: str, space: str) -> Iterator[tuple[str, str]]:
        for each in patterns:
            if isinstance(each, URLPattern):
                yield f"{space}{each.name or ''}", f"{route}{each.pattern}"
            else:
                inner = f"{each.namespace}:" if each.namespace else ""
                yield from walk(each.url_patterns, f"{route}{each.pattern}", f"{space}{inner}")

    yield from walk(get_resolver().url_patterns, "", "")


def test_every_address_of_the_site_has_a_row() -> None:
    listed = {row.name for row in TABLE}
    found = {name for name, _ in addresses() if name}
    assert found - listed == set()
    assert listed - found == set()


def test_an_address_without_a_name_is_one_of_those_that_lead_elsewhere() -> None:
    routes = {route for name, route in addresses() if name in {"", "admin:"}}
    known = {"admin/login/", "admin/logout/", "admin/password_change/", "admin/password_change/done/"}
    known |= {"admin/(?P<url>.*)$"}
    assert {route for route in routes if not route.endswith("/<path:object_id>/")} == known


def test_every_page_that_takes_a_form_has_a_row_for_it() -> None:
    """What answers a POST at all has a row that posts: no action stands outside of the table."""
    posted = {row.name for row in TABLE if row.do is not None}
    silent = set()
    for pattern in get_resolver().url_patterns:
        for each in getattr(pattern, "url_patterns", [pattern]):
            view = getattr(each.callback, "view_class", None) if isinstance(each, URLPattern) else None
            if view and hasattr(view, "post") and "post" in view.http_method_names:
                silent |= {each.name} - posted
    assert silent - {None} == set()


def others_exist() -> None:
    """One record of each kind that a company's world does not have."""
    now = timezone.now()
    row = {"source": "iomad_queue", "row_id": 1, "due_at": now, "user_id": 15093}
    place = {"activity_id": 1, "course_id": 2}
    Shadow.objects.create(**row, **place, mails=1, seen_at=now)
    for company in (OWN, FOREIGN):
        left = {**row, "row_id": company, "company_id": company}
        LeftRow.objects.create(**left, reason="completed", first_seen=now, last_seen=now)
    AuditEntry.objects.create(actor="ann", action="pause")
    SensitiveTemplate.objects.create(name="license_allocated")
    RoutingRule.objects.create(name="All", mode="on", fallback="moodle")
    Schedule.objects.create(name="x", func="x.y")
    OrmQ.objects.create(key="x", payload="", lock=now)
    for name, success in (("good", True), ("bad", False)):
        Task.objects.create(id=name, name=name, func="x.y", started=now, stopped=now, success=success)


@pytest.fixture
def keys() -> dict[str, object]:
    """The records that addresses name: of the bound staff's company, of another one, and of the site."""
    world = World()
    others_exist()
    owner = User.objects.create_user("owner")
    fresh = {
        name: make_email(EmailState.FAILED, claim, address=f"{name}@example.net", body={}).pk
        for name, claim in (("own_fresh", world.own[0].claim), ("foreign_fresh", world.others[0].claim))
    }
    states = ("", "_failed", "_queued", "_uncertain")
    found: dict[str, object] = {
        **{f"own{state}": email.pk for state, email in zip(states, world.own, strict=True)},
        **{f"foreign{state}": email.pk for state, email in zip(states, world.others, strict=False)},
        **fresh,
        "own_reason": "OwnReason",
        "foreign_reason": "ForeignReason",
        "own_barred": world.barred.pk,
        "foreign_barred": world.foreign[0].pk,
        "problem": make_problem().pk,
        "view": SavedView.objects.create(owner=owner, name="All", query="state=failed", shared=True).pk,
        "run": Run.objects.values_list("pk", flat=True)[0],
        "auth.group": Group.objects.create(name="Empty").pk,
        "auth.user": owner.pk,
    }
    bind(owner, FOREIGN, name="Foreign staff")
    for label in VIEWED:
        model = apps.get_model(label)
        company = "email__company_id" if label.endswith("attempt") else "company_id"
        rows = model._default_manager.order_by("pk")
        if label in OF_COMPANIES:
            found[f"foreign {label}"] = rows.filter(**{company: FOREIGN}).values_list("pk", flat=True)[0]
            rows = rows.filter(**{company: OWN})
        found.setdefault(label, rows.values_list("pk", flat=True)[0])
    for whose, label in (("own", ""), ("foreign", "foreign ")):
        found[f"{whose}_finding"] = found[f"{label}emailoffload.reconcilefinding"]
    return found


def person(role: str) -> Client:
    """A client of somebody with a role; all but those without any permission may enter Django's admin."""
    if role == ANONYMOUS:
        return Client()
    group = {NOBODY: None, BOUND: LETTERS["S"]}.get(role, role)
    user = make_user(group, "pat")
    user.is_staff = role != NOBODY
    user.save()
    if role == BOUND:
        bind(user, OWN, LAB)
    return signed_in(user)


def snapshot() -> dict[str, list[Any]]:
    """Every row of the product's tables, of accounts and of the queue."""
    return {
        model._meta.label: list(model._default_manager.order_by("pk").values_list())
        for app in WATCHED
        for model in apps.get_app_config(app).get_models(include_auto_created=True)
        if model._meta.managed
    }


def differences(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> list[str]:
    """The tables in which something changed."""
    return [name for name in before if before[name] != after[name]]


class Writes:
    """The statements that change rows, but for sessions, which each answer may touch."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        """Keep what writes."""
        if re.match(r"\s*(insert|update|delete|replace)", sql, re.IGNORECASE) and "django_session" not in sql:
            self.found.append(sql)
        return execute(sql, params, many, context)


@pytest.fixture
def hand_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handing back, without its connections to Moodle: they would end the transaction that undoes each row."""

    def release(claim_ids: list[int], *, actor: str, reason: str) -> list[Released]:
        AuditEntry.objects.create(actor=actor, action="release", reason=reason)
        return [Released(pk, released=True) for pk in claim_ids]

    monkeypatch.setattr("emailoffload.actions.release.release", release)
    monkeypatch.setattr("emailoffload.dashboard.email_actions.check_reachable", lambda: None)


def ask(session: dict[str, str], row: Row, keys: dict[str, object]) -> Any:
    """The answer; a stream is read to its end."""
    client = Client()
    for name, value in session.items():
        client.cookies[name] = value
    path = re.sub(r"\{([^}]+)\}", lambda found: str(keys[found[1]]), row.path)
    if row.do is None:
        response = client.get(path)
    else:
        response = client.post(path, {name: value.format(**keys) for name, value in row.do.items()})
    if response.streaming:
        list(response)
    return response


def faults(row: Row, role: str, response: Any) -> Iterator[str]:
    """What is wrong with an answer: its status, or what every answer of its kind must have."""
    status = response.status_code
    if status != row.expected(role):
        yield f"{status}, not {row.expected(role)}"
    yield from faults_of_headers(response, frame=row.name in FRAMES and status == 200)
    if row not in PAGES or row.name.startswith(
        ("healthz", "readyz", "metrics", "events-sns", "set-language")
    ):
        return
    if status == 200 and "no-store" not in response.headers["Cache-Control"]:
        yield "may be kept by a cache"
    if role == ANONYMOUS and status == 302 and not response.headers["Location"].startswith("/login/"):
        yield f"leads to {response.headers['Location']}, not to the login"
    if status == 403:
        words = response.content.decode()
        # To bound staff it says that the page is not about one company, or that the address is not theirs alone.
        if "<h1>Not allowed</h1>" not in words or (role != BOUND and "needs the permission" not in words):
            yield "does not say which permission is needed"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_gets_what_the_table_says_and_a_refused_action_changes_nothing(
    role: str, keys: dict[str, object], hand_back: None
) -> None:
    session = {name: morsel.value for name, morsel in person(role).cookies.items()}
    before, wrong = snapshot(), []
    for row in TABLE:
        writes, moodle = Writes(), Writes()
        with (
            transaction.atomic(),
            transaction.atomic("moodle"),
            connections["default"].execute_wrapper(writes),
            connections["moodle"].execute_wrapper(moodle),
        ):
            response = ask(session, row, keys)
            # Without a statement that writes nothing has changed: then the tables need not be read.
            changed = (differences(before, snapshot()) if writes.found else []) + moodle.found
            for each in ("default", "moodle"):
                transaction.set_rollback(True, using=each)
        wrong += [f"{row}: {fault}" for fault in faults(row, role, response)]
        if row.do is not None and not row.allowed(role) and changed:
            wrong.append(f"{row}: refused, but it changed {changed}")
        if row.do is not None and row.changes and row.allowed(role) and not changed:
            wrong.append(f"{row}: done, but nothing changed")
    assert not wrong, "\n" + "\n".join(wrong)
