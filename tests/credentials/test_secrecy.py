"""A password in a mail is found nowhere outside its encrypted content, and after erasure not even there."""

from __future__ import annotations

import base64
import json
import logging
from contextlib import suppress
from datetime import timedelta
from io import StringIO
from multiprocessing import Queue, Value
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.models import Failure, OrmQ, Success
from django_q.monitor import monitor
from django_q.tasks import async_task
from django_q.worker import worker

from emailoffload.outbox import content
from emailoffload.outbox.models import AuditEntry, Content, Email, RowError, Run
from emailoffload.outbox.states import EmailState
from emailoffload.worker import erase
from tests.credentials import secret
from tests.dashboard.conftest import SignIn
from tests.fake_ses import FakeSes
from tests.processes import on_sqlite

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
PAGES = (
    "/", "/emails/", "/emails/?q=nora%40example.org", "/emails/{pk}/", "/emails/{pk}/preview/",
    "/emails/{pk}/preview/?part=text", "/emails/{pk}/preview/?part=headers",
    "/emails/{pk}/preview/html/", "/emails/{pk}/preview/html/?images=1", "/emails/{pk}/resend/",
    "/users/", "/users/?q=nora", "/users/3/", "/runs/",
)  # fmt: skip


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every logger that our settings do not hold back, at its finest, with each SQL statement."""
    caplog.set_level(logging.DEBUG)
    for name in ("emailoffload", "django", "django.db.backends", "django.request", "django-q"):
        caplog.set_level(logging.DEBUG, logger=name)
    monkeypatch.setattr(connections["default"], "force_debug_cursor", True)
    return caplog


def pages(client: Client, email: Email) -> bytes:
    """All that a superuser sees of an email, headers included."""
    seen = b""
    for page in PAGES:
        response = client.get(page.format(pk=email.pk))
        assert response.status_code == 200, page
        seen += response.serialize_headers() + response.content
    return seen


def admin_pages(client: Client) -> bytes:
    """Each list in Django's admin, and the page and history of each record in it."""
    seen = b""
    for model in admin.site._registry:
        names = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        response = client.get(reverse(f"{names}_changelist"))
        assert response.status_code == 200, names
        seen += response.content
        for pk in model._default_manager.values_list("pk", flat=True)[:20]:
            for page in ("change", "history"):
                seen += client.get(reverse(f"{names}_{page}", args=[pk])).content
    return seen


def run_task(name: str) -> None:
    """A task through django-q, from its queue to its stored result, in this process."""
    async_task(name)
    tasks: Any = Queue()
    results: Any = Queue()
    tasks.put(OrmQ.objects.latest("pk").task)
    tasks.put("STOP")
    worker(tasks, results, Value("f", -1))
    results.put("STOP")
    monitor(results)
    for queue in (tasks, results):
        queue.close()
        queue.join_thread()


def json_outputs(email: Email) -> str:
    """What the commands with `--json` say."""
    out = StringIO()
    for command, *args in (
        ("resend", str(email.pk), "--reason", "test"), ("dispatch", "--until-empty"), ("recover",),
        ("release", str(email.claim_id), "--reason", "test"), ("doctor",),
    ):  # fmt: skip
        with suppress(SystemExit):  # status 1: a finding
            call_command(command, *args, "--json", stdout=out, stderr=out)
    assert out.getvalue().count("{") >= 5
    return out.getvalue()


def test_the_search_would_find_the_password_in_any_form() -> None:
    mail = f"Your password is {secret.PASSWORD}, write it down"
    assert secret.found_in(mail)
    assert secret.found_in(json.dumps({"text": mail}))
    for padding in ("", "a", "ab"):
        assert secret.found_in(base64.b64encode((padding + mail).encode()))
    assert not secret.found_in("Your password is a secret")


@pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
def test_a_password_is_nowhere_but_in_its_content_and_after_erasure_not_even_there(
    ses: FakeSes,
    source: Any,
    sign_in: SignIn,
    everything_logged: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    email = secret.store()
    client = sign_in("superuser")
    looked = pages(client, email)
    run_task("emailoffload.worker.tasks.dispatch")
    email.refresh_from_db()
    assert email.state == EmailState.ACCEPTED and Success.objects.exists()
    (request,) = ses.sent
    assert secret.found_in(json.dumps(request.body)), "the recipient gets it"
    assert secret.found_in(content.open_(Content.objects.get()).text)

    def broken(*args: object) -> None:
        raise RuntimeError(f"the mail said {secret.PASSWORD}")

    with monkeypatch.context() as patch:
        patch.setattr("emailoffload.worker.dispatch.recover_sends", broken)
        run_task("emailoffload.worker.tasks.dispatch")
    assert Failure.objects.exists() and Run.objects.filter(outcome="failed").exists()

    commands = json_outputs(email)
    looked += pages(client, email) + admin_pages(client)
    assert b"Your new account" in looked
    assert secret.found_in(looked) == []
    assert secret.found_in(commands) == []
    assert secret.found_in(whole_database()) == []
    assert secret.found_in("".join(capfd.readouterr())) == []
    assert everything_logged.records
    logged = "\n".join(f"{r.getMessage()} {r.args} {r.exc_text} {vars(r)}" for r in everything_logged.records)
    assert secret.found_in(logged) == []

    sealed = {bytes(body) for body in Content.objects.values_list("body", flat=True)}
    assert sealed
    counts = erase.erase_due(timezone.now() + timedelta(hours=1))
    assert counts["erased"] == len(sealed)
    assert not Content.objects.exists()
    left = secret.database_dump()
    assert not [body for body in sealed if body in left]
    assert secret.found_in(left + pages(client, email)) == []


def whole_database() -> bytes:
    """The whole database; the tables that matter have something in them."""
    for model in (Email, Content, AuditEntry, Run, Success, Failure):
        assert model._default_manager.exists(), model
    assert not RowError.objects.exists()
    return secret.database_dump()


@pytest.mark.parametrize("state", [state for state in EmailState if state != EmailState.PREPARED])
def test_not_even_administrators_see_what_a_sensitive_mail_says(sign_in: SignIn, state: EmailState) -> None:
    email = secret.store()
    Email.objects.update(state=state)
    seen = pages(sign_in("superuser"), email)
    assert b"Your new account" in seen
    assert b"never shown to anybody" in seen
    assert secret.found_in(seen) == []
    assert not AuditEntry.objects.filter(action="view_content").exists()


@pytest.mark.parametrize("template", ["user_create", "user_reset", "password_update"])
def test_mails_of_password_templates_are_hidden_even_where_they_were_not_marked(
    sign_in: SignIn, template: str
) -> None:
    email = secret.store(template=template, sensitive=False)
    assert secret.found_in(pages(sign_in("superuser"), email)) == []


def test_the_same_words_in_an_ordinary_mail_are_shown(sign_in: SignIn) -> None:
    email = secret.store(template="license_allocated", sensitive=False)
    assert secret.found_in(pages(sign_in("superuser"), email))


SCRIPT = """
import django; django.setup()
from datetime import timedelta
from pathlib import Path
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
call_command("migrate", verbosity=0)
from emailoffload.outbox.models import Content, Email
from emailoffload.sources import registry
from emailoffload.worker import dispatch, erase
from tests.credentials import secret
class Source:
    def recheck(self, views, now): return []
registry.get = lambda name, variant=None: Source()
folder = Path(connection.settings_dict["NAME"]).parent
def files():
    return b"".join(path.read_bytes() for path in sorted(folder.glob("offload.sqlite3*")))
email = secret.store()
body = bytes(Content.objects.get().body)
print("stored", body[40:80] in files(), secret.found_in(files()))
dispatch.run(until_empty=True)
email.refresh_from_db()
print(email.state, secret.found_in(files()))
print(erase.erase_due(timezone.now() + timedelta(hours=1)), Content.objects.count())
print("erased", [i for i in range(0, len(body) - 16, 16) if body[i:i + 16] in files()])
"""


def test_on_sqlite_nothing_of_an_erased_mail_is_left_in_the_files(ses: FakeSes, tmp_path: Path) -> None:
    done = on_sqlite(SCRIPT, tmp_path, ses=ses.url)
    assert done.stdout.splitlines() == [
        "stored True []",
        "accepted []",
        "{'marked_sensitive': 0, 'erased': 1} 0",
        "erased []",
    ]
    assert secret.found_in(done.stderr) == []
    assert secret.found_in(json.dumps(ses.sent[0].body))
