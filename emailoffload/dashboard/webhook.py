"""`/events/sns/`: where SNS posts events for sites without SQS. No login, no cookie: the signature is the proof."""

from __future__ import annotations

import logging

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from emailoffload import logs
from emailoffload.feedback import inbox, sns, subscription
from emailoffload.feedback.inbox import Message

logger = logging.getLogger(__name__)


@csrf_exempt
@login_not_required
@never_cache
def from_sns(request: HttpRequest) -> HttpResponse:
    """Take one post of SNS's.

    200: taken, or seen before. 403: not to be believed; nothing changes. 503: not now; SNS posts it again. 404 where
    no topic is configured.
    """
    if not settings.SNS_TOPICS:
        return _answer(404, "Not found.")
    if request.method != "POST":
        answer = _answer(405, "Only POST.")
        answer["Allow"] = "POST"
        return answer
    try:
        post = sns.verify(_body(request), request.headers, timezone.now())
    except sns.Refused as refused:
        # The code is one of ours: nothing that was posted reaches the log.
        logger.warning(
            "A post to /events/sns/ was refused (%s): it does not prove to be Amazon SNS's.", refused
        )
        return _answer(403, "Refused.")
    except sns.NotNow as reason:
        logger.warning("A post of Amazon SNS's could not be checked now (%s). SNS posts it again.", reason)
        return _answer(503, "Try again.")
    try:
        return _take(post)
    except DatabaseError as error:
        logger.error(
            "Our database did not store a post of Amazon SNS's (%s). SNS posts it again.",
            logs.named(error),
        )
        return _answer(503, "Try again.")


def _body(request: HttpRequest) -> bytes:
    """The body, read only where it says its size and that is small enough. Raises Refused."""
    declared = request.headers.get("Content-Length", "")
    if not (declared.isascii() and declared.isdecimal()):
        raise sns.Refused("length")
    # Compared by digits first: int() refuses very long numbers.
    if len(declared) > len(str(sns.MAX_BYTES)) or int(declared) > sns.MAX_BYTES:
        raise sns.Refused("too_large")
    try:
        body = request.read(sns.MAX_BYTES + 1)
    except OSError as error:
        raise sns.Refused("length") from error
    if len(body) != int(declared):
        raise sns.Refused("length")
    return body


def _take(post: sns.Post) -> HttpResponse:
    """Do what a verified post asks for. Raises DatabaseError."""
    if post.kind == sns.NOTIFICATION:
        inbox.receive([Message(post.message.encode(), "webhook")])
        return _answer(200, "OK")
    if post.kind == sns.CONFIRMATION:
        standing = subscription.confirm(post)
        if standing.state != "active":
            logger.error(
                "The subscription of the topic %s could not be confirmed: %s. No event comes by the webhook; "
                "`manage.py doctor` says what to do.",
                post.topic.arn,
                standing.detail,
            )
            return _answer(503, "Try again.")
        logger.info(
            "The subscription of the topic %s is confirmed: events come by the webhook.", post.topic.arn
        )
        return _answer(200, "OK")
    subscription.end(post)
    logger.warning(
        "The subscription of the topic %s has ended: no event comes by the webhook. If nobody meant it, run "
        "`manage.py sessetup --webhook URL --apply`.",
        post.topic.arn,
    )
    return _answer(200, "OK")


def _answer(status: int, text: str) -> HttpResponse:
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain; charset=utf-8")
