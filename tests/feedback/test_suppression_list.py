"""Our list of suppressed addresses and SES's become the same, whoever changed which, and no change goes to and fro."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from emailoffload.actions import suppressions as actions
from emailoffload.actions.diagnosis import suppressions as doctor
from emailoffload.delivery import ses as product
from emailoffload.feedback import liststate, seslist, suppression
from emailoffload.feedback.models import Suppression
from emailoffload.outbox.models import Run
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import lease, suppressions, tasks
from tests.fake_ses import FakeSes, Reply

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """SES's limit of calls a second is not this one's."""
    monkeypatch.setattr(suppressions, "PER_SECOND", 1e6)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSes]:
    """An SES that answers as it is told."""
    server = FakeSes().start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", server.url)
    product.forget_client()
    yield server
    product.forget_client()
    server.stop()


def on_ses(sandbox: SandboxSES) -> dict[str, str]:
    return {entry.address: entry.reason for entry in sandbox.api.suppressions.entries()}


def bounced(address: str = "a@example.org", **values: Any) -> Suppression:
    columns = {"active_key": address, "reason": "bounce", "origin": "event", "since": timezone.now() - HOUR}
    return Suppression.objects.create(address=address, **columns | values)


def states() -> dict[str, str]:
    """Agreement by address, of what is suppressed."""
    rows = Suppression.objects.filter(active_key__isnull=False)
    return dict(rows.values_list("address", "agreement"))


def whole() -> suppressions.ListResult:
    """A pass that compares everything, as a day later."""
    state = liststate.load()
    state.compared_at = state.listed_at = None
    liststate.save(state)
    return suppressions.run()


def test_what_is_new_on_either_list_comes_onto_the_other(ses: SandboxSES) -> None:
    bounced("bounce@example.org")
    bounced("complaint@example.org", reason="complaint")
    suppression.add("person@example.org", actor="ann", reason="left")
    bounced("full@example.org", reason="transient", agreement="ours", until=timezone.now() + HOUR)
    ses.api.suppressions.add("Theirs@example.org", "COMPLAINT")
    result = suppressions.run()
    assert (result.added, result.imported, result.waiting, result.refused) == (3, 1, 0, "")
    assert on_ses(ses) == {
        "bounce@example.org": "BOUNCE", "complaint@example.org": "COMPLAINT", "person@example.org": "BOUNCE",
        "Theirs@example.org": "COMPLAINT",
    }  # fmt: skip
    assert states() == {
        "bounce@example.org": "agreed", "complaint@example.org": "agreed", "person@example.org": "agreed",
        "theirs@example.org": "agreed", "full@example.org": "ours",
    }  # fmt: skip
    theirs = Suppression.objects.get(address="theirs@example.org")
    assert (theirs.reason, theirs.origin, theirs.added_by) == ("complaint", "ses", "Amazon SES")
    before = on_ses(ses), states()
    again = whole()
    assert (again.added, again.removed, again.imported, again.lifted) == (0, 0, 0, 0)
    assert (on_ses(ses), states()) == before


def test_a_clock_that_was_wrong_for_a_moment_puts_no_comparison_off(ses: SandboxSES) -> None:
    suppressions.run()
    ahead = timezone.now() + timedelta(days=365)
    state = liststate.load()
    state.asked_at = state.listed_at = state.compared_at = ahead
    state.error = "SES did not answer."
    liststate.save(state)
    ses.api.suppressions.add("theirs@example.org", "BOUNCE")
    assert suppressions.run().imported == 1


def test_an_address_at_ses_that_is_longer_than_any_of_ours_is_left_alone(ses: SandboxSES) -> None:
    ses.api.suppressions.add(f"{'a' * 250}@example.org", "BOUNCE")
    for result in (suppressions.run(), whole(), whole()):
        assert (result.imported, result.lifted, states()) == (0, 0, {})
    assert len(on_ses(ses)) == 1


def test_an_address_that_was_lifted_here_is_taken_off_there_and_does_not_come_back(ses: SandboxSES) -> None:
    row = bounced()
    suppressions.run()
    suppression.lift(row.pk, actor="sam", reason="works")
    result = suppressions.run()
    assert (result.removed, result.imported, on_ses(ses)) == (1, 0, {})
    row.refresh_from_db()
    assert row.agreement == "agreed"
    assert whole().imported == 0
    assert states() == {}


def test_an_address_that_somebody_removed_at_ses_is_lifted_here_with_that_reason(ses: SandboxSES) -> None:
    row = bounced()
    suppressions.run()
    product.client().delete_suppressed_destination(EmailAddress=row.address)
    assert whole().lifted == 1
    row.refresh_from_db()
    assert (row.active_key, row.removed_by, row.removal_reason) == (None, "Amazon SES", "gone_at_ses")
    # An event from before is over too.
    assert whole().added == 0
    assert on_ses(ses) == {}


def test_what_a_listing_has_not_shown_yet_is_asked_for_before_it_is_lifted(
    ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounced()
    suppressions.run()
    monkeypatch.setattr(seslist, "page", lambda since, token: ([], ""))
    assert whole().lifted == 0
    assert states() == {"a@example.org": "agreed"}


def test_a_list_that_is_gone_as_a_whole_is_put_there_again_and_nobody_is_lifted(ses: SandboxSES) -> None:
    for number in range(30):
        bounced(f"a{number}@example.org", agreement="agreed", checked_at=timezone.now() - HOUR)
    result = suppressions.run()
    assert (result.put_back, result.lifted, result.added) == (30, 0, 30)
    assert len(on_ses(ses)) == len(states()) == 30


def test_of_two_decisions_the_later_one_holds(ses: SandboxSES) -> None:
    now = timezone.now()
    old = bounced(
        "old@example.org", active_key=None, removed_at=now + HOUR, removed_by="sam", agreement="agreed"
    )
    bounced("new@example.org", active_key=None, removed_at=now - HOUR, removed_by="sam", agreement="agreed")
    for address in ("old@example.org", "new@example.org"):
        ses.api.suppressions.add(address, "BOUNCE")
    result = suppressions.run()
    assert result.imported == 1
    assert states() == {"new@example.org": "agreed"}
    old.refresh_from_db()
    assert old.agreement == "to_remove"
    assert suppressions.run().removed == 1
    assert on_ses(ses) == {"new@example.org": "BOUNCE"}


def test_an_address_that_was_suppressed_anew_after_its_lift_stays_on_ses_s_list(ses: SandboxSES) -> None:
    lifted = bounced()
    suppressions.run()
    suppression.lift(lifted.pk, actor="sam", reason="works")
    bounced()
    result = suppressions.run()
    assert (result.removed, result.added) == (0, 1)
    assert on_ses(ses) == {"a@example.org": "BOUNCE"}
    lifted.refresh_from_db()
    assert lifted.agreement == "agreed"


def test_a_wait_becomes_final_where_ses_s_list_has_the_address(ses: SandboxSES) -> None:
    row = bounced(reason="transient", agreement="ours", until=timezone.now() + HOUR)
    ses.api.suppressions.add(row.address, "BOUNCE")
    suppressions.run()
    row.refresh_from_db()
    assert (row.reason, row.until, row.agreement) == ("bounce", None, "agreed")


def test_a_long_list_is_read_page_by_page_over_several_passes(
    ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seslist, "PAGE_SIZE", 2)
    for number in range(5):
        ses.api.suppressions.add(f"a{number}@example.org", "BOUNCE")
    allowed = iter([True, True, False] + [True] * 9)
    monkeypatch.setattr(lease.Held, "beat", lambda held: next(allowed))
    first = suppressions.run()
    assert (first.imported, first.soon) == (4, True)
    second = suppressions.run()
    assert (second.imported, second.soon) == (1, False)
    assert len(states()) == 5
    assert liststate.load().compared_at is not None


def test_hourly_only_what_is_new_is_read(ses: SandboxSES, monkeypatch: pytest.MonkeyPatch) -> None:
    suppressions.run()
    assert suppressions.run().seconds == 0
    state = liststate.load()
    assert state.listed_at is not None
    asked: list[Any] = []
    page = seslist.page

    def watched(since: Any, token: str) -> Any:
        asked.append(since)
        return page(since, token)

    monkeypatch.setattr(seslist, "page", watched)
    state.listed_at -= 2 * HOUR
    liststate.save(state)
    ses.api.suppressions.add("new@example.org", "BOUNCE")
    assert suppressions.run().imported == 1
    assert asked == [state.listed_at - HOUR]


def test_a_missing_right_is_told_with_its_cure_and_asked_again_in_an_hour_or_when_somebody_acts(
    fake: FakeSes,
) -> None:
    fake.behave = lambda request: Reply(403, "AccessDeniedException", "not authorized for anna@example.org")
    row = bounced()
    suppression.lift(row.pk, actor="sam", reason="works")
    result = suppressions.run()
    assert "may not use the suppression list" in result.refused
    assert "ses:DeleteSuppressedDestination" in result.cure
    run = Run.objects.get(kind="suppressions")
    assert (run.outcome, run.counts["waiting"]) == ("refused", 1)
    assert "anna@" not in run.message
    row.refresh_from_db()
    assert row.agreement == "to_remove"
    asked = len(fake.sent)
    assert suppressions.run().refused == ""
    assert len(fake.sent) == asked
    assert suppressions.run(at_once=True).refused
    verdict, text, cure = doctor.agreement()
    assert (verdict, "may not use" in text, "ses:ListSuppressed" in cure) == ("problem", True, True)
    assert doctor.reachable()[0] == "problem"


def test_the_doctor_gives_the_worker_its_chance_to_read_the_list(db: None) -> None:
    assert doctor.agreement()[0] == "warning"
    Run.objects.create(kind="recover", started_at=timezone.now() - timedelta(minutes=2))
    assert doctor.agreement()[0] == "ok"
    Run.objects.update(started_at=timezone.now() - timedelta(minutes=16))
    assert doctor.agreement()[0] == "warning"


@pytest.mark.parametrize(
    "reply",
    [Reply(429, "TooManyRequestsException", "slow"), Reply(500, "InternalFailure", "x"), Reply(reset=True)],
)
def test_what_goes_away_by_itself_is_tried_by_the_next_pass(fake: FakeSes, reply: Reply) -> None:
    fake.behave = lambda request: reply
    bounced()
    assert suppressions.run().refused
    assert liststate.load().soon
    fake.behave = lambda request: Reply(raw=b"{}")
    assert suppressions.run().added == 1
    assert liststate.load().error == ""


def test_an_address_that_ses_does_not_take_keeps_no_other_from_its_list(fake: FakeSes) -> None:
    fake.behave = lambda request: (
        Reply(400, "BadRequestException", "no") if request.body.get("EmailAddress") == "a@example.org"
        else Reply(raw=b"{}")
    )  # fmt: skip
    bounced()
    bounced("b@example.org")
    suppressions.run()
    assert states() == {"a@example.org": "ours", "b@example.org": "agreed"}
    assert "1 addresses that SES does not take" in doctor.agreement()[1]


def test_switched_off_nothing_is_asked_and_what_is_to_end_ends(fake: FakeSes, settings: Any) -> None:
    settings.SES_SUPPRESSION_SYNC = False
    bounced(reason="transient", agreement="ours", until=timezone.now() - HOUR)
    bounced("b@example.org")
    assert suppressions.run(at_once=True).expired == 1
    assert not fake.sent
    assert not Run.objects.exists()
    assert doctor.reachable()[0] == doctor.agreement()[0] == "ok"


def test_two_passes_are_never_at_work_at_once(ses: SandboxSES) -> None:
    with lease.hold("suppressions"):
        assert suppressions.run().busy


def test_what_people_change_is_carried_over_at_once(ses: SandboxSES) -> None:
    row = actions.add("eve@example.org", actor="ann", reason="left")
    actions.lift(row.pk, actor="ann", reason="is back")
    assert [task.func() for task in OrmQ.objects.all()] == [f"{tasks.MODULE}.suppressions"] * 2
    assert tasks.suppressions(at_once=True)["removed"] == 1


def test_the_doctor_says_what_was_never_compared_is_old_or_stuck(ses: SandboxSES) -> None:
    assert doctor.agreement()[0] == "warning"
    suppressions.run()
    assert [look()[0] for look in (doctor.reachable, doctor.enforced, doctor.agreement)] == ["ok"] * 3
    bounced(since=timezone.now() - 5 * HOUR)
    assert "1 addresses wait to be put" in doctor.agreement()[1]
    state = liststate.load()
    assert state.listed_at is not None
    state.listed_at -= 5 * HOUR
    liststate.save(state)
    assert "was last read at" in doctor.agreement()[1]
    ses.api.suppressions.reasons = ("BOUNCE",)
    assert "COMPLAINT" in doctor.enforced()[1]
