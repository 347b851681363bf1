"""The sandbox SES as a whole: APIs of SES and SQS, control endpoint and pages on one loopback port; alone or in a test.

with SandboxSES(latency_ms=50, events=Options(delay=0)) as ses:
    client = boto3.client("sesv2", endpoint_url=ses.url, …)
    ses.fault(mode="throttle", count=3)
    ses.messages, ses.stats()
    queue = boto3.client("sqs", endpoint_url=ses.url, …)
    queue.receive_message(QueueUrl=ses.queue_url)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from emailoffload.sandbox import event_pages, moodle_page, ses_pages
from emailoffload.sandbox.event_pages import EventPages
from emailoffload.sandbox.event_shapes import WHATS
from emailoffload.sandbox.events import QUEUE, Options, Published
from emailoffload.sandbox.faults import BadFault, Fault, Faults
from emailoffload.sandbox.http import Reply, Request, Server
from emailoffload.sandbox.mailbox import KEPT, Mailbox, Message
from emailoffload.sandbox.moodle_page import MoodlePage
from emailoffload.sandbox.ses_api import SesApi
from emailoffload.sandbox.sqs_api import ACCOUNT, TARGET

SAVE_EVERY = 0.3
"""Seconds between writes to the store, and between looks for events that are due."""


class SandboxApp:
    """Sends each request to the API, the control endpoint or the pages."""

    def __init__(self, api: SesApi, moodle: MoodlePage | None = None) -> None:
        self.api = api
        self.moodle = moodle
        self.event_pages = EventPages(api)

    def handle(self, request: Request) -> Reply:
        """Answer one request."""
        if request.headers.get("x-amz-target", "").startswith(TARGET) and request.method == "POST":
            return self.api.sqs.handle(request)
        if request.target.startswith("/v2/email/"):
            return self.api.handle(request)
        if request.path.startswith("/_sandbox/"):
            return self._control(request)
        if request.path in (event_pages.PATH, event_pages.LIST):
            return self.event_pages.respond(request)
        others = self.event_pages.links()
        if self.moodle is not None:
            if request.path == moodle_page.PATH or request.path.startswith(moodle_page.PATH + "/"):
                return self.moodle.respond(request)
            others += self.moodle.links()[1:]
        return ses_pages.respond(request, self.api.mailbox, others, self.event_pages.about)

    def _control(self, request: Request) -> Reply:
        name, mailbox, faults = request.path.removeprefix("/_sandbox/"), self.api.mailbox, self.api.faults
        match (request.method, name):
            case ("GET", "messages"):
                since, limit = request.query("since", "0"), request.query("limit", "100")
                if not (since.isdecimal() and limit.isdecimal()):
                    return _problem(400, "since and limit are whole numbers")
                found = [item for item in mailbox.messages if item.number > int(since)][
                    : min(int(limit), KEPT)
                ]
                return _answer({"messages": [item.summary() for item in found]})
            case ("DELETE", "messages"):
                mailbox.clear()
                return _answer({})
            case ("GET", "stats"):
                return _answer(mailbox.stats())
            case ("GET", "events"):
                shown = [_event(each) for each in self.api.events.published]
                return _answer({"events": shown, "waiting": self.api.events.waiting})
            case ("POST", "events"):
                return self._publish(request)
            case ("GET", "faults"):
                return _answer({"faults": faults.as_json()})
            case ("POST", "faults"):
                return self._add_faults(request)
            case ("DELETE", "faults"):
                faults.clear()
                return _answer({"faults": []})
        return _problem(404, f"no such control: {request.method} {name}")

    def _publish(self, request: Request) -> Reply:
        """`{"what": "bounce", "message": 12, "address": "…"}`: make that become of a message, now."""
        if not _is_json(request):
            return _problem(415, "send JSON with Content-Type: application/json")
        try:
            data = json.loads(request.body)
            what, message = data["what"], self.api.mailbox.find(data["message"])
            address = str(data.get("address", ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            return _problem(400, 'send an object with "what", "message" (its number) and perhaps "address"')
        if what not in WHATS:
            return _problem(400, f"'what' must be one of {', '.join(WHATS)}")
        if message is None:
            return _problem(404, "there is no message of that number, or it is no longer kept")
        return _answer(_event(self.api.events.publish(what, message, address)))

    def _add_faults(self, request: Request) -> Reply:
        if not _is_json(request):
            return _problem(415, "send JSON with Content-Type: application/json")
        try:
            data = json.loads(request.body)
            new = [Fault.from_json(item) for item in (data if isinstance(data, list) else [data])]
        except (ValueError, BadFault) as error:
            return _problem(400, str(error))
        for fault in new:
            self.api.faults.add(fault)
        return _answer({"faults": self.api.faults.as_json()})


def _is_json(request: Request) -> bool:
    """A page in a browser can post a form here, but not JSON: that content type needs the server's consent."""
    return request.headers.get("content-type", "").partition(";")[0].strip() == "application/json"


