"""The suite's private MariaDB servers: one for each process that runs tests, shared with what its tests start.

`python -m tests.mariadb COMMAND …` runs a command with such a server; tests start one by themselves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from emailoffload.sandbox import mariadb

SITE_DUMP = Path(__file__).parent / "data" / "site.sql.gz"
ENV = "OFFLOAD_TEST_MARIADB"


GUARD = 'cat; kill "$1" && while kill -0 "$1"; do sleep 0.1; done; rm -rf "$2"'
"""Waits for the end of its input, which is the end of who started it, however that came about."""


class Server(mariadb.Server):
    """The suite's server, which knows the real site."""

    guard: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start the server unless another process has, and hand it to the processes that this one starts."""
        if self.folder and not self.process:
            self.process = mariadb.start(folder=self.folder).process
            assert self.process
            self.guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "guard", str(self.process.pid), self.folder],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
            os.environ[ENV] = self.socket

    def stop(self) -> None:
        """Stop the server and remove its data."""
        if self.guard:
            self.guard.kill()
            self.guard.wait()
        super().stop()

    def restore_site(self, database: str) -> None:
        """(Re)create `database` with the real site of tests/data/site.sql.gz."""
        self.restore(database, SITE_DUMP)


MEMORY = Path("/dev/shm")
ENOUGH = 2 * 1024**3


def folder() -> str:
    """A new temporary folder, in memory where there is room: the suite empties tables hundreds of times."""
    roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH
    return tempfile.mkdtemp(prefix="eo-", dir=MEMORY if roomy else None)


def shared() -> Server:
    """The server of the process that started this one, or one of its own, which `begin` starts."""
    socket = os.environ.get(ENV)
    if socket:
        return Server(socket)
    own = folder()
    return Server(f"{own}/s", folder=own)


def main() -> int:
    """Run the given command with a server of its own."""
    os.environ.pop(ENV, None)
    server = shared()
    server.begin()
    try:
        return subprocess.call(sys.argv[1:])
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
