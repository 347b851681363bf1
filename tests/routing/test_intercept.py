"""Rules through the whole interceptor on the restored site: who claims what, and what is not even looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from django.core.management import call_command

from emailoffload.delivery import health
from emailoffload.moodle import cronlock
from emailoffload.outbox import switches
from emailoffload.outbox.models import Claim, Email, Shadow
from emailoffload.policy import routing
from emailoffload.policy.models import RoutingRule
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons, registry
from emailoffload.sources.protocol import Clock, Row
from emailoffload.worker import intercept
from tests.claims.queue import queued
from tests.conftest import Moodle
from tests.reengagement.test_decisions import ACTIVITY, soon
from tests.routing.site import rule

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
ROWS = "SELECT * FROM mdl_reengagement_inprogress ORDER BY id"
QUEUE = "SELECT id, sent, modifiedtime FROM mdl_email ORDER BY id"


@pytest.fixture
def nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """No source may be made: whoever needs one would render."""

    def refuse(*args: Any) -> Any:
        raise AssertionError("a source was made")

    monkeypatch.setattr(registry, "get", refuse)


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that a source was asked to decide and render."""
    seen: list[int] = []
    whole = registry.get

    def watched(*args: Any) -> Any:
        source: Any = whole(*args)
        decide = source.decide

        def noted(rows: Sequence[Row], clock: Clock) -> Any:
            seen.extend(row.id for row in rows)
            return decide(rows, clock)

        source.decide = noted
        return source

    monkeypatch.setattr(registry, "get", watched)
    return seen


@pytest.mark.parametrize("source", ["", "reengagement"])
def test_what_is_off_for_the_whole_site_is_not_even_rendered(
    moodle: Moodle, ses: SandboxSES, nothing_is_read: None, source: str
) -> None:
    soon(moodle, 3)
    before = moodle.rows(ROWS)
    rule(mode="off", source=source)
    result = intercept.run()
    assert result.left == {reasons.ROUTING_OFF: 3}
    assert moodle.rows(ROWS) == before
    assert not Email.objects.exists()


def test_a_source_that_is_off_leaves_the_other_one_on(moodle: Moodle, ses: SandboxSES) -> None:
    soon(moodle, 2)
    queued(moodle, 3)
    rule(mode="off", source="reengagement", fallback="hold")
    assert intercept.run().left == {reasons.ROUTING_OFF: 2}
    assert intercept.run(source="iomad_queue").claimed == 3


def test_one_activity_that_is_on_is_claimed_while_all_else_stays_with_moodle(
    moodle: Moodle, ses: SandboxSES
) -> None:
    ids = [row for row, _user in soon(moodle, 4)]
    moodle.execute("UPDATE mdl_reengagement_inprogress SET reengagement = 14 WHERE id IN (%s, %s)", ids[:2])
    rule("site", mode="off")
    rule("one", activity_id=ACTIVITY, fallback="smtp")
    result = intercept.run()
    assert (result.claimed, result.left) == (2, {reasons.ROUTING_OFF: 2})
    assert set(Claim.objects.values_list("row_id", "fallback")) == {(pk, "smtp") for pk in ids[2:]}


def test_rows_of_an_activity_that_is_off_are_not_rendered_while_others_are(
    moodle: Moodle, ses: SandboxSES, decided: list[int]
) -> None:
    ids = [row for row, _user in soon(moodle, 3)]
    moodle.execute("UPDATE mdl_reengagement_inprogress SET reengagement = 14 WHERE id = %s", ids[:1])
    rule(mode="off", activity_id=14)
    result = intercept.run()
    assert (result.claimed, result.left) == (2, {reasons.ROUTING_OFF: 1})
    assert decided == ids[1:]


def test_a_company_s_users_are_decided_by_its_rule(moodle: Moodle, ses: SandboxSES) -> None:
    rows = soon(moodle, 4)
    moodle.execute("DELETE FROM mdl_company_users")
    place = {"companyid": 1, "managertype": 0, "departmentid": 1, "suspended": 0}
    moodle.insert("mdl_company_users", userid=rows[0][1], **place)
    rule("site", mode="off")
    rule("pilot", company_id=1, fallback="hold")
    result = intercept.run()
    assert (result.claimed, result.left) == (1, {reasons.ROUTING_OFF: 3})
    claim = Claim.objects.get()
    assert (claim.row_id, claim.company_id, claim.fallback) == (rows[0][0], 1, "hold")


def test_a_course_s_rule_decides_over_its_company_s(moodle: Moodle, ses: SandboxSES) -> None:
    soon(moodle, 2)
    course = moodle.value("SELECT course FROM mdl_reengagement WHERE id = %s", [ACTIVITY])
    rule("company", company_id=1)
    rule("course", course_id=course, mode="off")
    assert intercept.run().left == {reasons.ROUTING_OFF: 2}


