"""Real processes of the product against the suite's databases: for races, kills and replays.

`python -m tests.processes WHAT …` is what they run; `spawn` starts one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connections

ROOT = Path(__file__).resolve().parent.parent


def spawn(
    what: str, *args: object, env: dict[str, str] | None = None, **overrides: object
) -> subprocess.Popen[str]:
    """Start a process that does `what` (see `main`) against this test's databases.

    `overrides` are settings; `env` are further environment variables.
    """
    overrides = {"AWS_ENDPOINT": os.environ.get("AWS_ENDPOINT_URL_SESV2", ""), **overrides}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.processes", what, *map(str, args)],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "OFFLOAD_TEST_DEFAULT_DB": str(connections["default"].settings_dict["NAME"]),
            "OFFLOAD_TEST_OVERRIDES": json.dumps(overrides),
            **(env or {}),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def on_sqlite(script: str, folder: Path, *, ses: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script with the product's own settings on SQLite in `folder`; it must end well.

    `ses` is the address of the SES that it sends to.
    """
    env = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
    env |= {
        "DJANGO_SETTINGS_MODULE": "offloadsite.settings",
        "OFFLOAD_DATA_DIR": str(folder),
        "OFFLOAD_ENV_FILE": os.devnull,
    }
    if ses:
        env["AWS_ENDPOINT_URL_SESV2"] = ses
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done


def start(processes: Sequence[subprocess.Popen[str]], prepare: Callable[[], object] = lambda: None) -> None:
    """Wait until all processes are ready, prepare, then let them all go at once."""
    for process in processes:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line == "ready", process.communicate()
    prepare()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def result(process: subprocess.Popen[str], timeout: float = 120) -> Any:
    """The last line that a process printed, as JSON; its errors become ours."""
    out, errors = process.communicate(timeout=timeout)
    assert process.returncode == 0, errors[-4000:]
    return json.loads(out.strip().splitlines()[-1])


def _set_up() -> None:
    import django

    settings.DATABASES["default"]["NAME"] = os.environ["OFFLOAD_TEST_DEFAULT_DB"]
    for name, value in json.loads(os.environ["OFFLOAD_TEST_OVERRIDES"]).items():
        if name == "AWS_ENDPOINT":
            os.environ["AWS_ENDPOINT_URL_SESV2"] = value
        else:
            setattr(settings, name, value)
    django.setup()


def _intercept(lane: str, seconds: str, sabotage: str, source: str = "reengagement") -> dict[str, Any]:
    """Interceptor passes, one after the other, for a while (0 = one pass)."""
    from emailoffload.worker import intercept

    if sabotage != "none":
        from tests.race import sabotages

        sabotages.apply(sabotage)
    total: dict[str, Any] = {"passes": 0, "claimed": 0, "lost": 0, "left": {}, "refused": ""}
    until = time.monotonic() + float(seconds)
    while True:
        found = intercept.run(source=source, lane=lane)
        total["passes"] += 1
        total["claimed"] += found.claimed
        total["lost"] += found.lost
        total["refused"] = total["refused"] or found.refused
        for reason, count in found.left.items():
            total["left"][reason] = total["left"].get(reason, 0) + count
        if time.monotonic() > until:
            return total


