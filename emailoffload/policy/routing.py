"""Who sends a mail, Moodle or we, and what happens when the cloud fails: the routing rules (design §6).

A rule's scope is the conjunction of what it names. Of the rules that fit a mail the one with the most specific
scope decides alone, in the order activity, course, company, template, source, site: scopes are compared as
tuples of what they name, so a rule for an activity beats every rule without one, and of two rules for an
activity the one that also names the course beats the other, and so on. Rules of the same scope: the stricter
mode wins (off, shadow, on), then the oldest rule. Where no rule fits, mails are offloaded, with the fallback
of the setting DEFAULT_FALLBACK.

A rule may be for a part of the learners only; for the others Moodle sends. Who belongs to the part is a hash of
the user's id, keyed by the rule's name: raising the percentage only adds learners, and another rule (or the
same one renamed) chooses others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, Literal, cast

from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.moodle import targets
from emailoffload.policy.copies import Subject
from emailoffload.policy.models import RoutingRule

Mode = Literal["on", "shadow", "off"]
Fallback = Literal["moodle", "smtp", "hold"]
Suppressed = Literal["record", "moodle"]
Scope = tuple[int | None, int | None, int | None, str, str]
"""Activity, course, company, template, source; what is not named is None or ''."""

_NOTHING: Final[Scope] = (None, None, None, "", "")
STRICTNESS: Final[Mapping[str, int]] = {"on": 0, "shadow": 1, "off": 2}
MODES: Final[Mapping[str, Promise]] = {
    "on": gettext_lazy("we send"),
    "shadow": gettext_lazy("shadow: Moodle sends, we compare"),
    "off": gettext_lazy("Moodle sends"),
}
SOURCES: Final[Mapping[str, Promise]] = {
    targets.REENGAGEMENT: gettext_lazy("all reminders"),
    targets.IOMAD_QUEUE: gettext_lazy("all mails of IOMAD"),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A routing rule as it is applied."""

    id: int
    name: str
    mode: Mode
    percentage: int
    fallback: Fallback
    scope: Scope
    suppressed: Suppressed = "record"

    @property
    def named(self) -> tuple[bool, ...]:
        """Which parts of the scope are named, the most specific first: larger is more specific."""
        return tuple(bool(part) for part in self.scope)

    @property
    def rank(self) -> tuple[tuple[bool, ...], int, int]:
        """Of the rules that fit a mail, the one with the largest rank decides."""
        return self.named, STRICTNESS[self.mode], -self.id

    @property
    def partial(self) -> bool:
        """Whether it is for a part of the learners only. A rule that is off is for all."""
        return self.mode != "off" and self.percentage < 100

    def includes(self, user_id: int) -> bool:
        """Whether the rule's roll-out has reached this learner."""
        return not self.partial or bucket(self.name, user_id) < self.percentage


def bucket(name: str, user_id: int) -> int:
    """The learner's place, from 0 to 99, in the roll-out of the rule with this name. It never changes."""
    key = hashlib.blake2b(name.encode(), digest_size=32).digest()
    digest = hashlib.blake2b(str(user_id).encode(), digest_size=8, key=key).digest()
    return int.from_bytes(digest) % 100


def rule_of(row: RoutingRule) -> Rule:
    """A stored rule as it is applied."""
    scope = (row.activity_id or None, row.course_id or None, row.company_id or None, row.template, row.source)
    return Rule(
        row.pk, row.name, cast("Mode", row.mode), row.percentage, cast("Fallback", row.fallback), scope,
        cast("Suppressed", row.suppressed),
    )  # fmt: skip


def scope_words(scope: Scope) -> str:
    """A scope in words: "activity 13, company 4", or "the whole site"."""
    activity, course, company, template, source = scope
    parts = [
        _("activity %(id)d") % {"id": activity} if activity else "",
        _("course %(id)d") % {"id": course} if course else "",
        _("company %(id)d") % {"id": company} if company else "",
        _("template %(name)s") % {"name": template} if template else "",
        str(SOURCES.get(source, source)),
    ]
    return ", ".join(part for part in parts if part) or _("the whole site")


