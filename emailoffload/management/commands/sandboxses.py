"""`manage.py sandboxses`: a local SES on loopback."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from emailoffload.sandbox import ses_server
from emailoffload.sandbox.events import WRAPPINGS, Options
from emailoffload.sandbox.faults import Faults
from emailoffload.sandbox.mailbox import Mailbox
from emailoffload.sandbox.moodle_page import MoodlePage
from emailoffload.sandbox.ses_api import SesApi


class Command(BaseCommand):
    """Runs the sandbox SES until it is stopped."""

    help = (
        "A local SES: speaks the SESv2 HTTP API on 127.0.0.1, keeps what it got and shows it. Sends nothing. "
        "It publishes events into a local SQS queue on the same port."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options."""
        parser.add_argument("--port", type=int, default=settings.SANDBOX_PORT, help="0 picks a free one")
        parser.add_argument("--latency-ms", type=float, default=0.0, help="answer that much later")
        parser.add_argument(
            "--max-send-rate",
            type=float,
            default=None,
            help="mails per second; more are throttled (default: 1000, not enforced)",
        )
        parser.add_argument(
            "--max-24h", type=float, default=1_000_000.0, help="the 24-hour quota, in recipients"
        )
        parser.add_argument("--discard", action="store_true", help="keep counters only")
        parser.add_argument("--store", type=Path, help="SQLite file that keeps messages over restarts")
        parser.add_argument(
            "--identity",
            action="append",
            default=[],
            help="a verified sender; without any, every sender is verified",
        )
        parser.add_argument(
            "--configuration-set",
            action="append",
            default=None,
            help="a set that exists (default: email-offload)",
        )
        parser.add_argument(
            "--no-events", action="store_true", help="configuration sets publish nothing by themselves"
        )
        parser.add_argument(
            "--event-delay",
            type=float,
            default=2.0,
            help="seconds until a mail is delivered, bounces, … (default: 2)",
        )
        parser.add_argument(
            "--event-wrapping",
            choices=WRAPPINGS,
            default="raw",
            help="what events are wrapped in (default: raw)",
        )
        parser.add_argument(
            "--event-scatter",
            type=float,
            default=0.0,
            help="events come up to that many seconds later, in any order",
        )
        parser.add_argument(
            "--event-duplicates", type=float, default=0.0, help="share of events that come twice, from 0 to 1"
        )
        parser.add_argument(
            "--dashboard",
            default="http://127.0.0.1:8000",
            help="address of the dashboard, for links on the page of the sample Moodle",
        )
        parser.add_argument("--print-port-file", type=Path, help="write the port here once it listens")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve. A port that is taken ends with a message that says what to do."""
        sets = options["configuration_set"]
        rate = options["max_send_rate"]
        events = Options(
            delay=options["event_delay"],
            wrapping=options["event_wrapping"],
            scatter=options["event_scatter"],
            duplicates=options["event_duplicates"],
        )
        api = SesApi(
            Mailbox(discard=options["discard"], store=options["store"]),
            Faults(),
            latency=options["latency_ms"] / 1000,
            max_send_rate=rate or 1000.0,
            enforce_rate=rate is not None,
            max_24h=options["max_24h"],
            identities=tuple(options["identity"]),
            configuration_sets=("email-offload",) if sets is None else tuple(sets),
            events=None if options["no_events"] else events,
        )

        def ready(port: int) -> None:
            target: Path | None = options["print_port_file"]
            if target is not None:
                part = target.with_name(target.name + ".part")
                part.write_text(f"{port}\n")
                os.replace(part, target)  # whoever waits for the file finds it whole
            self.stdout.write(f"Sandbox SES ready on http://127.0.0.1:{port}")
            self.stdout.flush()

        moodle = None
        if settings.SAMPLE_SITE:
            moodle = MoodlePage(settings.SAMPLE_MOODLE_PATH, settings.MOODLE_DB_PREFIX, options["dashboard"])
        try:
            ses_server.run(api, options["port"], ready, moodle)
        except OSError as error:
            raise CommandError(
                f"The sandbox SES cannot listen on 127.0.0.1:{options['port']} ({error.strerror}). "
                "Stop what uses that port, or choose another: --port 0, or SANDBOX_PORT=8027 in the"
                " environment."
            ) from None
