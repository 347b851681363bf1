"""Switches that people set and every process obeys: pause claiming, pause sending."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass, replace

from django.db import transaction

from emailoffload.outbox import shared
from emailoffload.outbox.models import State

log = logging.getLogger(__name__)
_PAUSE = "pause"


@dataclass(frozen=True, slots=True)
class Pause:
    """What is paused, by whom and why; `since` is when that was last changed."""

    claims: bool = False
    sends: bool = False
    by: str = ""
    reason: str = ""
    since: dt.datetime | None = None


def pause() -> Pause:
    """What is paused now."""
    row = State.objects.filter(name=_PAUSE).values_list("value", "updated_at").first()
    return Pause(**row[0], since=row[1]) if row else Pause()


def set_pause(new: Pause) -> None:
    """Pause or resume; takes effect before the next batch of every running pass. `since` is now."""
    value = {"claims": new.claims, "sends": new.sends, "by": new.by, "reason": new.reason}
    shared.put(_PAUSE, value)
    paused = [name for name, is_so in (("claiming", new.claims), ("sending", new.sends)) if is_so]
    log.info(
        "Somebody switched pauses: %s. Overview and the audit log say who and why.",
        f"{' and '.join(paused)} stop with their next batch" if paused else "nothing is paused any more",
    )


def change(*, claims: bool | None, sends: bool | None, by: str, reason: str) -> tuple[Pause, Pause]:
    """Switch claims, sends or both, and leave alone what is None; returns the pause before and after.

    Who and why are those of the one who paused last; whoever resumes a part does not take their place.
    """
    with transaction.atomic():
        # The row is locked, so that two people who switch different things at once both succeed.
        State.objects.get_or_create(name=_PAUSE)
        State.objects.select_for_update().get(name=_PAUSE)
        before = pause()
        after = Pause(
            before.claims if claims is None else claims, before.sends if sends is None else sends, by, reason
        )
        if (after.claims or after.sends) and not (claims or sends):
            after = replace(after, by=before.by, reason=before.reason)
        set_pause(after)
    return before, after