def _moodle(seconds: str, mail_seconds: str, lock: str, variant: str) -> dict[str, Any]:
    """Moodle's cron, run after run, for a while; returns the rows that it mailed, in order."""
    from emailoffload.sandbox.moodle_cron import SimulatedCron
    from emailoffload.sandbox.moodle_side import enrolled_by_sql, mysql_lock
    from tests.settings import MOODLE_DATABASE, SERVER

    def connect() -> Any:
        return SERVER.connect(MOODLE_DATABASE)

    mailed: list[int] = []
    cron = SimulatedCron(
        connect,
        prefix="mdl_",
        paramstyle="format",
        lock=mysql_lock(connect, dbname=MOODLE_DATABASE, prefix="mdl_") if lock == "lock" else None,
        mail=lambda mail: mailed.append(int(mail["row_id"])),
        mail_seconds=float(mail_seconds),
        enrolled=enrolled_by_sql(connect, prefix="mdl_", paramstyle="format"),
        variant="adhoc" if variant == "adhoc" else "monolithic",
        start_users=False,
    )
    until = time.monotonic() + float(seconds)
    runs = 0
    while time.monotonic() < until:
        cron.run_reengagement()
        runs += 1
        time.sleep(0.4)  # the cron's own pause between runs
    # Whatever was left to Moodle late. The server lets go of the lock of a process that has just ended a moment later.
    while cron.run_reengagement().locked_out and time.monotonic() < until + 20:
        time.sleep(0.2)
    return {"mailed": mailed, "runs": runs}


def _queue_cron(seconds: str, mail_seconds: str, lock: str) -> dict[str, Any]:
    """IOMAD's cron of the mail queue, run after run, for a while; the rows whose user it mailed, in order."""
    from emailoffload.sandbox.email_cron import SimulatedEmailCron
    from emailoffload.sandbox.moodle_side import mysql_lock
    from tests.settings import MOODLE_DATABASE, SERVER

    def connect() -> Any:
        return SERVER.connect(MOODLE_DATABASE)

    mailed: list[int] = []

    def note(mail: dict[str, Any]) -> None:
        if mail["role"] == "user":
            mailed.append(int(mail["row_id"]))

    cron = SimulatedEmailCron(
        connect,
        prefix="mdl_",
        paramstyle="format",
        lock=mysql_lock(connect, dbname=MOODLE_DATABASE, prefix="mdl_") if lock == "lock" else None,
        mail=note,
        mail_seconds=float(mail_seconds),
        period=1,
    )
    until = time.monotonic() + float(seconds)
    runs = skipped = 0
    while True:
        if cron.run_queue().locked_out:
            skipped += 1
        else:
            runs += 1
        if time.monotonic() > until:
            return {"mailed": mailed, "runs": runs, "skipped": skipped}
        time.sleep(0.3)  # the cron's own pause between runs


def _watch(sabotage: str) -> dict[str, Any]:
    """The watch over IOMAD's queue until standard input ends."""
    import threading

    from emailoffload.worker import cronguard

    if sabotage != "none":
        from tests.race import sabotages

        sabotages.apply(sabotage)
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.readline()
        ended.set()

    threading.Thread(target=listen, daemon=True).start()
    cronguard.watch(ended.is_set)
    return {}


def main() -> None:
    """Do what the first argument says and print the result as JSON."""
    _set_up()
    what, *args = sys.argv[1:]
    connections["default"].ensure_connection()
    print("ready", flush=True)
    sys.stdin.readline()
    if what == "intercept":
        done = _intercept(*args)
    elif what == "moodle":
        done = _moodle(*args)
    elif what == "queue_cron":
        done = _queue_cron(*args)
    elif what == "watch":
        done = _watch(*args)
    elif what == "feedback":
        from emailoffload.worker import feedback

        done = feedback.run(until_empty=True).as_dict()
    elif what == "retention":
        from emailoffload.worker.privacy import forget, retention

        forget.BATCH = int(args[0])  # type: ignore[misc]
        done = retention.run(budget=60).as_dict()
    elif what == "release":
        from emailoffload.actions.release import release
        from emailoffload.outbox.models import Claim

        ids = list(Claim.objects.values_list("pk", flat=True))
        done = {"released": sum(o.released for o in release(ids, actor="tester", reason="test"))}
    elif what == "dispatch":
        from emailoffload.worker import dispatch

        done = dispatch.run(until_empty=True).as_dict()
    elif what == "fallback":
        from emailoffload.worker import fallback

        done = fallback.run(lane=args[0] if args else "").as_dict()
    else:
        raise SystemExit(f"unknown: {what}")
    print(json.dumps(done))
    connections.close_all()


if __name__ == "__main__":
    main()