@dataclass(frozen=True)
class Effective:
    """What holds for one mail, and why. `mode` is what is done with it: beyond a roll-out that is "off"."""

    mode: Mode
    fallback: Fallback
    subject: Subject
    matching: tuple[Rule, ...] = ()
    """Every rule that fits; the first one decides."""
    beyond: bool = False
    """The rule's roll-out has not reached this learner."""

    @property
    def suppressed(self) -> Suppressed:
        """What is done about a user whose address is suppressed; where no rule fits, it is recorded."""
        return self.matching[0].suppressed if self.matching else "record"

    @property
    def rule(self) -> str:
        """The name of the rule that decides; '' where none fits."""
        return self.matching[0].name if self.matching else ""

    @cached_property
    def explanation(self) -> list[str]:
        """In sentences: which rule decides and why, the roll-out, the fallback, and each rule that lost."""
        if not self.matching:
            first = _("No rule fits this mail. Then we send it: that is the default.")
            return [first, self._failing(_("the setting DEFAULT_FALLBACK")), self._barred()]
        winner = self.matching[0]
        values = {
            "rule": winner.name,
            "scope": scope_words(winner.scope),
            "mode": MODES[winner.mode],
        }
        lines = [_("The rule “%(rule)s” (%(scope)s) decides: %(mode)s.") % values, self._why()]
        if winner.partial:
            lines.append(self._reach(winner))
        if self.mode == "on":
            lines.append(self._failing(_("the rule")))
        lines += [_lost(*pair) for pair in pairwise(self.matching)]
        if self.mode == "on":
            lines.append(self._barred())
        return lines

    def _why(self) -> str:
        if len(self.matching) == 1:
            return _("It is the only rule that fits.")
        if self.matching[0].scope != self.matching[1].scope:
            return _("Its scope is the most specific of those that fit.")
        return _("No other rule that fits is more specific, and among those of its scope it comes first.")

    def _reach(self, winner: Rule) -> str:
        values = {"percent": winner.percentage, "user": self.subject.user_id}
        if not self.subject.user_id:
            text = _(
                "It is for %(percent)d percent of the learners so far: name a user to see whether they are "
                "among them. For the others Moodle sends."
            )
        elif self.beyond:
            text = _(
                "It is for %(percent)d percent of the learners so far, and user %(user)d is not among them: "
                "Moodle sends."
            )
        else:
            text = _("It is for %(percent)d percent of the learners so far, and user %(user)d is among them.")
        return text % values

    def _barred(self) -> str:
        label = RoutingRule.Suppressed(self.suppressed).label
        return _("Where the user's address is suppressed: %(what)s.") % {"what": label}

    def _failing(self, whose: str) -> str:
        label = RoutingRule.Fallback(self.fallback).label
        return _("When the cloud fails, %(whose)s says: %(fallback)s.") % {"whose": whose, "fallback": label}


def _lost(better: Rule, rule: Rule) -> str:
    """Why a rule that fits comes after another one."""
    values = {
        "rule": rule.name,
        "scope": scope_words(rule.scope),
        "mode": MODES[rule.mode],
        "better": better.name,
    }
    if better.scope != rule.scope:
        text = _("“%(rule)s” (%(scope)s: %(mode)s) fits too, but is less specific.")
    elif better.mode != rule.mode:
        text = _("“%(rule)s” has the scope of “%(better)s”; the stricter of the two comes first.")
    else:
        text = _("“%(rule)s” has the scope and the mode of “%(better)s”; the older of the two comes first.")
    return text % values


