"""On the sample, the product mails the very people that IOMAD's cron would have mailed.

The simulated cron shares no code with the product, so what both say is not one and the same mistake.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from emailoffload.sandbox import sample_moodle
from emailoffload.sandbox.email_cron import SimulatedEmailCron
from emailoffload.sandbox.ses_server import SandboxSES
from tests.sandbox.test_commands import clean_environment


def test_the_queue_goes_to_the_same_people_as_from_iomads_own_cron(tmp_path: Path) -> None:
    with SandboxSES() as ses:
        env = clean_environment(
            tmp_path, AWS_ENDPOINT_URL_SESV2=ses.url, AWS_ACCESS_KEY_ID="sandbox", AWS_SECRET_ACCESS_KEY="sandbox",
            CLAIM_MARGIN_SECONDS="5",
        )  # fmt: skip
        for command in (
            ["migrate", "-v0"],
            ["samplemoodle", "create"],
            ["samplemoodle", "--create-users", "20"],
            ["intercept", "--source", "iomad_queue"],
        ):
            if command[0] == "intercept":
                shutil.copy(tmp_path / "sample-moodle.sqlite3", tmp_path / "before.sqlite3")
            subprocess.run(
                [sys.executable, "manage.py", *command], env=env, check=True, stdout=subprocess.PIPE
            )
    with sqlite3.connect(tmp_path / "offload.sqlite3") as ours:
        claimed = Counter(
            ours.execute(
                "SELECT c.row_id, e.address FROM emailoffload_email e JOIN emailoffload_claim c ON c.id = e.claim_id"
                " WHERE e.state = 'queued'"
            ).fetchall()
        )
        templates = {row[0] for row in ours.execute("SELECT DISTINCT template FROM emailoffload_email")}
    mailed = Counter((mail["row_id"], mail["address"]) for mail in iomad(tmp_path / "before.sqlite3"))
    # Who is the user and a manager of theirs gets two mails of IOMAD's, and one of ours (docs/rendering.md).
    assert claimed.keys() == mailed.keys()
    assert max(claimed.values()) == 1
    assert templates >= {"user_create", "user_added_to_course", "license_allocated", "expiry_warn_user"}
    assert len({row for row, _address in mailed}) < len(mailed)  # some rows have copies


def iomad(path: Path) -> list[dict[str, Any]]:
    """What the cron mails of everything that waits."""
    connection = sample_moodle.connect(path)
    connection.execute("UPDATE mdl_email SET due = 5 WHERE sent IS NULL")
    connection.close()
    mails: list[dict[str, Any]] = []
    SimulatedEmailCron(
        lambda: sample_moodle.connect(path), prefix="mdl_", paramstyle="qmark", lock=None, mail=mails.append,
        mail_seconds=0,
    ).run_queue()  # fmt: skip
    return mails
