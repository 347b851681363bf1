"""Whether and where Moodle would have mailed: each rule of facts §5.2, 5.3 and 5.6 by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emailoffload.moodle import messaging, refusals
from emailoffload.moodle.messaging import Delivery, MessageGates
from emailoffload.moodle.refusals import Refusal
from emailoffload.moodle.types import Sender, User
from tests.gates.builders import BASE, ENABLED, gates, learner, reason, site

# --- message_send ---


def test_a_plain_user_gets_an_html_mail_at_the_profile_address() -> None:
    assert gates().for_user(learner()) == Delivery("anna@lab.example", "", "Anna Plain", as_html=True)


@pytest.mark.parametrize("mailformat", [0, 2])
def test_a_user_who_wants_text_gets_text_only(mailformat: int) -> None:
    outcome = gates().for_user(learner(mailformat=mailformat))
    assert isinstance(outcome, Delivery) and not outcome.as_html


@pytest.mark.parametrize(
    "broken",
    [
        gates(site(message={f"{BASE}_disable": "1"})),
        gates(provider_exists=False),
        gates(module_visible=False),
    ],
)
def test_a_disabled_provider_mails_nobody(broken: MessageGates) -> None:
    assert reason(broken.for_user(learner())) == refusals.PROVIDER_DISABLED
    assert reason(broken.for_address("boss@third.example")) == refusals.PROVIDER_DISABLED


def test_a_disable_setting_of_zero_disables_nothing() -> None:
    assert reason(gates(site(message={f"{BASE}_disable": "0"})).for_user(learner())) == "sent"


@pytest.mark.parametrize("processors", [{"email": False, "popup": True}, {"popup": True}])
def test_without_the_email_processor_nobody_is_mailed(processors: dict[str, bool]) -> None:
    outcome = gates(processors=processors)
    assert reason(outcome.for_user(learner())) == refusals.EMAIL_PROCESSOR_DISABLED
    assert reason(outcome.for_address("boss@third.example")) == refusals.EMAIL_PROCESSOR_DISABLED


def test_a_missing_locked_setting_of_any_enabled_processor_stops_moodle_so_the_row_is_left() -> None:
    outcome = gates(site(message={f"popup_provider_{BASE}_locked": None})).for_user(learner(emailstop=1))
    assert isinstance(outcome, Refusal)
    assert outcome.reason == refusals.PROCESSOR_LOCKED_MISSING
    assert outcome.leaves_row and outcome.moodle_raises


def test_a_missing_locked_setting_of_a_disabled_processor_does_not_matter() -> None:
    config = site(message={f"popup_provider_{BASE}_locked": None})
    assert reason(gates(config, processors={"email": True, "popup": False}).for_user(learner())) == "sent"


def test_third_parties_only_need_the_locked_setting_of_email() -> None:
    assert (
        reason(gates(site(message={f"popup_provider_{BASE}_locked": None})).for_address("a@b.example"))
        == "sent"
    )
    missing = gates(site(message={f"email_provider_{BASE}_locked": None}))
    assert reason(missing.for_address("a@b.example")) == refusals.PROCESSOR_LOCKED_MISSING


LOCKED = {f"email_provider_{BASE}_locked": "1"}


@pytest.mark.parametrize(
    ("message", "preference", "emailstop", "expected"),
    [
        ({}, None, 0, "sent"),
        ({}, "email", 0, "sent"),
        ({}, "popup,email", 0, "sent"),
        ({}, "", 0, "sent"),
        ({}, "0", 0, "sent"),
        ({}, "popup", 0, refusals.PREFERENCE_OFF),
        ({}, "none", 0, refusals.PREFERENCE_OFF),
        ({}, " email", 0, refusals.PREFERENCE_OFF),
        ({}, None, 1, refusals.EMAILSTOP),
        ({}, "email", 1, refusals.EMAILSTOP),
        ({ENABLED: "popup"}, None, 0, refusals.PREFERENCE_OFF),
        ({ENABLED: "popup"}, "email", 0, "sent"),
        ({ENABLED: None}, None, 0, refusals.PREFERENCE_OFF),
        (LOCKED, None, 0, "sent"),
        (LOCKED, "none", 0, "sent"),
        (LOCKED, None, 1, "sent"),
        ({**LOCKED, ENABLED: "popup"}, "email", 0, refusals.PROCESSOR_LOCKED_OFF),
        ({**LOCKED, ENABLED: None}, "email", 0, refusals.PROCESSOR_LOCKED_OFF),
        ({f"email_provider_{BASE}_locked": ""}, "none", 0, refusals.PREFERENCE_OFF),
    ],
)
def test_preferences_defaults_and_locks_decide_as_in_moodle(
    message: dict[str, str | None], preference: str | None, emailstop: int, expected: str
) -> None:
    preferences = {} if preference is None else {ENABLED: preference}
    assert (
        reason(gates(site(message=message)).for_user(learner(preferences, emailstop=emailstop))) == expected
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({ENABLED: "popup"}, refusals.PREFERENCE_OFF),
        ({**LOCKED, ENABLED: "popup"}, refusals.PROCESSOR_LOCKED_OFF),
        (LOCKED, "sent"),
    ],
)
def test_third_parties_follow_the_defaults_of_the_site(message: dict[str, str | None], expected: str) -> None:
    assert reason(gates(site(message=message)).for_address("boss@third.example")) == expected


def test_other_ways_of_notifying_the_user_are_named() -> None:
    both = site(message={ENABLED: "email,popup"})
    assert gates(both).other_processors(learner()) == {"popup"}
    assert gates(both).other_processors(learner(emailstop=1)) == set()
    assert gates().other_processors(learner({ENABLED: "airnotifier,email"})) == {"airnotifier"}
    assert gates().other_processors(learner()) == set()
    assert gates(both, processors={"email": True, "popup": False}).other_processors(learner()) == set()


# --- The email processor and email_to_user ---


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"auth": "nologin"}, refusals.AUTH_NOLOGIN),
        ({"suspended": 1}, refusals.USER_SUSPENDED),
        ({"deleted": 1}, refusals.USER_DELETED),
        ({"email": ""}, refusals.NO_ADDRESS),
        ({"email": "no address"}, refusals.ADDRESS_INVALID),
        ({"email": "a@x.invalid"}, refusals.ADDRESS_DOT_INVALID),
        ({"email": "a@x.INVALID"}, "sent"),
        ({"confirmed": 0}, "sent"),
    ],
)
def test_the_account_decides(columns: dict[str, Any], expected: str) -> None:
    outcome = gates().for_user(learner(**columns))
    assert reason(outcome) == expected
    assert not (isinstance(outcome, Refusal) and outcome.leaves_row)


@pytest.mark.parametrize(
    ("allowed", "own", "address"),
    [
        ("1", "other@home.example", "other@home.example"),
        ("0", "other@home.example", "anna@lab.example"),
        ("1", "not an address", "anna@lab.example"),
        ("1", "", "anna@lab.example"),
    ],
)
def test_the_users_own_notification_address_counts_where_the_site_allows_it(
    allowed: str, own: str, address: str
) -> None:
    preferences = {"message_processor_email_email": own}
    outcome = gates(site(messagingallowemailoverride=allowed)).for_user(learner(preferences))
    assert isinstance(outcome, Delivery) and outcome.address == address


def test_a_site_that_never_mails_mails_nobody() -> None:
    silent = gates(site(noemailever="1"))
    assert reason(silent.for_user(learner())) == refusals.NOEMAILEVER
    assert reason(silent.for_address("boss@third.example")) == refusals.NOEMAILEVER


def test_a_diverted_mail_says_whose_it_was() -> None:
    outcome = gates(site(divertallemailsto="trap@lab.example")).for_user(learner())
    assert outcome == Delivery("trap@lab.example", "[DIVERTED anna@lab.example] ", "Anna Plain", as_html=True)
    third = gates(site(divertallemailsto="trap@lab.example")).for_address("boss@third.example")
    assert isinstance(third, Delivery)
    assert (third.address, third.to_name) == ("trap@lab.example", "boss@third.example")


@pytest.mark.parametrize(
    ("exceptions", "branch", "address"),
    [
        (r"@lab\.example$", 404, "anna@lab.example"),
        (r"nobody@x.example, anna@lab\.example", 404, "anna@lab.example"),
        (r"anna(\+.*)?@lab\.example", 404, "anna@lab.example"),
        (r"ANNA@", 402, "anna@lab.example"),
        (r"ANNA@", 401, "trap@lab.example"),
        (r"bob@", 404, "trap@lab.example"),
        (" , ", 404, "trap@lab.example"),
    ],
)
def test_exceptions_from_diverting_are_expressions(exceptions: str, branch: int, address: str) -> None:
    config = site(divertallemailsto="trap@lab.example", divertallemailsexcept=exceptions, branch=branch)
    outcome = gates(config).for_user(learner())
    assert isinstance(outcome, Delivery) and outcome.address == address


@pytest.mark.parametrize("exceptions", ["[[:alpha:]]+@", "(?<=a)b", "anna(", r"\Qa\E"])
def test_an_expression_that_php_may_read_differently_leaves_the_row(exceptions: str) -> None:
    config = site(divertallemailsto="trap@lab.example", divertallemailsexcept=exceptions)
    outcome = gates(config).for_user(learner())
    assert isinstance(outcome, Refusal) and outcome.reason == refusals.DIVERT_PATTERN and outcome.leaves_row


@pytest.mark.parametrize("trap", ["nowhere", "trap@x.invalid"])
def test_the_address_that_counts_is_the_one_diverted_to(trap: str) -> None:
    outcome = gates(site(divertallemailsto=trap)).for_user(learner())
    assert reason(outcome) in (refusals.ADDRESS_INVALID, refusals.ADDRESS_DOT_INVALID)


@pytest.mark.parametrize(
    ("config", "bounces", "sends", "expected"),
    [
        ({"handlebounces": "1"}, "10", "50", refusals.BOUNCE_THRESHOLD),
        ({"handlebounces": "1"}, "10", "51", "sent"),
        ({"handlebounces": "1"}, "9", "9", "sent"),
        (
            {"handlebounces": "1", "minbounces": "2", "bounceratio": "0.5"},
            "2",
            "4",
            refusals.BOUNCE_THRESHOLD,
        ),
        ({"handlebounces": "1", "minbounces": "2", "bounceratio": "0.5"}, "2", "5", "sent"),
        ({"handlebounces": "1"}, "10", "", refusals.BOUNCE_RATIO_UNKNOWN),
        ({"handlebounces": "1"}, "", "", "sent"),
        ({"handlebounces": "0"}, "99", "99", "sent"),
        ({}, "99", "99", "sent"),
    ],
)
def test_a_user_whose_mails_come_back_is_not_mailed(
    config: dict[str, Any], bounces: str, sends: str, expected: str
) -> None:
    preferences = {"email_bounce_count": bounces, "email_send_count": sends}
    assert reason(gates(site(**config)).for_user(learner(preferences))) == expected


def test_a_user_of_another_moodle_is_left_to_moodle() -> None:
    config = site(mnet_localhost_id="1")
    outcome = gates(config).for_user(learner(mnethostid=4))
    assert isinstance(outcome, Refusal) and outcome.reason == refusals.MNET_USER and outcome.leaves_row
    assert reason(gates(config).for_user(learner(mnethostid=1))) == "sent"


@pytest.mark.parametrize(
    ("config", "preference", "expected"),
    [
        ({"sitemailcharset": "0"}, None, "sent"),
        ({"sitemailcharset": "UTF-8"}, None, "sent"),
        ({"sitemailcharset": "ISO-8859-1"}, None, refusals.CHARSET_UNSUPPORTED),
        ({"sitemailcharset": "ISO-8859-1", "allowusermailcharset": "1"}, "UTF-8", "sent"),
        ({"allowusermailcharset": "1"}, "GB18030", refusals.CHARSET_UNSUPPORTED),
        ({"allowusermailcharset": "0"}, "GB18030", "sent"),
    ],
)
def test_only_utf8_mails_are_ours(config: dict[str, Any], preference: str | None, expected: str) -> None:
    preferences = {} if preference is None else {"mailcharset": preference}
    assert reason(gates(site(**config)).for_user(learner(preferences))) == expected


# --- Third parties ---


def test_third_parties_are_split_trimmed_and_checked_but_not_made_unique() -> None:
    text = "boss@third.example, second@third.example ,not-an-address,,\nboss@third.example"
    assert messaging.third_party_addresses(text) == (
        "boss@third.example",
        "second@third.example",
        "boss@third.example",
    )
    assert messaging.third_party_addresses(None) == ()


def test_a_third_party_gets_text_only_under_the_address_as_name() -> None:
    assert gates().for_address("boss@third.example") == Delivery(
        "boss@third.example", "", "boss@third.example", as_html=False
    )


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("nobody", refusals.ADDRESS_INVALID),
        ("", refusals.ADDRESS_INVALID),
        ("a@b.invalid", refusals.ADDRESS_DOT_INVALID),
    ],
)
def test_an_unusable_third_party_is_passed_over(address: str, expected: str) -> None:
    assert reason(gates().for_address(address)) == expected


def test_a_real_noreply_user_changes_third_party_mails_so_the_row_is_left() -> None:
    config = replace(site(), noreply_user=Sender(User(id=9, email="n@lab.example"), is_pseudo=False))
    outcome = gates(config).for_address("boss@third.example")
    assert isinstance(outcome, Refusal) and outcome.reason == refusals.NOREPLY_IS_USER and outcome.leaves_row
    assert reason(gates(config).for_user(learner())) == "sent"


# --- The vocabulary ---


def test_every_code_has_a_meaning_and_the_ones_that_raise_leave_the_row() -> None:
    codes = {value for name, value in vars(refusals).items() if name.isupper() and isinstance(value, str)}
    assert codes == set(refusals.MEANINGS)
    assert not any(str(meaning).endswith(".") for meaning in refusals.MEANINGS.values())
    assert refusals.RAISES <= refusals.LEAVES_ROW <= codes
