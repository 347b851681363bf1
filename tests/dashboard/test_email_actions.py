"""What a person does with one mail: the page says what will happen or why not, and the POST does exactly that, once."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from emailoffload.actions import release
from emailoffload.dashboard import email_actions
from emailoffload.feedback.models import Suppression
from emailoffload.moodle.errors import MoodleUnreachable
from emailoffload.moodle.models import User
from emailoffload.outbox.models import Attempt, AuditEntry, Email
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import handback, smtp_route
from tests.dashboard.conftest import SignIn, make_user
from tests.dashboard.factories import make_claim, make_email, make_suppression
from tests.dashboard.test_fuzz import NASTY, encodable
from tests.dashboard.world import FOREIGN, OWN

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
S = EmailState
LEARNER = 3
"""A user of the real site."""
ACTIONS = ("cancel", "hand-back", "smtp", "suppress", "resend")
WHY = {"reason": "asked by phone"}


@pytest.fixture(autouse=True)
def _smtp_route(settings: Any) -> None:
    settings.SMTP_ROUTE = {"HOST": "localhost"}


@pytest.fixture
def hand_backs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], str, str]]:
    """What was asked to be handed back; in place of Moodle's row, the first request is refused."""
    told: list[tuple[list[int], str, str]] = []

    def hand_back(ids: list[int], *, actor: str, reason: str) -> list[release.Released]:
        told.append((ids, actor, reason))
        first = len(told) == 1
        return [release.Released(ids[0], not first, "Moodle's cron is at work." if first else "")]

    monkeypatch.setattr(release, "hand_back", hand_back)
    monkeypatch.setattr(email_actions, "check_reachable", lambda: None)
    return told


def page(client: Client, address: str, status: int = 200) -> str:
    response = client.get(address)
    assert response.status_code == status
    return response.content.decode()


def overdue(**changes: Any) -> Email:
    """A mail that waits although it was due: all that is not sent yet can be done with it."""
    now = timezone.now()
    return make_email(S.FAILED, **{"body": {}, "due_at": now, "reason": "held:deadline"} | changes)


# --- Who may do what ---


@pytest.mark.parametrize(
    ("role", "allowed"),
    [("nobody", False), ("Auditors", False), ("Support staff", True), ("Offload administrators", True)],
)
def test_an_action_is_for_its_roles_only(sign_in: SignIn, role: str, allowed: bool) -> None:
    email, client = overdue(), sign_in(role)
    for action in ACTIONS:
        address = f"/emails/{email.pk}/{action}/"
        assert client.get(address).status_code == (200 if allowed else 403), action
        if not allowed:
            assert client.post(address, WHY | {"do": "add"}).status_code == 403, action
    assert not AuditEntry.objects.exists()
    assert not Suppression.objects.exists()


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_done_without_a_token_a_reason_or_a_post(support: Client, action: str) -> None:
    email = overdue()
    address = f"/emails/{email.pk}/{action}/"
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(make_user("Support staff", "strict"))
    assert strict.post(address, WHY).status_code == 403
    for reason in ("", "   "):
        answer = support.post(address, {"reason": reason, "do": "add"})
        assert answer.status_code == 400
        assert "This field is required." in answer.content.decode()
    support.head(address)
    assert support.put(address).status_code == 405
    assert "What will happen" in page(support, address) or action == "resend"
    assert not AuditEntry.objects.exists()
    email.refresh_from_db()
    assert email.state == S.FAILED


@pytest.mark.parametrize("action", ACTIONS)
def test_staff_of_a_company_act_on_its_mails_only(bound: Client, action: str) -> None:
    own, foreign = (overdue(claim=make_claim(company_id=company)) for company in (OWN, FOREIGN))
    assert bound.get(f"/emails/{foreign.pk}/{action}/").status_code == 404
    assert bound.post(f"/emails/{foreign.pk}/{action}/", WHY | {"do": "add"}).status_code == 404
    assert not AuditEntry.objects.exists()
    assert bound.get(f"/emails/{own.pk}/{action}/").status_code == 200


def test_a_mail_that_does_not_exist_is_not_found(support: Client) -> None:
    for action in ACTIONS:
        for number in (999_999, 2**63, 10**30):
            assert support.get(f"/emails/{number}/{action}/").status_code == 404
            assert support.post(f"/emails/{number}/{action}/", WHY).status_code == 404


