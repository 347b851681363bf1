"""Pausing and resuming: by a person on the page, on the command line, and what every process then does."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from emailoffload.actions import pause as actions
from emailoffload.outbox import switches
from emailoffload.outbox.models import AuditEntry
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.worker import dispatch, intercept
from tests.conftest import Moodle
from tests.dashboard.conftest import make_user
from tests.reengagement.test_decisions import soon

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def client_of(role: str | None, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(make_user(role))
    return client


@pytest.fixture
def admin(transactional_db: None) -> Client:
    return client_of("Offload administrators")


def state() -> tuple[bool, bool]:
    now = switches.pause()
    return now.claims, now.sends


def post(client: Client, do: str, reason: str = "Moodle is upgraded") -> Any:
    return client.post("/pause/", {"do": do, "reason": reason})


@pytest.mark.parametrize(
    ("before", "do", "after"),
    [
        ((False, False), "pause-claims", (True, False)),
        ((False, False), "pause-sends", (False, True)),
        ((False, False), "pause-both", (True, True)),
        ((True, False), "pause-sends", (True, True)),
        ((True, False), "pause-claims", (True, False)),
        ((True, True), "resume-claims", (False, True)),
        ((True, True), "resume-sends", (True, False)),
        ((True, True), "resume-both", (False, False)),
        ((False, True), "resume-both", (False, False)),
    ],
)
def test_each_choice_does_what_it_says_and_leaves_the_rest(
    admin: Client, before: tuple[bool, bool], do: str, after: tuple[bool, bool]
) -> None:
    switches.set_pause(switches.Pause(*before, by="eve", reason="before"))
    response = post(admin, do)
    assert (response.status_code, response.headers["Location"]) == (302, "/")
    assert state() == after
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.object_id) == ("offload", *do.split("-"))
    assert entry.reason == "Moodle is upgraded"
    assert entry.details["before"] == dict(zip(("claims", "sends"), before, strict=True))
    assert entry.details["after"] == dict(zip(("claims", "sends"), after, strict=True))


def test_only_choices_that_change_something_are_offered(admin: Client) -> None:
    def offered() -> set[str]:
        text = admin.get("/pause/").content.decode()
        return {part.split('"')[0] for part in text.split('type="radio" name="do" value="')[1:]}

    assert offered() == {"pause-claims", "pause-sends", "pause-both"}
    actions.pause("claims", actor="ann", reason="x")
    assert offered() == {"pause-sends", "resume-claims"}
    actions.pause("sends", actor="ann", reason="x")
    assert offered() == {"resume-claims", "resume-sends", "resume-both"}


def test_who_paused_and_why_stays_when_another_resumes_a_part(transactional_db: None) -> None:
    actions.pause("both", actor="ann", reason="SES looks odd")
    left = actions.resume("sends", actor="bob", reason="SES is fine")
    assert (left.claims, left.sends, left.by, left.reason) == (True, False, "ann", "SES looks odd")
    actions.pause("sends", actor="bob", reason="odd again")
    now = switches.pause()
    assert (now.claims, now.sends, now.by, now.reason) == (True, True, "bob", "odd again")
    assert AuditEntry.objects.count() == 3


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"do": "pause-claims", "reason": " "}, "This field is required"),
        ({"reason": "x"}, "This field is required"),
        ({"do": "explode", "reason": "x"}, "Select a valid choice"),
        ({"do": "pause-claims", "reason": "x" * 501}, "at most 500 characters"),
    ],
)
def test_without_a_choice_and_a_reason_nothing_is_paused(
    admin: Client, data: dict[str, str], words: str
) -> None:
    response = admin.post("/pause/", data)
    assert response.status_code == 400
    assert words in response.content.decode()
    assert state() == (False, False)
    assert not AuditEntry.objects.exists()


def test_a_get_changes_nothing_and_a_post_needs_its_token(transactional_db: None) -> None:
    client = client_of("Offload administrators", enforce_csrf_checks=True)
    assert client.get("/pause/?do=pause-both&reason=x").status_code == 200
    assert post(client, "pause-both").status_code == 403
    assert state() == (False, False)


@pytest.mark.parametrize("role", [None, "Support staff", "Auditors"])
def test_those_without_the_permission_are_refused_with_a_sentence(
    transactional_db: None, role: str | None
) -> None:
    client = client_of(role)
    for response in (client.get("/pause/"), post(client, "pause-both")):
        assert response.status_code == 403
        assert "permission to pause and resume" in response.content.decode()
    assert state() == (False, False)
    if role:
        assert 'href="/pause/"' not in client.get("/").content.decode()


def test_overview_says_what_is_paused_by_whom_when_and_why_and_leads_to_the_page(admin: Client) -> None:
    assert 'href="/pause/"' in admin.get("/").content.decode()
    post(admin, "pause-both", "SES <b>looks</b> odd")
    for address in ("/", "/pause/"):
        text = " ".join(admin.get(address).content.decode().split())
        assert "Claiming and sending are paused." in text
        assert "By offload: SES &lt;b&gt;looks&lt;/b&gt; odd" in text
        assert "Last changed <time datetime=" in text
    post(admin, "resume-both")
    assert "Last changed" not in admin.get("/").content.decode()
    assert "Nothing is paused." in admin.get("/pause/").content.decode()


def test_a_pause_is_obeyed_by_claims_and_by_sends_each_for_itself(
    moodle: Moodle, ses: SandboxSES, admin: Client
) -> None:
    soon(moodle, 2, due=-60)
    post(admin, "pause-claims")
    assert intercept.run().left == {reasons.CLAIMS_PAUSED: 2}
    post(admin, "resume-claims")
    post(admin, "pause-sends")
    assert intercept.run().claimed == 2
    dispatch.run(until_empty=True)
    assert ses.messages == []
    post(admin, "resume-sends")
    assert dispatch.run(until_empty=True).sent == len(ses.messages) == 2


# --- the command ---


def run(*args: str) -> Any:
    out = io.StringIO()
    call_command("pause", *args, "--json", stdout=out)
    return json.loads(out.getvalue())


@pytest.mark.parametrize(
    ("args", "after"),
    [((), (True, True)), (("--claims",), (True, False)), (("--sends",), (False, True)),
     (("--claims", "--sends"), (True, True))],
)  # fmt: skip
def test_the_command_pauses_what_it_is_told_and_resumes_it(
    transactional_db: None, args: tuple[str, ...], after: tuple[bool, bool]
) -> None:
    assert run(*args, "--reason", "upgrade") == {"claims_paused": after[0], "sends_paused": after[1]}
    assert state() == after
    assert switches.pause().by.startswith("command line (")
    assert run(*args, "--resume", "--reason", "done") == {"claims_paused": False, "sends_paused": False}
    assert list(AuditEntry.objects.order_by("pk").values_list("action", "reason")) == [
        ("pause", "upgrade"),
        ("resume", "done"),
    ]


def test_the_command_resumes_a_part_and_says_what_is_still_paused(
    transactional_db: None, capsys: pytest.CaptureFixture[str]
) -> None:
    actions.pause("both", actor="ann", reason="x")
    call_command("pause", "--sends", "--resume", "--reason", "SES is fine")
    assert "Claiming: paused. Sending: going on." in capsys.readouterr().out


@pytest.mark.parametrize("args", [[], ["--reason", " "]])
def test_the_command_wants_a_reason(transactional_db: None, args: list[str]) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("pause", *args)
    assert "reason" in str(refused.value)
    assert state() == (False, False)
