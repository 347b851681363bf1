"""Workers on several hosts against one database, one Moodle and one SES: they work as one, and each mail leaves once.

Real processes, and Redis and SQS by their own protocols. Asserted are order and causes, never how fast it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db.models.functions import Now

from emailoffload.delivery import health
from emailoffload.outbox.models import Attempt, Claim, Email, Lease, Run
from emailoffload.outbox.states import ClaimState
from emailoffload.outbox.switches import Pause, set_pause
from emailoffload.sandbox.ses_server import SandboxSES
from tests.conftest import Moodle
from tests.growth.hosts import Host, Hosts, holders
from tests.growth.redis_server import RedisServer
from tests.reengagement.test_decisions import soon

pytestmark = [
    pytest.mark.django_db(databases=["default", "moodle"], transaction=True),
    pytest.mark.mariadb,
    pytest.mark.race,
]
RATE = 30
AHEAD = 6
UNSETTLED = ["prepared", "queued", "sending"]


@pytest.fixture
def cloud() -> Iterator[SandboxSES]:
    """SES, which takes 50 ms for a mail, so that some are always in flight."""
    with SandboxSES(max_send_rate=RATE, latency_ms=50) as ses:
        yield ses


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """The hosts of a test; what is left of them ends with it."""
    made = Hosts()
    yield made
    for host in made:
        host.kill()


def owed(moodle: Moodle, count: int) -> list[int]:
    """Reminders that are due in a moment; returns the ids of their rows."""
    return [row for row, _ in soon(moodle, count, due=AHEAD)]


def each_mail_left_once(cloud: SandboxSES, rows: list[int], *, unsure: bool) -> None:
    """What our database says of every mail is what SES saw, and no row was claimed or mailed twice."""
    assert Counter(Claim.objects.values_list("row_id", flat=True)) == Counter(rows)
    left = Counter(message.offload_id for message in cloud.messages)
    assert max(left.values()) == 1
    states = {ref.hex: state for ref, state in Email.objects.values_list("ref", "state")}
    assert set(states.values()) <= {"accepted", "uncertain"}
    accepted = {ref for ref, state in states.items() if state == "accepted"}
    assert accepted <= left.keys() <= states.keys()
    if not unsure:
        assert len(accepted) == len(rows)


def hold_while(hosts: Hosts, cloud: SandboxSES) -> None:
    """Every host tries to send, and no mail leaves."""
    hosts.until(lambda: not Email.objects.filter(state="sending").exists())
    left, last = cloud.accepted, Run.objects.latest("id").pk
    hosts.until(lambda: all(host.passes_after(last) for host in hosts), *["dispatch"] * 6)
    assert cloud.accepted == left


def the_guard_dies(hosts: Hosts) -> None:
    """SIGKILL to the host that watches IOMAD's queue, in the midst of its other work: another takes over, not sooner
    than its lease has ended."""
    guard = Lease.objects.filter(name="cron-guard").exclude(token="")
    waiting = Email.objects.filter(state__in=UNSETTLED)
    found: list[Host] = []

    def in_the_midst() -> bool:
        # Looked for anew each time: a guard that has nothing to watch gives its lease back.
        busy = holders("dispatch")
        at_work = [host for host in hosts if host.name in holders("cron-guard")]
        found[:] = [host for host in at_work if host.name in busy or not waiting.exists()]
        return bool(found)

    hosts.until(in_the_midst, "dispatch", seconds=120)
    (dying,) = found
    hosts.lose(dying)
    held = guard.filter(holder__startswith=f"{dying.name}:").first()
    others = guard.exclude(holder__startswith=f"{dying.name}:")
    hosts.until(others.exists, "dispatch", "recover", seconds=120)
    # The database's clock, which is that of the leases.
    assert held is None or (held.expires_at and guard.annotate(now=Now()).get().now >= held.expires_at)
    hosts.until(lambda: dying.name not in holders(""), "recover")


def test_three_hosts_with_redis_send_each_mail_once_at_one_rate_whatever_stops_or_dies(
    moodle: Moodle, cloud: SandboxSES, hosts: Hosts, redis_server: RedisServer, tmp_path: Path
) -> None:
    rows = owed(moodle, 260)
    for name in ("host-a", "host-b", "host-c"):
        hosts.append(
            Host(name, cloud, tmp_path, BROKER="redis", REDIS_URL=redis_server.url, DEFAULT_FALLBACK="hold")
        )
    hosts.until(lambda: Claim.objects.filter(state=ClaimState.CLAIMED).count() == len(rows), "intercept")
    hosts.until(lambda: cloud.accepted > 20 and len(holders("dispatch")) > 1, "dispatch", "dispatch")

    # Redis dies: what it held is lost, and nothing else.
    redis_server.kill()
    without = cloud.accepted
    hosts.until(lambda: cloud.accepted > without + 20, "dispatch")
    assert any("Redis cannot be used (" in host.log.read_text() for host in hosts)

    # A pause stops all of them; meanwhile Redis comes back, and is noticed.
    set_pause(Pause(sends=True))
    hold_while(hosts, cloud)
    held = cloud.accepted
    redis_server.start()
    hosts.until(lambda: any("Redis can be used again" in host.log.read_text() for host in hosts), "dispatch")
    assert cloud.accepted == held

    # One of them is told by SES that the account may not send: none of them sends any more.
    cloud.fault(mode="pause")
    set_pause(Pause())
    hosts.until(lambda: health.breaker() is not None, "dispatch")
    hold_while(hosts, cloud)
    refused = cloud.accepted
    cloud.clear_faults()
    hosts.until(lambda: cloud.accepted > refused, "dispatch", "recover")

    the_guard_dies(hosts)
    hosts.until(lambda: not Email.objects.filter(state__in=UNSETTLED).exists(), "dispatch", "recover")

    each_mail_left_once(cloud, rows, unsure=True)
    times = [message.received for message in cloud.messages]
    # The bucket is one for all: each host for itself would have been done in a third of the time.
    assert max(times) - min(times) >= (len(times) - 2 * RATE) / RATE
    assert len({host.split(":")[0] for host in Run.objects.values_list("holder", flat=True)}) == 3
    assert not Attempt.objects.filter(outcome="in_flight").exists()

    # Redis takes questions and answers none: the workers end all the same when they are told to.
    redis_server.freeze()
    said = {host.name: host.log.read_text().count("Redis cannot be used (") for host in hosts}
    hosts.until(
        lambda: all(host.log.read_text().count("Redis cannot be used (") > said[host.name] for host in hosts)
    )
    for host in hosts:
        host.process.terminate()
    assert [host.process.wait(40) for host in hosts] == [0, 0]
    hosts.clear()


def test_two_hosts_with_triggers_in_our_database_share_the_work_and_one_carries_on_when_the_other_dies(
    moodle: Moodle, cloud: SandboxSES, hosts: Hosts, tmp_path: Path
) -> None:
    rows = owed(moodle, 200)
    for name in ("host-a", "host-b"):
        hosts.append(Host(name, cloud, tmp_path))
    hosts.until(lambda: Claim.objects.filter(state=ClaimState.CLAIMED).count() == len(rows), "intercept")
    hosts.until(lambda: cloud.accepted > 10 and len(holders("dispatch")) == 2, "dispatch", "dispatch")
    the_guard_dies(hosts)
    hosts.until(lambda: not Email.objects.filter(state__in=UNSETTLED).exists(), "dispatch", "recover")
    each_mail_left_once(cloud, rows, unsure=True)


def test_two_hosts_with_triggers_at_sqs_share_the_work(
    moodle: Moodle, cloud: SandboxSES, hosts: Hosts, sqs_queue: str, tmp_path: Path
) -> None:
    rows = owed(moodle, 90)
    # Nothing dies here, and a machine that is slow for some seconds is no reason for an uncertain mail.
    patient = {"SES_READ_TIMEOUT_SECONDS": "30", "LEASE_SECONDS": "60"}
    for name in ("host-a", "host-b"):
        hosts.append(Host(name, cloud, tmp_path, BROKER="sqs", BROKER_QUEUE_URL=sqs_queue, **patient))
    hosts.until(lambda: Claim.objects.filter(state=ClaimState.CLAIMED).count() == len(rows), "intercept")
    hosts.until(lambda: len(holders("dispatch")) == 2, "dispatch", "dispatch")
    hosts.until(lambda: not Email.objects.filter(state__in=UNSETTLED).exists(), "dispatch")
    each_mail_left_once(cloud, rows, unsure=False)
    assert not any("SQS cannot be used" in host.log.read_text() for host in hosts)