FIELDS = ["reason", "to", "present_address", "also", "do", "unknown"]
VALUES = st.sampled_from(NASTY) | st.text(max_size=40)


@profile(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    action=st.sampled_from(ACTIONS),
    data=st.dictionaries(st.sampled_from(FIELDS), st.lists(VALUES, min_size=1, max_size=3), max_size=5),
)
def test_no_form_breaks_a_page(
    support: Client, hand_backs: list[Any], action: str, data: dict[str, Any]
) -> None:
    email = overdue()
    response = support.post(f"/emails/{email.pk}/{action}/", encodable(data))
    assert response.status_code in {200, 302, 400, 403, 409}


# --- What the page of a mail offers ---


def test_what_cannot_be_done_is_shown_with_the_reason(support: Client) -> None:
    for state in S:
        body = page(support, f"/emails/{make_email(state, body={}).pk}/")
        listed = body.split('<ul class="actions">')[1].split("</ul>")[0]
        for title in ("Send it again…", "Stop it…", "Hand it back to Moodle…", "Send it by SMTP…"):
            before, _title, after = listed.partition(title)
            assert after, title
            offered = before.rstrip().endswith('/">')
            assert offered or '<span class="small">' in after.split("</li>")[0], (state, title)
        assert "Suppress its address…" in listed


def test_a_mail_that_has_left_says_why_it_cannot_go_back(support: Client) -> None:
    body = page(support, f"/emails/{make_email(S.DELIVERED, body={}).pk}/")
    assert "A mail of this claim has left, and Moodle would send it a second time." in body
    assert "It has left: Amazon SES took it." in body


def test_an_account_that_may_not_is_told_so(sign_in: SignIn) -> None:
    body = page(sign_in("Auditors"), f"/emails/{overdue().pk}/")
    for words in (
        "may not send mails again",
        "may not stop mails",
        "may not decide which way",
        "may not suppress",
    ):
        assert words in body
    assert 'class="button" href="/emails/' not in body.split('<ul class="actions">')[1].split("</ul>")[0]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"state": S.UNCERTAIN}, "may have left"),
        ({"state": S.CANCELLED}, "was stopped"),
        ({"state": S.QUEUED, "lease": smtp_route.WANTED}, "set aside for the SMTP server"),
        ({"state": S.QUEUED, "lease": "d" * 32}, "being sent at this moment"),
        ({"state": S.SENDING}, "being sent at this moment"),
        ({"state": S.DELIVERED}, "has left"),
    ],
)
def test_one_mail_of_a_claim_keeps_the_whole_claim(support: Client, values: dict[str, str], why: str) -> None:
    email = overdue()
    make_email(claim=email.claim, role="manager", **values)
    assert why in page(support, f"/emails/{email.pk}/hand-back/")


