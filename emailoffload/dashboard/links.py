"""Addresses that pages lead to: the same page with other keys, and the places in Moodle."""

from __future__ import annotations

from django.conf import settings
from django.http import QueryDict

from emailoffload.outbox.models import Claim


def without_keys(params: QueryDict) -> str:
    """The present filters as a query string, from the newest row on."""
    kept = params.copy()
    for name in ("before", "after"):
        kept.pop(name, None)
    return "?" + kept.urlencode()


def with_key(params: QueryDict, name: str, key: int | None) -> str:
    """The present filters from a row on; empty where there is nothing more in that direction."""
    if key is None:
        return ""
    query = without_keys(params)
    return f"{query}{'&' if len(query) > 1 else ''}{name}={key}"


def moodle_user(user_id: int) -> str:
    """A user's profile in Moodle."""
    return f"{settings.MOODLE_WWWROOT}/user/profile.php?id={user_id}"


def moodle(claim: Claim) -> dict[str, str]:
    """Where user, activity and course of a claim are in Moodle, by name."""
    found = {"user": moodle_user(claim.user_id)}
    if claim.cmid:
        found["activity"] = f"{settings.MOODLE_WWWROOT}/mod/reengagement/view.php?id={claim.cmid}"
    if claim.course_id:
        found["course"] = f"{settings.MOODLE_WWWROOT}/course/view.php?id={claim.course_id}"
    return found
