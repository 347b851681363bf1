"""Renders what is due, claiming, sending and writing nothing, and compares it with mails that Moodle sent."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from django.conf import settings

from emailoffload.actions.fidelity.compare import DELIBERATE, Difference, deliberate, differences, pairs
from emailoffload.actions.fidelity.mails import Mail, of_rendered
from emailoffload.moodle.errors import MoodleProblem, require_ready, translated
from emailoffload.moodle.variants import Variant
from emailoffload.policy.copies import CopyRules
from emailoffload.sources import registry
from emailoffload.sources.protocol import Clock, Decision, RenderedMail, Source
from emailoffload.worker import intercept

HIDDEN = "(not shown: the mail carries credentials)"


@dataclass(frozen=True, slots=True)
class Ours:
    """A mail of ours: what Moodle would send to the letter, and what we send."""

    source: str
    row_id: int
    due: int
    template: str
    sensitive: bool
    strict: Mail = field(repr=False)
    default: Mail | None = field(repr=False)
    """None where the deliberate differences leave this one out, or are switched off."""

    @property
    def about(self) -> dict[str, Any]:
        """Which mail it is."""
        return {
            "source": self.source, "row": self.row_id, "template": self.template, "recipient": self.strict.to_address,
        }  # fmt: skip


@dataclass
class Report:
    """What was found. `different` are findings; `deliberate` are those that docs/rendering.md lists."""

    rows: int = 0
    rendered: int = 0
    left: Counter[str] = field(default_factory=Counter)
    refused: list[dict[str, str]] = field(default_factory=list)
    mails: int = 0
    """Mails of the folder."""
    compared: int = 0
    equal: int = 0
    different: list[dict[str, Any]] = field(default_factory=list)
    deliberate: list[dict[str, Any]] = field(default_factory=list)
    missing: list[dict[str, Any]] = field(default_factory=list)
    """Mails of ours that were due by then and are not in the folder."""
    later: int = 0
    """Mails of ours that fell due after the newest mail of the folder."""
    others: list[dict[str, str]] = field(default_factory=list)
    """Mails of the folder that no rendered row belongs to."""
    cut: bool = False
    """There were more rows than were to be looked at."""

    @property
    def fine(self) -> bool:
        """Nothing to look at: all that could be compared is equal, and something could."""
        return not (self.different or self.missing or self.refused) and (self.compared > 0 or not self.mails)

    def as_dict(self) -> dict[str, Any]:
        """Under stable keys."""
        return {**asdict(self), "left": dict(self.left), "fine": self.fine}


def run(moodles: Sequence[Mail] | None, limit: int) -> Report:
    """Render at most `limit` due rows of each source, and compare them with Moodle's mails, where there are some.

    What makes a source impossible is in the report. Raises errors of our own database.
    """
    report = Report(mails=len(moodles or ()))
    wanted = {mail.to_address.casefold() for mail in moodles or ()}
    newest = max((mail.sent_at.timestamp() for mail in moodles or () if mail.sent_at), default=None)
    ours: list[Ours] = []
    for name in intercept.sources_here():
        try:
            with translated():
                for mail in _rendered(name, limit, report):
                    if moodles is None:
                        continue
                    if newest is not None and mail.due >= newest:
                        report.later += 1
                    elif mail.strict.to_address.casefold() in wanted:
                        ours.append(mail)
                    else:
                        report.missing.append(mail.about | _due(mail))
        except MoodleProblem as problem:
            report.refused.append({"source": name, "text": str(problem), "cure": problem.cure})
    _compare(ours, list(moodles or ()), report)
    return report


def _due(mail: Ours) -> dict[str, str]:
    return {"due": dt.datetime.fromtimestamp(mail.due, dt.UTC).isoformat()}


def _rendered(name: str, limit: int, report: Report) -> Iterator[Ours]:
    """The mails of a source's due rows, batch by batch. Raises MoodleProblem and database errors."""
    variant = require_ready(name)
    sources = [_source(name, variant, parity) for parity in ("strict", settings.RENDER_PARITY)]
    clock = Clock(int(time.time()), settings.CLAIM_MARGIN_SECONDS, settings.MOODLE_CRON_PERIOD_SECONDS)
    rows = registry.find(name, clock.now + settings.CLAIM_LEAD_SECONDS)
    taken = 0
    while batch := list(islice(rows, min(settings.CLAIM_BATCH_SIZE, limit - taken))):
        taken += len(batch)
        report.rows += len(batch)
        by_parity = [source.decide(batch, clock) for source in sources]
        for strict, own in zip(*by_parity, strict=True):
            yield from _mails(strict, own, report)
    report.cut = report.cut or (taken >= limit and next(rows, None) is not None)


def _source(name: str, variant: Variant, parity: str) -> Source[Any]:
    """The source as Moodle knows it: without the copies that rules of ours add."""
    return registry.get(name, variant, parity=parity, copy_rules=CopyRules())


def _mails(strict: Decision, own: Decision, report: Report) -> Iterator[Ours]:
    """The mails of one row, to the letter and as we send them."""
    if own.candidate is None:
        report.left[own.reason] += 1
        return
    report.rendered += 1
    exact = strict.candidate or own.candidate
    ours: dict[str, list[RenderedMail]] = {}
    for mail in own.candidate.mails:
        ours.setdefault(mail.to_address.casefold(), []).append(mail)
    for mail in exact.mails:
        same = ours.get(mail.to_address.casefold())
        yield Ours(
            own.candidate.source,
            own.row_id,
            own.candidate.due,
            own.candidate.template,
            mail.sensitive,
            of_rendered(mail),
            of_rendered(same.pop(0)) if same else None,
        )


def _compare(ours: Sequence[Ours], moodles: Sequence[Mail], report: Report) -> None:
    found = pairs([mail.strict for mail in ours], moodles)
    for place, mail in enumerate(ours):
        if place not in found:
            report.missing.append(mail.about | _due(mail))
            continue
        report.compared += 1
        theirs = moodles[found[place]]
        unequal = differences(mail.strict, theirs)
        if mail.default is None:
            report.deliberate.append({**mail.about, "file": theirs.file, "reasons": {5: DELIBERATE[5]}})
        else:
            reasons, unexplained = deliberate(mail.default, mail.strict)
            unequal += unexplained
            if reasons:
                named = {number: DELIBERATE[number] for number in sorted(reasons)}
                report.deliberate.append({**mail.about, "file": theirs.file, "reasons": named})
        if unequal:
            parts = [asdict(_hidden(each) if mail.sensitive else each) for each in unequal]
            report.different.append({**mail.about, "file": theirs.file, "parts": parts})
        else:
            report.equal += 1
    taken = set(found.values())
    report.others = [
        {"file": mail.file, "recipient": mail.to_address, "subject": mail.subject}
        for place, mail in enumerate(moodles)
        if place not in taken
    ]


def _hidden(difference: Difference) -> Difference:
    if difference.part in {"recipient", "From", "Reply-To", "format"}:
        return difference
    return Difference(difference.part, HIDDEN, HIDDEN)
