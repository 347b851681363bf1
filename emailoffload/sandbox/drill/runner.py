"""Runs a plan in a process of its own and collects the report; leaves neither processes nor files behind."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _

from emailoffload import version as product
from emailoffload.sandbox.drill import plan as planning
from emailoffload.sandbox.drill.ledger import Ledger
from emailoffload.sandbox.drill.pace import Pace
from emailoffload.sandbox.drill.plan import Plan
from emailoffload.sandbox.drill.report import Outcome, Report, one_line

END_SECONDS = 20
PACKAGES = ("Django", "django-q2", "boto3")


def run(plan: Plan, say: Callable[[str], None]) -> Report:
    """Play the plan; `say` gets lines for people while it runs. Opens no database.

    KeyboardInterrupt passes through, after everything has been cleared away.
    """
    report = blank(plan)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="email-offload-drill-", ignore_cleanup_errors=True) as folder:
        env = planning.environment(plan, Path(folder), *_free_ports())
        with (Path(folder) / "conductor.log").open("w+") as log:
            _conduct(plan, env, log, report, say)
    report.seconds = time.monotonic() - begun
    return report


def blank(plan: Plan) -> Report:
    """The report of a drill that has not been played yet."""
    return Report(
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        versions=_versions(),
        settings=planning.as_dict(plan),
        times=planning.times(plan.pace),
        meaning=planning.meaning(plan.pace),
    )


def _conduct(
    plan: Plan, env: Mapping[str, str], log: Any, report: Report, say: Callable[[str], None]
) -> None:
    order = json.dumps({"only": plan.only, "worker": plan.worker})
    process = subprocess.Popen(
        planning.process("conduct", order), env=env, cwd=settings.BASE_DIR, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
    )  # fmt: skip
    assert process.stdout is not None
    born: list[int] = []
    try:
        for line in process.stdout:
            _take(json.loads(line), report, born, say)
        process.wait(END_SECONDS)
    finally:
        # Whoever presses Ctrl-C twice must not leave half of it behind.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        _end(process, born)
        signal.signal(signal.SIGINT, before)
    if report.ledger is None and not report.problem:
        log.seek(0)
        lines = log.read().strip().splitlines()
        report.problem = _("The rehearsals ended by themselves with status %(n)s. Last words: %(words)s") % {
            "n": process.returncode, "words": lines[-1] if lines else "-",
        }  # fmt: skip


def _take(told: Mapping[str, Any], report: Report, born: list[int], say: Callable[[str], None]) -> None:
    """One line of the conductor's."""
    match told:
        case {"say": text}:
            say(text)
        case {"born": pid}:
            born.append(pid)
        case {"pace": text}:
            pace = Pace.from_json(text)
            report.times, report.meaning = planning.times(pace), planning.meaning(pace)
        case {"outcome": data}:
            report.outcomes.append(Outcome.from_dict(data))
            say(f"     {one_line(report.outcomes[-1])}")
        case {"ledger": data}:
            report.ledger = Ledger.from_dict(data)
        case {"problem": text}:
            report.problem = text


def _end(process: subprocess.Popen[str], born: list[int]) -> None:
    """Have the conductor clear away; where it cannot, do it here."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.returncode != 0:
        for pid in born:
            _kill_group(pid)
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _free_ports() -> tuple[int, int]:
    """Two ports of 127.0.0.1 on which nobody listens."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _versions() -> dict[str, str]:
    return {
        "Email Offload": product.current(),
        **{name: version(name) for name in PACKAGES},
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
    }
