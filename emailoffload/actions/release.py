"""Hand claims back to Moodle because a person asks for it; how it is done is in `worker.handback`."""

from __future__ import annotations

from collections.abc import Sequence

from emailoffload.worker.handback import Released, hand_back

__all__ = ["Released", "release"]


def release(claim_ids: Sequence[int], *, actor: str, reason: str) -> list[Released]:
    """Hand claims back to Moodle; one outcome per id, in the order given, with the reason in words where refused.

    What happens is recorded in the audit log. Raises `claims.ClaimUnknown` and database errors; recovery settles
    claims that were caught in between.
    """
    return hand_back(claim_ids, actor=actor[:150], reason=reason[:500])
