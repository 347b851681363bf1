"""`manage.py healthcheck web|worker`: for containers and supervisors that ask whether a process still does its work."""

from __future__ import annotations

import http.client
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error
from django.utils import timezone

from emailoffload.worker import alarm_conditions

TIMEOUT_SECONDS = 10


class Command(BaseCommand):
    """Exit status 0 = well, 1 = not, with the reason in a line."""

    help = "Says whether the dashboard of this host answers, or whether a worker shows signs of life."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """What is asked about, and where."""
        parser.add_argument("what", choices=["web", "worker"])
        parser.add_argument("--port", type=int, default=8000, help="of the dashboard here (default: 8000)")

    def handle(self, *args: Any, what: str, port: int, **options: Any) -> None:
        """Ask the dashboard as a visitor would; of workers our database knows."""
        if what == "web":
            self._web(port)
        else:
            self._worker()
        self.stdout.write("ok")

    def _web(self, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        # As the proxy in front would ask: under a name that is allowed, by https.
        headers = {"Host": host(settings.ALLOWED_HOSTS), "X-Forwarded-Proto": "https"}
        try:
            connection.request("GET", "/healthz", headers=headers)
            answer = connection.getresponse()
            said = answer.read(200).decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(f"The dashboard does not answer on port {port}: {error}.") from error
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise CommandError(f"The dashboard answers {answer.status} on port {port}: {said}")

    def _worker(self) -> None:
        try:
            last = alarm_conditions.last_sign()
        except Error as error:
            raise CommandError(f"Our database cannot be asked: {type(error).__name__}.") from error
        if last is None:
            raise CommandError("No pass has run yet. Start the worker: manage.py qcluster.")
        if timezone.now() - last > alarm_conditions.SILENT:
            raise CommandError(
                f"No pass has run since {last:%Y-%m-%d %H:%M} UTC. Restart the worker; its log says why."
            )


def host(allowed: list[str]) -> str:
    """A name that ALLOWED_HOSTS lets in; its entries may begin with a dot or be `*`."""
    names = [name.lstrip(".") for name in allowed if name.strip(".*")]
    return names[0] if names else "localhost"
