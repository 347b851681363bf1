"""What the routing rules say about the rows of one pass: which stay with Moodle, which are only watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from emailoffload.policy.copies import Subject
from emailoffload.policy.routing import Effective, RoutingRules
from emailoffload.sources import reasons
from emailoffload.sources.protocol import Candidate, Decision, Row
from emailoffload.worker.left import Left

_REASONS: Final = {"off": reasons.ROUTING_OFF, "shadow": reasons.ROUTING_SHADOW}


@dataclass(frozen=True, slots=True)
class Routed:
    """Decisions after the rules: what is left to claim, and what is only watched."""

    decisions: list[Decision]
    watched: list[Candidate] = field(default_factory=list)


class Router:
    """The rules as they stand at the beginning of a pass over one source."""

    def __init__(self, source: str, rules: RoutingRules) -> None:
        self.source = source
        self.rules = rules
        modes = rules.modes(source)
        self.off = modes == {"off"}
        """Nothing of this source is ours: nothing needs rendering."""
        self.only_watches = "on" not in modes
        """Nothing of this source is claimed, so that nothing depends on our being able to send."""

    def worth_rendering(self, rows: Sequence[Row], left: Left) -> list[Row]:
        """The rows that the rules may let us have; the others are noted as left."""
        found = []
        for row in rows:
            reason = self.anyway(row)
            if reason:
                left.row(row, reason)
            else:
                found.append(row)
        return found

    def anyway(self, row: Row) -> str:
        """Why this row is not ours whatever else is found out about it; '' where that decides."""
        lost = self.rules.left_anyway(self.source, row.activity_id, row.userid)
        return _reason(lost) if lost else ""

    def route(self, decisions: Sequence[Decision]) -> Routed:
        """The decisions with the rules obeyed: a candidate gets its fallback, or becomes a reason."""
        routed = Routed([])
        for decision in decisions:
            candidate = decision.candidate
            if candidate is None:
                routed.decisions.append(decision)
                continue
            effective = self.rules.decide(_subject(candidate))
            if effective.mode == "on":
                told = effective.fallback, effective.suppressed
                if (candidate.fallback, candidate.on_suppressed) != told:
                    ruled = replace(candidate, fallback=told[0], on_suppressed=told[1])
                    decision = replace(decision, candidate=ruled)
                routed.decisions.append(decision)
                continue
            if effective.mode == "shadow":
                routed.watched.append(candidate)
            routed.decisions.append(Decision(decision.row_id, _reason(effective)))
        return routed


def _reason(effective: Effective) -> str:
    return reasons.ROLLOUT if effective.beyond else _REASONS[effective.mode]


def _subject(candidate: Candidate) -> Subject:
    return Subject(
        key=candidate.row_id,
        source=candidate.source,
        user_id=candidate.user_id,
        company_id=candidate.company_id,
        course_id=candidate.course_id,
        activity_id=candidate.activity_id,
        template=candidate.template,
    )
