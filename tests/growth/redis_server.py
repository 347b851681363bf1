"""A Redis server of a test's own, on a unix socket, which the test may kill, freeze and start again."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import redis


def program() -> str:
    """Redis's program. It is one file under several names, and does what the name says that it is started by:
    Debian's package of tools holds it without the service that the package of the server brings."""
    found = next(filter(None, map(shutil.which, ("redis-server", "redis-check-rdb"))), None)
    assert found, "Redis is missing: install redis-tools, as tools/bootstrap does"
    return found


class RedisServer:
    """The server; a context manager."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="eo-redis-"))
        self.socket = self.folder / "socket"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, for REDIS_URL."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start it, and wait until it answers; it has forgotten everything."""
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", self.folder],
            executable=program(), stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            while True:
                try:
                    assert client.ping()
                    return
                except redis.ConnectionError:
                    assert time.monotonic() < deadline and self.process.poll() is None
                    time.sleep(0.02)

    def kill(self) -> None:
        """Let it die at once."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """Let it accept questions and answer none."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> RedisServer:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
