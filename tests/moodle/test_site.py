"""The site is read as Moodle's cron sees it, config.php's part from our settings."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from emailoffload.moodle import site
from emailoffload.moodle.types import User

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(databases=["default", "moodle"])]


def test_the_real_site(moodle: Any) -> None:
    found = site.load_site()
    assert (found.shortname, found.fullname, found.course_id) == ("lab", "Lab Site", 1)
    assert found.wwwroot == "http://127.0.0.1:18080"
    assert (found.lang, found.branch, found.php_timezone) == ("en", 404, "UTC")
    assert found.get("timezone") == "Europe/London"
    assert found.get("emailfromvia") == "1"
    assert found.get("theme") == "iomadboost"
    assert found.theme_revisions["iomadboost"] == "1795298540"
    name = "message_provider_mod_reengagement_mod_reengagement_enabled"
    assert found.message_config[name] == "email"
    assert found.filter_config["filter_urltolink"]["formats"] == "1,4,0"
    assert [f.name for f in found.site_context.filters] == [
        "displayh5p", "activitynames", "mathjaxloader", "emoticon", "urltolink", "mediaplugin",
    ]  # fmt: skip
    assert [f.shortname for f in found.profile_fields] == [
        "labtext", "labarea", "labmenu", "labcheck", "labdate", "labdatetime", "labempty",
    ]  # fmt: skip
    assert found.profile_fields[5].param3 == "1"
    assert not found.has_totara


def test_the_senders_of_the_real_site(moodle: Any) -> None:
    found = site.load_site()
    support, noreply = found.support_user, found.noreply_user
    assert support is not None
    assert noreply is not None
    assert (support.user.id, support.user.firstname, support.user.lastname) == (-20, "Admin User", "")
    assert (support.user.email, support.is_pseudo) == ("support@lab.example", True)
    assert (noreply.user.id, noreply.user.email) == (-10, "noreply@lab.example")
    assert noreply.user.firstname == "Do not reply to this email"


def test_no_secret_is_read(moodle: Any) -> None:
    moodle.set_config("smtppass", "hunter2")
    moodle.set_config("cronremotepassword", "hunter2")
    assert "hunter2" not in repr(site.load_site())
    assert not [name for name in site.CONFIG_NAMES if "pass" in name or "secret" in name or "key" in name]


def test_config_php_wins_over_the_database(moodle: Any, settings: Any) -> None:
    moodle.set_config("lang", "de")
    settings.MOODLE_FORCED_CONFIG = {
        "lang": "fr", "forcetimezone": "Asia/Tokyo", "emailfromvia": 2, "forceclean": True,
        "handlebounces": False,
    }  # fmt: skip
    settings.MOODLE_NOEMAILEVER = True
    found = site.load_site()
    assert (found.lang, found.get("forcetimezone"), found.get("emailfromvia")) == ("fr", "Asia/Tokyo", "2")
    assert found.flag("forceclean")
    assert not found.flag("handlebounces")
    assert found.flag("noemailever")


def test_a_named_support_user_is_the_sender(moodle: Any, settings: Any) -> None:
    settings.MOODLE_FORCED_CONFIG = {"supportuserid": 3, "noreplyuserid": 4}
    found = site.load_site()
    assert found.support_user is not None
    assert found.noreply_user is not None
    assert (found.support_user.user.id, found.support_user.is_pseudo) == (3, False)
    assert (found.noreply_user.user.id, found.noreply_user.is_pseudo) == (4, False)


def test_a_named_support_user_who_does_not_exist_is_passed_over(moodle: Any, settings: Any) -> None:
    settings.MOODLE_FORCED_CONFIG = {"supportuserid": 999999}
    found = site.load_site().support_user
    assert found is not None
    assert found.user.id == -20


def test_without_a_support_address_the_first_admin_sends(moodle: Any) -> None:
    moodle.set_config("supportemail", "")
    moodle.set_config("siteadmins", "5,2")
    found = site.load_site().support_user
    assert found is not None
    assert (found.user.id, found.is_pseudo) == (5, False)


def test_without_a_support_name_moodles_words_stand(moodle: Any) -> None:
    moodle.set_config("supportname", "")
    found = site.load_site().support_user
    assert found is not None
    assert found.user.firstname == "Do not reply to this email"


def test_without_a_noreply_address_the_host_gives_one(moodle: Any) -> None:
    moodle.set_config("noreplyaddress", "")
    found = site.load_site().noreply_user
    assert found is not None
    assert found.user.email == "noreply@127.0.0.1"


def own_field(moodle: Any) -> None:
    """Make the field labtext one of company 1."""
    category = moodle.insert("mdl_user_info_category", name="Company", sortorder=2)
    moodle.execute("UPDATE mdl_user_info_field SET categoryid = %s WHERE shortname = 'labtext'", [category])
    moodle.execute("UPDATE mdl_company SET profileid = %s WHERE id = 1", [category])


def shortnames() -> set[str]:
    return {field.shortname for field in site.load_site().profile_fields}


def test_a_companys_profile_field_is_unknown_to_the_cron_user_of_no_company(moodle: Any) -> None:
    own_field(moodle)
    moodle.execute("DELETE FROM mdl_company_users WHERE userid = 2")
    assert "labtext" not in shortnames()
    assert "labarea" in shortnames()


def test_a_companys_profile_field_is_known_to_a_cron_user_of_that_company(moodle: Any) -> None:
    own_field(moodle)
    moodle.insert("mdl_company_users", companyid=1, userid=2, departmentid=1)
    assert "labtext" in shortnames()


def test_iomad_4_1_shows_all_profile_fields_to_admins(moodle: Any) -> None:
    own_field(moodle)
    moodle.execute("DELETE FROM mdl_company_users WHERE userid = 2")
    moodle.set_config("branch", "401")
    moodle.execute(
        "DELETE FROM mdl_capabilities WHERE name = 'block/iomad_company_admin:allcompany_user_profiles'"
    )
    assert "labtext" not in shortnames()
    moodle.insert(
        "mdl_capabilities", name="block/iomad_company_admin:allcompany_user_profiles", captype="read",
        contextlevel=10, component="block_iomad_company_admin", riskbitmask=0,
    )  # fmt: skip
    assert "labtext" in shortnames()


def test_the_noreply_address_of_the_cron_users_company_is_used(moodle: Any) -> None:
    moodle.set_config("noreplyaddress1", "noreply@company.example")
    moodle.execute("DELETE FROM mdl_company_users WHERE userid = 2")
    assert site.load_site().get("noreplyaddress") == "noreply@lab.example"
    moodle.insert("mdl_company_users", companyid=1, userid=2, departmentid=1)
    assert site.load_site().get("noreplyaddress") == "noreply@company.example"


def test_the_number_of_queries_does_not_depend_on_the_site(moodle: Any) -> None:
    with CaptureQueriesContext(connections["moodle"]) as before:
        site.load_site()
    for number in range(50):
        moodle.insert(
            "mdl_user_info_field", shortname=f"f{number}", name="F", datatype="text", categoryid=1, param1="1"
        )
    with CaptureQueriesContext(connections["moodle"]) as after:
        site.load_site()
    assert len(after) == len(before) <= 20


def test_the_first_admin_comes_first() -> None:
    assert site.siteadmins({"siteadmins": "7, 2,x,,3"}) == [7, 2, 3]
    assert site.siteadmins({}) == []
    assert User(id=7).mailformat == 1
