"""Where a seeded database is: in a MariaDB that others run, or in a private one whose folder is kept.

The processes that fill and measure it are the product's own, with an environment that leads to that database.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import MySQLdb
from django.conf import settings

from emailoffload.sandbox import mariadb
from emailoffload.sandbox.bench import seed_moodle
from emailoffload.sandbox.bench.seed_plan import Plan
from emailoffload.sandbox.bench.stage import ACCOUNT, DUMP, MOODLE, PASSWORD, moodle_account

OURS: Final = "offload_seeded"
OPTIONS: Final = (
    "--innodb-buffer-pool-size=2G", "--innodb-log-file-size=1G", "--innodb-sort-buffer-size=64M",
    "--max-allowed-packet=64M",
)  # fmt: skip
"""A server that has something to work with: at its defaults MariaDB keeps 128 MB in memory."""

SHOWN: Final = (
    "DATABASE_URL", "MOODLE_DATABASE_URL", "MOODLE_WWWROOT", "OFFLOAD_DATA_DIR", "OFFLOAD_ENV_FILE", "AWS_REGION",
    "AWS_ENDPOINT_URL_SESV2", "AWS_ENDPOINT_URL_SQS", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
)  # fmt: skip
"""The settings with which the product shows a private one."""


class Refused(RuntimeError):
    """It cannot be done here; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """A seeded database, or one that shall be: the environment for processes of the product."""

    env: dict[str, str]
    server: mariadb.Server | None = None
    """The private server, where it is one."""

    def seed(self, emails: int, seed: int) -> dict[str, Any]:
        """Fill it, and the Moodle site beside it where that is ours too; what was made. Raises Refused."""
        made = self.run("seed", emails, seed)
        if self.server:
            seed_moodle.fill(self.server, Plan(emails, seed, datetime.fromisoformat(made["until"])))
        return made

    def run(self, module: str, *args: object) -> dict[str, Any]:
        """Run a module of the benchmarks there; what it reports last, as JSON. Its other lines go to standard error.

        Raises Refused with its words where it says that it cannot work there.
        """
        process = subprocess.Popen(
            [sys.executable, "-m", f"emailoffload.sandbox.bench.{module}", *map(str, args)],
            cwd=settings.BASE_DIR,
            env=self.env,
            stdout=subprocess.PIPE,
            text=True,
        )
        out, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{module} ended with status {process.returncode}; its words are above")
        found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        if "refused" in found:
            raise Refused(found["refused"])
        return found


@contextmanager
def place(*, database: str | None, keep: str | None) -> Iterator[Place]:
    """The database that is named, or a private server with its data in the folder `keep`, or in one that is removed.

    A server that is already running in the folder is used, and left running. Raises Refused.
    """
    if database:
        if not database.startswith(("mysql://", "mysqlgis://")):
            raise Refused(
                f"--database is no address of a MariaDB (mysql://…): {database.partition('://')[0]}://…"
            )
        yield Place(
            {**os.environ, "DATABASE_URL": database, "DJANGO_SETTINGS_MODULE": "offloadsite.settings"}
        )
        return
    with tempfile.TemporaryDirectory(prefix="eo-seeded-") as temporary:
        folder = Path(keep or temporary).absolute()
        if folder.exists() and any(folder.iterdir()) and not (folder / "data").is_dir():
            raise Refused(
                f"{folder} holds something else: name a new folder, or one that this command has made."
            )
        folder.mkdir(parents=True, exist_ok=True)
        server = _running(folder)
        started = server is None
        server = server or mariadb.start(folder=str(folder), options=OPTIONS)
        try:
            _databases(server)
            yield Place(_env(server, folder), server)
        finally:
            if started:
                server.folder = None  # what is kept stays, and the temporary folder goes with its own
                server.stop()


def _running(folder: Path) -> mariadb.Server | None:
    server = mariadb.Server(str(folder / "s"))
    try:
        server.connect().close()
    except MySQLdb.OperationalError:
        return None
    return server


def _databases(server: mariadb.Server) -> None:
    connection = server.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW DATABASES")
            there = {name for (name,) in cursor.fetchall()}
    finally:
        connection.close()
    if OURS not in there:
        server.run(f"CREATE DATABASE {OURS} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci")
    if MOODLE not in there:
        if not DUMP.is_file():
            raise Refused(f"{DUMP} is missing: benchmarks run from a checkout of the project")
        server.restore(MOODLE, DUMP)
        moodle_account(server)


def _env(server: mariadb.Server, folder: Path) -> dict[str, str]:
    data = folder / "offload"
    data.mkdir(exist_ok=True)
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "OFFLOAD_", "SES_"))
    }
    return own | {
        "DJANGO_SETTINGS_MODULE": "offloadsite.settings",
        "OFFLOAD_ENV_FILE": os.devnull,
        "OFFLOAD_DATA_DIR": str(data),
        "DATABASE_URL": server.url(OURS),
        "MOODLE_DATABASE_URL": server.url(MOODLE, ACCOUNT, PASSWORD),
        "MOODLE_WWWROOT": "http://127.0.0.1:18080",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_SESV2": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:9",
        "SES_CONFIGURATION_SET": "email-offload",
        "SES_EVENTS_QUEUE_URL": "http://127.0.0.1:9/000000000000/email-offload-events",
        "EMAIL_URL": "smtp://127.0.0.1:9",
        "LOG_LEVEL": "ERROR",
    }