def test_what_our_rows_allow_is_what_the_hand_back_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page never promises what `release` then refuses for what our own rows say, nor the other way round."""
    monkeypatch.setattr(handback.trust, "require", lambda: None)
    monkeypatch.setattr(handback, "_give_back", lambda claims: set())
    for state in S:
        for lease in ("", "d" * 32):
            email = make_email(state, due_at=timezone.now(), lease=lease)
            mails = [email]
            said = release.why_not(email.claim, mails, release.unanswered(mails))
            (done,) = release.release([email.claim_id], actor="sam", reason="x")
            assert bool(said) == (done.code in ("left", "too_late", "not_claimed")), (
                state,
                lease,
                said,
                done,
            )


# --- Stopping ---


def test_a_stopped_mail_is_told_with_who_when_and_why(support: Client) -> None:
    email = overdue()
    make_email(S.QUEUED, email.claim, role="manager", address="boss@example.org", body={})
    body = page(support, f"/emails/{email.pk}/cancel/")
    assert "Moodle counts it as sent. So nobody sends it." in body
    assert "1 other mail of the same claim has not left yet." in body
    answer = support.post(f"/emails/{email.pk}/cancel/", WHY)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/emails/{email.pk}/")
    body = page(support, f"/emails/{email.pk}/")
    assert "Stopped by a person" in body
    assert "by support: “asked by phone”" in body
    again = support.post(f"/emails/{email.pk}/cancel/", WHY)
    assert again.status_code == 409
    assert "A person has stopped it already" in again.content.decode()
    assert AuditEntry.objects.filter(action="cancel").count() == 1


def test_stopping_what_may_have_left_says_so_before(support: Client) -> None:
    body = page(support, f"/emails/{make_email(S.UNCERTAIN).pk}/cancel/")
    assert "it may have left already" in body


# --- Handing back ---


def test_a_hand_back_says_what_is_written_and_who_is_concerned(support: Client) -> None:
    claim = make_claim(
        row_id=4242, due_at=timezone.now(), before={"emailsent": 0, "emailtime": 1_900_000_000},
        after={"emailsent": 1, "emailtime": 1_900_604_800},
    )  # fmt: skip
    email = overdue(claim=claim)
    overdue(claim=claim, role="manager", address="boss@example.org")
    body = page(support, f"/emails/{email.pk}/hand-back/")
    assert "Row 4242 in Moodle gets its former values again (emailsent 1 → 0" in body
    assert "2 mails, to ada@example.org, boss@example.org." in body


def test_a_claim_goes_back_as_a_whole_or_says_why_not(
    support: Client, hand_backs: list[tuple[list[int], str, str]]
) -> None:
    email = overdue()
    answer = support.post(f"/emails/{email.pk}/hand-back/", WHY)
    assert answer.status_code == 409
    assert "Moodle&#x27;s cron is at work." in answer.content.decode()
    assert support.post(f"/emails/{email.pk}/hand-back/", WHY).status_code == 302
    assert hand_backs == [([email.claim_id], "support", "asked by phone")] * 2


def test_a_mail_that_is_not_due_goes_back_to_be_sent_when_it_is(support: Client) -> None:
    body = page(support, f"/emails/{make_email(S.QUEUED, body={}).pk}/hand-back/")
    assert "Moodle sends it by itself when it is due" in body


def test_while_moodle_is_away_nothing_is_handed_back(
    support: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise MoodleUnreachable("Moodle's database cannot be reached.", "Start it.")

    monkeypatch.setattr(email_actions, "check_reachable", away)
    email = overdue()
    answer = support.post(f"/emails/{email.pk}/hand-back/", WHY)
    assert answer.status_code == 409
    assert "cannot be reached. Start it." in answer.content.decode()
    email.claim.refresh_from_db()
    assert email.claim.state == ClaimState.CLAIMED


# --- By SMTP ---


def test_a_mail_is_set_aside_for_smtp_once(support: Client) -> None:
    email = overdue()
    assert support.post(f"/emails/{email.pk}/smtp/", WHY).status_code == 302
    assert list(smtp_route.wanted()) == [email]
    again = support.post(f"/emails/{email.pk}/smtp/", WHY)
    assert again.status_code == 409
    assert "set aside for the SMTP server already" in again.content.decode()
    assert AuditEntry.objects.filter(action="smtp").count() == 1
    body = page(support, f"/emails/{email.pk}/")
    assert body.count("Set aside for the SMTP server</p>") == 1
    assert "by support: “asked by phone”" in body


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"state": S.UNCERTAIN, "body": {}}, "settle it on the page Fallbacks first"),
        ({"state": S.QUEUED, "body": {}}, "It is not due yet."),
        ({"state": S.FAILED}, "no longer stored"),
        ({"state": S.SUPPRESSED, "body": {}}, "nothing is to be sent"),
        ({"state": S.DELIVERED, "body": {}}, "It has left"),
    ],
)
def test_what_cannot_go_by_smtp_says_why(support: Client, values: dict[str, Any], why: str) -> None:
    address = f"/emails/{make_email(**values).pk}/smtp/"
    assert why in page(support, address)
    answer = support.post(address, WHY)
    assert answer.status_code == 409
    assert why in answer.content.decode()
    assert not smtp_route.wanted().exists()


def test_without_an_smtp_server_it_says_which_setting_is_missing(support: Client, settings: Any) -> None:
    settings.SMTP_ROUTE = None
    assert "EMAIL_URL is not set" in page(support, f"/emails/{overdue().pk}/smtp/")


# --- The address ---


def test_an_address_is_suppressed_and_lifted_from_the_page_of_a_mail(support: Client) -> None:
    email = overdue()
    make_email(S.QUEUED, body={})
    address = f"/emails/{email.pk}/suppress/"
    body = page(support, address)
    assert "1 mail that waits for this address will not be sent." in body
    assert 'name="do" value="add"' in body
    assert support.post(address, WHY | {"do": "add"}).status_code == 302
    assert Suppression.objects.get().active_key == email.address
    assert 'name="do" value="lift"' in page(support, address)
    assert "Let its address get mail again…" in page(support, f"/emails/{email.pk}/")
    assert support.post(address, WHY | {"do": "lift"}).status_code == 302
    assert Suppression.objects.get().active_key is None


def test_a_second_click_never_does_the_opposite(support: Client) -> None:
    address = f"/emails/{overdue().pk}/suppress/"
    support.post(address, WHY | {"do": "add"})
    again = support.post(address, WHY | {"do": "add"})
    assert again.status_code == 409
    assert "suppressed already" in again.content.decode()
    support.post(address, WHY | {"do": "lift"})
    again = support.post(address, WHY | {"do": "lift"})
    assert again.status_code == 409
    assert "not suppressed any more" in again.content.decode()
    assert AuditEntry.objects.count() == 2


def test_staff_of_a_company_lift_what_a_mail_of_theirs_led_to_and_bar_nothing(bound: Client) -> None:
    own = overdue(claim=make_claim(company_id=OWN))
    address = f"/emails/{own.pk}/suppress/"
    assert "for the whole site" in page(bound, address)
    assert bound.post(address, WHY | {"do": "add"}).status_code == 403
    foreign = make_email(S.BOUNCED, make_claim(company_id=FOREIGN))
    row = make_suppression(foreign)
    assert "no mail of your companies" in page(bound, address)
    assert bound.post(address, WHY | {"do": "lift"}).status_code == 403
    row.delete()
    make_suppression(own)
    assert bound.post(address, WHY | {"do": "lift"}).status_code == 302


# --- Sending again ---


def moodle_address() -> str:
    return str(User.objects.values_list("email", flat=True).get(pk=LEARNER))


def bounced(**changes: Any) -> Email:
    claim = make_claim(user_id=LEARNER)
    return make_email(S.BOUNCED, claim, body={}, address="once@example.org", **changes)


def test_the_present_address_is_offered_where_it_differs(support: Client) -> None:
    email, now = bounced(), moodle_address()
    address = f"/emails/{email.pk}/resend/"
    body = page(support, address)
    assert f"the one that the user has in Moodle now: {now}" in body
    answer = support.post(address, WHY | {"to": "present", "present_address": now})
    copy = Email.objects.get(resend_of=email)
    assert answer.headers["Location"] == f"/emails/{copy.pk}/"
    assert copy.address == now
    body = page(support, f"/emails/{copy.pk}/")
    assert "to the address that the user had in Moodle by then" in body
    assert "by support: “asked by phone”" in body


def test_a_present_address_that_nobody_was_shown_is_not_written_to(support: Client) -> None:
    email = bounced()
    answer = support.post(
        f"/emails/{email.pk}/resend/", WHY | {"to": "present", "present_address": "other@example.org"}
    )
    assert answer.status_code == 409
    assert "has changed once more" in answer.content.decode()
    assert not Email.objects.filter(resend_of=email).exists()


def test_a_suppressed_address_leaves_the_present_one(support: Client) -> None:
    email = bounced()
    make_suppression(email)
    assert f'href="/emails/{email.pk}/resend/"' in page(support, f"/emails/{email.pk}/")
    body = page(support, f"/emails/{email.pk}/resend/")
    assert 'value="present" checked' in body
    assert "Its address is suppressed" in body
    assert support.post(f"/emails/{email.pk}/resend/", WHY | {"to": "same"}).status_code == 409
    data = WHY | {"to": "present", "present_address": moodle_address()}
    assert support.post(f"/emails/{email.pk}/resend/", data).status_code == 302


def test_several_recipients_of_a_claim_are_sent_to_at_once(support: Client) -> None:
    email = bounced()
    boss = make_email(S.DELIVERED, email.claim, role="manager", address="boss@example.org", body={})
    gone = make_email(S.DELIVERED, email.claim, role="copy", address="copy@example.org")
    stranger = make_email(S.DELIVERED, body={})
    body = page(support, f"/emails/{email.pk}/resend/")
    assert f'name="also" value="{boss.pk}">' in body
    assert f'value="{gone.pk}" disabled' in body
    assert "no longer stored" in body
    answer = support.post(f"/emails/{email.pk}/resend/", WHY | {"also": [str(boss.pk)]})
    assert answer.status_code == 302
    assert set(Email.objects.filter(resend_of__isnull=False).values_list("resend_of", flat=True)) == {
        email.pk, boss.pk,
    }  # fmt: skip
    foreign = support.post(f"/emails/{email.pk}/resend/", WHY | {"also": [str(stranger.pk)]})
    assert foreign.status_code == 400


def test_where_some_are_refused_the_answer_says_which(support: Client) -> None:
    email = bounced()
    gone = make_email(S.DELIVERED, email.claim, role="copy", address="copy@example.org")
    answer = support.post(f"/emails/{email.pk}/resend/", WHY | {"also": [str(gone.pk)]})
    body = answer.content.decode()
    assert answer.status_code == 200
    assert "Not all of them could be sent again" in body
    assert "queued as" in body and "no longer stored" in body


def test_of_one_recipient_only_the_newest_mail_is_offered(support: Client) -> None:
    email = bounced()
    old = make_email(S.BOUNCED, email.claim, role="manager", address="Boss@example.org", body={})
    new = make_email(
        S.BOUNCED, email.claim, role="manager", address="boss@example.org", resend_of=old, body={}
    )
    body = page(support, f"/emails/{email.pk}/resend/")
    assert f'value="{new.pk}"' in body
    assert f'value="{old.pk}"' not in body


# --- What the page of a mail tells ---


def test_resends_are_a_tree_that_leads_both_ways(support: Client) -> None:
    first = bounced()
    second = make_email(S.BOUNCED, first.claim, resend_of=first)
    third = make_email(S.DELIVERED, first.claim, resend_of=second)
    beside = make_email(S.DELIVERED, first.claim, resend_of=first)
    body = page(support, f"/emails/{second.pk}/")
    tree = body.split('class="plainlist lineage">')[1].split("</ul>")[0]
    assert f'This is a resend of <a href="/emails/{first.pk}/">' in tree
    assert f"This mail (email {second.pk})" in tree
    assert f'It was sent again as <a href="/emails/{third.pk}/">' in tree
    assert f'<a href="/emails/{beside.pk}/">' in tree
    assert [part[0] for part in tree.split('class="depth')[1:]] == ["0", "1", "2", "1"]


def test_each_sibling_has_its_own_verdict(support: Client) -> None:
    email = bounced()
    make_email(S.DELIVERED, email.claim, role="manager", address="boss@example.org", name="Boss")
    body = page(support, f"/emails/{email.pk}/")
    others = body.split('id="others"')[1].split("</section>")[0]
    assert "<strong>Yes:</strong>" in others
    assert "delivered to boss@example.org" in others


def test_why_a_recipient_got_it_is_told(support: Client) -> None:
    email = make_email(role="copy", origin="copy rule “HR”")
    assert "Because of: copy rule “HR”." in page(support, f"/emails/{email.pk}/")


def test_an_error_of_a_try_is_told_in_words_with_its_cure(support: Client) -> None:
    email = overdue(attempts=0)
    Attempt.objects.create(
        email=email, number=1, started_at=email.due_at, outcome="account", error_code="SendingPausedException",
        error_message="Email sending is disabled", http_status=400, request_id="req-1",
    )  # fmt: skip
    body = page(support, f"/emails/{email.pk}/")
    assert "The words with it: “Email sending is disabled”." in body
    assert 'data-copy="req-1"' in body
    assert body.split("Email sending is disabled")[1].split("</li>")[0].count('class="cure"') == 1


def test_a_time_in_moodles_row_is_told_as_a_moment_too(support: Client) -> None:
    claim = make_claim(
        before={"emailsent": 0, "emailtime": 1_900_000_000}, after={"emailsent": 1, "emailtime": 5}
    )
    body = page(support, f"/emails/{make_email(claim=claim).pk}/")
    assert "1900000000 (<time datetime=" in body


def test_who_looked_is_told_to_those_who_may_see_the_audit_log(sign_in: SignIn) -> None:
    email = make_email(body={})
    support, auditor = sign_in("Support staff"), sign_in("Auditors")
    support.get(f"/emails/{email.pk}/preview/html/")
    assert "Looked at once, by support," in page(auditor, f"/emails/{email.pk}/")
    assert "Looked at" not in page(support, f"/emails/{email.pk}/")
