"""The rules on numbers alone: what Moodle itself can write is never blamed on anybody, and what it cannot is."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from emailoffload.moodle.evidence import Notice, TaskRun
from emailoffload.worker import reconcile_words as words
from emailoffload.worker.reconcile_verdicts import Found, Held, Judgement, Side, judge

NOW = 1_800_000_000
DAY = 86400
delays = st.integers(300, 30 * DAY)
HELD = Held(
    source="reengagement",
    released=False,
    before={"emailsent": 1, "emailtime": NOW - 5000, "completed": 0},
    after={"emailsent": 2, "emailtime": NOW - 5000 + DAY},
    due=NOW - 5000,
    claimed_at=NOW - 5600,
    settled_at=0,
    completiontime=NOW + 90 * DAY,
    is_last=False,
    left=1,
    mails=1,
    withheld=frozenset(),
)
SIDE = Side(now=NOW, delay=DAY)
MAIL = replace(
    HELD,
    source="iomad_queue",
    before={"sent": None, "modifiedtime": NOW - 5000},
    after={"sent": NOW - 4000, "modifiedtime": NOW - 4000},
    claimed_at=NOW - 3999,
)


def claim(due: int, delay: int, sent: int, *, late: int = 0) -> Held:
    """A reminder that was claimed ahead, or `late` seconds after its due time."""
    return replace(
        HELD,
        before={"emailsent": sent, "emailtime": due, "completed": 0},
        after={"emailsent": sent + 1, "emailtime": max(due, due + late - 1) + delay},
        due=due,
        claimed_at=due + late if late else due - 300,
    )


@given(
    due=st.integers(NOW - 6 * DAY, NOW - 1),
    delay=delays,
    sent=st.integers(0, 20),
    starts=st.lists(st.integers(1, 10 * DAY), min_size=1, max_size=4),
)
def test_whatever_moodle_makes_of_a_claimed_row_later_agrees(
    due: int, delay: int, sent: int, starts: list[int]
) -> None:
    held = claim(due, delay, sent)
    counted, at = held.after["emailsent"] or 0, held.after["emailtime"] or 0
    for more in starts:  # runs of Moodle's, each at some moment after the reminder was due
        if at + more <= NOW:
            counted, at = counted + 1, at + more + delay
    assert judge(held, (counted, at), replace(SIDE, delay=delay)).verdict == words.AGREES


@given(
    due=st.integers(NOW - 6 * DAY, NOW - 3600),
    delay=delays,
    sent=st.integers(0, 20),
    start=st.integers(1, 3000),
)
def test_a_run_that_mailed_the_same_reminder_is_a_possible_double_if_ours_left_and_agrees_if_not(
    due: int, delay: int, sent: int, start: int
) -> None:
    held, row = claim(due, delay, sent), (sent + 1, due + start + delay)
    side = replace(SIDE, delay=delay)
    assert judge(held, row, side) == Judgement(words.DOUBLE, words.OVERWRITTEN)
    assert judge(replace(held, left=0), row, side).verdict == words.AGREES


@given(row=st.none() | st.tuples(st.integers(0, 50), st.integers(0, 2 * NOW)), left=st.booleans())
def test_only_values_that_somebody_can_have_written_for_this_claim_agree(row: Found, left: bool) -> None:
    held = replace(HELD, left=int(left))
    due, next_due = HELD.due, HELD.after["emailtime"] or 0
    ours = row == (2, next_due)
    went_on = row is not None and (row[0] or 0) > 2 and next_due < (row[1] or 0) <= NOW + DAY + 30
    mailed = row is not None and row[0] == 2 and due < (row[1] or 0) <= NOW + DAY + 30 and not left
    assert (judge(held, row, SIDE).verdict == words.AGREES) == (ours or went_on or mailed)


def test_a_delay_that_was_shortened_since_blames_nobody() -> None:
    assert judge(HELD, (3, NOW - 60 + DAY), replace(SIDE, delay=600, now=NOW + DAY)).verdict == words.AGREES
    back = replace(HELD, released=True, settled_at=NOW - 4900, left=0, due=NOW - 5000)
    row = (2, NOW - 4000 + DAY)
    assert judge(back, row, replace(SIDE, delay=600)) == Judgement(words.PICKED_UP, words.COUNTED)


def test_the_claim_that_is_shown_last_is_undone_before_earlier_ones_of_the_row_are_judged() -> None:
    second = ({"emailsent": 2, "emailtime": NOW + 7 + DAY}, {"emailsent": 3, "emailtime": NOW + 7 + 2 * DAY})
    # Moodle wrote the first reminder too (2, …+7), and we claimed the second one on that.
    held = replace(HELD, after_us=[second])
    assert judge(held, (3, NOW + 7 + 2 * DAY), replace(SIDE, now=NOW + DAY)).verdict == words.DOUBLE


def test_notifications_of_other_times_or_subjects_are_not_ours_to_explain() -> None:
    held = replace(HELD, subjects=frozenset({"[Site] Still there? Q&A"}), claimed_at=HELD.due - 300)
    for at, subject, verdict in (
        (HELD.due + 60, "Still there? Q&A", words.DOUBLE),
        (HELD.due - 31, "Still there? Q&A", words.AGREES),
        (HELD.due + 4 * 3600, "Still there? Q&A", words.AGREES),
        (HELD.due + 60, "Another", words.AGREES),
        (HELD.due + 60, "", words.AGREES),
    ):
        found = judge(held, (2, NOW - 5000 + DAY), replace(SIDE, notices=[Notice(at, subject)]))
        assert found.verdict == verdict, (at, subject)


def test_where_a_patch_mails_without_notifications_a_missing_one_says_nothing() -> None:
    start = HELD.due + 200
    held = replace(HELD, released=True, settled_at=HELD.due + 100, left=0, subjects=frozenset({"x"}))
    side = replace(SIDE, now=NOW + DAY, notices=[])
    row = (2, start + DAY)
    assert judge(held, row, side) == Judgement(words.LOSS, words.NO_NOTICE)
    assert judge(held, row, replace(side, telling=False)) == Judgement(words.PICKED_UP, words.COUNTED)


def test_a_log_that_does_not_reach_back_to_the_claim_does_not_acquit() -> None:
    row = (NOW - 100, NOW - 100)
    later = [TaskRun(NOW - 110, NOW - 90, failed=False)]
    earlier = [TaskRun(NOW - 9000, NOW - 8990, failed=False), *later]
    spanning = [TaskRun(NOW - 4100, NOW - 90, failed=False)]
    for runs, found in (
        (None, words.QUEUE_OVERWRITTEN),
        (later, words.QUEUE_OVERWRITTEN),
        (spanning, words.QUEUE_SPANNED),
    ):
        assert judge(MAIL, row, replace(SIDE, runs=runs)) == Judgement(words.DOUBLE, found)
    assert judge(MAIL, row, replace(SIDE, runs=earlier)).verdict == words.AGREES


def test_what_iomad_sent_and_somebody_asked_for_again_was_picked_up() -> None:
    held = replace(MAIL, released=True, settled_at=NOW - 3000, left=0)
    assert judge(held, (None, NOW - 2000), SIDE) == Judgement(words.PICKED_UP, words.QUEUE_SENT)


def test_every_verdict_and_every_observation_has_its_words() -> None:
    codes = {value for name, value in vars(words).items() if name.isupper() and isinstance(value, str)}
    assert codes == set(words.VERDICTS) | set(words.DETAILS)
    for code, each in words.DETAILS.items():
        assert str(each.meaning).endswith("."), code
