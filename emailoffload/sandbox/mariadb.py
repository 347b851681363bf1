"""A private MariaDB server for tests and benchmarks: temporary data folder, socket only, no network."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import MySQLdb
from MySQLdb.connections import Connection


class Missing(RuntimeError):
    """MariaDB's server programs are not installed."""


def _program(*names: str) -> str:
    for name in names:
        found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if found:
            return found
    raise Missing(
        f"{names[0]} is not installed. On Debian: apt-get install mariadb-server. See README, 'Testing'."
    )


@dataclass
class Server:
    """A running server; `socket` is its address, root has no password."""

    socket: str
    process: subprocess.Popen[bytes] | None = None
    folder: str | None = None

    def connect(self, database: str = "", user: str = "root", password: str = "") -> Connection:
        """A new connection, autocommit on."""
        connection: Connection = MySQLdb.connect(
            unix_socket=self.socket, user=user, password=password, database=database, charset="utf8mb4"
        )
        connection.autocommit(True)
        return connection

    def run(self, sql: str, database: str = "") -> None:
        """Run SQL text (several statements, dumps) through the command-line client as root."""
        subprocess.run(
            [
                _program("mariadb", "mysql"),
                "--no-defaults",
                "-uroot",
                f"-S{self.socket}",
                *([database] if database else []),
            ],
            input=sql.encode(),
            check=True,
        )

    def restore(self, database: str, dump: Path) -> None:
        """(Re)create `database` from a gzipped SQL dump."""
        self.run(
            f"DROP DATABASE IF EXISTS `{database}`;"
            f"CREATE DATABASE `{database}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
        )
        self.run(gzip.decompress(dump.read_bytes()).decode(), database)

    def url(self, database: str, user: str = "root", password: str = "") -> str:
        """The address of a database as the product's settings take it."""
        login = f"{user}:{password}" if password else user
        return f"mysql://{login}@localhost/{database}?unix_socket={self.socket}"

    def wait(self) -> None:
        """Wait until the server ends, or whoever waits is interrupted; one that others started is not waited for."""
        if self.process:
            self.process.wait()

    def stop(self) -> None:
        """Stop the server and remove its data."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def start(*, durable: bool = False, folder: str | None = None, options: tuple[str, ...] = ()) -> Server:
    """Start a server in a new temporary folder; `durable` keeps MariaDB's default of a disk flush per commit."""
    folder = folder or tempfile.mkdtemp(prefix="eo-")
    data, socket = f"{folder}/data", f"{folder}/s"
    user = ["--user=root"] if os.geteuid() == 0 else []
    # In a shared folder a server that starts removes the temporary tables of those that run, or are being made.
    temporary = Path(folder) / "tmp"
    temporary.mkdir(exist_ok=True)
    if not Path(data).exists():
        made = subprocess.run(
            [_program("mariadb-install-db", "mysql_install_db"), "--no-defaults", *user, f"--datadir={data}",
             f"--tmpdir={temporary}", "--auth-root-authentication-method=normal", "--skip-test-db"],
            check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"MariaDB's data folder could not be made:\n{made.stdout[-2000:]}")
    log = open(f"{folder}/log", "ab")  # noqa: SIM115
    process = subprocess.Popen(
        [_program("mariadbd", "mysqld"), "--no-defaults", *user, f"--datadir={data}", f"--socket={socket}",
         f"--tmpdir={temporary}",
         f"--pid-file={folder}/pid", "--skip-networking", "--innodb-buffer-pool-size=512M", "--max-connections=400",
         f"--innodb-flush-log-at-trx-commit={1 if durable else 0}", "--performance-schema=OFF",
         "--skip-log-bin", *options],
        stdout=log, stderr=log,
    )  # fmt: skip
    log.close()
    server = Server(socket, process, folder)
    deadline = time.monotonic() + 60
    while True:
        try:
            server.connect().close()
            return server
        except MySQLdb.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                text = Path(f"{folder}/log").read_text()[-2000:]
                raise RuntimeError(f"MariaDB did not start:\n{text}") from None
            time.sleep(0.1)
