"""What is expected of each fault, kind of claim and policy, written by hand from docs/failure.md and docs/errors.md.

A cell says where a mail is, how many of its transmissions SES and the SMTP server have taken, and what Moodle's row
holds: its former values (`back`), or ours. `held` is left to a person. Claims: `whole`, of which nothing has left when
the fault begins (a reminder claimed ahead, the last mail owed, a mail of IOMAD's queue, one with credentials); `part`,
a reminder whose student's mail has left and whose manager's has not: the cell is about the manager's, and the row
stays ours in any case.
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = {
    "ahead": "whole",
    "last owed": "whole",
    "queue": "whole",
    "credential": "whole",
    "manager left": "part",
}
"""Kinds of claims, and what the table calls them."""
POLICIES = {
    "moodle": ("moodle", True),
    "smtp": ("smtp", True),
    "hold": ("hold", True),
    "moodle, SMTP down": ("moodle", False),
    "smtp, SMTP down": ("smtp", False),
}
"""The columns: the policy, and whether the SMTP server answers."""
PHASES = ("before", "deadline", "second")
"""Due and before the deadline; at the deadline; after a second one."""

TABLE = """
fault                      claim phase    | moodle            | smtp              | hold              | moodle, SMTP down | smtp, SMTP down

throttle/tls/dns/refused   whole before   | queued 0+0 ours   | queued 0+0 ours   | queued 0+0 ours   | queued 0+0 ours   | queued 0+0 ours
                           whole deadline | released 0+0 back | sent_smtp 0+1 ours| held 0+0 ours     | released 0+0 back | queued 0+0 ours
                           whole second   | released 0+0 back | sent_smtp 0+1 ours| held 0+0 ours     | released 0+0 back | held 0+0 ours
                           part  before   | queued 0+0 ours   | queued 0+0 ours   | queued 0+0 ours   | queued 0+0 ours   | queued 0+0 ours
                           part  deadline | sent_smtp 0+1 ours| sent_smtp 0+1 ours| held 0+0 ours     | queued 0+0 ours   | queued 0+0 ours
                           part  second   | sent_smtp 0+1 ours| sent_smtp 0+1 ours| held 0+0 ours     | held 0+0 ours     | held 0+0 ours

quota/pause                whole before   | released 0+0 back | sent_smtp 0+1 ours| queued 0+0 ours   | released 0+0 back | queued 0+0 ours
                           whole deadline | released 0+0 back | sent_smtp 0+1 ours| held 0+0 ours     | released 0+0 back | queued 0+0 ours
                           whole second   | released 0+0 back | sent_smtp 0+1 ours| held 0+0 ours     | released 0+0 back | held 0+0 ours
                           part  before   | sent_smtp 0+1 ours| sent_smtp 0+1 ours| queued 0+0 ours   | queued 0+0 ours   | queued 0+0 ours
                           part  deadline | sent_smtp 0+1 ours| sent_smtp 0+1 ours| held 0+0 ours     | queued 0+0 ours   | queued 0+0 ours
                           part  second   | sent_smtp 0+1 ours| sent_smtp 0+1 ours| held 0+0 ours     | held 0+0 ours     | held 0+0 ours

reject                     whole before   | released 0+0 back | sent_smtp 0+1 ours| held 0+0 ours     | released 0+0 back | queued 0+0 ours
                           whole deadline | released 0+0 back | sent_smtp 0+1 ours| held 0+0 ours     | released 0+0 back | queued 0+0 ours
                           whole second   | released 0+0 back | sent_smtp 0+1 ours| held 0+0 ours     | released 0+0 back | held 0+0 ours
                           part  before   | sent_smtp 0+1 ours| sent_smtp 0+1 ours| held 0+0 ours     | queued 0+0 ours   | queued 0+0 ours
                           part  deadline | sent_smtp 0+1 ours| sent_smtp 0+1 ours| held 0+0 ours     | queued 0+0 ours   | queued 0+0 ours
                           part  second   | sent_smtp 0+1 ours| sent_smtp 0+1 ours| held 0+0 ours     | held 0+0 ours     | held 0+0 ours

hang before/reset before/  whole before   | uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours
error 500                  whole deadline | uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours
                           whole second   | uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours
                           part  before   | uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours
                           part  deadline | uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours
                           part  second   | uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours| uncertain 0+0 ours

hang after/reset after/    whole before   | uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours
garbage                    whole deadline | uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours
                           whole second   | uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours
                           part  before   | uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours
                           part  deadline | uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours
                           part  second   | uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours| uncertain 1+0 ours

slow                       whole before   | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours
                           whole deadline | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours
                           whole second   | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours
                           part  before   | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours
                           part  deadline | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours
                           part  second   | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours | accepted 1+0 ours
"""  # noqa: E501 - a table is read across
FAULTS = (
    "throttle", "tls", "dns", "refused", "quota", "pause", "reject", "hang before", "reset before",
    "error 500", "hang after", "reset after", "garbage", "slow",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One case of the table."""

    fault: str
    kind: str
    policy: str
    phase: str


def expected() -> dict[Case, str]:
    """Every case, with its cell. Raises ValueError for a fault without rows."""
    found: dict[Case, str] = {}
    for block in TABLE.split("\n\n")[1:]:
        lines = [(line[:27], line[27:].split("|")) for line in block.strip("\n").splitlines()]
        faults = "".join(head for head, _ in lines)
        names = [name.strip() for name in " ".join(faults.split()).split("/")]
        if not set(names) <= set(FAULTS):
            raise ValueError(f"unknown faults: {names}")
        for _, (key, *cells) in lines:
            claim, phase = key.split()
            for name in names:
                for kind in (kind for kind, called in KINDS.items() if called == claim):
                    for policy, cell in zip(POLICIES, cells, strict=True):
                        found[Case(name, kind, policy, phase)] = " ".join(cell.split())
    return found
