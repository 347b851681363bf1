"""All that is known about one row of Moodle's in a soak: what a person needs to find out why it went wrong."""

from __future__ import annotations

from emailoffload.sandbox.bench.stage import OURS, Stage
from emailoffload.sandbox.soak.cloud import Cloud
from emailoffload.sandbox.soak.journal import Told
from emailoffload.sandbox.soak.sink import Sink

_CLAIMS = (
    "SELECT id, state, `before`, `after`, ordinal, under_lock, is_last, fallback, note, UNIX_TIMESTAMP(due_at),"
    " UNIX_TIMESTAMP(created_at), UNIX_TIMESTAMP(claimed_at), UNIX_TIMESTAMP(settled_at), completiontime, activity_id"
    " FROM emailoffload_claim WHERE source = '{source}' AND row_id = {row} ORDER BY id"
)
_EMAILS = (
    "SELECT id, claim_id, REPLACE(ref, '-', ''), address, state, route, reason, detail, UNIX_TIMESTAMP(state_at),"
    " UNIX_TIMESTAMP(deadline_at) FROM emailoffload_email WHERE claim_id IN ({ids}) ORDER BY id"
)
_ATTEMPTS = (
    "SELECT number, route, outcome, error_code, UNIX_TIMESTAMP(started_at), UNIX_TIMESTAMP(finished_at), holder"
    " FROM emailoffload_attempt WHERE email_id = {id} ORDER BY number"
)
_AUDIT = (
    "SELECT action, actor, reason, UNIX_TIMESTAMP(at), object_id FROM emailoffload_auditentry"
    " WHERE object_type = 'claim' AND object_id IN ({ids}) ORDER BY id"
)


def of(
    source: str, row: int, *, made: Stage, told: Told, cloud: Cloud, sink: Sink, start: float
) -> list[str]:
    """The history of a row, times as seconds after the start."""

    def at(moment: object) -> str:
        return "-" if moment is None else f"{float(str(moment)) - start:.2f}"

    lines = [f"{source} {row}"]
    claims = made.rows(_CLAIMS.format(source=source, row=int(row)), OURS)
    for (pk, state, before, after, ordinal, lock, last, policy, note, due, created, claimed, settled, completes,
         activity) in claims:  # fmt: skip
        lines.append(
            f"  claim {pk} {state} activity {activity} no. {ordinal} {policy} lock={lock} last={last}"
            f" {before} -> {after}"
            f" due {at(due)} completes {at(completes)} intended {at(created)} claimed {at(claimed)}"
            f" settled {at(settled)} {note}"
        )
    ids = ",".join(str(claim[0]) for claim in claims) or "0"
    for pk, claim, ref, address, state, route, reason, detail, since, deadline in made.rows(
        _EMAILS.format(ids=ids), OURS
    ):
        lines.append(
            f"  email {pk} of claim {claim} to {address}: {state} by {route} since {at(since)} {reason} {detail}"
            f" (deadline {at(deadline)})"
        )
        for number, way, outcome, code, started, finished, holder in made.rows(_ATTEMPTS.format(id=pk), OURS):
            lines.append(
                f"    attempt {number} {way} {outcome} {code} from {at(started)} to {at(finished)} by {holder}"
            )
        times = [("SES", t) for t in cloud.when(ref)] + [("SMTP", t) for t in sink.times.get(ref, [])]
        lines += [f"    taken by {who} at {at(moment)}" for who, moment in times]
    lines += [
        f"  {action} of claim {claim} by {actor} at {at(moment)}: {reason}"
        for action, actor, reason, moment, claim in made.rows(
            _AUDIT.format(ids=",".join(f"'{claim[0]}'" for claim in claims) or "''"), OURS
        )
    ]
    for event in told.of_row.get((source, row), []):
        lines.append(
            f"  Moodle {event['event']} no. {event.get('ordinal', '')} {event.get('address', '')} at {at(event['t'])}"
            + (" deleting" if event.get("deletes") else "")
        )
    return lines
