"""The peer's process: queue mails of our size, say `ready`, then send them with two processes and threads."""

from __future__ import annotations

import json
import resource
import sys
import time

import django


def main() -> None:
    """Queue and send `count` mails through django-post_office."""
    django.setup()
    from django.core.management import call_command
    from django.db import connection
    from post_office import mail
    from post_office.models import PRIORITY, STATUS, Email

    from emailoffload.sandbox.bench.body import BODY

    count = int(sys.argv[1])
    call_command("migrate", verbosity=0)
    Email._default_manager.all().delete()
    queued = time.time()
    half = BODY[: len(BODY) // 2]  # about the size of the text part of the same mail
    for begin in range(0, count, 500):
        mail.send_many(
            [
                {
                    "sender": "Moodle <noreply@school.example>",
                    "recipients": [f"learner{number}@school.example"],
                    "subject": f"Learner {number}, a course is waiting for you",
                    "message": half,
                    "html_message": BODY,
                    "priority": PRIORITY.medium,
                }
                for number in range(begin, min(begin + 500, count))
            ]
        )
    queueing = time.time() - queued
    print("ready", flush=True)
    sys.stdin.readline()
    connection.close()  # its processes are forked and must not share one
    started = time.time()
    mail.send_queued(processes=2, log_level=0)
    ended = time.time()
    connection.close()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    sent = Email._default_manager.filter(status=STATUS.sent).count()
    print(
        json.dumps(
            {
                "seconds": ended - started,
                "queueing": queueing,
                "sent": sent,
                "peak_mib": max(one.ru_maxrss for one in used) / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
