"""What people decide about mails that did not go by the cloud: each decision is exact, guarded and on record."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from emailoffload.actions import fallbacks
from emailoffload.actions.resend import warning
from emailoffload.actions.settle import settle
from emailoffload.dashboard.verdicts import verdict
from emailoffload.outbox.models import AuditEntry, Claim, Email
from emailoffload.outbox.states import ClaimState, EmailState
from tests.dashboard.conftest import SignIn, bound, bound_user, sign_in, support
from tests.dashboard.factories import make_claim, make_email
from tests.dashboard.world import FOREIGN, OWN

__all__ = ["bound", "bound_user", "sign_in", "support"]
pytestmark = pytest.mark.django_db(databases=["default", "moodle"])


def uncertain(**changes: Any) -> Email:
    return make_email(EmailState.UNCERTAIN, **{"body": {}} | changes)


def failed(**changes: Any) -> Email:
    return make_email(EmailState.FAILED, **{"body": {}, "reason": "held:deadline"} | changes)


class TestSettling:
    def test_it_arrived_counts_as_accepted_on_a_persons_word(self) -> None:
        email = uncertain()
        (outcome,) = settle([email.pk], decision="accepted", actor="anna", reason="the learner has it")
        email.refresh_from_db()
        assert (outcome.state, email.state, email.accepted_at) == ("accepted", "accepted", None)
        assert "a person found out" in verdict(email).sentence
        entry = AuditEntry.objects.get()
        assert (entry.actor, entry.action, entry.reason) == ("anna", "settle", "the learner has it")
        assert entry.details == {"decision": "accepted", "state": "accepted"}

    def test_what_went_by_smtp_counts_as_sent_by_smtp(self) -> None:
        email = uncertain(route="smtp")
        assert settle([email.pk], decision="accepted", actor="a", reason="b")[0].state == "sent_smtp"

    def test_it_did_not_arrive_queues_it_for_ses_with_a_new_deadline(self) -> None:
        email = uncertain(route="smtp")
        settle([email.pk], decision="resend", actor="anna", reason="the log of SES has no such mail")
        email.refresh_from_db()
        assert (email.state, email.route, email.reason, email.lease) == ("queued", "ses", "", "")
        assert email.deadline_at > timezone.now() >= email.next_try_at

    @pytest.mark.parametrize("state", ["queued", "sending", "accepted", "failed", "delivered", "released"])
    def test_only_uncertain_mails_can_be_settled(self, state: str) -> None:
        email = make_email(state)
        (outcome,) = settle([email.pk], decision="resend", actor="a", reason="b")
        email.refresh_from_db()
        assert "not uncertain" in outcome.why_not
        assert email.state == state
        assert not AuditEntry.objects.exists()

    def test_without_its_content_or_its_claim_it_is_not_sent_again(self) -> None:
        gone, lost = uncertain(body=None), uncertain()
        Claim.objects.filter(pk=lost.claim_id).update(state=ClaimState.RELEASED)
        outcomes = settle([gone.pk, lost.pk, 999], decision="resend", actor="a", reason="b")
        assert [bool(outcome.why_not) for outcome in outcomes] == [True] * 3
        assert set(Email.objects.values_list("state", flat=True)) == {"uncertain"}

    def test_the_command_says_what_it_settled_and_why_not(self, capsys: pytest.CaptureFixture[str]) -> None:
        email = uncertain()
        call_command("settle", str(email.pk), "--as", "accepted", "--reason", "seen", "--json")
        assert f'"{email.pk}": "accepted"' in capsys.readouterr().out
        with pytest.raises(SystemExit, match="1"):
            call_command("settle", str(email.pk), "--as", "resend", "--reason", "again")

    def test_the_email_page_shows_how_long_evidence_is_waited_for(
        self, support: Client, settings: Any
    ) -> None:
        settings.UNCERTAIN_AFTER_SECONDS = 7200
        email = uncertain(state_at=timezone.now() - timedelta(minutes=30))
        assert "another 1 h 2" in support.get(f"/emails/{email.pk}/").content.decode()
        Email.objects.update(state_at=timezone.now() - timedelta(hours=3))
        assert "No evidence came in time" in support.get(f"/emails/{email.pk}/").content.decode()


class TestActions:
    def test_a_retry_queues_failed_mails_for_ses(self) -> None:
        email = failed(route="smtp")
        acted = fallbacks.act("retry", [email.pk], actor="anna", reason="SES is back")
        email.refresh_from_db()
        assert (acted.done, email.state, email.route, email.reason) == (1, "queued", "ses", "")
        assert AuditEntry.objects.get().action == "retry"

    def test_smtp_sets_them_aside_out_of_the_dispatchers_reach(self, settings: Any) -> None:
        settings.SMTP_ROUTE = True
        email = failed()
        assert fallbacks.act("smtp", [email.pk], actor="anna", reason="x").done == 1
        email.refresh_from_db()
        assert (email.state, email.route, email.reason) == ("queued", "smtp", "deadline")
        assert email.lease

    def test_without_the_route_smtp_does_nothing_and_says_so(self, settings: Any) -> None:
        settings.SMTP_ROUTE = False
        email = failed()
        acted = fallbacks.act("smtp", [email.pk], actor="anna", reason="x")
        assert (acted.done, sum(acted.refused.values())) == (0, 1)
        assert not AuditEntry.objects.exists()

    def test_dealt_with_means_that_nobody_sends_it(self) -> None:
        mails = [failed(), uncertain()]
        acted = fallbacks.act("dismiss", [email.pk for email in mails], actor="anna", reason="told them")
        assert acted.done == 2
        assert dict(Email.objects.values_list("pk", "reason")) == {
            mails[0].pk: "dealt_with",
            mails[1].pk: "stopped_unsure",
        }
        assert set(Email.objects.values_list("state", flat=True)) == {"cancelled"}

    def test_of_what_may_have_left_nobody_says_later_that_it_was_not_sent(self) -> None:
        email = uncertain()
        fallbacks.act("dismiss", [email.pk], actor="anna", reason="told them")
        email.refresh_from_db()
        told = verdict(email)
        assert (told.answer, told.tone) == ("Unknown", "warn")
        assert "may have gone out before" in told.sentence
        assert "the recipient may get it twice" in warning(email)

    @pytest.mark.parametrize("name", list(fallbacks.ACTIONS))
    def test_no_action_touches_a_mail_that_has_moved_on_or_whose_claim_is_being_handed_back(
        self, name: str, settings: Any
    ) -> None:
        settings.SMTP_ROUTE = True
        moved = make_email(EmailState.ACCEPTED, body={})
        state = EmailState.UNCERTAIN if name in {"again"} else EmailState.FAILED
        releasing = make_email(state, make_claim(state=ClaimState.RELEASING), body={})
        acted = fallbacks.act(name, [moved.pk, releasing.pk], actor="anna", reason="x")
        assert acted.done == 0
        assert sum(acted.refused.values()) == 2
        assert list(Email.objects.order_by("pk").values_list("state", flat=True)) == ["accepted", state]

    def test_an_action_needs_a_reason(self) -> None:
        with pytest.raises(ValueError, match="reason"):
            fallbacks.act("retry", [failed().pk], actor="anna", reason=" ")


class TestPage:
    def test_causes_are_grouped_with_their_number_in_words(self, support: Client) -> None:
        for _ in range(3):
            failed()
        uncertain()
        page = support.get("/fallbacks/").content.decode()
        assert "It did not get through before its deadline, and no other route took it" in page
        assert "/fallbacks/failed/?reason=held%3Adeadline" in page
        assert "SES did not answer in time" in page

    def test_a_confirmation_says_how_many_and_nothing_happens_before_it(self, support: Client) -> None:
        mails = [failed() for _ in range(3)]
        other = failed(reason="MessageRejected")
        address = "/fallbacks/failed/?reason=held:deadline"
        page = support.post(address, {"action": "retry", "all": "1"}).content.decode()
        assert "This concerns 3 mails." in page
        assert set(Email.objects.values_list("state", flat=True)) == {"failed"}
        ids = ",".join(str(email.pk) for email in mails)
        refused = support.post(address, {"action": "retry", "ids": ids, "confirm": "1", "reason": ""})
        assert refused.status_code == 400
        done = support.post(address, {"action": "retry", "ids": ids, "confirm": "1", "reason": "SES is back"})
        assert "Done with 3 mails." in done.content.decode()
        other.refresh_from_db()
        assert other.state == "failed"
        assert AuditEntry.objects.filter(action="retry").count() == 3

    def test_of_the_chosen_mails_only_those_of_the_group_are_meant(self, support: Client) -> None:
        one, two, other = failed(), failed(), failed(reason="MessageRejected")
        page = support.post(
            "/fallbacks/failed/?reason=held:deadline", {"action": "dismiss", "email": [one.pk, other.pk, "x"]}
        ).content.decode()
        assert "This concerns 1 mail." in page
        assert f'value="{one.pk}"' in page
        assert two.pk

    def test_the_list_of_uncertain_mails_says_until_when_evidence_is_waited_for(
        self, support: Client
    ) -> None:
        uncertain()
        page = support.get("/fallbacks/uncertain/?reason=ReadTimeoutError").content.decode()
        assert "evidence is waited for until" in page

    @pytest.mark.parametrize(
        ("role", "seen", "act"),
        [("nobody", 403, 403), ("Auditors", 200, 403), ("Support staff", 200, 200)],
    )
    def test_seeing_and_deciding_have_permissions_of_their_own(
        self, sign_in: SignIn, role: str, seen: int, act: int
    ) -> None:
        email = failed()
        client = sign_in(role)
        address = "/fallbacks/failed/?reason=held:deadline"
        assert client.get("/fallbacks/").status_code == client.get(address).status_code == seen
        confirmed = {"action": "dismiss", "ids": str(email.pk), "confirm": "1", "reason": "x"}
        assert client.post(address, confirmed).status_code == act
        email.refresh_from_db()
        assert email.state == ("cancelled" if act == 200 else "failed")

    def test_people_bound_to_companies_see_and_touch_only_theirs(self, bound: Client) -> None:
        own = failed(claim=make_claim(company_id=OWN))
        foreign = failed(claim=make_claim(company_id=FOREIGN), name="Foreign Person")
        address = "/fallbacks/failed/?reason=held:deadline"
        assert "Foreign Person" not in bound.get(address).content.decode()
        assert (
            "This concerns 1 mail." in bound.post(address, {"action": "dismiss", "all": "1"}).content.decode()
        )
        ids = f"{own.pk},{foreign.pk}"
        bound.post(address, {"action": "dismiss", "ids": ids, "confirm": "1", "reason": "x"})
        foreign.refresh_from_db()
        own.refresh_from_db()
        assert (own.state, foreign.state) == ("cancelled", "failed")

    @pytest.mark.parametrize("address", ["/fallbacks/delivered/", "/fallbacks/nothing/"])
    def test_states_without_fallbacks_have_no_list(self, support: Client, address: str) -> None:
        assert support.get(address).status_code == 404
