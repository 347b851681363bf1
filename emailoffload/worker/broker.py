"""What carries triggers to the workers, where that is not our database alone: Redis or SQS, as a setting.

A trigger says "begin a pass", nothing else; what is to be done stands in our database (design §2). So a trigger may
be lost or come twice, and a carrier may die: while it does not answer, triggers go through our database, as they do
without it. That everybody may use it at any time, each worker looks there every few seconds in any case; a web
process that knows nothing of Redis or SQS is heard as well.

django-q's own brokers for Redis and SQS are not used: they wait without an end for a server that does not answer,
stop taking tasks for ten seconds at each error, log two lines a second while it lasts, share connections between a
process and those forked from it, and ask an SQS queue without a pause.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django_q.brokers import Broker
from django_q.brokers.orm import ORM
from django_q.conf import Conf

log = logging.getLogger(__name__)
REST_SECONDS = 5.0
"""How long a carrier that failed is not asked again."""
SAY_AGAIN_SECONDS = 600.0
"""How often the log says that it is still away."""
LOOK_SECONDS = 10.0
"""How often a worker looks for triggers in our database while its carrier works."""
CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
WAIT_SECONDS = 1
"""How long a worker waits for a trigger at Redis before it asks whether it shall stop."""
SQS_WAIT_SECONDS = 3
"""The same at SQS, where each question is billed: about 0.9 million a month and host."""
KEPT = 1000
"""Triggers that Redis keeps while no worker takes any; older ones say nothing that the newer do not."""


class Unusable(Exception):
    """The carrier did not do what was asked. The text names the cause, without address and credentials."""


class _Standing:
    """What this process knows of its carrier's health; processes forked from it begin with that."""

    def __init__(self) -> None:
        self.rests_until = self.said_at = self.failed_since = 0.0

    def away(self, name: str, error: Unusable) -> None:
        now = time.monotonic()
        self.rests_until = now + REST_SECONDS
        if not self.failed_since or now - self.said_at >= SAY_AGAIN_SECONDS:
            self.failed_since, self.said_at = self.failed_since or now, now
            log.warning(
                "%s cannot be used (%s). Passes are triggered through our database until it can: nothing is lost, and "
                "nothing has to be done in Moodle. `manage.py doctor` says what to look at.",
                name,
                error,
            )

    def back(self, name: str) -> None:
        if self.failed_since:
            log.warning("%s can be used again, after %.0f s.", name, time.monotonic() - self.failed_since)
            self.failed_since = 0.0

    @property
    def rests(self) -> bool:
        return time.monotonic() < self.rests_until


_standing = _Standing()


class _Carrier(Broker):
    """A queue of triggers on a server of its own, with the one in our database behind it.

    What a subclass does raises Unusable. Statistics of django-q's own stay in the process.
    """

    called = ""

    def __init__(self, list_key: str | None = None) -> None:
        super().__init__(list_key or Conf.CLUSTER_NAME)
        self.behind = ORM(self.list_key)
        self._looked_behind = 0.0

    def put(self, task: str) -> Any:
        """Add a trigger; returns something true."""
        raise NotImplementedError

    def take(self) -> list[tuple[Any, str]]:
        """The next trigger with its receipt, or nothing after a while."""
        raise NotImplementedError

    def done(self, receipt: Any) -> None:
        """A trigger that `take` gave has been dealt with."""

    def waiting(self) -> int:
        """About how many triggers wait here."""
        raise NotImplementedError

    def enqueue(self, task: str) -> Any:
        """Add a trigger, here or in our database. Raises the database's errors only."""
        if not _standing.rests:
            try:
                taken = self.put(task)
            except Unusable as error:
                # Perhaps it has arrived all the same: then the pass begins twice, and the second finds it at work.
                _standing.away(self.called, error)
            else:
                _standing.back(self.called)
                return taken
        return self.behind.enqueue(task)

    def dequeue(self) -> Any:
        """The next triggers, or none after a second or so."""
        if _standing.rests:
            return self.behind.dequeue()
        if time.monotonic() - self._looked_behind >= LOOK_SECONDS:
            self._looked_behind = time.monotonic()
            if self.behind.queue_size() and (found := self.behind.dequeue()):
                self._looked_behind = 0.0  # there may be more
                return found
        try:
            found = self.take()
        except Unusable as error:
            _standing.away(self.called, error)
            return self.behind.dequeue()
        _standing.back(self.called)
        return found

    def acknowledge(self, task_id: Any) -> None:
        """A trigger has been dealt with; ids that are numbers are our database's."""
        if isinstance(task_id, int):
            self.behind.acknowledge(task_id)
        elif task_id is not None:
            try:
                self.done(task_id)
            except Unusable as error:
                # It comes again after `retry`, and a pass more than needed begins.
                _standing.away(self.called, error)

    def delete(self, task_id: Any) -> None:
        """The same."""
        self.acknowledge(task_id)

    def fail(self, task_id: Any) -> None:
        """A trigger that cannot be read is dropped: it is signed with another key than ours."""
        self.acknowledge(task_id)

    def queue_size(self) -> int:
        """About how many triggers wait, here and in our database. Raises Unusable."""
        return self.waiting() + int(self.behind.queue_size())

    def lock_size(self) -> int:
        """How many triggers of our database are being dealt with."""
        return int(self.behind.lock_size())

    def ping(self) -> bool:
        """A worker starts whether or not its carrier answers."""
        return True

    def info(self) -> str:
        """What carries triggers."""
        return f"{self.called}, with our database behind it"