def _event(event: Published) -> dict[str, Any]:
    return {
        "at": event.at,
        "type": WHATS[event.what].type,
        "what": event.what,
        "address": event.address,
        "message_id": event.message_id,
        "message": event.number,
        "body": event.body,
    }


def _answer(data: Any) -> Reply:
    return Reply(json.dumps(data).encode(), headers={"X-Content-Type-Options": "nosniff"})


def _problem(status: int, text: str) -> Reply:
    return Reply(json.dumps({"error": text}).encode(), status)


async def serve(
    api: SesApi,
    port: int,
    ready: Callable[[int], None],
    stop: asyncio.Event,
    *,
    save_every: float = SAVE_EVERY,
    moodle: MoodlePage | None = None,
) -> None:
    """Serve until `stop` is set; `ready` gets the port. Raises OSError when the port is taken."""
    server = Server(SandboxApp(api, moodle))
    try:
        ready(await server.start(port))
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), save_every)
            api.tick()
            api.mailbox.save()
    finally:
        await server.stop()
        api.keep()
        api.mailbox.close()


def run(api: SesApi, port: int, ready: Callable[[int], None], moodle: MoodlePage | None = None) -> None:
    """Serve in this process until SIGTERM or SIGINT; `moodle` adds the page of the sample Moodle."""

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(api, port, ready, stop, moodle=moodle)

    asyncio.run(main())


class SandboxSES:
    """A sandbox SES in a thread of this process; a context manager for tests.

    `latency_ms`, `max_send_rate` (mails/s; enforced with `enforce_rate`), `max_24h`, `identities` (empty
    = any
    sender is verified) and `configuration_sets` set the account up; `port` 0 picks a free one; `moodle` adds
    the page of the sample Moodle. With `events` the sets publish into the sandbox's own queue; without, they
    publish nothing until a destination is made.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        latency_ms: float = 0.0,
        max_send_rate: float = 1000.0,
        enforce_rate: bool = False,
        max_24h: float = 1_000_000.0,
        discard: bool = False,
        store: Path | None = None,
        identities: tuple[str, ...] = (),
        configuration_sets: tuple[str, ...] = ("email-offload",),
        moodle: MoodlePage | None = None,
        events: Options | None = None,
    ) -> None:
        self.mailbox = Mailbox(discard=discard, store=store)
        self.faults = Faults()
        self.api = SesApi(
            self.mailbox,
            self.faults,
            latency=latency_ms / 1000,
            max_send_rate=max_send_rate,
            enforce_rate=enforce_rate,
            max_24h=max_24h,
            identities=identities,
            configuration_sets=configuration_sets,
            events=events,
        )
        self.port = port
        self.moodle = moodle
        self._ready = threading.Event()
        self._error: OSError | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="sandbox-ses", daemon=True)

    def _run(self) -> None:
        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            await serve(self.api, self.port, self._started, self._stop, moodle=self.moodle)

        try:
            asyncio.run(main())
        except OSError as error:
            self._error = error
        finally:
            self._ready.set()

    def _started(self, port: int) -> None:
        self.port = port
        self._ready.set()

    def __enter__(self) -> SandboxSES:
        """Start and wait until it answers. Raises OSError when the port is taken."""
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, dropping open connections."""
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def url(self) -> str:
        """The endpoint to give to the SDK (`AWS_ENDPOINT_URL_SESV2`, `AWS_ENDPOINT_URL_SQS`)."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def queue_url(self) -> str:
        """The address of the events' queue (`SES_EVENTS_QUEUE_URL`)."""
        return f"{self.url}/{ACCOUNT}/{QUEUE}"

    @property
    def messages(self) -> list[Message]:
        """What was accepted and is kept, oldest first."""
        return self.mailbox.messages

    @property
    def accepted(self) -> int:
        """How many messages were accepted."""
        return self.mailbox.accepted

    def stats(self) -> dict[str, Any]:
        """The counters of `/_sandbox/stats`."""
        return self.mailbox.stats()

    def publish(self, what: str, number: int, address: str = "") -> Published:
        """Make something of `event_shapes.WHATS` become of a message, now; it is in the queue on return.

        Raises KeyError for an unknown `what`, and for a message that is not kept.
        """
        message = self.mailbox.find(number)
        if message is None or self._loop is None:
            raise KeyError(number)

        async def there() -> Published:
            return self.api.events.publish(what, message, address)

        return asyncio.run_coroutine_threadsafe(there(), self._loop).result()

    def fault(self, **fields: Any) -> Fault:
        """Put a fault in force; the fields are those of `faults.Fault`. Returns it, so that its hits can
        be read."""
        fault = Fault.from_json(fields)
        self.faults.add(fault)
        return fault

    def clear_faults(self) -> None:
        """Back to normal."""
        self.faults.clear()

    def wait_for(self, count: int, timeout: float = 10.0) -> bool:
        """Wait until `count` messages have been accepted."""
        return self.mailbox.wait_for(count, timeout)
