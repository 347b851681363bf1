"""One person: what is held is found, handed out and erased; nobody else's is."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db.models import BinaryField, CharField, JSONField, TextField

from emailoffload.actions import person, person_export
from emailoffload.dashboard.models import SavedView
from emailoffload.feedback.models import Event, Suppression
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import Attempt, AuditEntry, Claim, Content, Email, RowError, Shadow
from emailoffload.outbox.persons import ErasedPerson
from emailoffload.outbox.states import EmailState
from emailoffload.worker import rollups
from tests.dashboard.factories import make_claim, make_email
from tests.privacy.rows import ADDRESS, NAME, ago, deed, event, suppressed
from tests.rollups.rows import in_the_counts, in_the_rows, store_left

S = EmailState
pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
ADA, BOB = 15093, 15094
BODY = {"text": "Dear Ada, please complete Fire safety.", "html": None}
WHO = {"actor": "root", "reason": "Ticket 4711"}


def everything() -> dict[str, Any]:
    """Something of Ada in every place that holds it, and a mail to Bob."""
    own = make_email(S.DELIVERED, user_id=ADA, address=ADDRESS, name=NAME, body=BODY)
    event(1, own)
    event(1, None, message_id="unknown")
    boss = make_email(
        S.ACCEPTED,
        own.claim,
        role="manager",
        recipient_id=77,
        address="boss@example.org",
        name="Grace Hopper",
    )
    theirs = make_claim(user_id=BOB, user_name="Bob", user_email="bob@example.org")
    as_manager = make_email(
        S.ACCEPTED, theirs, role="manager", recipient_id=ADA, address=ADDRESS, name=NAME, body=BODY
    )
    bobs = make_email(
        S.DELIVERED,
        theirs,
        recipient_id=BOB,
        address="bob@example.org",
        name="Bob",
        subject="Dear Bob",
        body=BODY,
    )
    suppressed(500, over=10)
    barred = suppressed(3, email=own)
    store_left(2, ago(1), user_id=ADA, detail="Ada")
    Shadow.objects.create(
        source="reengagement",
        row_id=1,
        user_id=ADA,
        activity_id=1,
        course_id=2,
        mails=1,
        due_at=ago(1),
        seen_at=ago(1),
    )
    RowError.objects.create(
        source="reengagement",
        row_id=1,
        user_id=ADA,
        reason="x",
        detail="Ada",
        first_seen=ago(1),
        last_seen=ago(1),
    )
    owner = User.objects.create(username="grace")
    for name, query in (("a", f"user={ADA}"), ("b", f"q={ADDRESS}"), ("c", "state=failed")):
        SavedView.objects.create(owner=owner, name=name, query=query)
    deed(1, object_id=str(own.pk), reason="They asked")
    return {"own": own, "boss": boss, "as_manager": as_manager, "bobs": bobs, "barred": barred}


def said() -> str:
    """Every text that our database holds, but what staff wrote down."""
    found = []
    for model in apps.get_app_config("emailoffload").get_models():
        if model is AuditEntry:
            continue
        names = [
            field.attname
            for field in model._meta.concrete_fields
            if isinstance(field, CharField | TextField | JSONField) and not isinstance(field, BinaryField)
        ]
        found += [repr(row) for row in model._default_manager.values_list(*names)] if names else []
    return "\n".join(found)


class TestErasure:
    def test_nothing_that_names_the_person_is_left_in_any_table(self) -> None:
        held = everything()
        Suppression.objects.filter(pk=held["barred"].pk).delete()
        assert person.erase(ADA, **WHO).complete
        text = said()
        for word in (NAME, ADDRESS, "ada@", "Ada"):
            assert word not in text, [line for line in text.splitlines() if word in line]

    def test_of_others_everything_stays(self) -> None:
        held = everything()
        person.erase(ADA, **WHO)
        bobs = Email.objects.get(pk=held["bobs"].pk)
        assert (bobs.address, bobs.name, bobs.subject) == ("bob@example.org", "Bob", "Dear Bob")
        assert Content.objects.filter(pk=bobs.pk).exists() and bobs.forgotten_at is None
        assert bobs.claim.user_name == "Bob" and bobs.claim.forgotten_at is None
        assert list(SavedView.objects.values_list("name", flat=True)) == ["c"]

    def test_ids_states_and_times_stay_with_the_reason_why_the_rest_is_gone(self) -> None:
        own = everything()["own"]
        person.erase(ADA, **WHO)
        now = Email.objects.get(pk=own.pk)
        assert (now.state, now.user_id, now.message_id, now.delivered_at) == (
            own.state, ADA, own.message_id, own.delivered_at
        )  # fmt: skip
        assert now.forgotten_at and now.erased_at and now.forgotten_because == "request"
        mark = ErasedPerson.objects.get(user_id=ADA)
        assert mark.erased_at and mark.because == "request"

    def test_an_address_that_must_not_be_written_to_stays_suppressed_alone(self) -> None:
        barred = everything()["barred"]
        done = person.erase(ADA, **WHO)
        assert done.kept == [barred.pk]
        row = Suppression.objects.get(address=ADDRESS)
        assert row.active_key == ADDRESS and (row.detail, row.email_id, row.event_id) == ("", None, None)

    def test_figures_stay(self) -> None:
        rollups.run(rebuild=True)
        everything()
        rollups.run()
        before = in_the_counts()
        person.erase(ADA, **WHO)
        rollups.run()
        assert in_the_counts() == in_the_rows() == before

    @pytest.mark.parametrize("state", [S.QUEUED, S.FAILED, S.UNCERTAIN])
    def test_what_waits_is_stopped_first(self, state: str) -> None:
        waiting = make_email(state, user_id=ADA, address=ADDRESS, name=NAME, body=BODY)
        done = person.erase(ADA, **WHO)
        waiting.refresh_from_db()
        assert done.complete and done.stopped == 1
        assert waiting.state == S.CANCELLED and waiting.address == ""
        assert AuditEntry.objects.filter(
            action="cancel", object_id=str(waiting.pk), reason="Ticket 4711"
        ).exists()

    @pytest.mark.parametrize("state", [S.PREPARED, S.SENDING])
    def test_what_is_on_its_way_is_left_and_named_and_goes_the_next_time(self, state: str) -> None:
        moving = make_email(state, user_id=ADA, address=ADDRESS, name=NAME, body=BODY)
        done = person.erase(ADA, **WHO)
        assert not done.complete and list(done.waiting) == [moving.pk]
        assert not ErasedPerson.objects.filter(erased_at__isnull=False).exists()
        Email.objects.filter(pk=moving.pk).update(state=S.DELIVERED)
        assert person.erase(ADA, **WHO).complete

    def test_an_address_that_several_users_share_is_left_to_the_others(self) -> None:
        make_email(S.DELIVERED, user_id=ADA, address=ADDRESS, name=NAME)
        other = make_email(S.DELIVERED, user_id=BOB, address=ADDRESS, name="Bob")
        stray = event(1, None, message_id="unknown")
        suppressed(500, over=10)
        assert person.summary(ADA).shared == [ADDRESS]
        person.erase(ADA, **WHO)
        other.refresh_from_db()
        assert other.address == ADDRESS and Event.objects.filter(pk=stray.pk).exists()
        assert Suppression.objects.filter(address=ADDRESS).exists()

    def test_the_audit_log_has_who_why_and_how_many_and_nothing_about_the_person(self) -> None:
        everything()
        person.erase(ADA, **WHO)
        entry = AuditEntry.objects.get(action="erase_person")
        assert (entry.actor, entry.object_id, entry.reason) == ("root", str(ADA), "Ticket 4711")
        assert entry.details["mails"] == 3 and entry.details["claims"] == 1
        assert NAME not in repr(entry.details) and ADDRESS not in repr(entry.details)

    def test_again_changes_nothing_and_is_no_error(self) -> None:
        everything()
        person.erase(ADA, **WHO)
        before = said()
        assert person.erase(ADA, **WHO).complete
        assert said() == before

    def test_a_reason_is_needed(self) -> None:
        with pytest.raises(ValueError, match="reason"):
            person.erase(ADA, actor="root", reason=" ")


class TestExport:
    def test_it_has_everything_about_the_person(self) -> None:
        held = everything()
        found = person_export.export(ADA, **WHO)
        assert found["addresses"] == [ADDRESS]
        own = next(each for each in found["mails_about"] if each["id"] == held["own"].pk)
        assert own["text"] == BODY["text"] and own["address"] == ADDRESS
        assert own["attempts"] and own["events"][0]["address"] == ADDRESS
        assert [each["id"] for each in found["mails_to"]] == [held["as_manager"].pk]
        assert found["claims"][0]["user_name"] == NAME
        assert len(found["suppressions"]) == 2 and len(found["left_to_moodle"]) == 2
        assert found["other_events"] and found["shadows"] and found["row_errors"]
        assert [each["reason"] for each in found["audit"] if each["action"] == "resend"] == ["They asked"]
        json.dumps(found)

    def test_it_has_nothing_of_others(self) -> None:
        everything()
        text = json.dumps(person_export.export(ADA, **WHO))
        for word in ("Grace", "boss@", "bob@", "Dear Bob"):
            assert word not in text

    def test_what_servers_said_of_somebody_elses_mail_is_not_in_it(self) -> None:
        boss = everything()["boss"]
        event(1, boss, address="boss@example.org", diagnostic="550 <boss@example.org> of Grace is full")
        Email.objects.filter(pk=boss.pk).update(detail="550 <boss@example.org> of Grace is full")
        Attempt.objects.filter(email=boss).update(error_message="550 <boss@example.org> of Grace is full")
        found = person_export.export(ADA, **WHO)
        assert "Grace" not in json.dumps(found) and "boss@" not in json.dumps(found)
        mine = next(mail for mail in found["mails_about"] if mail["role"] == "user")
        assert mine["events"][0]["diagnostic"] == "said Ada"

    def test_what_carries_credentials_is_never_in_it(self) -> None:
        secret = make_email(
            S.UNCERTAIN, user_id=ADA, sensitive=True, body={"text": "Password: hunter2", "html": None}
        )
        text = json.dumps(person_export.export(ADA, **WHO))
        assert "hunter2" not in text and str(secret.pk) in text

    def test_the_audit_log_has_numbers_only(self) -> None:
        everything()
        person_export.export(ADA, **WHO)
        entry = AuditEntry.objects.get(action="export_person")
        assert entry.details["mails_about"] == 2 and ADDRESS not in repr(entry.details)

    def test_of_an_erased_person_it_has_no_name(self) -> None:
        everything()
        person.erase(ADA, **WHO)
        found = person_export.export(ADA, **WHO)
        assert NAME not in json.dumps(found) and found["erased_at"]


def run(*args: str) -> str:
    out = StringIO()
    call_command("person", *args, stdout=out)
    return out.getvalue()


class TestTheCommand:
    def test_without_yes_it_only_says_what_would_go(self) -> None:
        everything()
        make_email(S.QUEUED, user_id=ADA, address=ADDRESS)
        before = said()
        text = run("erase", str(ADA))
        assert (
            "mails about: 3" in text
            and "1 mails that wait, failed or are uncertain would be stopped." in text
        )
        assert "Nothing was changed." in text and said() == before

    def test_with_yes_and_a_reason_it_erases(self) -> None:
        everything()
        text = run("erase", str(ADA), "--yes", "--reason", "Ticket 4711")
        assert "claims: 1" in text and "suppressed addresses stay" in text
        assert Claim.objects.get(user_id=ADA).user_name == ""

    def test_without_a_reason_it_is_wrong_usage(self) -> None:
        for args in (("export", "1"), ("erase", "1", "--yes"), ("erase", "0", "--yes", "--reason", "x")):
            with pytest.raises(CommandError) as refused:
                run(*args)
            assert refused.value.returncode == 2

    def test_it_writes_a_file_that_only_its_owner_reads_and_never_over_another(self, tmp_path: Path) -> None:
        everything()
        file = tmp_path / "ada.json"
        run("export", str(ADA), "--reason", "Ticket 4711", "--output", str(file))
        assert file.stat().st_mode & 0o777 == 0o600
        assert json.loads(file.read_text())["user_id"] == ADA
        with pytest.raises(CommandError, match="cannot be written"):
            run("export", str(ADA), "--reason", "Ticket 4711", "--output", str(file))

    def test_what_is_on_its_way_makes_it_end_with_a_finding(self) -> None:
        make_email(S.SENDING, user_id=ADA, address=ADDRESS)
        with pytest.raises(SystemExit) as ended:
            run("erase", str(ADA), "--yes", "--reason", "Ticket 4711")
        assert ended.value.code == 1

    def test_another_address_of_theirs_can_be_given(self) -> None:
        make_email(
            S.ACCEPTED, make_claim(user_id=BOB), role="copy", recipient_id=None, address="old@example.org"
        )
        assert "mails to: 1" in run("erase", str(ADA), "--address", "old@example.org")
        run("erase", str(ADA), "--address", "Old@example.org", "--yes", "--reason", "x")
        assert not Email.objects.filter(address="old@example.org").exists()


def test_somebody_who_is_unknown_has_nothing() -> None:
    assert person.summary(999).nothing
    assert "Nothing is held about user 999." in run("erase", "999")
    assert LeftRow.objects.count() == 0
