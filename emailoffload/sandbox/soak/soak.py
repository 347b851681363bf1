"""One soak from beginning to end: lay out, let trouble loose, let it settle, draw up the ledger."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emailoffload.sandbox.bench.stage import FIRST_ACTIVITY, LAST_ACTIVITY, MOODLE, OURS, PASSWORD, Stage
from emailoffload.sandbox.soak import history, journal, site
from emailoffload.sandbox.soak.cloud import Cloud
from emailoffload.sandbox.soak.crew import Member
from emailoffload.sandbox.soak.ledger import Ledger, Ours
from emailoffload.sandbox.soak.plan import Plan, script
from emailoffload.sandbox.soak.sink import Sink
from emailoffload.sandbox.soak.trouble import Troublemaker

START_SECONDS = 4
"""The first mails are due so many seconds after they were laid out: processes need time to start."""
SHOWN = 20
"""Offending mails whose rows' whole history is printed."""
WAITING = {
    "mails on their way": (
        OURS,
        "SELECT COUNT(*) FROM emailoffload_email e JOIN emailoffload_claim c ON c.id = e.claim_id"
        " WHERE e.state IN ('queued', 'sending') OR (e.state = 'prepared' AND c.state <> 'dropped')",
    ),
    "claims in between": (
        OURS,
        "SELECT COUNT(*) FROM emailoffload_claim WHERE state IN ('intended', 'releasing')",
    ),
    "reminders not yet handled": (
        MOODLE,
        "SELECT COUNT(*) FROM mdl_reengagement_inprogress ip JOIN mdl_reengagement r ON r.id = ip.reengagement"
        f" WHERE r.id BETWEEN {FIRST_ACTIVITY} AND {LAST_ACTIVITY} AND ip.emailsent < r.remindercount"
        " AND ip.emailtime < UNIX_TIMESTAMP() + 40000",
    ),
    "queued mails not yet handled": (MOODLE, "SELECT COUNT(*) FROM mdl_email WHERE sent IS NULL"),
}