@functools.lru_cache(maxsize=1)
def _redis(pid: int, url: str) -> Any:
    """This process's client: a connection that two processes share gives one the other's answers."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        # Once more at once: servers and proxies close connections that were idle. A server that did not answer in time
        # is not waited for a second time.
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )


class ByRedis(_Carrier):
    """Triggers in a list of a Redis server. One that a worker took and died with is lost; the next comes soon."""

    called = "Redis"

    @property
    def _key(self) -> str:
        return f"django_q:{self.list_key}:q"

    def _ask(self, question: Any) -> Any:
        try:
            import redis
        except ImportError:
            raise Unusable("the package redis is not installed") from None
        try:
            return question(_redis(os.getpid(), settings.REDIS_URL or ""))
        except (redis.RedisError, OSError, ValueError) as error:
            raise Unusable(type(error).__name__) from None

    def put(self, task: str) -> Any:
        """Append to the list, and drop its oldest entries where nobody takes any."""

        def question(client: Any) -> Any:
            both = client.pipeline(transaction=False)
            return both.rpush(self._key, task).ltrim(self._key, -KEPT, -1).execute()[0]

        return self._ask(question)

    def take(self) -> list[tuple[Any, str]]:
        """Wait for the first of the list."""
        found = self._ask(lambda client: client.blpop([self._key], WAIT_SECONDS))
        return [(None, found[1].decode())] if found else []

    def waiting(self) -> int:
        """The length of the list."""
        return int(self._ask(lambda client: client.llen(self._key)))


@functools.lru_cache(maxsize=1)
def _sqs(pid: int, url: str) -> Any:
    """This process's client, as for Redis; region, credentials and endpoint as for the queue of SES's events."""
    import boto3
    import botocore.session
    from botocore.config import Config

    from emailoffload.feedback.queue import region_of

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=SQS_WAIT_SECONDS + ANSWER_SECONDS,
        retries={"total_max_attempts": 2, "mode": "standard"},
        user_agent="email-offload",
    )
    session = boto3.session.Session(botocore_session=botocore.session.get_session())
    return session.client("sqs", region_name=region_of(url), config=config)


class BySqs(_Carrier):
    """Triggers in a standard SQS queue; one that a worker died with comes again after django-q's `retry`."""

    called = "SQS"

    def _ask(self, question: str, **asked: Any) -> Any:
        url = settings.BROKER_QUEUE_URL or ""
        try:
            return getattr(_sqs(os.getpid(), url), question)(QueueUrl=url, **asked)
        except ClientError as error:
            raise Unusable(str(error.response["Error"]["Code"])) from None
        except (BotoCoreError, OSError, ValueError) as error:
            raise Unusable(type(error).__name__) from None

    def put(self, task: str) -> Any:
        """Send a message."""
        return self._ask("send_message", MessageBody=task)["MessageId"]

    def take(self) -> list[tuple[Any, str]]:
        """Wait for a message, which is hidden from others until it is done or `retry` is over."""
        found = self._ask(
            "receive_message",
            MaxNumberOfMessages=1,
            VisibilityTimeout=Conf.RETRY,
            WaitTimeSeconds=SQS_WAIT_SECONDS,
        )
        return [(each["ReceiptHandle"], each["Body"]) for each in found.get("Messages", [])]

    def done(self, receipt: Any) -> None:
        """Delete the message."""
        self._ask("delete_message", ReceiptHandle=receipt)

    def waiting(self) -> int:
        """SQS's own estimate."""
        name = "ApproximateNumberOfMessages"
        return int(self._ask("get_queue_attributes", AttributeNames=[name])["Attributes"][name])
