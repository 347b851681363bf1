"""Somebody to tell: an SMTP server, and a web server that takes posts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.dashboard.browsing import axe, browser, screenshots, visit
from tests.dashboard.conftest import sign_in
from tests.fallback.conftest import sink

__all__ = ["axe", "browser", "hook", "screenshots", "sign_in", "sink", "visit"]


class Hook:
    """A web server on loopback that keeps what is posted and answers `status`."""

    def __init__(self) -> None:
        self.status = 204
        self.location = ""
        self.posts: list[tuple[dict[str, str], bytes]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.posts.append((dict(self.headers), body))
                self.send_response(hook.status)
                if hook.location:
                    self.send_header("Location", hook.location)
                self.end_headers()

            do_GET = do_POST

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.02], daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Answer nothing any more."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def hook(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    """A web server that ALARM_WEBHOOK_URL names."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = Hook()
    settings.ALARM_WEBHOOK_URL = server.url
    yield server
    server.stop()
