"""The message gates as they are loaded from the real site's database."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from emailoffload.moodle import messaging, models, refusals, site
from emailoffload.moodle.messaging import MessageGates, cron_admin_company_settings
from emailoffload.moodle.refusals import Refusal
from emailoffload.moodle.types import Learner, User

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"], transaction=True)]

ANNA = Learner(User(id=3, firstname="Anna", lastname="Plain", email="anna@lab.example"))


def load() -> MessageGates:
    return MessageGates.load(site.load_site())


def reason() -> str:
    outcome = load().for_user(ANNA)
    return outcome.reason if isinstance(outcome, Refusal) else "sent"


def test_the_settings_that_decide_are_all_read() -> None:
    assert set(messaging.CONFIG_NAMES) <= set(site.CONFIG_NAMES)


def test_loading_takes_a_handful_of_queries(moodle: Any) -> None:
    config = site.load_site()
    with CaptureQueriesContext(connections["moodle"]) as queries:
        gates = MessageGates.load(config)
    assert len(queries) <= 7
    assert gates.processors == {"airnotifier": True, "email": True, "popup": True}
    assert gates.provider_exists and gates.module_visible and gates.cron_company == ""


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("UPDATE mdl_modules SET visible = 0 WHERE name = 'reengagement'", refusals.PROVIDER_DISABLED),
        (
            "DELETE FROM mdl_message_providers WHERE component = 'mod_reengagement'",
            refusals.PROVIDER_DISABLED,
        ),
        (
            "UPDATE mdl_message_processors SET enabled = 0 WHERE name = 'email'",
            refusals.EMAIL_PROCESSOR_DISABLED,
        ),
        (
            "DELETE FROM mdl_config_plugins WHERE name LIKE 'popup_provider_mod_reengagement_%%_locked'",
            refusals.PROCESSOR_LOCKED_MISSING,
        ),
        (
            "UPDATE mdl_config SET value = 'ISO-8859-1' WHERE name = 'sitemailcharset'",
            refusals.CHARSET_UNSUPPORTED,
        ),
    ],
)
def test_a_change_in_moodles_settings_changes_the_decision(moodle: Any, sql: str, expected: str) -> None:
    assert reason() == "sent"
    assert moodle.execute(sql, ()) > 0
    assert reason() == expected


def test_a_company_mail_server_of_the_cron_user_leaves_the_site_to_moodle(moodle: Any) -> None:
    company = moodle.value("SELECT MIN(id) FROM mdl_company")
    moodle.set_config(f"smtphosts{company}", "smtp.company.example")
    assert cron_admin_company_settings(site.load_site()) == ""
    moodle.insert("mdl_company_users", companyid=company, userid=2, departmentid=0)
    assert cron_admin_company_settings(site.load_site()) == f"smtphosts{company}"
    assert reason() == refusals.CRON_USER_COMPANY
    moodle.set_config(f"smtphosts{company}", "")
    assert reason() == "sent"


def test_a_plain_moodle_without_companies_is_not_asked_for_them(moodle: Any) -> None:
    config = site.load_site()
    with CaptureQueriesContext(connections["moodle"]) as queries:
        assert cron_admin_company_settings(config, ()) == ""
    assert len(queries) == 0


def test_without_site_admins_no_company_is_looked_for(moodle: Any) -> None:
    moodle.set_config("siteadmins", "")
    assert cron_admin_company_settings(site.load_site(), models.IOMAD_TABLES) == ""


def test_a_deleted_first_admin_is_passed_over(moodle: Any) -> None:
    company = moodle.value("SELECT MIN(id) FROM mdl_company")
    moodle.set_config(f"smtphosts{company}", "smtp.company.example")
    moodle.insert("mdl_company_users", companyid=company, userid=2, departmentid=0)
    moodle.set_config("siteadmins", "999999,2")
    assert cron_admin_company_settings(site.load_site()) == f"smtphosts{company}"
