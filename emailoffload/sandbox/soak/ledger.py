"""The ledger of a soak: what was owed against who mailed it, by what cannot be mistaken.

SES's and the SMTP server's own counts and the journals of Moodle's crons say who mailed what. Our database is
asked only what a mail is called and where it stands, never whether it left.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from emailoffload.sandbox.soak.crons import QUEUE, REMINDERS
from emailoffload.sandbox.soak.journal import Mail, Reminder
from emailoffload.worker.recover_intents import UNCLEAR

HELD = ("uncertain", "failed")
"""States in which a mail waits for a person, who sees it."""
OPEN = ("prepared", "queued", "sending")
TWICE, LOST, STUCK, BOTH, UNTRUE, STRAY = (
    "twice", "lost", "stuck", "held, and mailed by Moodle", "recorded as sent, and nobody took it",
    "mailed, and not owed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ours:
    """One email of our outbox: what it is, its id in 32 hex digits, where it stands."""

    mail: Mail
    ref: str
    state: str
    reason: str = ""
    claim_state: str = "claimed"


@dataclass
class Ledger:
    """One soak's account. Counts are by mail owed, or by our id for `ses` and `smtp`."""

    owed: set[Mail]
    ours: list[Ours]
    ses: Counter[str]
    smtp: Counter[str]
    moodle: Counter[Mail]
    broken: Counter[Reminder] = field(default_factory=Counter)
    """Rows that a cron of Moodle's took on and died over: what that did is not ours (`journal`)."""
    lines: dict[str, dict[str, int]] = field(default_factory=dict)
    """The table: by line, then by source."""
    offenders: dict[Mail, str] = field(default_factory=dict)
    """Mails that something is wrong with, and what."""

    def __post_init__(self) -> None:
        self._of: dict[Mail, list[Ours]] = {}
        for email in self.ours:
            self._of.setdefault(email.mail, []).append(email)
        self._strays()
        for mail in sorted(self.owed):
            self._book(mail)

    @property
    def fine(self) -> bool:
        """Whether nothing went out twice, nothing was lost, and our records tell the truth."""
        return not self.offenders

    def wrong(self, what: str) -> int:
        """How many mails have this wrong with them."""
        return sum(found == what for found in self.offenders.values())

    def mailed(self, who: str) -> int:
        """How many mails went out by "ses", "smtp" or "moodle"."""
        totals = {"ses": self.ses.total(), "smtp": self.smtp.total(), "moodle": self.moodle.total()}
        return totals[who]

    def _book(self, mail: Mail) -> None:
        emails = self._of.get(mail, [])
        ses = sum(self.ses[email.ref] for email in emails)
        smtp = sum(self.smtp[email.ref] for email in emails)
        moodle = self.moodle[mail]
        total = ses + smtp + moodle
        broken = self.broken[mail[:3]]
        self._count("owed", mail)
        if total > 1:
            if mail[0] == QUEUE and moodle and total <= 1 + broken:
                self._count("Moodle's own: twice, its cron died before it marked the row", mail)
            else:
                self._wrong(mail, TWICE)
        elif total == 1:
            uncertain = any(email.state in HELD for email in emails)
            self._count(
                ("accepted by SES" if ses else "taken by SMTP" if smtp else "mailed by Moodle")
                + (", uncertain to us" if uncertain else ""),
                mail,
            )
            unclear = any(email.reason == UNCLEAR for email in emails)
            if moodle and uncertain and not (broken or unclear):
                self._wrong(mail, BOTH)
        else:
            self._book_unsent(mail, emails, broken)
        for email in emails:
            if (email.state == "accepted" and not ses) or (email.state == "sent_smtp" and not smtp):
                self._wrong(mail, UNTRUE)
            if email.state in OPEN and email.claim_state != "dropped":
                self._wrong(mail, STUCK)

    def _book_unsent(self, mail: Mail, emails: list[Ours], broken: int) -> None:
        held = [email for email in emails if email.state in HELD]
        if held:
            self._count(f"held: {held[0].state}", mail)
        elif broken and mail[0] == REMINDERS:
            self._count("Moodle's own: lost, its cron died before it mailed the row", mail)
        else:
            self._wrong(mail, LOST)

    def _strays(self) -> None:
        known = {email.ref: email.mail for email in self.ours}
        taken = self.ses + self.smtp
        mails = [known.get(ref, ("unknown to our database", 0, 0, ref)) for ref in taken]
        for mail in [*mails, *self.moodle]:
            if mail not in self.owed:
                self._wrong(mail, STRAY)

    def _count(self, line: str, mail: Mail) -> None:
        by_source = self.lines.setdefault(line, {})
        by_source[mail[0]] = by_source.get(mail[0], 0) + 1

    def _wrong(self, mail: Mail, what: str) -> None:
        self.offenders.setdefault(mail, what)

    def text(self) -> list[str]:
        """The table as people read it."""
        names = {REMINDERS: "reminders", QUEUE: "IOMAD queue"}
        width = max(len(line) for line in [*self.lines, UNTRUE]) + 2
        found = [" " * width + "".join(f"{name:>13}" for name in names.values()) + f"{'together':>13}"]

        def row(line: str, values: dict[str, int]) -> str:
            numbers = [values.get(source, 0) for source in names]
            return f"{line:<{width}}" + "".join(f"{n:>13,}" for n in (*numbers, sum(values.values())))

        order = ["owed", *sorted(line for line in self.lines if line != "owed")]
        found += [row(line, self.lines.get(line, {})) for line in order]
        for what in (TWICE, LOST, STUCK, BOTH, UNTRUE, STRAY):
            wrong: dict[str, int] = dict(Counter(m[0] for m, w in self.offenders.items() if w == what))
            if wrong or what in (TWICE, LOST):
                found.append(row(what, wrong))
        return found

    def as_dict(self) -> dict[str, object]:
        """The same under stable keys."""
        return {
            "fine": self.fine,
            "lines": self.lines,
            "twice": self.wrong(TWICE),
            "lost": self.wrong(LOST),
            "other": {what: self.wrong(what) for what in (STUCK, BOTH, UNTRUE, STRAY)},
        }
