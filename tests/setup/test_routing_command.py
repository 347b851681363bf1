"""`manage.py routing` and `shadows`: rules set from the command line can work, and are on record."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from emailoffload.outbox.models import AuditEntry, Shadow
from emailoffload.policy.copies import Subject
from emailoffload.policy.models import RoutingRule
from emailoffload.policy.routing import RoutingRules
from emailoffload.worker import shadow

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
WHY = ("--reason", "roll-out")


def run(*options: str) -> dict[str, Any]:
    out = StringIO()
    call_command("routing", *options, "--json", stdout=out)
    return dict(json.loads(out.getvalue()))


def mode_for(**about: Any) -> str:
    return RoutingRules.load().decide(Subject(1, "reengagement", 7, **about)).mode


def test_shadow_for_the_whole_site_then_one_activity_one_company_ten_percent_all() -> None:
    assert run("shadow", *WHY)["new"]
    assert mode_for() == "shadow"
    run("on", "--activity", "1", *WHY)
    assert (mode_for(activity_id=1), mode_for(activity_id=2)) == ("on", "shadow")
    run("on", "--company", "1", *WHY)
    assert (mode_for(company_id=1), mode_for(company_id=2)) == ("on", "shadow")
    run("on", "--percentage", "10", *WHY)
    rule = RoutingRule.objects.get(name="site")
    assert (rule.mode, rule.percentage) == ("on", 10)
    run("on", "--percentage", "100", *WHY)
    assert mode_for() == "on"
    run("off", *WHY)
    assert mode_for() == "off"
    assert RoutingRule.objects.count() == 3


def test_switching_off_names_the_more_specific_rules_that_still_have_us_send() -> None:
    for scope in (["--activity", "1"], ["--activity", "2"], ["--company", "1"], []):
        assert run("on", *scope, *WHY)["still_on"] == []
    assert run("off", "--activity", "2", *WHY)["still_on"] == []
    assert run("off", *WHY)["still_on"] == ["activity 1", "company 1"]
    assert run("off", "--company", "1", *WHY)["still_on"] == ["activity 1"]
    out = StringIO()
    call_command("routing", "shadow", *WHY, stdout=out)
    assert "still have us send: “activity 1”. Switch each off too" in out.getvalue()
    run("off", "--activity", "1", *WHY)
    assert run("off", *WHY)["still_on"] == []


def test_a_percentage_that_is_not_named_stays() -> None:
    run("on", "--percentage", "10", *WHY)
    run("off", *WHY)
    assert run("on", *WHY)["rule"]["percentage"] == 10


def test_each_change_is_an_audit_entry_with_what_was_and_is_and_no_change_is_none() -> None:
    run("shadow", *WHY)
    run("on", *WHY)
    assert not run("on", *WHY)["changed"]
    run("remove", *WHY)
    entries = list(AuditEntry.objects.order_by("pk"))
    assert [entry.action for entry in entries] == [
        "add_routingrule",
        "change_routingrule",
        "delete_routingrule",
    ]
    assert entries[1].details["before"]["mode"] == "shadow"
    assert entries[1].details["after"]["mode"] == "on"
    assert all(entry.actor.startswith("command line (") and entry.reason == "roll-out" for entry in entries)
    assert not RoutingRule.objects.exists()


@pytest.mark.parametrize(
    "options",
    [
        ["on"],
        ["on", "--activity", "999999", *WHY],
        ["on", "--activity", "0", *WHY],
        ["on", "--company", "999999", *WHY],
        ["on", "--percentage", "101", *WHY],
        ["on", "--template", "user_create", *WHY],
        ["remove", *WHY],
    ],
)
def test_what_cannot_work_is_wrong_usage_and_changes_nothing(options: list[str]) -> None:
    with pytest.raises(CommandError) as wrong:
        run(*options)
    assert wrong.value.returncode == 2
    assert not RoutingRule.objects.exists()
    assert not AuditEntry.objects.exists()


def test_two_rules_of_one_scope_are_told_apart_by_name() -> None:
    for name in ("first", "second"):
        RoutingRule.objects.create(name=name, mode="off")
    with pytest.raises(CommandError, match="--name"):
        run("on", *WHY)
    run("on", "--name", "second", *WHY)
    assert dict(RoutingRule.objects.values_list("name", "mode")) == {"first": "off", "second": "on"}
    with pytest.raises(CommandError, match="another scope"):
        run("on", "--name", "second", "--company", "1", *WHY)


def test_the_list_has_the_rules_in_the_order_in_which_they_count() -> None:
    out = StringIO()
    call_command("routing", stdout=out)
    assert "There is no rule" in out.getvalue()
    run("shadow", *WHY)
    run("on", "--activity", "1", "--percentage", "25", *WHY)
    RoutingRule.objects.create(name="asleep", enabled=False)
    assert [rule["name"] for rule in run()["rules"]] == ["activity 1", "site", "asleep"]
    out = StringIO()
    call_command("routing", stdout=out)
    assert "“activity 1”: activity 1: we send, for 25 percent of the learners" in out.getvalue()


def test_shadows_are_counted_by_what_moodle_did_and_an_untouched_one_is_a_finding() -> None:
    def make(row: int, verdict: str, detail: str) -> None:
        Shadow.objects.create(
            source="reengagement", row_id=row, user_id=7, activity_id=1, course_id=2, mails=1,
            due_at=timezone.now(), seen_at=timezone.now(), verdict=verdict, detail=detail,
        )  # fmt: skip

    out = StringIO()
    call_command("shadows", stdout=out)
    assert "No shadows yet" in out.getvalue()
    make(1, shadow.SENT, shadow.COUNTED)
    make(2, shadow.SENT, shadow.COUNTED)
    make(3, shadow.SENT, shadow.LAST_REMOVED)
    out = StringIO()
    call_command("shadows", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {"sent": {"count": 3, "seen": {"counted": 2, "last_removed": 1}}}
    make(4, shadow.UNTOUCHED, shadow.NOT_HANDLED)
    with pytest.raises(SystemExit) as ended:
        call_command("shadows", stdout=StringIO())
    assert ended.value.code == 1
