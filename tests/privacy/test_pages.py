"""What pages say of what is gone, and the two pages that hand out or erase what is held."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from emailoffload.outbox.models import AuditEntry, Email, Forgotten
from emailoffload.outbox.persons import ErasedPerson
from emailoffload.outbox.states import EmailState
from emailoffload.worker.privacy import forget
from tests.dashboard.conftest import make_user
from tests.dashboard.factories import make_email
from tests.privacy.rows import ADDRESS, NAME, ago
from tests.privacy.test_person import everything

S = EmailState
pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
ADA = 15093
REASON = {"reason": "Ticket 4711"}


@pytest.fixture
def root() -> Client:
    """An administrator of the whole site."""
    client = Client()
    client.force_login(make_user("Offload administrators", "root"))
    return client


def text(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


@pytest.mark.parametrize(
    ("because", "said"),
    [
        (Forgotten.RETENTION, "because they had been kept for long enough:"),
        (Forgotten.REQUEST, "because somebody asked for it:"),
        (Forgotten.MOODLE, "because Moodle has deleted the user:"),
    ],
)
def test_the_page_of_an_emptied_mail_says_what_is_gone_when_and_why(
    root: Client, because: Forgotten, said: str
) -> None:
    email = make_email(S.DELIVERED, address=ADDRESS, name=NAME, body={"text": "x", "html": None})
    forget.claims([email.claim_id], because, timezone.now())
    page = text(root, f"/emails/{email.pk}/")
    assert f"Name, address, subject and text were erased, {said}" in page
    assert "<h1>(erased)</h1>" in page and "Name, address and subject were erased" in page
    assert "Amazon SES took the mail for (erased)" in page or "(erased)" in page
    assert ADDRESS not in page and "Lovelace" not in page
    assert "Its address is erased." in page and "Open the mail" not in page


@pytest.mark.parametrize("path", ["/emails/?view=0", "/", f"/users/{ADA}/", "/fallbacks/failed/"])
def test_lists_say_that_it_is_erased_and_leave_nothing_blank(root: Client, path: str) -> None:
    for state in (S.DELIVERED, S.FAILED):
        email = make_email(state, user_id=ADA, address=ADDRESS, name=NAME)
        forget.claims([email.claim_id], Forgotten.RETENTION, timezone.now())
    page = text(root, path)
    assert ADDRESS not in page and "(no subject)" not in page
    if path not in ("/", "/fallbacks/failed/"):
        assert "(erased)" in page


def test_the_preview_says_when_what_a_mail_said_was_erased(root: Client) -> None:
    email = make_email(S.DELIVERED, address=ADDRESS, body={"text": "x", "html": None})
    forget.contents([email.pk], timezone.now())
    assert "What this mail said was erased:" in text(root, f"/emails/{email.pk}/preview/?part=text")
    assert "What it said was erased:" in text(root, f"/emails/{email.pk}/")


def test_the_page_of_a_user_says_that_they_were_erased_or_will_be(root: Client) -> None:
    mark = ErasedPerson.objects.create(user_id=ADA, deleted_seen_at=ago(3))
    assert "Moodle has deleted this user; what is held about them goes after" in text(root, f"/users/{ADA}/")
    mark.erased_at, mark.because = ago(1), "request"
    mark.save()
    assert "were erased, because somebody asked for it:" in text(root, f"/users/{ADA}/")


def test_the_export_is_a_file_that_holds_what_the_action_found(root: Client) -> None:
    everything()
    page = text(root, f"/users/{ADA}/export/")
    assert "2 mails about them" in page and ADDRESS in page
    answer = root.post(f"/users/{ADA}/export/", REASON)
    assert answer["Content-Disposition"].startswith(f'attachment; filename="user-{ADA}-')
    assert json.loads(answer.content)["claims"][0]["user_name"] == NAME
    assert "no-store" in answer["Cache-Control"]
    assert AuditEntry.objects.get(action="export_person").actor == "root"


def test_an_erasure_wants_the_users_id_and_then_says_what_became_of_it(root: Client) -> None:
    own = everything()["own"]
    page = text(root, f"/users/{ADA}/erase/")
    assert "What stays, and why" in page and "Erase for good" in page
    wrong = root.post(f"/users/{ADA}/erase/", {**REASON, "confirm": "15094"})
    assert wrong.status_code == 400 and "Type 15093: this page is about user 15093." in wrong.content.decode()
    assert root.post(f"/users/{ADA}/erase/", {"confirm": str(ADA)}).status_code == 400
    assert Email.objects.get(pk=own.pk).address == ADDRESS
    done = root.post(f"/users/{ADA}/erase/", {**REASON, "confirm": str(ADA)}, follow=True)
    assert "What was held about this user is erased." in done.content.decode()
    assert Email.objects.get(pk=own.pk).address == ""


def test_what_is_on_its_way_is_told_after_an_erasure(root: Client) -> None:
    make_email(S.SENDING, user_id=ADA, address=ADDRESS)
    done = root.post(f"/users/{ADA}/erase/", {**REASON, "confirm": str(ADA)}, follow=True)
    assert "Erased but for 1 mail, which is being sent" in done.content.decode()


@pytest.mark.parametrize("address", ["no address", "a@b@c", "x" * 300])
def test_another_address_must_be_one(root: Client, address: str) -> None:
    for page, more in (("export", {}), ("erase", {"confirm": str(ADA)})):
        answer = root.post(f"/users/{ADA}/{page}/", {**REASON, **more, "address": address})
        assert answer.status_code == 400
    assert not AuditEntry.objects.filter(action__endswith="_person").exists()


def test_only_who_may_is_led_there(root: Client, client: Client) -> None:
    client.force_login(make_user("Support staff"))
    make_email(S.DELIVERED, user_id=ADA)
    assert f"/users/{ADA}/erase/" in text(root, f"/users/{ADA}/")
    assert f"/users/{ADA}/erase/" not in text(client, f"/users/{ADA}/")


def test_an_export_needs_the_permission_to_read_what_mails_say_too(client: Client) -> None:
    user = make_user(None)
    names = ("view_email", "export_person")
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(user)
    everything()
    assert client.post(f"/users/{ADA}/export/", REASON).status_code == 403
    assert f"/users/{ADA}/export/" not in text(client, f"/users/{ADA}/")
    user.user_permissions.add(Permission.objects.get(codename="view_content"))
    assert client.post(f"/users/{ADA}/export/", REASON).status_code == 200


def test_an_id_that_no_user_can_have_holds_nothing(root: Client) -> None:
    assert "Nothing is held about this user." in text(root, f"/users/{10**30}/export/")
