"""The ledger of a soak: who mailed what was owed, and what is wrong with it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from emailoffload.sandbox.soak import journal
from emailoffload.sandbox.soak.crons import QUEUE, REMINDERS
from emailoffload.sandbox.soak.journal import Mail, Reminder
from emailoffload.sandbox.soak.ledger import BOTH, LOST, STRAY, STUCK, TWICE, UNTRUE, Ledger, Ours
from emailoffload.sandbox.soak.plan import KINDS, Plan, script

MAIL: Mail = (REMINDERS, 7, 1, "anna@example.org")
QUEUED: Mail = (QUEUE, 9, 1, "anna@example.org")


def ledger(
    mail: Mail = MAIL,
    *,
    state: str = "",
    reason: str = "",
    ses: int = 0,
    smtp: int = 0,
    moodle: int = 0,
    broken: int = 0,
    claim: str = "claimed",
) -> Ledger:
    """The ledger of one mail; `state` is that of our email, "" for none."""
    ours = [Ours(mail, "r1", state, reason, claim)] if state else []
    cut: Counter[Reminder] = Counter({mail[:3]: broken})
    return Ledger({mail}, ours, Counter({"r1": ses}), Counter({"r1": smtp}), Counter({mail: moodle}), cut)


@pytest.mark.parametrize(
    ("who", "line"),
    [
        ({"state": "accepted", "ses": 1}, "accepted by SES"),
        ({"state": "uncertain", "ses": 1}, "accepted by SES, uncertain to us"),
        ({"state": "sent_smtp", "smtp": 1}, "taken by SMTP"),
        ({"state": "uncertain", "smtp": 1}, "taken by SMTP, uncertain to us"),
        ({"state": "released", "moodle": 1}, "mailed by Moodle"),
        ({"moodle": 1}, "mailed by Moodle"),
        ({"state": "failed", "reason": "claim_unclear", "moodle": 1}, "mailed by Moodle, uncertain to us"),
        ({"state": "uncertain"}, "held: uncertain"),
        ({"state": "failed"}, "held: failed"),
    ],
)
def test_a_mail_that_went_once_or_is_held_is_booked_there(who: dict[str, object], line: str) -> None:
    found = ledger(**who)  # type: ignore[arg-type]
    assert found.fine
    assert found.lines == {"owed": {REMINDERS: 1}, line: {REMINDERS: 1}}
    assert sum(line.split()[0] in text for text in found.text()) >= 1


@pytest.mark.parametrize(
    ("who", "what"),
    [
        ({"state": "accepted", "ses": 2}, TWICE),
        ({"state": "accepted", "ses": 1, "smtp": 1}, TWICE),
        ({"state": "accepted", "ses": 1, "moodle": 1}, TWICE),
        ({"moodle": 2}, TWICE),
        ({}, LOST),
        ({"state": "suppressed"}, LOST),
        ({"state": "released"}, LOST),
        ({"state": "accepted"}, LOST),
        ({"state": "accepted", "smtp": 1}, UNTRUE),
        ({"state": "uncertain", "moodle": 1}, BOTH),
        ({"state": "queued", "moodle": 1}, STUCK),
    ],
)
def test_what_went_twice_or_not_at_all_or_is_not_what_we_say_is_an_offender(
    who: dict[str, object], what: str
) -> None:
    found = ledger(**who)  # type: ignore[arg-type]
    assert found.offenders == {MAIL: what}
    assert found.as_dict()["fine"] is False


def test_mails_that_nobody_owed_are_offenders() -> None:
    assert Ledger(set(), [], Counter({"r9": 1}), Counter(), Counter({MAIL: 1})).wrong(STRAY) == 2


def test_what_moodles_own_death_does_is_not_booked_as_ours() -> None:
    assert ledger(broken=1).fine
    assert ledger(QUEUED, moodle=2, broken=1).fine
    assert ledger(QUEUED, state="accepted", ses=1, moodle=1, broken=1).fine


def test_a_death_of_moodles_excuses_nothing_else() -> None:
    assert ledger(QUEUED, broken=1).wrong(LOST) == 1
    assert ledger(moodle=1, state="accepted", ses=1, broken=1).wrong(TWICE) == 1
    assert ledger(QUEUED, moodle=2, state="accepted", ses=1, broken=1).wrong(TWICE) == 1
    assert ledger(QUEUED, state="accepted", ses=2, broken=1).wrong(TWICE) == 1


def test_a_journal_tells_over_which_rows_a_cron_died(tmp_path: Path) -> None:
    book = journal.Journal(tmp_path / "j")
    book.write("start")
    for row in (1, 2):
        book.write("takes", source=QUEUE, row=row, ordinal=1)
        book.write("mails", source=QUEUE, row=row, ordinal=1, address="Anna@example.org")
        if row == 1:
            book.write("done", source=QUEUE, row=row)
    book.write("start")
    book.write("takes", source=QUEUE, row=3, ordinal=1)
    with (tmp_path / "j").open("a") as file:
        file.write(json.dumps({"event": "mails"})[:9])
    told = journal.read([tmp_path / "j"])
    assert told.broken == {(QUEUE, 2, 1): 1, (QUEUE, 3, 1): 1}
    assert told.mailed == {(QUEUE, row, 1, "anna@example.org"): 1 for row in (1, 2)}


def test_the_same_seed_makes_the_same_trouble_and_every_kind_of_it() -> None:
    plan = Plan(seed=7, seconds=60.0)
    found = list(script(plan))
    assert found == list(script(plan))
    assert {trouble.kind for trouble in found} == KINDS.keys()
    assert found != list(script(Plan(seed=8, seconds=60.0)))
