"""The webhook's subscriptions: confirmed through SNS's API, their end put on record, never renewed by ourselves."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from django.db import transaction

from emailoffload.delivery.errors import classify
from emailoffload.feedback.sns import Post
from emailoffload.outbox.models import State

_STATE = "webhook"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a topic's subscription stands: `active`, `ended` or `refused`, since when by SNS's clock.

    `detail` is the subscription's ARN, or the code with which AWS refused to confirm it.
    """

    state: str
    since: dt.datetime
    detail: str = ""


def standings() -> dict[str, Standing]:
    """How each topic stands that has posted about its subscription, by ARN."""
    row = State.objects.filter(name=_STATE).first()
    found: dict[str, dict[str, Any]] = row.value if row else {}
    return {
        arn: Standing(value["state"], dt.datetime.fromisoformat(value["since"]), value["detail"])
        for arn, value in found.items()
    }


def confirm(post: Post) -> Standing:
    """Confirm the subscription that a verified post asks about. Needs the right sns:ConfirmSubscription.

    The post's SubscribeURL is not looked at: a call of ours to AWS's own API does the same and fetches no address that
    somebody posted. It also has AWS ask for credentials before the subscription can be ended.
    """
    session = boto3.session.Session(botocore_session=botocore.session.get_session())
    client = session.client(
        "sns",
        region_name=post.topic.region,
        config=Config(
            connect_timeout=3,
            read_timeout=8,
            retries={"total_max_attempts": 1, "mode": "standard"},
            user_agent="email-offload",
        ),
    )
    try:
        answer = client.confirm_subscription(
            TopicArn=post.topic.arn, Token=post.token, AuthenticateOnUnsubscribe="true"
        )
    except Exception as error:
        # Broad on purpose: whatever it was is put on record, and SNS posts again.
        standing = Standing("refused", post.at, classify(error).code)
    else:
        standing = Standing("active", post.at, answer["SubscriptionArn"])
    finally:
        client.close()
    _record(post, standing)
    return standing


def end(post: Post) -> Standing:
    """Put on record that a topic's subscription has ended; only a person begins it again."""
    standing = Standing("ended", post.at)
    _record(post, standing)
    return standing


def _record(post: Post, standing: Standing) -> None:
    """Keep it where it is the newest word about the topic: an old post that comes again says nothing new."""
    # Before the transaction: of two that both insert the row and then lock it, one is a deadlock's victim.
    State.objects.get_or_create(name=_STATE)
    with transaction.atomic():
        row = State.objects.select_for_update().get(name=_STATE)
        before = row.value.get(post.topic.arn)
        if before and dt.datetime.fromisoformat(before["since"]) > standing.since:
            return
        row.value[post.topic.arn] = {
            "state": standing.state,
            "since": standing.since.isoformat(),
            "detail": standing.detail,
        }
        row.save()
