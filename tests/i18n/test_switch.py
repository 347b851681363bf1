"""How a page comes to its language, how another one is chosen, and what the language changes beside the words."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import settings
from django.test import Client, RequestFactory
from django.utils import translation

from emailoffload.dashboard import dates, reasons, tags
from emailoffload.delivery import errors
from emailoffload.outbox.states import EmailState
from emailoffload.worker import alarm_conditions
from offloadsite import env
from tests.dashboard.factories import make_email

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])
MOMENT = datetime(2026, 3, 1, 17, 5, tzinfo=UTC)


def page(client: Client, address: str = "/", **headers: str) -> str:
    return client.get(address, headers=headers).content.decode()


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("de-AT,de;q=0.9,en;q=0.5", "de"), ("en-GB,en;q=0.9,de;q=0.5", "en"), ("fr", "en"), ("", "en")],
)
def test_a_page_speaks_the_language_that_the_browser_asks_for(
    client: Client, accepted: str, language: str
) -> None:
    found = page(client, "/login/", **{"accept-language": accepted})
    assert f'<html lang="{language}">' in found
    assert ("Anmelden" in found) == (language == "de")


def test_where_nobody_asks_for_a_language_the_sites_own_is_spoken(client: Client, settings: Any) -> None:
    settings.LANGUAGE_CODE = "de"
    assert '<html lang="de">' in page(client, "/login/", **{"accept-language": "fr"})


def test_the_language_is_chosen_at_the_foot_of_a_page_kept_and_leads_back(support: Client) -> None:
    make_email(EmailState.FAILED)
    address = "/emails/?state=failed&amp;when=7d".replace("&amp;", "&")
    found = page(support, address)
    assert f'<input type="hidden" name="next" value="{address.replace("&", "&amp;")}">' in found
    assert 'name="language" value="de" lang="de">Deutsch</button>' in found
    assert '<span lang="en" aria-current="true">English</span>' in found
    answer = support.post("/language/", {"language": "de", "next": address})
    assert (answer.status_code, answer.headers["Location"]) == (302, address)
    cookie = answer.cookies[settings.LANGUAGE_COOKIE_NAME]
    assert cookie["max-age"] > 30 * 86400 and cookie["httponly"] and cookie["samesite"] == "Lax"
    # It wins over what the browser asks for, on every page from now on.
    again = page(support, address, **{"accept-language": "en"})
    assert '<html lang="de">' in again and "gescheitert" in again
    assert 'value="en" lang="en">English</button>' in again


def test_the_choice_needs_no_login_and_leads_to_no_other_site(client: Client) -> None:
    answer = client.post("/language/", {"language": "de", "next": "https://evil.example/"})
    assert answer.headers["Location"] == "/"
    assert '<html lang="de">' in page(client, "/login/")
    assert client.post("/language/", {"language": "xx", "next": "/login/"}).status_code == 302
    assert '<html lang="de">' in page(client, "/login/")


def test_a_choice_without_the_token_of_the_page_is_refused() -> None:
    assert Client(enforce_csrf_checks=True).post("/language/", {"language": "de"}).status_code == 403


def test_a_page_that_only_answers_to_a_form_leads_to_the_overview(support: Client) -> None:
    request = RequestFactory().post("/emails/views/save/")
    from django.urls import resolve

    request.resolver_match = resolve("/emails/views/save/")
    assert tags.this_page({"request": request}) == "/"
    request = RequestFactory().post("/pause/")
    request.resolver_match = resolve("/pause/")
    assert tags.this_page({"request": request}) == "/pause/"


def test_the_settings_language_must_be_one_that_there_is() -> None:
    (spec,) = (each for each in env.SPECS if each.name == "LANGUAGE")
    assert {spec.parse(code) for code, _name in settings.LANGUAGES} == {
        code for code, _name in settings.LANGUAGES
    }
    with pytest.raises(env.Malformed):
        spec.parse("fr")


def test_days_and_moments_stand_in_the_order_of_the_language() -> None:
    assert (dates.minute(MOMENT), dates.day(MOMENT), dates.weekday(MOMENT), dates.short_day(MOMENT)) == (
        "1 Mar 2026, 17:05", "1 Mar 2026", "Sun 1 Mar 2026", "1 Mar",
    )  # fmt: skip
    with translation.override("de"):
        assert (dates.minute(MOMENT), dates.day(MOMENT), dates.weekday(MOMENT), dates.short_day(MOMENT)) == (
            "1. März 2026, 17:05", "1. März 2026", "So, 1. März 2026", "1. März",
        )  # fmt: skip


def test_numbers_are_written_as_the_language_writes_them(support: Client) -> None:
    with translation.override("de"):
        assert alarm_conditions.percent(0.0234) == "2,34 %"
        assert tags.plain_counts({"seen": 12345}) == [("gesehen", "12.345")]
    assert alarm_conditions.percent(0.0234) == "2.34 %"


def test_a_number_in_the_address_of_a_record_has_no_marks(support: Client) -> None:
    email = make_email(EmailState.DELIVERED, pk=1_234_567)
    found = page(support, f"/emails/{email.pk}/", **{"accept-language": "de"})
    assert "/emails/1234567/" in found
    assert not re.search(r'(?:href|value|name|id)="[^"]*1\.234\.567', found)


def test_what_was_written_down_when_it_happened_is_shown_in_the_viewers_language() -> None:
    kept = errors.UNKNOWN["ReadTimeoutError"]
    assert reasons.written(kept) == kept == "SES did not answer in time."
    with translation.override("de"):
        assert reasons.written(kept) == "SES antwortete nicht rechtzeitig."
        assert reasons.written("450 4.2.1 the server's own words") == "450 4.2.1 the server's own words"
        assert reasons.written("") == ""
        assert str(reasons.because("Sie ging nicht hinaus", "ReadTimeoutError")).endswith(
            ": SES antwortete nicht rechtzeitig."
        )


def test_errors_are_told_in_the_language_of_the_page(client: Client) -> None:
    found = page(client, "/nowhere/", **{"accept-language": "de"})
    assert '<html lang="de">' in found and "Nicht gefunden" in found
    refused = (
        Client(enforce_csrf_checks=True).post("/login/", headers={"accept-language": "de"}).content.decode()
    )
    assert '<html lang="de">' in refused


def test_the_page_says_whose_days_it_counts(support: Client) -> None:
    assert "Days are those of UTC." in page(support)
    assert "Tage zählen nach UTC." in page(support, **{"accept-language": "de"})
