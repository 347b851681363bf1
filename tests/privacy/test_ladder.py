"""The ladder: nothing older than its step stays, nothing younger goes, figures stay what they were."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from emailoffload import checks
from emailoffload.actions.diagnosis import background
from emailoffload.feedback.models import Event, EventProblem, Suppression
from emailoffload.outbox import retention as ladder
from emailoffload.outbox.figures import CountSum, HourCount
from emailoffload.outbox.models import Attempt, AuditEntry, Claim, Content, Email, RowError, Run
from emailoffload.outbox.persons import ErasedPerson
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.worker import lease, rollups
from emailoffload.worker.privacy import forget, retention
from tests.conftest import Moodle
from tests.privacy.rows import ADDRESS, BEFORE, DAY, NAME, ago, claim, deed, event, mail, problem, suppressed
from tests.queries import counted
from tests.rollups.rows import in_the_counts, in_the_rows, store_emails

S = EmailState
pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
ENOUGH = 60.0


def let_go(now: datetime | None = None) -> retention.RetentionResult:
    """One pass with time for everything."""
    result = retention.run(now=now, budget=ENOUGH)
    assert not result.refused and not result.more
    return result


def whole(email: Email) -> bool:
    """Whether a mail still says whom it went to."""
    email.refresh_from_db()
    return bool(email.address and email.name and email.subject and not email.forgotten_at)


def stored(email: Email) -> bool:
    """Whether what a mail said is still there."""
    return Content.objects.filter(pk=email.pk).exists()


class TestEachStep:
    def test_what_mails_say_goes_after_90_days_and_the_mail_stays(self) -> None:
        old, young = mail(91), mail(89)
        assert let_go().counts["contents"] == 1
        assert not stored(old) and stored(young)
        assert whole(old) and old.erased_at and not young.erased_at

    def test_what_ses_reported_goes_after_90_days_and_the_state_stays(self) -> None:
        old, young = mail(91), mail(89)
        assert let_go().counts["events"] == 1
        assert [each.email_id for each in Event.objects.all()] == [young.pk]
        old.refresh_from_db()
        assert old.state == S.DELIVERED and old.delivered_at

    def test_of_unreadable_messages_what_they_said_goes_and_that_they_came_stays(self) -> None:
        old, young = problem(91), problem(89)
        assert let_go().counts["unreadable"] == 1
        assert {row.pk: row.body for row in EventProblem.objects.all()} == {old.pk: None, young.pk: b"Ada"}

    def test_errors_with_rows_go_after_90_days(self) -> None:
        for number, days in enumerate((91, 89)):
            RowError.objects.create(
                source="reengagement", row_id=number, reason="x", first_seen=ago(days), last_seen=ago(days)
            )
        assert let_go().counts["row_errors"] == 1
        assert RowError.objects.get().row_id == 1

    def test_names_addresses_and_subjects_are_emptied_after_400_days_in_every_column(self) -> None:
        old, young = mail(401), mail(399)
        assert let_go().counts["claims_emptied"] == 1
        assert not whole(old) and whole(young)
        assert old.forgotten_because == "retention" and old.state == S.DELIVERED and old.message_id
        kept = [
            Email.objects.filter(pk=old.pk),
            Attempt.objects.filter(email=old),
            Claim.objects.filter(pk=old.claim_id),
        ]
        said = repr([list(rows.values()) for rows in kept])
        assert "Ada" not in said and ADDRESS not in said and NAME not in said
        assert Claim.objects.get(pk=old.claim_id).user_id == 15093

    def test_a_claim_that_was_sent_again_lately_stays_whole(self) -> None:
        first = mail(500)
        again = store_emails(1, ago(10), first.claim_id, resend_of_id=first.pk, state=S.DELIVERED)[0]
        assert let_go().counts["claims_emptied"] == 0 and whole(first)
        Email.objects.filter(pk=again).update(created_at=ago(401))
        assert let_go().counts["claims_emptied"] == 1 and not whole(first)

    def test_an_ended_suppression_goes_after_400_days_and_one_that_holds_never(self) -> None:
        suppressed(2000)
        suppressed(900, over=401)
        young = suppressed(900, over=399)
        waiting = suppressed(900, over=401, agreement="to_remove")
        assert let_go().counts["suppressions"] == 1
        left = Suppression.objects.filter(active_key=None)
        assert set(left.values_list("pk", flat=True)) == {young.pk, waiting.pk}
        assert Suppression.objects.filter(active_key=ADDRESS).exists()

    def test_the_rows_themselves_go_after_730_days(self) -> None:
        old, young = mail(731), mail(729)
        store_emails(1, ago(731), old.claim_id, resend_of_id=old.pk, state=S.BOUNCED)
        assert let_go().counts["records"] == 1
        assert list(Email.objects.all()) == [young] and list(Claim.objects.all()) == [young.claim]

    def test_the_audit_log_goes_after_its_time(self) -> None:
        deed(1096)
        young = deed(1094)
        assert let_go().counts["audit"] == 1
        assert list(AuditEntry.objects.all()) == [young]

    def test_marks_of_erased_persons_go_with_the_records_and_the_newest_unreadable_message_never(
        self,
    ) -> None:
        ErasedPerson.objects.create(user_id=1, erased_at=ago(731))
        ErasedPerson.objects.create(user_id=2, erased_at=ago(729))
        problem(900)
        newest = problem(800)
        assert let_go().counts["leftovers"] == 2
        assert ErasedPerson.objects.get().user_id == 2 and EventProblem.objects.get() == newest

    @pytest.mark.parametrize("step", ladder.STEPS)
    def test_a_step_that_is_switched_off_keeps_everything(self, step: ladder.Step, settings: Any) -> None:
        for other in ladder.STEPS:
            setattr(settings, ladder.setting(other), 0)
        mail(5000)
        event(5000)
        deed(5000)
        result = let_go()
        assert not any(result.counts.values())
        setattr(settings, ladder.setting(step), 402)
        if not ladder.contradictions():
            assert any(let_go().counts.values())


class TestWhatIsStillNeeded:
    @pytest.mark.parametrize("state", forget.BUSY)
    def test_a_mail_that_may_still_leave_or_have_left_is_never_touched(self, state: str) -> None:
        waiting = mail(5000, state)
        event(5000, None, ref=waiting.ref.hex)
        event(5000, waiting)
        let_go()
        assert whole(waiting) and stored(waiting) and waiting.erased_at is None
        assert Event.objects.count() == 2 and Attempt.objects.get().error_message

    def test_what_a_dispatcher_has_leased_is_never_touched(self) -> None:
        leased = mail(5000, S.FAILED, lease="somebody")
        let_go()
        assert whole(leased) and stored(leased)

    def test_a_mail_that_failed_lately_can_still_be_sent_by_a_person(self) -> None:
        failed = mail(5000, S.FAILED, state_at=ago(89))
        let_go()
        assert stored(failed) and whole(failed)

    @pytest.mark.parametrize("state", forget.MOVING)
    def test_a_claim_that_is_just_being_made_or_handed_back_is_never_touched(self, state: str) -> None:
        moving = mail(5000, S.FAILED, claim(5000, state=state))
        let_go()
        assert whole(moving)

    def test_a_claim_stays_on_record_while_moodles_row_has_the_values_that_it_was_claimed_from(
        self, moodle: Moodle
    ) -> None:
        row = moodle.insert(
            "mdl_reengagement_inprogress", reengagement=1, userid=15093, completiontime=1,
            emailtime=BEFORE["emailtime"], emailsent=0, completed=0,
        )  # fmt: skip
        kept = mail(800, claim_id=claim(800, row_id=row, intent_key="the only one"))
        let_go()
        assert Claim.objects.get(pk=kept.claim_id).intent_key == "the only one"
        moodle.execute("UPDATE mdl_reengagement_inprogress SET emailsent = 1 WHERE id = %s", (row,))
        let_go()
        assert not Claim.objects.filter(pk=kept.claim_id).exists()

    def test_the_key_that_prevents_a_second_claim_outlives_name_and_address(self) -> None:
        old = mail(500, claim_id=claim(500, intent_key="the only one"))
        let_go()
        assert not whole(old) and Claim.objects.get().intent_key == "the only one"


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_order_of_passes_each_row_ends_where_its_age_says_and_figures_stay(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = timezone.now()
    chance = random.Random(seed)
    rollups.run(rebuild=True, budget=ENOUGH)
    days = (1, 60, 89, 91, 120, 380, 399, 401, 500, 728, 731, 900, 2000)
    states = (*(state for state in EmailState if state != S.FAILED),)
    for _ in range(40):
        at = chance.choice(days)
        held = claim(at, state=chance.choice([ClaimState.CLAIMED, ClaimState.RELEASED, ClaimState.LOST]))
        for _ in range(chance.randrange(3)):
            mail(max(1, at - chance.choice((0, 0, 30, 600))), chance.choice(states), held)
    rollups.run(rebuild=True, budget=ENOUGH)
    before = sorted(HourCount.objects.values_list("kind", "hour", "source", "company_id", "key", "number"))
    sums = sorted(
        CountSum.objects.values_list("kind", "unit", "begins", "source", "company_id", "key", "number")
    )
    ages = {email.pk: email for email in Email.objects.all()}
    claims = {each.pk: each for each in Claim.objects.all()}
    now = timezone.now()
    for later in sorted(chance.sample(range(400), 3)):
        now = began + timedelta(days=later)
        monkeypatch.setattr(timezone, "now", lambda now=now: now)
        order = list(retention.LADDER)
        chance.shuffle(order)
        for _name, step, do in [*order, retention.RECORDS]:
            cutoff = ladder.cutoff(step, now)
            assert cutoff
            do(cutoff, now, lambda: True)
        rollups.run(budget=ENOUGH)
    let_go(now)
    rollups.run(budget=ENOUGH)

    def emptied(of: int, kept: int) -> bool:
        mails = [each for each in ages.values() if each.claim_id == of]
        made = [claims[of].created_at, *(each.created_at for each in mails)]
        old = [now - at > kept * DAY for at in made]
        return all(old) and not any(each.state in forget.BUSY for each in mails)

    there = {row.pk: row for row in Email.objects.all()}
    contents = set(Content.objects.values_list("pk", flat=True))
    for pk, was in ages.items():
        assert (pk in there) is not emptied(was.claim_id, 730), was
        if pk in there:
            assert (there[pk].address == "") is emptied(was.claim_id, 400), was
            assert there[pk].state == was.state
        said = was.state in forget.BUSY or now - was.created_at <= 90 * DAY
        assert (pk in contents) is said, was
    for pk in claims:
        assert Claim.objects.filter(pk=pk).exists() is not emptied(pk, 730)
    for each in Event.objects.all():
        assert now - each.received_at <= 90 * DAY
    frozen = now - 400 * DAY
    assert (
        sorted(HourCount.objects.values_list("kind", "hour", "source", "company_id", "key", "number"))
        == before
    )
    assert (
        sorted(
            CountSum.objects.values_list("kind", "unit", "begins", "source", "company_id", "key", "number")
        )
        == sums
    )
    rows, counts = in_the_rows(), in_the_counts()
    assert {key: n for key, n in counts.items() if key[1] > frozen} == {
        key: n for key, n in rows.items() if key[1] > frozen
    }


class TestThePass:
    def test_it_works_beside_nobody_else(self) -> None:
        mail(5000)
        with lease.hold("retention"):
            assert retention.run().busy
        assert not retention.run(budget=ENOUGH).busy

    def test_it_stops_when_its_time_is_over_and_says_that_there_is_more(self) -> None:
        mail(100)
        result = retention.run(budget=0)
        assert result.more and not result.counts["contents"]
        assert let_go().counts["contents"] == 1

    def test_a_ladder_that_contradicts_itself_lets_nothing_go(self, settings: Any) -> None:
        settings.RETAIN_CONTENT_DAYS = 500
        old = mail(5000)
        result = retention.run(budget=ENOUGH)
        assert "RETAIN_CONTENT_DAYS (500) is longer than RETAIN_ADDRESSES_DAYS (400)" in result.refused
        assert whole(old) and stored(old)
        assert Run.objects.get(kind="retention").outcome == "refused"

    def test_it_is_on_record_with_counts_and_no_word_of_what_went(self) -> None:
        mail(5000)
        let_go()
        run = Run.objects.get(kind="retention")
        assert run.outcome == "ok" and run.counts["contents"] == 1
        assert ADDRESS not in repr(run.__dict__)

    def test_its_queries_do_not_grow_with_what_is_young(self) -> None:
        mail(1)
        let_go()
        with counted() as few:
            let_go()
        for _ in range(20):
            mail(1)
        with counted() as many:
            let_go()
        assert many.total() == few.total() < 60


class TestTheDoctor:
    def test_it_is_content_where_nothing_is_a_week_over_its_time(self) -> None:
        mail(96)
        mail(5000, S.UNCERTAIN)
        claim(406)
        assert background.retained()[0] == "ok"

    def test_it_warns_of_texts_and_names_that_are_a_week_over_their_time(self) -> None:
        old = mail(408)
        assert "RETAIN_CONTENT_DAYS is 90" in background.retained()[1]
        forget.contents([old.pk], timezone.now())
        verdict, text, cure = background.retained()
        assert verdict == "warning" and "RETAIN_ADDRESSES_DAYS is 400" in text and "--until-done" in cure
        let_go()
        assert background.retained()[0] == "ok"

    def test_what_is_kept_for_good_is_never_too_late(self, settings: Any) -> None:
        settings.RETAIN_CONTENT_DAYS = settings.RETAIN_ADDRESSES_DAYS = 0
        mail(5000)
        assert background.retained()[0] == "ok"


CONTRADICTIONS = [
    ({"RETAIN_CONTENT_DAYS": 0}, "RETAIN_CONTENT_DAYS (for good) is longer than RETAIN_ADDRESSES_DAYS (400)"),
    ({"RETAIN_EVENTS_DAYS": 401}, "RETAIN_EVENTS_DAYS (401) is longer than RETAIN_ADDRESSES_DAYS (400)"),
    ({"RETAIN_ADDRESSES_DAYS": 800}, "RETAIN_ADDRESSES_DAYS (800) is longer than RETAIN_RECORDS_DAYS (730)"),
    ({"RETAIN_AUDIT_DAYS": 100}, "RETAIN_ADDRESSES_DAYS (400) is longer than RETAIN_AUDIT_DAYS (100)"),
    ({"RETAIN_RECORDS_DAYS": 401}, "RETAIN_RECORDS_DAYS is 401: hourly counts are compared"),
    (
        {"RETAIN_ADDRESSES_DAYS": 7, "RETAIN_CONTENT_DAYS": 5, "RETAIN_EVENTS_DAYS": 5},
        "RETAIN_ADDRESSES_DAYS is 7, but the reconciler",
    ),
    ({"RETAIN_EVENTS_DAYS": 29}, "RETAIN_EVENTS_DAYS is 29, but TRANSIENT_BOUNCES"),
]


@pytest.mark.parametrize(("values", "found"), CONTRADICTIONS)
def test_a_contradiction_is_refused_with_its_cure(values: dict[str, int], found: str, settings: Any) -> None:
    for name, value in values.items():
        setattr(settings, name, value)
    problems = checks.privacy(None)
    assert any(str(each.msg).startswith(found) for each in problems), [each.msg for each in problems]
    assert all(each.id == "emailoffload.E009" and str(each.hint).startswith("Set ") for each in problems)


def test_the_defaults_and_everything_for_good_contradict_nothing(settings: Any) -> None:
    assert not ladder.contradictions()
    for step in ladder.STEPS:
        setattr(settings, ladder.setting(step), 0)
    assert not ladder.contradictions()
