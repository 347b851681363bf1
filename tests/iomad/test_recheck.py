"""Just before a queued mail leaves: what IOMAD's task would test is tested once more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.sources.iomad_queue.source import QueueSource
from emailoffload.sources.protocol import ClaimView
from emailoffload.worker import dispatch, intercept
from tests.conftest import Moodle
from tests.iomad import queue

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
Change = Callable[[Moodle], Any]


@pytest.fixture(autouse=True)
def nothing_waits(moodle: Moodle) -> None:
    queue.empty(moodle)


def sql(statement: str) -> Change:
    return lambda moodle: moodle.execute(statement)


def claimed(moodle: Moodle, **values: Any) -> ClaimView:
    """A row that is ours, as its claim remembers it."""
    modified = int(time.time()) - 10
    row = queue.put(moodle, modifiedtime=modified, **values)
    written = int(time.time()) - 1
    moodle.execute("UPDATE mdl_email SET sent = %s, modifiedtime = %s WHERE id = %s", [written, written, row])
    return ClaimView(
        claim_id=1000 + row,
        row_id=row,
        user_id=values.get("userid", queue.USER),
        activity_id=0,
        due=modified,
        completiontime=0,
        before={"sent": None, "modifiedtime": modified},
        after={"sent": written, "modifiedtime": written},
        roles=("user", "copy"),
    )


def verdicts(*views: ClaimView) -> dict[int, str]:
    found = QueueSource(parity="default").recheck(views, int(time.time()))
    assert all(each.roles is None for each in found)
    return {each.claim_id: each.reason for each in found}


def test_what_is_still_ours_and_owed_may_leave(moodle: Moodle) -> None:
    assert verdicts(claimed(moodle), claimed(moodle)) == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (sql("DELETE FROM mdl_email"), reasons.ROW_REMOVED),
        (sql("UPDATE mdl_email SET sent = NULL"), reasons.ROW_RESTORED),
        (sql("UPDATE mdl_email SET sent = NULL, modifiedtime = modifiedtime - 9"), reasons.ROW_RESTORED),
        (sql("UPDATE mdl_email SET sent = sent + 5, modifiedtime = modifiedtime + 5"), reasons.ROW_CHANGED),
        (sql("UPDATE mdl_email SET modifiedtime = modifiedtime + 5"), reasons.ROW_CHANGED),
        (sql("UPDATE mdl_user SET deleted = 1 WHERE id = 15"), reasons.USER_DELETED),
        (sql("UPDATE mdl_user SET suspended = 1 WHERE id = 15"), "user_suspended"),
        (sql("DELETE FROM mdl_user WHERE id = 15"), reasons.USER_MISSING),
        (sql("UPDATE mdl_email_template SET disabled = 1"), reasons.TEMPLATE_DISABLED),
        (sql("UPDATE mdl_email SET companyid = 99"), reasons.COMPANY_UNKNOWN),
        (lambda moodle: moodle.set_config("noemailever", "1"), "noemailever"),
    ],
)
def test_what_changed_in_moodle_since_the_claim_holds_all_mails_of_the_row_back(
    moodle: Moodle, change: Change, reason: str
) -> None:
    view = claimed(moodle)
    change(moodle)
    assert verdicts(view) == {view.claim_id: reason}


def test_the_mail_about_a_suspended_company_may_still_go_to_a_suspended_user(moodle: Moodle) -> None:
    view = claimed(moodle, templatename="company_suspended")
    moodle.execute("UPDATE mdl_user SET suspended = 1 WHERE id = 15")
    assert verdicts(view) == {}


def test_one_claims_trouble_is_not_anothers_and_queries_do_not_grow(moodle: Moodle) -> None:
    views = [claimed(moodle, userid=number) for number in queue.PLAIN_USERS]
    moodle.execute("UPDATE mdl_user SET deleted = 1 WHERE id = 20")
    source = QueueSource(parity="default")
    with CaptureQueriesContext(connections["moodle"]) as queries:
        found = source.recheck(views, int(time.time()))
    assert [(each.claim_id, each.reason) for each in found] == [(views[3].claim_id, reasons.USER_DELETED)]
    assert len(queries) <= 5


def test_a_user_deleted_between_claim_and_sending_gets_nothing(moodle: Moodle, ses: SandboxSES) -> None:
    queue.put(moodle, headers=queue.headers(emailcc="16"))
    queue.put(moodle, userid=17)
    assert intercept.run(source="iomad_queue").claimed == 2
    moodle.execute("UPDATE mdl_user SET deleted = 1 WHERE id = 15")
    dispatch.run(until_empty=True)
    (message,) = ses.messages
    assert message.request["Destination"]["ToAddresses"] == ["bulk00001@lab.example"]