def test_a_template_that_is_off_stays_with_iomad_and_others_are_claimed(
    moodle: Moodle, ses: SandboxSES
) -> None:
    kept = queued(moodle, 2, template="license_allocated")
    ours = queued(moodle, 3)
    rule(mode="off", template="license_allocated", source="iomad_queue")
    result = intercept.run(source="iomad_queue")
    assert (result.claimed, result.left) == (3, {reasons.ROUTING_OFF: 2})
    assert set(Claim.objects.values_list("row_id", flat=True)) == set(ours)
    assert not set(kept) & set(ours)


def test_a_roll_out_claims_its_learners_and_leaves_the_rest_with_the_reason(
    moodle: Moodle, ses: SandboxSES
) -> None:
    rows = soon(moodle, 40)
    made = rule("half", percentage=30)
    chosen = {row for row, user in rows if routing.bucket("half", user) < 30}
    assert 0 < len(chosen) < 40
    result = intercept.run()
    assert (result.claimed, result.left) == (len(chosen), {reasons.ROLLOUT: 40 - len(chosen)})
    assert set(Claim.objects.values_list("row_id", flat=True)) == chosen
    RoutingRule.objects.filter(pk=made.pk).update(percentage=100)
    assert intercept.run().claimed == 40 - len(chosen)


def test_without_rules_everything_is_claimed_with_the_fallback_of_the_setting(
    moodle: Moodle, ses: SandboxSES, settings: Any
) -> None:
    settings.DEFAULT_FALLBACK = "hold"
    soon(moodle, 2)
    rule(mode="off", enabled=False)
    assert intercept.run().claimed == 2
    assert set(Claim.objects.values_list("fallback", flat=True)) == {"hold"}


# --- shadow ---


def test_shadow_mode_renders_and_records_and_touches_nothing(moodle: Moodle, ses: SandboxSES) -> None:
    rows = soon(moodle, 3)
    before = moodle.rows(ROWS)
    rule(mode="shadow")
    for _ in range(2):
        result = intercept.run()
        assert (result.claimed, result.left) == (0, {reasons.ROUTING_SHADOW: 3})
    assert moodle.rows(ROWS) == before
    assert not Claim.objects.exists()
    assert not Email.objects.exists()
    found = Shadow.objects.order_by("row_id")
    assert [(s.row_id, s.user_id, s.activity_id, s.mails, s.verdict) for s in found] == [
        (row, user, ACTIVITY, 1, "waiting") for row, user in rows
    ]


def test_a_site_that_only_watches_needs_neither_ses_nor_the_cron_lock(
    moodle: Moodle, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(moodle, 2)
    before = moodle.rows(QUEUE)
    rule(mode="shadow")
    switches.set_pause(switches.Pause(claims=True))
    monkeypatch.setattr(health, "healthy", lambda: (False, "no account yet"))
    monkeypatch.setattr(cronlock, "is_free", lambda target: False)
    assert intercept.run(source="iomad_queue").left == {reasons.ROUTING_SHADOW: 2}
    assert Shadow.objects.filter(source="iomad_queue", template="completion_warn_user").count() == 2
    assert moodle.rows(QUEUE) == before


def test_what_is_watched_takes_no_room_from_what_is_claimed(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [row for row, _user in soon(moodle, 4)]
    moodle.execute("UPDATE mdl_reengagement_inprogress SET reengagement = 14 WHERE id IN (%s, %s)", ids[:2])
    rule("watch", mode="shadow", activity_id=14)
    monkeypatch.setattr(health, "room", lambda: health.Room(2, 2))
    result = intercept.run()
    assert (result.claimed, result.left) == (2, {reasons.ROUTING_SHADOW: 2})
    assert set(Shadow.objects.values_list("row_id", flat=True)) == set(ids[:2])


def test_what_we_would_not_send_is_not_recorded_as_a_shadow(moodle: Moodle, ses: SandboxSES) -> None:
    rows = soon(moodle, 2)
    moodle.execute("UPDATE mdl_user SET suspended = 1 WHERE id = %s", [rows[0][1]])
    rule(mode="shadow")
    assert intercept.run().left == {reasons.ROUTING_SHADOW: 1, "user_suspended": 1}
    assert Shadow.objects.get().row_id == rows[1][0]


def test_watched_rows_are_rendered_once_not_in_every_pass(
    moodle: Moodle, ses: SandboxSES, decided: list[int]
) -> None:
    soon(moodle, 3)
    rule(mode="shadow")
    intercept.run()
    assert len(decided) == 3
    assert intercept.run().left == {reasons.ROUTING_SHADOW: 3}
    assert len(decided) == 3
    moodle.execute("UPDATE mdl_reengagement_inprogress SET emailtime = emailtime + 1")
    intercept.run()
    assert len(decided) == 6


def test_the_command_with_shadow_stores_nothing_and_tells_what_the_rules_leave(
    moodle: Moodle, ses: SandboxSES, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [row for row, _user in soon(moodle, 3)]
    moodle.execute("UPDATE mdl_reengagement_inprogress SET reengagement = 14 WHERE id = %s", ids[:1])
    rule(mode="shadow", activity_id=14)
    call_command("intercept", "--shadow", "--source", "reengagement")
    text = capsys.readouterr().out
    assert "2 would be claimed" in text
    assert "[routing_shadow]" in text
    assert not Shadow.objects.exists()
    assert not Claim.objects.exists()
