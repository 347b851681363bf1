"""What every benchmark stands on: MariaDB with a Moodle site, our own database, and a local SES."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from django.conf import settings

from emailoffload.moodle import grants
from emailoffload.sandbox import mariadb
from emailoffload.sandbox.bench.body import BODY

DUMP = settings.BASE_DIR / "tests" / "data" / "site.sql.gz"
MOODLE, OURS, PEER = "bench_moodle", "bench_offload", "bench_peer"
ACCOUNT, PASSWORD = "bench_moodle", "bench-password"
FIRST_ACTIVITY, LAST_ACTIVITY, LEARNERS = 12, 21, 500


@dataclass
class Stage:
    """Where the processes of a benchmark work."""

    server: mariadb.Server
    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def rows(self, sql: str, database: str) -> list[tuple[Any, ...]]:
        """The result of a query, as root."""
        connection = self.server.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def start(self, module: str, *args: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a Python module as a process of its own; it says `ready` and waits for a line before it works."""
        process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, args)],
            cwd=settings.BASE_DIR,
            env={**self.env, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        while (line := process.stdout.readline().strip()) != "ready":
            if not line and process.poll() is not None:
                raise RuntimeError(f"{module} ended with status {process.returncode} before it was ready")
        return process

    def manage(self, *args: str) -> None:
        """Run a management command of the product against this stage."""
        subprocess.run([sys.executable, "manage.py", *args], cwd=settings.BASE_DIR, env=self.env, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip


def go(*processes: subprocess.Popen[str]) -> None:
    """Let waiting processes work."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def outcome(process: subprocess.Popen[str]) -> Any:
    """The last line that a process printed, as JSON."""
    out, _ = process.communicate(timeout=900)
    if process.returncode:
        raise RuntimeError(f"a process of the benchmark ended with status {process.returncode}")
    return json.loads(out.strip().splitlines()[-1])


@contextmanager
def stage(folder_of_server: str | None = None) -> Iterator[Stage]:
    """A fresh MariaDB with the real site and an empty database of ours; gone afterwards.

    `folder_of_server` is a new folder for its data; without it one is made where temporary files go.
    """
    if not DUMP.is_file():
        raise RuntimeError(f"{DUMP} is missing: benchmarks run from a checkout of the project")
    with tempfile.TemporaryDirectory(prefix="eo-bench-") as folder:
        server = mariadb.start(durable=True, folder=folder_of_server)
        try:
            made = Stage(server, Path(folder))
            made.env = {
                **{
                    name: value
                    for name, value in os.environ.items()
                    if not name.startswith(("AWS_", "OFFLOAD_"))
                },
                "DJANGO_SETTINGS_MODULE": "offloadsite.settings",
                "OFFLOAD_ENV_FILE": os.devnull,
                "OFFLOAD_DATA_DIR": folder,
                "CONTENT_KEYS": Fernet.generate_key().decode(),
                "DATABASE_URL": server.url(OURS),
                "MOODLE_DATABASE_URL": server.url(MOODLE, ACCOUNT, PASSWORD),
                "MOODLE_WWWROOT": "http://127.0.0.1:18080",
                "AWS_ACCESS_KEY_ID": "bench",
                "AWS_SECRET_ACCESS_KEY": "bench",
                "AWS_REGION": "eu-west-1",
                "AWS_EC2_METADATA_DISABLED": "true",
                "LOG_LEVEL": "WARNING",
                "DISPATCH_THREADS": "64",  # as many as serve an answer time of 50 ms best, as for the peer
            }
            _site(made)
            fresh(made)
            yield made
        finally:
            server.stop()


def _site(made: Stage) -> None:
    made.server.restore(MOODLE, DUMP)
    moodle_account(made.server)


def moodle_account(server: mariadb.Server) -> None:
    """Give the account of the benchmarks what `moodlegrants` prints for the site that was restored."""
    made = Stage(server, Path())
    server.run(f"CREATE OR REPLACE USER '{ACCOUNT}'@'localhost' IDENTIFIED BY '{PASSWORD}'")
    columns: dict[str, set[str]] = {}
    for table, column in made.rows(
        f"SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = '{MOODLE}'",
        "information_schema",
    ):
        columns.setdefault(table, set()).add(column)
    for statement in grants.statements(f"'{ACCOUNT}'@'localhost'", MOODLE, "mdl_", columns):
        server.run(statement)


def fresh(made: Stage) -> None:
    """Our own database, empty and migrated."""
    made.server.run(f"DROP DATABASE IF EXISTS {OURS}; CREATE DATABASE {OURS} CHARACTER SET utf8mb4")
    made.manage("migrate", "--verbosity", "0")


def reminders(made: Stage, count: int, due: str) -> None:
    """Replace all reminders by `count` of them over ten activities; `due` is an SQL expression that may use `n`."""
    body = BODY.replace("'", "''")
    made.server.run(
        "TRUNCATE mdl_reengagement_inprogress;"
        f"UPDATE mdl_reengagement SET emailcontent = '{body}',"
        " emailsubject = '%userfirstname%, %coursefullname% is waiting for you'"
        f" WHERE id BETWEEN {FIRST_ACTIVITY} AND {LAST_ACTIVITY};"
        "INSERT INTO mdl_reengagement_inprogress"
        " (reengagement, userid, completiontime, emailtime, emailsent, completed)"
        f" SELECT r.id, u.userid, UNIX_TIMESTAMP() + 90 * 86400, 0, 0, 0 FROM mdl_reengagement r"
        f" JOIN (SELECT DISTINCT ue.userid FROM mdl_user_enrolments ue JOIN mdl_enrol e ON e.id = ue.enrolid"
        f" JOIN mdl_reengagement q ON q.course = e.courseid AND q.id = {FIRST_ACTIVITY}) u"
        f" WHERE r.id BETWEEN {FIRST_ACTIVITY} AND {LAST_ACTIVITY} LIMIT {int(count)};"
        f"SET @n = -1; UPDATE mdl_reengagement_inprogress SET emailtime = {due.replace('n()', '(@n := @n + 1)')}",
        MOODLE,
    )


def queued(made: Stage, count: int) -> None:
    """Put `count` due mails of four kinds into IOMAD's queue, beside those that the site has sent."""
    body = BODY.replace("'", "''")
    made.server.run(
        "DELETE FROM mdl_email WHERE sent IS NULL OR subject LIKE 'Bench %';"
        "SET @model = (SELECT headers FROM mdl_email WHERE templatename = 'completion_warn_user' LIMIT 1);"
        "CREATE TEMPORARY TABLE people SELECT id, firstname, ROW_NUMBER() OVER (ORDER BY id) - 1 AS n"
        " FROM mdl_user WHERE username LIKE 'bulk%' AND deleted = 0 AND suspended = 0;"
        "SET @people = (SELECT COUNT(*) FROM people);"
        "INSERT INTO mdl_email (templatename, modifiedtime, sent, subject, body, varsreplaced, companyid,"
        " courseid, userid, senderid, headers, due)"
        " SELECT k.name, UNIX_TIMESTAMP() - 60, NULL, CONCAT('Bench ', p.firstname),"
        f" REPLACE('{body}', '%userfirstname%', p.firstname), 1, 1, 4, p.id, -20,"
        " REPLACE(@model, 's:20:\"completion_warn_user\"', CONCAT('s:', LENGTH(k.name), ':\"', k.name, '\"')),"
        f" UNIX_TIMESTAMP() - 60 FROM seq_0_to_{int(count) - 1} s"
        " JOIN people p ON p.n = s.seq % @people JOIN (SELECT 0 AS n, 'user_create' AS name"
        " UNION SELECT 1, 'user_added_to_course' UNION SELECT 2, 'license_allocated' UNION SELECT 3, 'user_reset'"
        ") k ON k.n = s.seq % 4 ORDER BY s.seq",
        MOODLE,
    )


def accepted_mails(made: Stage, mails: int) -> None:
    """Fill the outbox with accepted mails, numbered from 1."""
    now = "'2026-03-02 08:00:00'"
    made.server.run(
        "SET unique_checks = 0, foreign_key_checks = 0;"
        "INSERT INTO emailoffload_claim (id, ref, source, row_id, template, state, `before`, `after`, under_lock,"
        " user_id, user_name, user_email, activity_id, activity_name, cmid, course_id, course_name, company_name,"
        " ordinal, is_last, completiontime, due_at, created_at, claimed_at, note, fallback)"
        " SELECT seq, LPAD(HEX(seq), 32, '0'), 'reengagement', seq, '', 'claimed', '{}', '{}', 0, seq, '', '', 1,"
        f" '', 0, 2, '', '', 1, 0, 0, {now}, {now}, {now}, '', 'moodle' FROM seq_1_to_1000;"
        "INSERT INTO emailoffload_email (id, ref, claim_id, source, template, role, origin, user_id, activity_id,"
        " course_id, company_id, address, name, subject, `sensitive`, route, state, state_at, reason, detail,"
        " created_at, due_at, next_try_at, deadline_at, attempts, lease, message_id, accepted_at)"
        f" SELECT seq, LPAD(HEX(seq), 32, '0'), 1 + seq % 1000, 'reengagement', '', 'user', '', seq DIV 20,"
        " seq % 50, seq % 20, seq % 7, CONCAT('learner', seq DIV 20, '@example.org'), 'A Learner',"
        f" 'Please finish First aid', 0, 'ses', 'accepted', {now}, '', '', {now}, {now}, {now}, {now}, 1, '',"
        f" CONCAT('bench-', seq), {now} FROM seq_1_to_{int(mails)}",
        OURS,
    )


@contextmanager
def sandbox_ses(made: Stage, latency_ms: int) -> Iterator[dict[str, str]]:
    """A sandbox SES in a process of its own; yields the environment that points to it."""
    port_file = made.folder / f"port-{time.monotonic_ns()}"
    process = subprocess.Popen(
        [sys.executable, "manage.py", "sandboxses", "--port", "0", "--latency-ms", str(latency_ms), "--discard",
         "--max-send-rate", "100000", "--max-24h", "100000000", "--print-port-file", str(port_file)],
        cwd=settings.BASE_DIR, env=made.env, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 30
        while not port_file.exists() or not port_file.read_text().strip():
            if time.monotonic() > until or process.poll() is not None:
                raise RuntimeError("the sandbox SES did not start")
            time.sleep(0.05)
        url = f"http://127.0.0.1:{port_file.read_text().strip()}"
        yield {"AWS_ENDPOINT_URL_SESV2": url, "AWS_ENDPOINT_URL_SES": url}
    finally:
        process.terminate()
        process.wait(10)