class RoutingRules:
    """The rules that are switched on, as they stood when they were read. Asking costs no query."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.ordered: Sequence[Rule] = sorted(rules, key=lambda rule: rule.rank, reverse=True)
        """The first that fits a mail decides."""
        self._by_scope: dict[tuple[bool, ...], dict[Scope, list[Rule]]] = {}
        for rule in self.ordered:
            self._by_scope.setdefault(rule.named, {}).setdefault(rule.scope, []).append(rule)
        self._possible: dict[tuple[str, int | None], list[Rule]] = {}
        self._open: dict[bool, dict[tuple[bool, ...], dict[Scope, list[Rule]]]] = {}

    @classmethod
    def load(cls) -> RoutingRules:
        """Read the rules, one query. Raises database errors of our own database."""
        return cls(rule_of(row) for row in RoutingRule.objects.filter(enabled=True))

    def decide(self, subject: Subject) -> Effective:
        """What holds for one mail. Its user's id may be 0 for nobody in particular: a roll-out then counts as
        having reached them."""
        own: Scope = (
            subject.activity_id, subject.course_id, subject.company_id, subject.template, subject.source,
        )  # fmt: skip
        matching: list[Rule] = []
        for named, rules in self._by_scope.items():
            wanted = tuple(
                value if here else nothing for value, nothing, here in zip(own, _NOTHING, named, strict=True)
            )
            matching += rules.get(cast("Scope", wanted), ())
        if not matching:
            return Effective("on", cast("Fallback", settings.DEFAULT_FALLBACK), subject)
        winner = matching[0]
        beyond = bool(subject.user_id) and not winner.includes(subject.user_id)
        mode: Mode = "off" if beyond else winner.mode
        return Effective(mode, winner.fallback, subject, tuple(matching), beyond)

    def possible(self, subject: Subject, *, course_known: bool) -> list[Rule]:
        """The rules that may decide about a mail of which the company (and perhaps the course) is not known, the
        first ones before the others: rules for single companies and courses, then the first that holds for all of
        them, if there is one. Without that the default holds for the rest."""
        course = subject.course_id if course_known else None
        own: Scope = (subject.activity_id, course, None, subject.template, subject.source)
        found: list[Rule] = []
        for named, rules in self._without_company(course_known).items():
            wanted = tuple(
                value if here else nothing for value, nothing, here in zip(own, _NOTHING, named, strict=True)
            )
            found += rules.get(cast("Scope", wanted), ())
        found.sort(key=lambda rule: rule.rank, reverse=True)
        for place, rule in enumerate(found):
            if not rule.scope[2] and (course_known or not rule.scope[1]):
                return found[: place + 1]
        return found

    def _without_company(self, course_known: bool) -> dict[tuple[bool, ...], dict[Scope, list[Rule]]]:
        """The rules by what they name beside companies (and courses, where these are not known)."""
        if course_known not in self._open:
            table = self._open[course_known] = {}
            for rule in self.ordered:
                activity, course, _company, template, source = rule.scope
                rest: Scope = (activity, course if course_known else None, None, template, source)
                table.setdefault(tuple(map(bool, rest)), {}).setdefault(rest, []).append(rule)
        return self._open[course_known]

    def modes(self, source: str) -> frozenset[Mode]:
        """Every mode that a mail of this source may have, whoever and whatever it is about."""
        found: set[Mode] = set()
        rules = self._could_fit(source, None)
        for rule in rules:
            if rule.percentage or rule.mode == "off":
                found.add(rule.mode)
            if rule.partial:
                found.add("off")
        if not rules or not _surely_fits(rules[-1], activity_known=False):
            found.add("on")
        return frozenset(found)

    def left_anyway(self, source: str, activity_id: int, user_id: int) -> Effective | None:
        """What holds for a mail of which only this is known, if it is "off" whatever its course, company and
        template are; else None. Asked before a mail is rendered for nothing."""
        for rule in self._could_fit(source, activity_id):
            beyond = not rule.includes(user_id)
            if rule.mode != "off" and not beyond:
                return None
            if _surely_fits(rule, activity_known=True):
                subject = Subject(0, source, user_id, activity_id=activity_id)
                return Effective("off", rule.fallback, subject, (rule,), beyond)
        return None

    def _could_fit(self, source: str, activity_id: int | None) -> list[Rule]:
        """The rules that may decide about a mail of this source (and activity, unless None), up to the first
        one that fits all of them."""
        key = (source, activity_id)
        if key not in self._possible:
            found: list[Rule] = []
            for rule in self.ordered:
                if _may_fit(rule, source, activity_id):
                    found.append(rule)
                    if _surely_fits(rule, activity_known=activity_id is not None):
                        break
            self._possible[key] = found
        return self._possible[key]


def _may_fit(rule: Rule, source: str, activity_id: int | None) -> bool:
    activity, _course, _company, template, of_source = rule.scope
    if of_source and of_source != source:
        return False
    if template and source != targets.IOMAD_QUEUE:
        return False
    if activity is None:
        return True
    return source == targets.REENGAGEMENT and activity_id in (None, activity)


def _surely_fits(rule: Rule, *, activity_known: bool) -> bool:
    """Whether a rule that may fit does so whatever course, company and template (and activity) turn out to be."""
    activity, course, company, template, _source = rule.scope
    return not course and not company and not template and (activity_known or not activity)