@dataclass
class Result:
    """What a soak came to."""

    plan: Plan
    ledger: Ledger
    settled: dict[str, int]
    """What had not settled when patience ended; empty when all had."""
    trouble: Counter[str]
    deaths: dict[str, int]
    """Processes that ended although nobody killed them."""
    errors: Counter[str]
    """Passes that ended with an error, by the kind of pass and error."""
    seconds: float
    histories: list[str] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Whether nothing went out twice, nothing was lost, nothing is stuck."""
        return self.ledger.fine and not self.settled

    def as_dict(self) -> dict[str, Any]:
        """The same under stable keys."""
        return {
            "seed": self.plan.seed,
            "mails": len(self.ledger.owed),
            "workers": self.plan.workers,
            "seconds": round(self.seconds, 1),
            "trouble": dict(self.trouble),
            "ledger": self.ledger.as_dict(),
            "not_settled": self.settled,
            "fine": self.fine,
        }

    def lines(self) -> list[str]:
        """What a person reads."""
        found = [f"seed {self.plan.seed}, {self.plan.workers} workers, {self.seconds:.0f} s in all"]
        found += [f"{count:>5} × {what}" for what, count in sorted(self.trouble.items())]
        found += [f"{count:>5} × {who} ended by itself" for who, count in self.deaths.items() if count]
        found += [f"{count:>5} × error: {what}" for what, count in self.errors.most_common(12)]
        found += ["", *self.ledger.text()]
        found += [f"not settled: {count:,} {what}" for what, count in self.settled.items()]
        found += ["", *self.histories] if self.histories else []
        verdict = "0 twice, 0 lost" if self.fine else "NOT FINE"
        return [*found, f"{verdict} (again with --seed {self.plan.seed})"]


def run(made: Stage, plan: Plan, say: Callable[[str], object] = lambda text: None) -> Result:
    """Run one soak on this stage, whose server is killed again and again."""
    began = time.monotonic()
    made.env = {**made.env, **site.accounts(made)}
    cloud, sink = Cloud(), Sink()
    start = int(time.time()) + START_SECONDS
    owed = site.lay_out(made, plan, start)
    feeder = site.Feeder(made, plan)
    owed |= feeder.owed()
    workers = _workers(made, plan, cloud, sink)
    crons = _crons(made)
    maker = Troublemaker(made, workers, crons, cloud, sink)
    everybody = [*workers, *crons]
    try:
        for member in everybody:
            member.start()
        _started(made, plan)
        feeder.start()
        say(f"{len(owed):,} mails owed; trouble for {plan.seconds:.0f} s, seed {plan.seed}")
        _suffer(plan, maker, everybody)
        maker.peace()
        for member in everybody:
            member.thaw()
        feeder.over.set()
        feeder.join(30)
        say("peace; everything may settle now")
        settled = _settle(made, plan, everybody)
        if settled:
            say(f"not settled: {settled}")
    finally:
        maker.peace()
        started = [member for member in everybody if member.process is not None]
        for member in started:
            member.ask_to_end()
        for member in started:
            member.end(20 if member in workers else 3)
        cloud.vanish()
        sink.stop()
        (made.folder / "trouble.log").write_text("\n".join(maker.log))
    told = journal.read([made.folder / "reminders.journal", made.folder / "queue.journal"])
    ledger = Ledger(owed, _ours(made), cloud.counts(), sink.counts(), told.mailed, told.broken)
    rows = list(dict.fromkeys(mail[:2] for mail in ledger.offenders))[:SHOWN]
    histories = [
        line
        for source, row in rows
        for line in history.of(source, row, made=made, told=told, cloud=cloud, sink=sink, start=start)
    ]
    histories += [f"{what}: {mail}" for mail, what in list(ledger.offenders.items())[: 3 * SHOWN]]
    return Result(
        plan, ledger, settled, maker.counts, {member.name: member.deaths for member in everybody},
        _errors(workers), time.monotonic() - began, histories,
    )  # fmt: skip


def _workers(made: Stage, plan: Plan, cloud: Cloud, sink: Sink) -> list[Member]:
    settings: dict[str, Any] = {
        "CLAIM_LEAD_SECONDS": plan.lead, "CLAIM_MARGIN_SECONDS": 2, "CLAIM_BATCH_SIZE": 100,
        "SEND_DEADLINE_SECONDS": plan.deadline, "LEASE_SECONDS": plan.lease, "QUEUE_POLL_SECONDS": 0.5,
        "SES_CONNECT_TIMEOUT_SECONDS": 1.0, "SES_READ_TIMEOUT_SECONDS": 2.0, "SMTP_TIMEOUT_SECONDS": 2.0,
        "EMAIL_TIMEOUT": 2.0, "DISPATCH_SLOTS": plan.workers, "DISPATCH_BUDGET_SECONDS": 4,
        "DISPATCH_THREADS": 8, "MOODLE_CRON_PERIOD_SECONDS": 30,
    }  # fmt: skip
    env = {
        **made.env,
        "DJANGO_SETTINGS_MODULE": "emailoffload.sandbox.soak.settings",
        "SOAK_SETTINGS": json.dumps(settings),
        "AWS_ENDPOINT_URL_SESV2": cloud.url,
        "AWS_ENDPOINT_URL_SES": cloud.url,
        "EMAIL_URL": sink.url,
        "LOG_LEVEL": "ERROR",
    }
    return [
        Member(
            f"worker-{number}",
            ["emailoffload.sandbox.soak.worker", "cluster" if number < plan.clusters else "loop",
             f"{plan.seed}.{number}", *([plan.sabotage] if plan.sabotage else [])],
            env,
            made.folder / f"worker-{number}.log",
        )
        for number in range(plan.workers)
    ]  # fmt: skip


def _crons(made: Stage) -> list[Member]:
    def cron(kind: str, pause: float, mail_seconds: float) -> Member:
        options: dict[str, Any] = {
            "journal": str(made.folder / f"{kind}.journal"), "socket": made.server.socket, "user": site.SITE,
            "password": PASSWORD, "database": MOODLE, "pause": pause, "mail_seconds": mail_seconds,
        }  # fmt: skip
        Path(options["journal"]).unlink(missing_ok=True)
        command = ["emailoffload.sandbox.soak.crons", kind, json.dumps(options)]
        return Member(f"Moodle's cron of {kind}", command, made.env, made.folder / f"{kind}.log")

    return [cron("reminders", 1.5, 0.01), cron("queue", 1.5, 0.02)]


def _started(made: Stage, plan: Plan) -> None:
    """Wait until the workers work."""
    until = time.monotonic() + 30
    passes = "SELECT COUNT(*) FROM emailoffload_run"
    while made.rows(passes, OURS)[0][0] < 2 * plan.workers and time.monotonic() < until:
        time.sleep(0.1)


def _suffer(plan: Plan, maker: Troublemaker, everybody: Sequence[Member]) -> None:
    began = time.monotonic()

    def wait(until: float) -> None:
        while time.monotonic() - began < until:
            for member in everybody:
                member.revive()
            time.sleep(min(0.2, max(0.0, until - (time.monotonic() - began))))

    for trouble in script(plan):
        wait(trouble.at)
        if time.monotonic() - began > plan.seconds:
            break
        maker.make(trouble, time.monotonic() - began)
    wait(plan.seconds)


def _settle(made: Stage, plan: Plan, everybody: Sequence[Member]) -> dict[str, int]:
    """Wait until nothing is on its way any more; returns what still is when patience ends."""
    until = time.monotonic() + plan.patience
    calm = 0
    while True:
        for member in everybody:
            member.revive()
        left = waiting(made)
        calm = 0 if left else calm + 1
        if calm == 2 or time.monotonic() > until:
            return left
        time.sleep(0.5)


def waiting(made: Stage) -> dict[str, int]:
    """What is still on its way, by what it is."""
    counts = {what: int(made.rows(sql, database)[0][0]) for what, (database, sql) in WAITING.items()}
    return {what: count for what, count in counts.items() if count}


def _ours(made: Stage) -> list[Ours]:
    """The emails of our outbox."""
    return [
        Ours((source, row, ordinal, address.lower()), ref, state, reason, claim_state)
        for source, row, ordinal, address, ref, state, reason, claim_state in made.rows(
            "SELECT c.source, c.row_id, c.ordinal, e.address, REPLACE(e.ref, '-', ''), e.state, e.reason, c.state"
            " FROM emailoffload_email e JOIN emailoffload_claim c ON c.id = e.claim_id",
            OURS,
        )
    ]


def _errors(workers: Sequence[Member]) -> Counter[str]:
    """The errors that ended passes, by what the workers noted: "<time> <pass>: <error>: <text>"."""
    found: Counter[str] = Counter()
    for worker in workers:
        for line in worker.log.read_text(errors="replace").splitlines():
            stamp, _, rest = line.partition(" ")
            if stamp.replace(".", "", 1).isdigit() and ": " in rest:
                found[rest[:140]] += 1
    return found
