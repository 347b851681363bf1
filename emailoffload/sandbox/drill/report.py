"""The report of a drill, as data and as text: what was done, what was expected, what was seen, the verdict."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from emailoffload.sandbox.drill.ledger import Ledger
from emailoffload.sandbox.drill.plan import Scaled, span

WIDTH = 96


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    what: str
    expected: str
    seen: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that was done, or happened."""

    did: str


@dataclass
class Outcome:
    """How one rehearsal went: what was done and what was looked at, in order."""

    name: str
    title: str
    steps: list[Deed | Check] = field(default_factory=list)
    seconds: float = 0.0
    problem: str = ""
    """Why it could not be carried through, if so."""
    states: dict[str, int] = field(default_factory=dict)
    """What the product says about its mails at the end: how many by state and reason."""

    @property
    def checks(self) -> list[Check]:
        """What was looked at."""
        return [step for step in self.steps if isinstance(step, Check)]

    @property
    def passed(self) -> bool:
        """Whether it was carried through and all was as expected."""
        return not self.problem and bool(self.checks) and all(check.ok for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Under stable keys."""
        return {**asdict(self), "seconds": round(self.seconds, 1), "passed": self.passed}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """The reverse of `as_dict`."""
        fields = {name: value for name, value in data.items() if name != "passed"}
        steps = [Deed(**step) if "did" in step else Check(**step) for step in data["steps"]]
        return cls(**{**fields, "steps": steps})


@dataclass
class Report:
    """One drill. `date` is in words, with its time zone; `versions` and `settings` hold no secret."""

    date: str
    versions: Mapping[str, str]
    settings: Mapping[str, str]
    times: list[Scaled]
    meaning: list[str]
    """What the times mean on the site, in sentences."""
    outcomes: list[Outcome] = field(default_factory=list)
    ledger: Ledger | None = None
    seconds: float = 0.0
    problem: str = ""
    """Why the drill could not be carried through, if so."""

    @property
    def fine(self) -> bool:
        """Whether every rehearsal passed and the ledger balances."""
        done = bool(self.outcomes) and all(outcome.passed for outcome in self.outcomes)
        return not self.problem and done and self.ledger is not None and self.ledger.fine

    def as_dict(self) -> dict[str, Any]:
        """Under stable keys, for `--json`."""
        return {
            "fine": self.fine,
            "date": self.date,
            "seconds": round(self.seconds, 1),
            "problem": self.problem,
            "rehearsals": [outcome.as_dict() for outcome in self.outcomes],
            "ledger": self.ledger.as_dict() if self.ledger else None,
            "times": [asdict(line) for line in self.times],
            "meaning": self.meaning,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "proves": _proves() if self.fine else [],
            "does_not_prove": _does_not_prove(),
        }

    def text(self) -> str:
        """For people, to be kept."""
        return "\n".join(_lines(self)) + "\n"


def one_line(outcome: Outcome) -> str:
    """The verdict on one rehearsal."""
    verdict = _("as expected") if outcome.passed else _("NOT AS EXPECTED")
    return f"{outcome.title}: {verdict} ({outcome.seconds:.0f} s)"


def _introduction() -> str:
    return _(
        "Email Offload takes mails over from Moodle shortly before they are due (it claims them), and sends them "
        "through Amazon SES. Where that fails, a mail goes another way, by the fallback that you chose. Each "
        "rehearsal breaks one thing on purpose, beside a sample Moodle, and then counts where the mails arrived. "
        "The numbers are mails."
    )


def _proves() -> list[str]:
    return [
        _("The version installed here, with your choice of fallback, does what the documentation promises when "
          "Amazon SES, Moodle's database or the worker fails: no mail was lost and none was sent twice."),
        _("What was sent was counted where it arrived, not by the product itself."),
    ]  # fmt: skip


def _does_not_prove() -> list[str]:
    return [
        _("Nothing of your site took part: not your Moodle, not your records, not your Amazon SES account, not "
          "your mail server. Whether those are set up well is what `manage.py doctor` looks at."),
        _("The rehearsals used three routing rules of their own, one for each choice of fallback. Your routing "
          "rules are shown on the page Routing."),
        _("They used SQLite, where reminders are claimed only before they are due. Your site uses MariaDB or "
          "MySQL and also claims due ones under Moodle's cron lock, which the test suite proves."),
        _("Times here are seconds instead of minutes, and a few dozen mails. They say in which order things "
          "happen, not how fast your site is."),
    ]  # fmt: skip


def _lines(report: Report) -> Iterator[str]:
    yield _("Email Offload: rehearsal of failures")
    yield _("%(date)s, took %(time)s") % {"date": report.date, "time": span(round(report.seconds))}
    yield ""
    yield from _verdict(report)
    yield ""
    yield from _wrapped(_introduction())
    yield ""
    for number, outcome in enumerate(report.outcomes, 1):
        yield from _rehearsal(number, outcome)
    if report.ledger:
        yield from _headed(_("The ledger: every mail of all rehearsals, counted where it arrived"))
        yield str(report.ledger)
        yield ""
    yield from _section(_("What the times mean on your site"), report.meaning)
    yield from _headed(_("How much faster than on your site"))
    columns = _("your site"), _("here")
    yield f"{columns[0]:>12} {columns[1]:>8}"
    for line in report.times:
        yield f"{span(line.site):>12} {span(line.here):>8}   {line.what}"
    yield ""
    yield from _headed(_("Settings that were taken from your site"))
    yield from (f"  {name:<18} {value}" for name, value in report.settings.items())
    yield ""
    yield from _headed(_("Versions"))
    yield from _wrapped(", ".join(f"{name} {value}" for name, value in report.versions.items()), "  ", "  ")
    yield ""
    if report.fine:
        yield from _section(_("What this proves"), _proves())
    yield from _section(_("What this does not prove"), _does_not_prove())


def _verdict(report: Report) -> Iterator[str]:
    failed = [outcome.title for outcome in report.outcomes if not outcome.passed]
    if report.fine:
        words = _("Result: everything went as expected. No mail was lost, and none was sent twice.")
    elif failed:
        words = _("Result: NOT AS EXPECTED. See: %(names)s.") % {"names": "; ".join(failed)}
    elif report.ledger and not report.ledger.fine:
        words = _("Result: NOT AS EXPECTED. See the ledger.")
    else:
        words = _("Result: the drill could not be carried through.")
    yield from _wrapped(words)
    if report.problem:
        yield from _wrapped(report.problem)
    if not report.fine:
        yield from _wrapped(
            _(
                "Run it once more when the machine is not busy. If it ends the same way, report it, with this text."
            )
        )


def _rehearsal(number: int, outcome: Outcome) -> Iterator[str]:
    yield from _headed(f"{number}. {one_line(outcome)}")
    for step in outcome.steps:
        if isinstance(step, Deed):
            yield from _wrapped(step.did, "  ")
            continue
        mark = _("ok") if step.ok else _("NO")
        same = step.ok and step.seen.startswith(step.expected)
        seen = step.seen if same else _("%(seen)s (expected: %(expected)s)") % asdict(step)
        yield from _wrapped(f"{step.what}: {seen}", f"    {mark:<3} ", "        ")
    if outcome.problem:
        yield from _wrapped(outcome.problem, "  ! ", "    ")
    if not outcome.passed and outcome.states:
        states = ", ".join(f"{number} {state}" for state, number in outcome.states.items())
        yield from _wrapped(
            _("The product's own records at the end: %(states)s") % {"states": states}, "  ! ", "    "
        )
    yield ""


def _section(title: str, texts: Iterable[str]) -> Iterator[str]:
    yield from _headed(title)
    for text in texts:
        yield from _wrapped(text, "* ", "  ")
    yield ""


def _headed(title: str) -> Iterator[str]:
    yield from _wrapped(title)
    yield "-" * min(WIDTH, len(title))


def _wrapped(text: str, first: str = "", others: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=others or first) or [first]
