"""How a person's name is written (facts §4.10)."""

from __future__ import annotations

import pytest

from emailoffload.moodle.formatting.names import fullname
from emailoffload.moodle.types import SiteConfig, User

ANNA = User(
    id=3, firstname="Anna", lastname="Plain", middlename="M.", alternatename="Annie", lastnamephonetic=""
)


def site(**config: str) -> SiteConfig:
    return SiteConfig(wwwroot="https://m.example", shortname="lab", fullname="Lab", config=config)


@pytest.mark.parametrize("display", [{}, {"fullnamedisplay": ""}, {"fullnamedisplay": "language"}])
def test_without_a_format_the_name_is_first_and_last_name(display: dict[str, str]) -> None:
    assert fullname(ANNA, site(**display)) == "Anna Plain"


def test_a_missing_last_name_leaves_its_space() -> None:
    assert fullname(User(id=3, firstname="Admin User"), site()) == "Admin User "


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("lastname, firstname", "Plain, Anna"),
        ("firstname (alternatename) lastname", "Anna (Annie) Plain"),
        ("firstname (lastnamephonetic) lastname", "Anna Plain"),
        ("firstname [firstnamephonetic], lastname", "Anna Plain"),
        ("firstname 「firstnamephonetic」 lastname", "Anna Plain"),
        ("firstname   middlename lastname", "Anna M. Plain"),
        ("  lastname  ", "Plain"),
        ("lastnamephonetic", "Anna"),
        ("(firstnamephonetic) (lastnamephonetic)", "Anna"),
        ("Student", "Student"),
    ],
)
def test_a_format_of_the_site_is_filled_in_and_tidied(template: str, name: str) -> None:
    assert fullname(ANNA, site(fullnamedisplay=template)) == name


def test_a_value_that_reads_like_a_later_field_is_replaced_too() -> None:
    user = User(id=3, firstname="lastname", lastname="Plain")
    assert fullname(user, site(fullnamedisplay="firstname lastname")) == "Plain Plain"


def test_forced_names_replace_those_of_the_user() -> None:
    assert fullname(ANNA, site(forcefirstname="Some", forcelastname="One")) == "Some One"


def test_override_uses_the_alternative_format() -> None:
    config = site(fullnamedisplay="lastname", alternativefullnameformat="lastname firstname")
    assert fullname(ANNA, config, override=True) == "Plain Anna"
    assert fullname(ANNA, site(fullnamedisplay="lastname"), override=True) == "Anna Plain"
