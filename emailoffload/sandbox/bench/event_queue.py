"""An SQS queue for the benchmark of events, full from the start: `python -m emailoffload.sandbox.bench.event_queue`.

It speaks the four calls of SQS's JSON protocol that a reader of a queue makes, and answers after a delay, as a
queue in a data centre does. It prints its port, then serves until standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import deque
from typing import Any

from emailoffload.sandbox.bench.events import bodies
from emailoffload.sandbox.http import Reply, Request, Server


class Queue:
    """The messages, and what was handed out."""

    def __init__(self, messages: list[str], delay: float) -> None:
        self.waiting = deque(enumerate(messages))
        self.delay = delay
        self.handed_out: set[str] = set()

    def handle(self, request: Request) -> Reply:
        """The reply to one call."""
        call = request.headers.get("x-amz-target", "").rpartition(".")[2]
        values = json.loads(request.body)
        answer = getattr(self, f"_{call.lower()}")(values)
        return Reply(json.dumps(answer).encode(), content_type="application/x-amz-json-1.0", delay=self.delay)

    def _receivemessage(self, values: dict[str, Any]) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        while self.waiting and len(found) < values["MaxNumberOfMessages"]:
            number, body = self.waiting.popleft()
            handle = f"h-{number}"
            self.handed_out.add(handle)
            found.append({"MessageId": f"m-{number}", "ReceiptHandle": handle, "Body": body})
        return {"Messages": found}

    def _deletemessagebatch(self, values: dict[str, Any]) -> dict[str, Any]:
        self.handed_out -= {entry["ReceiptHandle"] for entry in values["Entries"]}
        return {"Successful": [{"Id": entry["Id"]} for entry in values["Entries"]], "Failed": []}

    def _changemessagevisibilitybatch(self, values: dict[str, Any]) -> dict[str, Any]:
        return {"Successful": [{"Id": entry["Id"]} for entry in values["Entries"]], "Failed": []}

    def _getqueueattributes(self, values: dict[str, Any]) -> dict[str, Any]:
        return {
            "Attributes": {
                "ApproximateNumberOfMessages": str(len(self.waiting)),
                "ApproximateNumberOfMessagesNotVisible": str(len(self.handed_out)),
            }
        }


async def _serve(queue: Queue) -> None:
    server = Server(queue)
    port = await server.start(0)
    print(json.dumps({"port": port}), flush=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()
    await server.stop()


def main() -> None:
    """Serve `COUNT` messages about `MAILS` emails, those of `LOT`, each call answered after `DELAY` ms."""
    mails, count, lot, delay = map(int, sys.argv[1:])
    messages = [body.decode() for body in bodies(mails, count, lot)]
    asyncio.run(_serve(Queue(messages, delay / 1000)))


if __name__ == "__main__":
    main()
