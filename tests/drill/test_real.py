"""The drill for real, with a worker of its own: it passes, a product that does not work fails it, and nothing is
left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from django.conf import settings as configured

from emailoffload.sandbox.drill import runner
from emailoffload.sandbox.drill.pace import Pace
from emailoffload.sandbox.drill.plan import Plan

pytestmark = pytest.mark.race
DEAD = (sys.executable, "-c", "import time; time.sleep(600)")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where drills make their folders; afterwards there is neither a file nor a process of theirs."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield tmp_path
    deadline = time.monotonic() + 10
    while processes(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def processes(folder: Path) -> list[int]:
    """Processes whose environment names the folder; ours does not, it was changed after its start."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if os.fsencode(folder) in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def test_a_rehearsal_of_a_worker_that_dies_goes_as_expected(folder: Path) -> None:
    said: list[str] = []
    report = runner.run(Plan(("killed",)), said.append)
    assert report.fine, report.text()
    assert report.ledger is not None
    assert report.ledger.ses >= 6 and report.ledger.moodle >= 6
    assert report.ledger.ses + report.ledger.moodle == report.ledger.owed
    assert any("as expected" in line for line in said)


def test_a_worker_that_does_nothing_fails_the_drill(folder: Path) -> None:
    report = runner.run(Plan(("normal",), pace=Pace(start=0.5), worker=DEAD), lambda text: None)
    assert not report.fine
    assert "The worker did no work" in report.text()
    assert "could not be carried through" in report.text()


LYING = """
import django, sys; django.setup()
from django.core.management import call_command
from emailoffload.moodle import claims
claims.apply = lambda source, swaps, *args, **kwargs: {swap.row_id for swap in swaps}
call_command("qcluster")
"""


def test_a_product_that_only_pretends_to_claim_fails_the_drill(folder: Path) -> None:
    plan = Plan(("normal",), pace=Pace(ahead=3, patience=1), worker=(sys.executable, "-c", LYING))
    report = runner.run(plan, lambda text: None)
    assert not report.fine
    assert not all(check.ok for check in report.outcomes[0].checks)
    assert "NOT AS EXPECTED" in report.text()


class Trap:
    """A server that counts who comes."""

    def __init__(self) -> None:
        self.visits = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                self.listener.accept()[0].close()
                self.visits += 1


def test_stopped_in_the_middle_it_leaves_nothing_behind_and_has_touched_nothing_of_the_site(
    folder: Path,
) -> None:
    trap = Trap()
    here = f"127.0.0.1:{trap.port}"
    env = os.environ | {
        "DJANGO_SETTINGS_MODULE": "offloadsite.settings",
        "TMPDIR": str(folder),
        "DATABASE_URL": f"mysql://offload:secret@{here}/offload",
        "MOODLE_DATABASE_URL": f"mysql://offload:secret@{here}/moodle",
        "AWS_ENDPOINT_URL_SESV2": f"http://{here}",
        "EMAIL_URL": f"smtp://{here}",
    }
    process = subprocess.Popen(
        # A shell that started the suite in the background has told all its children to ignore Ctrl-C.
        ["env", "--default-signal=INT", sys.executable, "manage.py", "drill", "--only", "normal"],
        cwd=configured.BASE_DIR, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "1/1" in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Stopped before its end" in errors
    assert trap.visits == 0
    trap.listener.close()
