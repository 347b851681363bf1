"""The suite's private MariaDB server: started once per run, shared by all its processes.

`python -m tests.mariadb COMMAND …` runs a command with such a server; tests start one by themselves.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from emailoffload.sandbox import mariadb

SITE_DUMP = Path(__file__).parent / "data" / "site.sql.gz"
ENV = "OFFLOAD_TEST_MARIADB"


class Server(mariadb.Server):
    """The suite's server, which knows the real site."""

    def restore_site(self, database: str) -> None:
        """(Re)create `database` with the real site of tests/data/site.sql.gz."""
        self.restore(database, SITE_DUMP)


MEMORY = Path("/dev/shm")
ENOUGH = 2 * 1024**3


def folder() -> str:
    """A new temporary folder, in memory where there is room: the suite empties tables hundreds of times."""
    roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH
    return tempfile.mkdtemp(prefix="eo-", dir=MEMORY if roomy else None)


def start() -> Server:
    """Start a server in a new temporary folder."""
    started = mariadb.start(folder=folder())
    return Server(started.socket, started.process, started.folder)


def shared() -> Server:
    """The server of this test run: the parent's, or one that is started now and stopped at exit."""
    socket = os.environ.get(ENV)
    if socket:
        return Server(socket)
    server = start()
    os.environ[ENV] = server.socket
    owner = os.getpid()
    atexit.register(lambda: server.stop() if os.getpid() == owner else None)
    return server


def main() -> int:
    """Run the given command with a server of its own."""
    server = start()
    try:
        return subprocess.call(sys.argv[1:], env={**os.environ, ENV: server.socket})
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
