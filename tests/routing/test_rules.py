"""Which rule holds: the table of specificity, and what is true of any set of rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from emailoffload.policy import routing
from emailoffload.policy.copies import Subject
from emailoffload.policy.models import RoutingRule
from emailoffload.policy.routing import RoutingRules, Rule

REMINDER = Subject(0, "reengagement", 15093, company_id=3, course_id=4, activity_id=13)
QUEUED = Subject(0, "iomad_queue", 15093, company_id=3, course_id=4, template="user_create")


def rule(name: str = "r", *, id: int = 1, **given: Any) -> Rule:
    """A rule for the whole site that is on for all, with changes."""
    row = RoutingRule(id=id, name=name, **{"mode": "on", "percentage": 100, "fallback": "moodle"} | given)
    return routing.rule_of(row)


def winner(subject: Subject, *rules: Rule) -> str:
    return RoutingRules(rules).decide(subject).rule


SITE: dict[str, Any] = {}
SOURCE = {"source": "reengagement"}
QUEUE = {"source": "iomad_queue"}
TEMPLATE = {"template": "user_create"}
COMPANY = {"company_id": 3}
COURSE = {"course_id": 4}
ACTIVITY = {"activity_id": 13}


@pytest.mark.parametrize(
    ("subject", "weaker", "stronger"),
    [
        (REMINDER, SITE, SOURCE),
        (QUEUED, QUEUE, TEMPLATE),
        (QUEUED, QUEUE | TEMPLATE, COMPANY),
        (QUEUED, QUEUE | TEMPLATE | COMPANY, COURSE),
        (REMINDER, SOURCE | COMPANY | COURSE, ACTIVITY),
        (REMINDER, SITE, ACTIVITY),
        (REMINDER, COMPANY, COMPANY | SOURCE),
        (QUEUED, COMPANY | QUEUE, COMPANY | TEMPLATE),
        (REMINDER, COURSE, COURSE | COMPANY),
        (REMINDER, ACTIVITY | SOURCE, ACTIVITY | COURSE),
    ],
)
def test_the_more_specific_scope_decides_whatever_mode_age_and_order(
    subject: Subject, weaker: dict[str, Any], stronger: dict[str, Any]
) -> None:
    for mode, other in (("on", "off"), ("off", "on"), ("shadow", "off")):
        for weak_id, strong_id in ((1, 2), (2, 1)):
            weak = rule("weak", id=weak_id, mode=other, **weaker)
            strong = rule("strong", id=strong_id, mode=mode, **stronger)
            assert winner(subject, weak, strong) == winner(subject, strong, weak) == "strong"


@pytest.mark.parametrize(
    "misfit",
    [
        {"source": "iomad_queue"}, {"company_id": 4}, {"course_id": 5}, {"activity_id": 14},
        {"template": "user_create"}, {"activity_id": 13, "company_id": 4},
    ],
)  # fmt: skip
def test_a_rule_of_which_any_part_does_not_fit_says_nothing(misfit: dict[str, Any]) -> None:
    found = RoutingRules([rule("other", mode="off", **misfit)]).decide(REMINDER)
    assert (found.mode, found.rule) == ("on", "")


def test_of_the_same_scope_the_stricter_mode_wins_then_the_older_rule() -> None:
    on, watch, off = (rule(mode, id=n, mode=mode) for n, mode in enumerate(("on", "shadow", "off"), 1))
    assert winner(REMINDER, on, watch, off) == "off"
    assert winner(REMINDER, on, watch) == "shadow"
    old, new = rule("old", id=1, fallback="hold"), rule("new", id=2, fallback="smtp")
    found = RoutingRules([new, old]).decide(REMINDER)
    assert (found.rule, found.fallback) == ("old", "hold")


@pytest.mark.parametrize("fallback", ["moodle", "smtp", "hold"])
def test_without_a_rule_mails_are_ours_with_the_fallback_of_the_setting(settings: Any, fallback: str) -> None:
    settings.DEFAULT_FALLBACK = fallback
    found = RoutingRules().decide(REMINDER)
    assert (found.mode, found.fallback, found.rule) == ("on", fallback, "")
    assert "No rule fits" in found.explanation[0]
    assert "DEFAULT_FALLBACK" in found.explanation[1]


def test_the_explanation_names_every_rule_that_fits_who_wins_and_why() -> None:
    rules = RoutingRules(
        [
            rule("all off", id=1, mode="off"),
            rule("watch all", id=2, mode="shadow"),
            rule("also off", id=3, mode="off"),
            rule("safety course", id=4, course_id=4, percentage=100, fallback="hold"),
            rule("elsewhere", id=5, course_id=5),
        ]
    )
    lines = rules.decide(REMINDER).explanation
    assert lines[0] == "The rule “safety course” (course 4) decides: we send."
    assert lines[1] == "Its scope is the most specific of those that fit."
    assert lines[2] == "When the cloud fails, the rule says: hold for a person."
    assert lines[3] == "“all off” (the whole site: Moodle sends) fits too, but is less specific."
    assert lines[4] == "“also off” has the scope and the mode of “all off”; the older of the two comes first."
    assert lines[5] == "“watch all” has the scope of “also off”; the stricter of the two comes first."
    assert lines[6] == "Where the user's address is suppressed: claim, do not send, record as suppressed."
    assert "elsewhere" not in " ".join(lines)


def test_the_explanation_says_whether_the_roll_out_has_reached_the_learner() -> None:
    def said(percentage: int, user: int) -> str:
        subject = Subject(0, "reengagement", user)
        return " ".join(RoutingRules([rule("tenth", percentage=percentage)]).decide(subject).explanation)

    first = next(user for user in range(1, 999) if routing.bucket("tenth", user) < 10)
    last = next(user for user in range(1, 999) if routing.bucket("tenth", user) >= 10)
    assert f"user {first} is among them." in said(10, first)
    assert f"user {last} is not among them: Moodle sends." in said(10, last)
    assert "When the cloud fails" not in said(10, last)
    assert "name a user" in said(10, 0)
    assert "percent" not in said(100, last)


# --- roll-out ---


def test_a_roll_out_reaches_about_as_many_learners_as_it_says() -> None:
    reached = sum(rule("some", percentage=10).includes(user) for user in range(20_000))
    assert 1_700 < reached < 2_300
    assert not any(rule("none", percentage=0).includes(user) for user in range(1_000))
    assert all(rule("all", percentage=100).includes(user) for user in range(1_000))


def test_the_place_of_a_learner_in_a_roll_out_is_the_same_on_every_host_and_for_ever() -> None:
    assert [routing.bucket("Ten percent", user) for user in (1, 2, 15093)] == [2, 98, 41]


def test_rules_of_other_names_choose_other_learners() -> None:
    chosen = [{u for u in range(5_000) if routing.bucket(name, u) < 10} for name in ("one", "two")]
    assert len(chosen[0] & chosen[1]) < 120


@given(
    name=st.text(min_size=1, max_size=100),
    user=st.integers(1, 2**62),
    low=st.integers(0, 100),
    high=st.integers(0, 100),
)
def test_raising_a_percentage_only_adds_learners(name: str, user: int, low: int, high: int) -> None:
    low, high = sorted((low, high))
    if rule(name, percentage=low).includes(user):
        assert rule(name, percentage=high).includes(user)


def test_a_rule_that_is_off_is_off_for_all_learners_whatever_its_percentage() -> None:
    found = RoutingRules([rule("off", mode="off", percentage=1)]).decide(REMINDER)
    assert (found.mode, found.beyond) == ("off", False)


# --- any set of rules ---

IDS = st.one_of(st.none(), st.integers(1, 2))
RULES: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(
        dict,
        mode=st.sampled_from(["on", "shadow", "off"]),
        percentage=st.sampled_from([0, 1, 50, 99, 100]),
        source=st.sampled_from(["", "reengagement", "iomad_queue"]),
        template=st.sampled_from(["", "", "user_create", "license_allocated"]),
        company_id=IDS,
        course_id=IDS,
        activity_id=IDS,
    ),
    max_size=8,
)
REMINDERS = st.builds(
    Subject,
    key=st.just(0),
    source=st.just("reengagement"),
    user_id=st.integers(1, 50),
    company_id=IDS,
    course_id=st.integers(1, 3),
    activity_id=st.integers(1, 3),
)
MAILS = st.builds(
    Subject,
    key=st.just(0),
    source=st.just("iomad_queue"),
    user_id=st.integers(1, 50),
    company_id=st.integers(0, 3),
    course_id=st.integers(0, 3),
    template=st.sampled_from(["user_create", "license_allocated", "other", ""]),
)


def made(rules: list[dict[str, Any]]) -> RoutingRules:
    return RoutingRules(rule(f"rule {n}", id=n, **values) for n, values in enumerate(rules, 1))


def fits(each: Rule, subject: Subject) -> bool:
    """Whether a rule fits, worked out part by part."""
    own = (subject.activity_id, subject.course_id, subject.company_id, subject.template, subject.source)
    return all(not part or part == value for part, value in zip(each.scope, own, strict=True))


@hypothesis_settings(max_examples=300)
@given(rules=RULES, subject=st.one_of(REMINDERS, MAILS))
def test_of_any_rules_exactly_one_decides_and_all_others_that_fit_come_after_it(
    rules: list[dict[str, Any]], subject: Subject
) -> None:
    found = made(rules)
    effective = found.decide(subject)
    fitting = [each for each in found.ordered if fits(each, subject)]
    assert list(effective.matching) == fitting
    assert len(effective.explanation) >= 2
    if not fitting:
        assert (effective.rule, effective.mode) == ("", "on")
        return
    first = fitting[0]
    assert effective.rule == first.name
    assert all(other.rank < first.rank for other in fitting[1:])
    assert effective.mode == ("off" if effective.beyond else first.mode)


@hypothesis_settings(max_examples=300)
@given(rules=RULES, subject=st.one_of(REMINDERS, MAILS))
def test_what_is_left_before_it_is_rendered_would_have_been_left_anyway(
    rules: list[dict[str, Any]], subject: Subject
) -> None:
    found = made(rules)
    effective = found.decide(subject)
    assert effective.mode in found.modes(subject.source)
    early = found.left_anyway(subject.source, subject.activity_id, subject.user_id)
    if early is not None:
        assert effective.mode == early.mode == "off"


def test_a_source_is_off_or_watched_as_a_whole_only_if_no_rule_makes_an_exception() -> None:
    off = rule("off", mode="off")
    assert RoutingRules([off]).modes("reengagement") == {"off"}
    assert RoutingRules([rule("watch", mode="shadow")]).modes("iomad_queue") == {"shadow"}
    one = rule("one", id=2, activity_id=13)
    assert RoutingRules([off, one]).modes("reengagement") == {"off", "on"}
    assert RoutingRules([off, one]).modes("iomad_queue") == {"off"}
    kind = rule("kind", id=3, template="user_create", mode="shadow")
    assert RoutingRules([off, kind]).modes("iomad_queue") == {"off", "shadow"}
    assert RoutingRules([off, kind]).modes("reengagement") == {"off"}
    assert RoutingRules([rule("tenth", percentage=10)]).modes("reengagement") == {"off", "on"}
    assert RoutingRules([rule("nobody", percentage=0)]).modes("reengagement") == {"off"}
    assert RoutingRules().modes("reengagement") == {"on"}
