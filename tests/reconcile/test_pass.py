"""A pass over many claims: bounded, continued, repeatable; its findings are closed and never deleted."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from emailoffload.moodle import evidence, grants
from emailoffload.moodle.errors import MoodleUnreachable
from emailoffload.outbox.models import Claim, Email, Lease, Run, State
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import lease, reconcile
from emailoffload.worker import reconcile_words as words
from tests.conftest import Moodle
from tests.fallback.site import claimed
from tests.queries import counted
from tests.reconcile.conftest import Granted
from tests.reconcile.site import sent, verdicts
from tests.reengagement.test_decisions import DAY

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)


def findings() -> list[tuple[Any, ...]]:
    return list(ReconcileFinding.objects.order_by("pk").values_list())


def spoil(moodle: Moodle, ids: list[int]) -> None:
    """Let somebody else write these rows."""
    moodle.execute(
        f"UPDATE mdl_reengagement_inprogress SET emailtime = 17 WHERE id IN ({','.join(map(str, ids))})"
    )


def test_reconciling_twice_changes_nothing_and_what_is_cured_is_closed_and_opened_again(
    moodle: Moodle, ses: SandboxSES, granted: Granted
) -> None:
    ids = sent(moodle, 3)
    rows = moodle.rows("SELECT * FROM mdl_reengagement_inprogress ORDER BY id")
    mails = list(Email.objects.order_by("pk").values())
    spoil(moodle, ids[:2])
    assert verdicts() == [(words.TOUCHED, words.OTHER_VALUES)] * 2
    spoiled = moodle.rows("SELECT * FROM mdl_reengagement_inprogress ORDER BY id")
    first = findings()
    assert verdicts() == [(words.TOUCHED, words.OTHER_VALUES)] * 2
    with granted():
        assert verdicts() == [(words.TOUCHED, words.OTHER_VALUES)] * 2
    assert findings() == first
    assert moodle.rows("SELECT * FROM mdl_reengagement_inprogress ORDER BY id") == spoiled
    assert list(Email.objects.order_by("pk").values()) == mails
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailtime = %s WHERE id = %s", [rows[0][4], ids[0]]
    )
    assert verdicts() == [(words.TOUCHED, words.OTHER_VALUES)]
    closed = ReconcileFinding.objects.get(claim__row_id=ids[0])
    assert closed.closed_at is not None
    assert closed.closed_because == "agrees"
    spoil(moodle, ids[:1])
    assert verdicts() == [(words.TOUCHED, words.OTHER_VALUES)] * 2
    assert findings() == first, "it is the same finding, open again"


def test_a_pass_stops_when_its_time_is_over_and_the_next_one_goes_on_from_there(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = sent(moodle, 5)
    spoil(moodle, ids)
    monkeypatch.setattr(reconcile, "BATCH", 2)
    monkeypatch.setattr(reconcile, "BUDGET_SECONDS", -1.0)
    seen = []
    for _ in range(3):
        result = reconcile.run()
        seen.append((result.claims, result.opened, result.complete, ReconcileFinding.objects.count()))
    assert seen == [(2, 2, False, 2), (4, 2, False, 4), (5, 1, True, 5)]
    last = reconcile.summary()["last"]
    assert (last["claims"], last["counts"], last["days"]) == (5, {words.TOUCHED: 5}, 7)
    assert list(Run.objects.filter(kind="reconcile").values_list("outcome", flat=True)) == ["ok"] * 3
    assert Run.objects.latest("pk").counts[words.TOUCHED] == 5
    assert reconcile.run().claims == 2, "a new sweep has begun"


def test_the_number_of_queries_does_not_grow_with_the_claims(
    moodle: Moodle, ses: SandboxSES, evidence: None
) -> None:
    ids = sent(moodle, 8)
    spoil(moodle, ids)
    Claim.objects.filter(row_id__in=ids[2:]).update(created_at=timezone.now() - timedelta(days=29))
    with counted() as few:
        assert reconcile.run(whole=True).claims == 2
    with counted() as more:
        assert reconcile.run(30, whole=True).claims == 8
    assert (more["default"], more["moodle"]) <= (few["default"] + 2, few["moodle"])
    assert few["moodle"] < 30


def test_claims_before_the_window_are_not_compared_and_their_findings_are_closed_as_old(
    moodle: Moodle, ses: SandboxSES
) -> None:
    ids = sent(moodle, 3)
    spoil(moodle, ids)
    long_ago = timezone.now() - timedelta(days=9)
    Claim.objects.filter(row_id=ids[0]).update(created_at=long_ago)
    assert reconcile.run(whole=True).claims == 2
    assert reconcile.run(10, whole=True).counts == {words.TOUCHED: 3}
    assert reconcile.run(whole=True).closed == 0, "it was found a moment ago"
    ReconcileFinding.objects.update(first_seen=long_ago)
    assert reconcile.run(whole=True).closed == 1
    assert ReconcileFinding.objects.get(closed_because="old").claim.row_id == ids[0]


def test_claims_that_are_still_being_made_or_handed_back_are_left_for_later(
    moodle: Moodle, ses: SandboxSES
) -> None:
    ids = sent(moodle, 3)
    spoil(moodle, ids)
    Claim.objects.filter(row_id=ids[0]).update(state="intended")
    Claim.objects.filter(row_id=ids[1]).update(state="releasing")
    assert reconcile.run(whole=True).claims == 1


def test_without_moodle_a_pass_is_refused_with_its_cure_and_beside_another_nothing_is_done(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed(moodle, 1)
    with lease.hold("reconcile"):
        assert reconcile.run().busy
    assert not Run.objects.filter(kind="reconcile").exists()

    def away() -> None:
        raise MoodleUnreachable("It is away.", "Wait.")

    with monkeypatch.context() as patch:
        patch.setattr(reconcile, "check_reachable", away)
        assert (reconcile.run().refused, reconcile.run().cure) == ("It is away.", "Wait.")
    assert Run.objects.filter(kind="reconcile", outcome="refused").count() == 2
    assert not State.objects.filter(name=reconcile.MEMORY).exists()
    assert Lease.objects.get(name="reconcile").expires_at is None


def test_a_clock_that_differs_from_moodles_is_taken_into_account(
    moodle: Moodle, ses: SandboxSES, evidence: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(moodle, 1)
    claim = Claim.objects.get()
    ahead = 2 * DAY
    monkeypatch.setattr("emailoffload.moodle.evidence.now", lambda: int(timezone.now().timestamp()) + ahead)
    # Moodle's two days later is our now: what it wrote then lies in the past, and not in its future.
    moodle.execute(
        "UPDATE mdl_reengagement_inprogress SET emailsent = emailsent + 1, emailtime = emailtime + %s",
        [ahead],
    )
    assert claim.after["emailtime"] + ahead > timezone.now().timestamp()
    assert verdicts() == []


# --- the command, and what the account may read ---


def command(*args: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("reconcile", *args, stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def test_the_command_tells_fine_findings_and_wrong_usage_apart(
    moodle: Moodle, ses: SandboxSES, granted: Granted
) -> None:
    ids = sent(moodle, 2)
    status, text = command()
    assert (status, "2  agrees" in text, "No open finding asks for a person." in text) == (0, True, True)
    assert "Not readable: Moodle's notifications and the log of its tasks" in text
    spoil(moodle, ids[:1])
    with granted():
        status, text = command("--json", "--days", "3")
    report = json.loads(text)
    assert (status, report["touched"], report["agrees"], report["days"]) == (1, 1, 1, 3)
    assert (report["open"]["touched"], report["needs_person"]) == (1, 1)
    assert report["evidence"] == {"notifications": True, "task_log": True}
    for days in ("0", "-1", "10000"):
        with pytest.raises(CommandError) as caught:
            command("--days", days)
        assert caught.value.returncode == 2


def test_evidence_is_asked_for_only_where_an_admin_wants_it_and_is_never_too_much(
    moodle: Moodle, granted: Granted, capsys: Any
) -> None:
    from django.db import connections

    def printed(*args: str) -> set[str]:
        call_command("moodlegrants", "--json", *args)
        report = json.loads(capsys.readouterr().out)
        assert all(statement["purpose"] for statement in report["statements"])
        return {statement["sql"] for statement in report["statements"]}

    plain, more = printed(), printed("--evidence")
    assert not any("mdl_notifications" in sql for sql in plain)
    assert sum("mdl_notifications" in sql for sql in more) == 1
    assert any("mdl_task_log" in sql and "`timeend`, `result`" in sql for sql in more)
    assert len(more - plain) == 2
    assert not any(word in sql for sql in more for word in ("fullmessage", "smallmessage", "output"))
    assert evidence.readable() == evidence.Readable(notifications=False, task_log=False)
    with granted():
        assert evidence.readable() == evidence.Readable(notifications=True, task_log=True)
        assert grants.check_grants(connections["moodle"]) == grants.GrantFindings([], [])
