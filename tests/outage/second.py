"""A MariaDB server beside the suite's, which a test may kill, restart and freeze; it keeps what was committed."""

from __future__ import annotations

import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emailoffload.sandbox import mariadb
from tests import settings as test_settings
from tests.mariadb import Server

OPTIONS = ("--innodb-buffer-pool-size=64M", "--server-id=2")


@dataclass
class Second:
    """The server; `server` is the one that runs now."""

    folder: str
    server: Server

    @classmethod
    def new(cls) -> Second:
        """Start one with an empty data folder."""
        folder = tempfile.mkdtemp(prefix="eo-second-")
        return cls(folder, _start(folder))

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server's process."""
        assert self.server.process is not None
        return self.server.process

    def kill(self) -> None:
        """Let it die at once, as by a power cut."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it again, with what it had committed."""
        self.server = _start(self.folder)

    def restart(self) -> None:
        """Both."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Let it accept questions and answer none."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def copy(self, database: str, name: str, *tables: str) -> None:
        """Bring a database of the suite's server over with all its rows, or these tables of it."""
        socket = test_settings.SERVER.socket
        dump = subprocess.run(
            [mariadb._program("mariadb-dump", "mysqldump"), "--no-defaults", "-uroot", f"-S{socket}",
             "--single-transaction", "--hex-blob", database, *tables],
            check=True, capture_output=True,
        ).stdout.decode()  # fmt: skip
        self.server.run(
            f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
        )
        self.server.run(dump, name)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The result of a query, as root."""
        connection = self.server.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())
        finally:
            connection.close()


def _start(folder: str) -> Server:
    started = mariadb.start(durable=True, folder=folder, options=OPTIONS)
    assert Path(started.socket).exists()
    return Server(started.socket, started.process, folder)
