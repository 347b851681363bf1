"""The audit of pinned packages: what is known stops, what is accepted is named, and no network is no failure."""

from __future__ import annotations

import json
import runpy
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.test_settings import ROOT

LOCK = "sound==1.0 \\\n    --hash=sha256:aa\nweak==2.1 ; python_version >= '3.11' \\\n    --hash=sha256:bb\n"
WEAK = {
    "id": "GHSA-aaaa", "aliases": ["CVE-2026-1"], "summary": "Reads any file.", "fixed_in": ["2.10", "2.9"],
    "withdrawn": None,
}  # fmt: skip
ACCEPTED = '[[accepted]]\npackage = "Weak"\nid = "GHSA-aaaa"\nreason = "not called"\nuntil = 9999-01-01\n'
Audit = Callable[..., int]


class Registry(ThreadingHTTPServer):
    """PyPI's answers about two packages."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {
            name: {"info": {"yanked": False, "yanked_reason": None}, "vulnerabilities": []}
            for name in ("/sound/1.0/json", "/weak/2.1/json")
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path)
        self.send_response(200 if answer is not None else 404)
        self.end_headers()
        if answer is not None:
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def audit(registry: Registry, tmp_path: Path) -> Audit:
    """Runs the audit over LOCK, with what `accept` accepts."""
    run = runpy.run_path(str(ROOT / "tools" / "audit.py"))["main"]
    (tmp_path / "tools").mkdir()
    (tmp_path / "x.lock").write_text(LOCK)

    def make(accept: str = "", url: str = "") -> int:
        (tmp_path / "tools" / "audit.toml").write_text(accept)
        found: int = run(
            ["x.lock"], registry=url or registry.url, cache=tmp_path / "c" / "audit.json", root=tmp_path
        )
        return found

    return make


def test_packages_that_nothing_is_known_against_pass_and_are_asked_about_once_a_day(
    audit: Audit, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit() == 0
    assert "asked about 2 pinned packages" in capsys.readouterr().out
    assert sorted(registry.asked) == ["/sound/1.0/json", "/weak/2.1/json"]
    assert audit() == 0
    assert len(registry.asked) == 2


def test_a_known_weakness_fails_with_its_ids_and_the_release_that_cures_it(
    audit: Audit, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.answers["/weak/2.1/json"]["vulnerabilities"] = [
        WEAK,
        {**WEAK, "id": "old", "withdrawn": "2026-01-01"},
    ]
    assert audit() == 1
    told = capsys.readouterr().out
    assert "weak 2.1: GHSA-aaaa: Reads any file. (GHSA-aaaa, CVE-2026-1; fixed in 2.9, 2.10)" in told
    assert "old" not in told and "make lock ARGS=--upgrade" in told
    assert audit(ACCEPTED) == 0
    assert "accepted: weak GHSA-aaaa: not called" in capsys.readouterr().out


def test_a_release_that_was_taken_back_fails(
    audit: Audit, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.answers["/sound/1.0/json"]["info"] = {"yanked": True, "yanked_reason": "loses data"}
    assert audit() == 1
    assert "sound 1.0: yanked: loses data" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "says"), [(None, "answers 404"), (b"<html>", "could not be asked"), ({"x": 1}, "not PyPI's")]
)
def test_a_registry_without_this_service_is_asked_once_and_fails_nothing(
    audit: Audit, registry: Registry, capsys: pytest.CaptureFixture[str], answer: Any, says: str
) -> None:
    registry.answers = {} if answer is None else dict.fromkeys(registry.answers, answer)
    assert audit() == 0
    told = capsys.readouterr().out
    assert says in told and "nothing is known about the 2 pinned packages" in told
    assert len(registry.asked) == 1


def test_without_a_network_it_says_so_and_fails_nothing(
    audit: Audit, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(url="http://127.0.0.1:9") == 0
    assert "PyPI could not be asked (ConnectionRefusedError)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (ACCEPTED.replace("9999", "2020"), "look at it again"),
        (ACCEPTED.replace('reason = "not called"\n', ""), "lacks reason"),
        (ACCEPTED.replace("9999-01-01", '"soon"'), "a date in `until`"),
    ],
)
def test_what_is_accepted_has_a_reason_and_an_end(
    audit: Audit, capsys: pytest.CaptureFixture[str], entry: str, says: str
) -> None:
    assert audit(entry) == 1
    assert says in capsys.readouterr().out


def test_all_that_is_pinned_anywhere_is_audited_and_lint_does_it() -> None:
    tool = runpy.run_path(str(ROOT / "tools" / "audit.py"))
    audited = set().union(*(tool["pins"]((ROOT / lock).read_text()) for lock in tool["LOCKS"]))
    everywhere = set().union(*(tool["pins"](lock.read_text()) for lock in ROOT.glob("requirements*.lock")))
    assert everywhere == audited
    assert "tools/audit.py" in (ROOT / "tools" / "lint").read_text()
    assert tool["accepted"]((ROOT / "tools" / "audit.toml").read_text(), datetime.now(UTC).date())[1] == []
