"""Two thousand users are uploaded at once: all their mails are ours within one pass, and leave at SES's rate."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emailoffload.delivery import ses as product
from emailoffload.outbox.models import Attempt, Claim, Email
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.worker import dispatch, intercept
from tests.claims.queue import queued
from tests.conftest import Moodle
from tests.iomad import queue
from tests.iomad.upload import claimed, iomads_cron, manage, report, upload
from tests.queries import counted
from tests.reengagement.test_decisions import soon

pytestmark = [
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
    pytest.mark.kill,
]
SOURCE = ("intercept", "--source", "iomad_queue", "--json")


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens SES accounts with the limits given, one after the other."""
    opened: list[SandboxSES] = []

    def open_(**limits: Any) -> SandboxSES:
        server = SandboxSES(**limits).__enter__()
        opened.append(server)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", server.url)
        product.forget_client()
        return server

    yield open_
    for server in opened:
        server.__exit__(None, None, None)
    product.forget_client()


def test_a_whole_upload_is_claimed_in_one_pass_and_accepted_as_fast_as_the_rate_allows(
    moodle: Moodle, account: Any
) -> None:
    rate = 500
    ses = account(max_send_rate=rate, enforce_rate=True)
    made = upload(moodle, 2000)
    mails = sum(made.recipients.values())
    found = report(manage(ses, *SOURCE))
    assert (found["seen"], found["claimed"], found["mails"]) == (3000, 3000, mails)
    assert (found["left"], found["errors"], found["refused"]) == ({}, 0, "")
    assert claimed(moodle) == made.rows
    assert Counter(Email.objects.values_list("claim__row_id", "address")) == made.recipients
    assert set(Claim.objects.values_list("company_id", "company_name")) == {(1, queue.COMPANY_NAME)}

    dispatchers = [manage(ses, "dispatch", "--until-empty", "--json") for _ in range(2)]
    assert sum(report(process)["sent"] for process in dispatchers) == mails
    assert Counter(Email.objects.values_list("state", flat=True)) == {"accepted": mails}
    assert (ses.accepted, ses.stats()["duplicates"]) == (mails, 0)
    assert set(Attempt.objects.values_list("outcome", "number")) == {("accepted", 1)}, "none was throttled"
    assert statistics.median(ses.stats()["by_second"].values()) > 0.7 * rate
    assert not iomads_cron()


def test_a_batch_costs_a_bounded_number_of_statements_however_many_rows_it_has(
    moodle: Moodle, account: Any
) -> None:
    account(max_send_rate=10_000)
    rows = sorted(upload(moodle, 1400).rows)
    later = rows[500]
    moodle.execute("UPDATE mdl_email SET due = due + 86400 WHERE id >= %s", [later])
    costs = []
    for expected in (500, 1600):
        with counted() as statements:
            assert intercept.run(source="iomad_queue").claimed == expected
        costs.append(statements)
        moodle.execute("UPDATE mdl_email SET due = due - 86400 WHERE sent IS NULL")
    few, many = costs
    # 500 rows are three batches, 1,600 five: a pass begins with small ones.
    assert few["moodle"] <= 140 and few["default"] <= 115
    assert many["moodle"] - few["moodle"] <= 2 * 30
    assert many["default"] - few["default"] <= 2 * 15


def test_the_memory_of_a_pass_is_that_of_its_batches(moodle: Moodle, account: Any) -> None:
    ses = account(max_send_rate=10_000)
    rows = sorted(upload(moodle, 300, padding=30_000).rows)
    whole = moodle.value("SELECT SUM(LENGTH(body)) FROM mdl_email") / 2**20
    moodle.execute("UPDATE mdl_email SET due = due + 86400 WHERE id >= %s", [rows[100]])
    peaks = []
    for expected in (100, 350):
        process = manage(ses, *SOURCE, CLAIM_BATCH_SIZE=50)
        peaks.append(peak(process))
        assert report(process)["claimed"] == expected
        moodle.execute("UPDATE mdl_email SET due = due - 86400 WHERE sent IS NULL")
    assert whole > 12
    assert peaks[1] - peaks[0] < whole / 2, peaks


def peak(process: subprocess.Popen[str]) -> float:
    """The most memory that a process had until its end, in MiB."""
    status, found = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        found = max([found, *(
            int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")
        )])  # fmt: skip
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    return found / 1024


# --- the quota is short ---


def test_where_the_quota_is_short_credentials_are_claimed_first_and_the_rest_stays_with_moodle(
    moodle: Moodle, account: Any, settings: Any
) -> None:
    """300 mails are left for today, 60 of them are kept for credentials; 600 rows and 40 reminders wait."""
    settings.SENSITIVE_QUOTA_RESERVE = 20
    ses = account(max_24h=300)
    queued(moodle, 300)  # born before the upload: they stand first in the table
    made = upload(moodle, 200)
    soon(moodle, 40)
    found = intercept.run(source="iomad_queue")
    assert set(Claim.objects.values_list("row_id", flat=True)) == set(made.created)
    assert (found.seen, found.claimed, found.left) == (600, 200, {reasons.NO_CAPACITY: 400})
    reminders = intercept.run(source="reengagement")
    assert (reminders.claimed, reminders.left) == (0, {reasons.NO_CAPACITY: 40})
    mails = Email.objects.count()
    assert mails == sum(count for (row, _), count in made.recipients.items() if row in set(made.created))
    assert dispatch.run(until_empty=True).sent == mails == ses.accepted == 250
