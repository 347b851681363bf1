"""Several programs in one terminal start, speak and end together."""

from __future__ import annotations

import io
import os
import socket
import sys
import time

import pytest

from emailoffload.sandbox.supervisor import Child, Supervisor, port_is_free

FOREVER = "import time; print('ready', flush=True); time.sleep(600)"


def python(name: str, code: str, *, grace: float = 10.0) -> Child:
    return Child(name, [sys.executable, "-c", code], grace=grace)


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def supervisor(out: io.StringIO) -> Supervisor:
    return Supervisor(os.environ, out)


def test_each_line_carries_the_name_of_its_program(supervisor: Supervisor, out: io.StringIO) -> None:
    supervisor.start(python("web", FOREVER))
    supervisor.start(python("ses", FOREVER))
    assert supervisor.wait_until(lambda: out.getvalue().count("ready") == 2, 10)
    supervisor.stop()
    assert sorted(out.getvalue().splitlines()) == ["ses     | ready", "web     | ready"]


def test_a_program_that_dies_is_noticed_with_its_last_lines(supervisor: Supervisor) -> None:
    supervisor.start(python("web", FOREVER))
    broken = supervisor.start(python("ses", "import sys; print('no luck'); sys.exit(3)"))
    assert supervisor.wait_until(lambda: False, 10) is False
    assert supervisor.dead() is broken and broken.ended == 3
    supervisor.stop()
    assert list(broken.last_lines) == ["no luck"]


def test_stopping_ends_every_program_and_what_it_started(supervisor: Supervisor, out: io.StringIO) -> None:
    parent = supervisor.start(
        python("web", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {FOREVER!r}])")
    )
    assert supervisor.wait_until(lambda: "ready" in out.getvalue(), 10)
    supervisor.stop()
    assert parent.ended is not None and parent.process is not None
    group = parent.process.pid
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
    pytest.fail("a program that was started by a program is still there")


def test_a_program_that_will_not_end_is_killed(supervisor: Supervisor, out: io.StringIO) -> None:
    stubborn = python(
        "web", f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER}", grace=0.2
    )
    supervisor.start(stubborn)
    assert supervisor.wait_until(lambda: "ready" in out.getvalue(), 10)
    supervisor.stop()
    assert stubborn.ended == -9
    assert "did not end" in out.getvalue()


def test_waiting_stops_when_all_are_to_stop(supervisor: Supervisor) -> None:
    supervisor.stopping.set()
    assert supervisor.wait_until(lambda: False, 60) is False


def test_a_port_in_use_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not port_is_free(port)
    assert port_is_free(port)
