"""Where a drill plays: a sample Moodle, the product's worker, a local SES and an SMTP server, all of them private.

What can be broken has a method for it; what is seen is asked at the receiving ends and of the product's records.
While something is waited for, the worker's passes are started every second or so, as its schedules do every
minute or every four on a site: a task that comes more often changes nothing (design §2).
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from email.utils import getaddresses
from pathlib import Path
from types import TracebackType
from typing import Self

from django.conf import settings
from django.core.management import call_command
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django_q.models import OrmQ
from django_q.tasks import async_task

from emailoffload.delivery import health, rate
from emailoffload.outbox import switches
from emailoffload.outbox.models import Claim, Email, Run
from emailoffload.outbox.states import ClaimState, EmailState
from emailoffload.policy.models import RoutingRule
from emailoffload.sandbox.drill.ledger import Ledger, balance
from emailoffload.sandbox.drill.pace import ENVIRONMENT, Pace
from emailoffload.sandbox.drill.site import POLICIES, Owed, Site
from emailoffload.sandbox.drill.smtp_sink import Sink
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import tasks

USUAL_SECONDS = 3.0
"""How long making our tables takes on a small idle machine."""
QUEUED_TASKS = 6
"""No more passes are asked for while so many wait: the worker may be dead."""


class NotReady(Exception):
    """The stage cannot be set up; the text says what is missing."""


class Stage:
    """The stage, for a block. `say` gets lines for people, `born` the number of each process group that is started."""

    def __init__(
        self, worker: Sequence[str], say: Callable[[str], None], born: Callable[[int], None]
    ) -> None:
        self.pace: Pace = Pace.from_json(os.environ[ENVIRONMENT])
        self.say = say
        self._born = born
        self._command = list(worker)
        self._worker: subprocess.Popen[bytes] | None = None
        self._asked = 0.0
        self.log = Path(settings.DATA_DIR) / "worker.log"
        self.sink = Sink(settings.EMAIL_PORT) if settings.SMTP_ROUTE else None
        self._ses: SandboxSES | None = None
        self._earlier: list[tuple[str, float]] = []
        self.owed: dict[str, str] = {}
        """The rehearsal of each mail that was owed, by address."""

    def __enter__(self) -> Self:
        """Set everything up. Raises NotReady."""
        with ExitStack() as stack:
            begun = time.monotonic()
            call_command("migrate", interactive=False, verbosity=0)
            self.pace = self.pace.slower((time.monotonic() - begun) / USUAL_SECONDS)
            # Of those that are started from now on; nothing in this process depends on it.
            os.environ[ENVIRONMENT] = self.pace.json()
            self.site = Site(settings.SAMPLE_MOODLE_PATH)
            stack.callback(self.site.close)
            for company, policy in POLICIES.items():
                RoutingRule.objects.create(name=policy, company_id=company, fallback=policy)
            if self.sink:
                stack.enter_context(self.sink)
            stack.callback(self.ses_down)
            self.ses_up()
            stack.callback(self.kill_worker)
            self.start_worker()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything at once: nothing here is worth an orderly end."""
        self._stack.close()

    # --- what can be broken ---

    @property
    def ses(self) -> SandboxSES:
        """The local SES, which must be up."""
        assert self._ses is not None
        return self._ses

    def ses_up(self) -> None:
        """SES answers, without faults."""
        if self._ses is None:
            self._ses = SandboxSES(port=settings.SANDBOX_PORT)
            self._ses.__enter__()
        self._ses.clear_faults()

    def ses_down(self) -> None:
        """Nothing listens any more: connections to SES are refused."""
        if self._ses is not None:
            self._earlier = self.ses_took()
            self._ses.__exit__(None, None, None)
            self._ses = None

    def start_worker(self) -> float:
        """Start the worker, if it is not running, and wait for its first pass; returns how long that took.

        Raises NotReady.
        """
        if self._worker and self._worker.poll() is None:
            return 0.0
        started, runs = time.monotonic(), Run.objects.exclude(finished_at=None).count()
        with self.log.open("ab") as log:
            self._worker = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                cwd=settings.BASE_DIR,
            )  # fmt: skip
        self._born(self._worker.pid)
        ended = Run.objects.exclude(finished_at=None)
        if not self._until(lambda: ended.count() > runs, self.pace.start, tick=False):
            raise NotReady(
                _("The worker did no work within %(seconds)s s after its start.")
                % {"seconds": f"{self.pace.start:g}"}
            )
        return time.monotonic() - started

    def kill_worker(self) -> None:
        """End every process of the worker at once, as a power failure does."""
        if self._worker:
            with_group(self._worker.pid, signal.SIGKILL)
            self._worker.wait()
            self._worker = None

    def stop_worker(self) -> int | None:
        """Ask the worker to end, as systemd does; returns its exit status, None if it did not end in time."""
        assert self._worker is not None
        self._worker.terminate()
        try:
            status = self._worker.wait(20)
        except subprocess.TimeoutExpired:
            status = None
        self.kill_worker()
        return status

    def calm(self) -> None:
        """Everything as on a good day, whatever the last rehearsal left."""
        self.site.come_back()
        self.ses_up()
        switches.set_pause(switches.Pause())
        health.close()
        rate.forget()
        self.start_worker()

    # --- what is owed, and what became of it ---

    def owe(self, rehearsal: str, reminders: int, queued: int = 0, ahead: float | None = None) -> list[Owed]:
        """Let mails be owed under each of the three policies, due in `ahead` seconds (the pace's, unless given)."""
        seconds = self.pace.ahead if ahead is None else ahead
        due = math.ceil(time.time() + seconds * self.pace.slowness)
        mails = [
            mail for policy in POLICIES.values() for mail in self.site.owe(policy, reminders, queued, due)
        ]
        self.owed |= {mail.address: rehearsal for mail in mails}
        return mails

    def ses_took(self) -> list[tuple[str, float]]:
        """Recipient and time of each mail that SES has taken, whether or not it said so."""
        now = self._ses.messages if self._ses else []
        return self._earlier + [
            (address, message.received)
            for message in now
            for _name, address in getaddresses(message.recipients)
        ]

    def smtp_took(self) -> list[tuple[str, float]]:
        """The same of the SMTP server."""
        return self.sink.taken if self.sink else []

    def by_ses(self, mails: Sequence[Owed]) -> int:
        """How often SES has taken one of these."""
        return _among(self.ses_took(), mails)

    def by_smtp(self, mails: Sequence[Owed]) -> int:
        """How often the SMTP server has taken one of these."""
        return _among(self.smtp_took(), mails)

    def by_moodle(self, mails: Sequence[Owed]) -> int:
        """How often Moodle itself has sent one of these."""
        return sum(self.site.mailed[mail.address] for mail in mails)

    def records(self, mails: Sequence[Owed]) -> QuerySet[Email]:
        """What the product has on record about these."""
        return Email.objects.filter(address__in=[mail.address for mail in mails])

    def in_state(self, mails: Sequence[Owed], *states: EmailState) -> int:
        """How many of these are in one of these states, by the product's records."""
        return self.records(mails).filter(state__in=states).count()

    def held(self, mails: Sequence[Owed]) -> int:
        """How many of these are left to a person."""
        return self.records(mails).filter(state=EmailState.FAILED, reason__startswith="held:").count()

    def claims(self, mails: Sequence[Owed]) -> QuerySet[Claim]:
        """Claims that were made of these."""
        rows = {(mail.source, mail.row_id) for mail in mails}
        found = Claim.objects.filter(row_id__in={row for _source, row in rows}).exclude(
            state__in=[ClaimState.INTENDED, ClaimState.LOST, ClaimState.DROPPED]
        )
        wanted = [
            claim.pk for claim in found.only("source", "row_id") if (claim.source, claim.row_id) in rows
        ]
        return Claim.objects.filter(pk__in=wanted)

    def summary(self, rehearsal: str) -> dict[str, int]:
        """What the product says about the mails of a rehearsal: how many by state and reason."""
        addresses = [address for address, name in self.owed.items() if name == rehearsal]
        found = Email.objects.filter(address__in=addresses).values_list("state", "reason")
        return dict(Counter(f"{state} ({reason})" if reason else state for state, reason in found))

    def ledger(self) -> Ledger:
        """The balance so far."""
        held = Email.objects.filter(state=EmailState.FAILED, reason__startswith="held:")
        uncertain = Email.objects.filter(state=EmailState.UNCERTAIN)
        return balance(
            self.owed,
            ses=Counter(address for address, _at in self.ses_took()),
            smtp=Counter(address for address, _at in self.smtp_took()),
            moodle=self.site.mailed,
            held=set(held.values_list("address", flat=True)),
            uncertain=set(uncertain.values_list("address", flat=True)),
        )

    # --- time ---

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for something while the worker is kept busy; False after `seconds`."""
        return self._until(condition, seconds, tick=True)

    def wait_until(self, moment: float) -> None:
        """Wait until a time (UNIX seconds) is over, while the worker is kept busy."""
        self.wait(lambda: time.time() > moment, max(0.0, moment - time.time()) + 1)

    def rest_until(self, moment: float) -> None:
        """The same while nobody works."""
        time.sleep(max(0.0, moment - time.time()))

    def _until(self, condition: Callable[[], bool], seconds: float, *, tick: bool) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            if (
                tick
                and time.monotonic() - self._asked > self.pace.passes
                and OrmQ.objects.count() < QUEUED_TASKS
            ):
                self._asked = time.monotonic()
                for name in ("intercept", "recover", "dispatch"):
                    async_task(f"{tasks.MODULE}.{name}")
            time.sleep(0.1)
        return True


def with_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process group, if it is still there."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _among(taken: Sequence[tuple[str, float]], mails: Sequence[Owed]) -> int:
    addresses = {mail.address for mail in mails}
    return sum(address in addresses for address, _at in taken)
