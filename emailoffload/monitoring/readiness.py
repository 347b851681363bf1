"""`/readyz`: is the whole ready for work? One verdict for each thing that must be there, with the cause in words.

Verdicts are the doctor's: ok, warning, problem, unknown (not looked at, because of what was found before). Any problem
makes the whole a problem. Nothing secret is told: no address, no account, no text of an error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.utils import Error as DatabaseFailure
from django.utils import timezone

from emailoffload.monitoring import reachable, standing
from emailoffload.outbox import switches
from emailoffload.worker import alarm_conditions

BELIEVED_SECONDS: Final = 1.0
LATE, VERY_LATE = timedelta(minutes=2), timedelta(minutes=10)
"""As the card *On time* of the overview has them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing: how it is, in a sentence, and the number that says so, in `seconds` or pieces."""

    verdict: str
    text: str
    seconds: float | None = None


def look(now: datetime | None = None) -> dict[str, Verdict]:
    """Look at everything; half a dozen bounded queries. Raises nothing that a database does."""
    now = now or timezone.now()
    found: dict[str, Verdict] = {}
    found["database"] = (
        Verdict("ok", "Our database answers.")
        if reachable.ours()
        else Verdict("problem", "Our database does not answer: check DATABASE_URL and that the server runs.")
    )
    found["moodle"] = (
        Verdict("ok", "Moodle's database answers.")
        if reachable.moodle()
        else Verdict(
            "problem",
            "Moodle's database does not answer: nothing is claimed, and due mails wait until it does. "
            "`manage.py doctor` says why.",
        )
    )
    for name, check in _CHECKS.items():
        if found["database"].verdict != "ok":
            found[name] = Verdict("unknown", "Not looked at: our database does not answer.")
            continue
        try:
            found[name] = check(now)
        except DatabaseFailure:
            found[name] = Verdict("problem", "Our database could not be asked. Run `manage.py migrate`.")
    return found


def _migrations(now: datetime) -> Verdict:
    missing = standing.missing_migrations()
    if missing:
        return Verdict("problem", f"Migrations that are missing: {missing}. Run `manage.py migrate`.")
    return Verdict("ok", "All migrations are applied.")


def _worker(now: datetime) -> Verdict:
    last = alarm_conditions.last_sign()
    if last is None:
        return Verdict("problem", "No worker has run yet: start it with `manage.py qcluster`.")
    silent = (now - last).total_seconds()
    if now - last > alarm_conditions.SILENT:
        return Verdict(
            "problem", "The worker is silent: start it, and look into its log for why it ended.", silent
        )
    return Verdict("ok", "The worker is alive.", max(0.0, silent))


def _lag(now: datetime) -> Verdict:
    oldest = standing.oldest_due(now)
    late = now - oldest if oldest else timedelta()
    if late <= LATE:
        return Verdict("ok", "Nothing is late.", late.total_seconds())
    text = "Mails are due and do not leave: Overview says what holds them up."
    if switches.pause().sends:
        text = "Mails are due and do not leave, because sending is paused: Overview says by whom and why."
    return Verdict("problem" if late > VERY_LATE else "warning", text, late.total_seconds())


_CHECKS: Final[dict[str, Callable[[datetime], Verdict]]] = {
    "migrations": _migrations, "worker": _worker, "lag": _lag,
}  # fmt: skip
_lock = threading.Lock()
_last: tuple[float, dict[str, Any]] | None = None


def answer() -> dict[str, Any]:
    """What `/readyz` says, at most a second old: `status` (ok, warning, problem), `at` and `checks`."""
    global _last
    with _lock:
        if _last is not None and time.monotonic() - _last[0] < BELIEVED_SECONDS:
            return _last[1]
        now = timezone.now()
        found = look(now)
        verdicts = {each.verdict for each in found.values()}
        status = next((each for each in ("problem", "warning") if each in verdicts), "ok")
        checks = {name: _told(each) for name, each in found.items()}
        told = {"status": status, "at": now.isoformat(timespec="seconds"), "checks": checks}
        _last = (time.monotonic(), told)
        return told


def _told(verdict: Verdict) -> dict[str, Any]:
    told = {name: value for name, value in asdict(verdict).items() if value is not None}
    if "seconds" in told:
        told["seconds"] = round(told["seconds"], 1)
    return told


def forget() -> None:
    """Look anew next time."""
    global _last
    _last = None
    reachable.forget()
