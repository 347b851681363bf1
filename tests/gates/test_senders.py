"""As whom Moodle would have mailed, and under which subject: each rule of facts §5.4–5.5 by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emailoffload.moodle import refusals
from emailoffload.moodle.messaging import Delivery
from emailoffload.moodle.refusals import Refusal
from emailoffload.moodle.types import Sender, User
from tests.gates.builders import gates, learner, reason, site


def test_the_pseudo_support_user_writes_from_noreply_with_two_spaces_in_the_name() -> None:
    sender = gates().sender()
    assert (sender.from_address, sender.from_name) == ("noreply@lab.example", "Admin User  (via lab)")
    assert sender.reply_to_address == "noreply@lab.example"
    assert sender.reply_to_name == "Do not reply to this email"
    assert sender.envelope == "noreply@lab.example"


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"emailfromvia": "0"}, "Admin User"),
        ({"emailfromvia": "1"}, "Admin User  (via lab)"),
        ({"emailfromvia": "2"}, "Admin User  (via lab)"),
        ({"supportname": ""}, "Do not reply to this email  (via lab)"),
    ],
)
def test_the_via_suffix_follows_the_site(config: dict[str, Any], name: str) -> None:
    assert gates(site(**config)).sender().from_name == name


def test_the_short_name_is_escaped_as_moodle_escapes_it() -> None:
    config = replace(site(), shortname="Q&A &amp; more", string_via="{name} via {siteshortname} {url}")
    assert (
        gates(config).sender().from_name == "Admin User  via Q&amp;A &amp; more moodle.lab.example:8443/learn"
    )


def test_a_short_name_with_markup_leaves_the_rows_unless_it_is_not_shown() -> None:
    config = replace(site(), shortname="<b>lab</b>")
    outcome = gates(config).for_user(learner())
    assert (
        isinstance(outcome, Refusal) and outcome.reason == refusals.SENDER_NAME_MARKUP and outcome.leaves_row
    )
    shown = replace(site(emailfromvia="0"), shortname="<b>lab</b>")
    assert reason(gates(shown).for_user(learner())) == "sent"


@pytest.mark.parametrize("configured", ["", "not valid"])
def test_without_a_valid_noreply_address_the_host_of_the_site_gives_it(configured: str) -> None:
    sender = gates(site(noreplyaddress=configured)).sender()
    assert sender.from_address == sender.envelope == "noreply@moodle.lab.example"


def test_a_site_whose_sender_address_cannot_be_valid_is_left_alone() -> None:
    config = replace(site(noreplyaddress=""), wwwroot="http://localhost/moodle")
    assert gates(config).sender().from_address == "noreply@localhost"
    outcome = gates(config).for_user(learner())
    assert isinstance(outcome, Refusal) and outcome.reason == refusals.SENDER_INVALID and outcome.leaves_row


@pytest.mark.parametrize("domains", ["lab.example", "other.example\r\n lab.example ", "*.example"])
@pytest.mark.parametrize(("via", "name"), [("1", "Admin User  (via lab)"), ("2", "Admin User")])
def test_the_support_address_itself_is_used_in_an_allowed_domain(domains: str, via: str, name: str) -> None:
    sender = gates(site(allowedemaildomains=domains, emailfromvia=via)).sender()
    if domains == "*.example":
        # A wildcard without a dot behind it is no domain pattern of Moodle's.
        assert sender.from_address == "noreply@lab.example"
    else:
        assert (sender.from_address, sender.from_name) == ("support@lab.example", name)
        assert (sender.reply_to_address, sender.reply_to_name) == ("support@lab.example", "Admin User")
        assert sender.envelope == "noreply@lab.example"


@pytest.mark.parametrize(
    ("domains", "address", "real"),
    [
        ("*.lab.example", "s@mail.lab.example", True),
        ("*.lab.example", "s@lab.example", False),
        ("*.lab.example", "s@evillab.example", False),
        ("lab.example", "s@mail.lab.example", False),
        ("LAB.example", "s@lab.example", False),
        ("", "s@lab.example", False),
    ],
)
def test_allowed_domains_match_whole_or_by_wildcard(domains: str, address: str, real: bool) -> None:
    config = site(allowedemaildomains=domains, supportemail=address)
    assert gates(config).sender().from_address == (address if real else "noreply@lab.example")


@pytest.mark.parametrize(("maildisplay", "real"), [(0, False), (1, True)])
def test_a_real_support_user_hides_or_shows_the_address(maildisplay: int, real: bool) -> None:
    person = User(id=2, firstname="Ada", lastname="Min", email="ada@lab.example", maildisplay=maildisplay)
    config = replace(site(allowedemaildomains="lab.example"), support_user=Sender(person, is_pseudo=False))
    sender = gates(config).sender()
    assert sender.from_address == ("ada@lab.example" if real else "noreply@lab.example")
    assert sender.from_name == "Ada Min (via lab)"


def test_a_sender_shown_to_course_members_only_depends_on_the_recipient_so_rows_are_left() -> None:
    person = User(id=2, firstname="Ada", lastname="Min", email="ada@lab.example", maildisplay=2)
    config = replace(site(allowedemaildomains="lab.example"), support_user=Sender(person, is_pseudo=False))
    outcome = gates(config).for_user(learner())
    assert (
        isinstance(outcome, Refusal)
        and outcome.reason == refusals.SENDER_PER_RECIPIENT
        and outcome.leaves_row
    )
    hidden = replace(site(), support_user=Sender(person, is_pseudo=False))
    assert reason(gates(hidden).for_user(learner())) == "sent"


def test_without_any_support_user_rows_are_left() -> None:
    outcome = gates(site(supportemail="")).for_user(learner())
    assert isinstance(outcome, Refusal) and outcome.reason == refusals.SENDER_UNKNOWN and outcome.leaves_row


def test_a_cron_user_of_a_company_with_its_own_mailer_leaves_everything() -> None:
    company = gates(cron_company="smtphosts7")
    for outcome in (company.for_user(learner()), company.for_address("boss@third.example")):
        assert outcome == Refusal(refusals.CRON_USER_COMPANY, "smtphosts7")
        assert isinstance(outcome, Refusal) and outcome.leaves_row


@pytest.mark.parametrize(
    ("prefix", "diverted", "rendered", "subject"),
    [
        ("", "", " Hello ", "Hello"),
        ("[Lab]", "", "Hello", "[Lab] Hello"),
        ("[Lab]", "[DIVERTED a@b.example] ", "Hello", "[Lab] [DIVERTED a@b.example] Hello"),
        ("", "", "one<br />\ntwo\r\n", "one<br />two"),
        ("", "", "\u00a0kept\u00a0", "\u00a0kept\u00a0"),
        ("[Lab]", "", "", "[Lab]"),
    ],
)
def test_the_subject_is_prefixed_put_on_one_line_and_trimmed(
    prefix: str, diverted: str, rendered: str, subject: str
) -> None:
    delivery = Delivery("a@b.example", diverted, "A", as_html=True)
    assert gates(site(emailsubjectprefix=prefix)).subject(rendered, delivery) == subject
