"""The lines of *Coverage*: one for each activity and kind of mail, with the verdict and the rules of now.

What can be claimed was counted (`worker.coverage`); nothing here asks Moodle or makes a query.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlencode

from django.conf import settings
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from emailoffload.dashboard import coverage_words as text
from emailoffload.dashboard import words
from emailoffload.dashboard.reasons import meaning
from emailoffload.moodle.targets import IOMAD_QUEUE, REENGAGEMENT
from emailoffload.policy.copies import Subject
from emailoffload.policy.routing import MODES, RoutingRules, Rule, scope_words
from emailoffload.sources import reasons
from emailoffload.worker.coverage_count import SENT_DAYS, WENT_OUT, Counted, Item

OFFLOADED, PARTLY, NOT = "offloaded", "partly", "not"
VERDICTS: Final[Mapping[str, tuple[Promise, str]]] = {
    NOT: (gettext_lazy("not offloaded"), "warn"),
    PARTLY: (gettext_lazy("partly"), "wait"),
    OFFLOADED: (gettext_lazy("offloaded"), "good"),
}
"""What each verdict is called, and its tone; in the order in which they ask for attention."""
FALLBACKS: Final[Mapping[str, Promise]] = {
    "moodle": gettext_lazy("If the cloud fails: Moodle"),
    "smtp": gettext_lazy("If the cloud fails: SMTP"),
    "hold": gettext_lazy("If the cloud fails: a person"),
}
LEFT_SHOWN: Final = 3
_ORDER: Final = list(VERDICTS)


@dataclass
class Line:
    """One activity or kind of mail, with what the rules of now say about it."""

    item: Item
    rules: list[Rule] = field(default_factory=list)
    """Which may decide: those for single companies and courses, then the one for all others, if there is one."""
    problem: Mapping[str, str] = field(default_factory=dict)
    """Why nothing of its source may be claimed; empty for nothing."""

    @property
    def queue(self) -> bool:
        """Whether it is a kind of IOMAD mail."""
        return self.item.source == IOMAD_QUEUE

    @cached_property
    def technical(self) -> str:
        """The verdict as far as Moodle is concerned."""
        item = self.item
        if self.problem or not item.claimable:
            return NOT
        return OFFLOADED if item.claimable >= item.owed else PARTLY

    @cached_property
    def general(self) -> Rule | None:
        """The rule for everybody whom no rule for a company or course is about; None: the default, we send."""
        last = self.rules[-1] if self.rules else None
        return last if last and not self._narrow(last) else None

    @property
    def special(self) -> list[Rule]:
        """The rules for single companies, and for single courses where the course of a mail is not known."""
        return [rule for rule in self.rules if self._narrow(rule)]

    def _narrow(self, rule: Rule) -> bool:
        return bool(rule.scope[2] or (self.queue and rule.scope[1]))

    @cached_property
    def share(self) -> float:
        """The part of its mails that the general rule lets us have."""
        return _share(self.general)

    @cached_property
    def verdict(self) -> str:
        """Offloaded, partly or not, with Moodle and the rules together."""
        shares = {self.share, *map(_share, self.special)}
        if self.technical == NOT or shares == {0.0}:
            return NOT
        return OFFLOADED if self.technical == OFFLOADED and shares == {1.0} else PARTLY

    @cached_property
    def ours(self) -> int:
        """Of its mails of a week, those that are ours; rules for single companies are left out of account."""
        return 0 if self.technical == NOT else round(self.item.week_claimable * self.share)

    @property
    def theirs(self) -> int:
        """Of its mails of a week, those that stay with Moodle."""
        return max(0, self.item.week - self.ours)

    @property
    def name(self) -> str:
        """What it is called."""
        item = self.item
        return words.template(item.template) if self.queue else item.name

    @property
    def silent(self) -> bool:
        """Whether it is a kind of IOMAD mail of which there was none lately: most of IOMAD's are, on any site."""
        return self.queue and not (self.item.week or self.item.waiting or self.item.sent)

    @property
    def nobody(self) -> bool:
        """Whether Moodle, too, mails nobody."""
        return self.item.reason in text.NOBODY

    @property
    def badge(self) -> tuple[Promise, str]:
        """The verdict's name and tone."""
        return VERDICTS[self.verdict]

    @property
    def rank(self) -> tuple[int, int, int, str, int]:
        """The largest volume that is not ours first."""
        return -self.theirs, _ORDER.index(self.verdict), -self.item.week, self.name, self.item.activity_id

    # What only the lines of one page need.

    @property
    def reason(self) -> str:
        """Why it is not ours, or only partly, in sentences; '' for what is."""
        if self.problem:
            return self.problem["text"]
        return " ".join(part for part in (text.why(self.item), self._ruled()) if part)

    @property
    def steps(self) -> list[str]:
        """What to change in Moodle, one step each."""
        return [self.problem["cure"]] if self.problem else text.steps(self.item)

    @property
    def mind(self) -> str:
        """What the change means for learners who are on the way; '' for nothing."""
        return "" if self.problem else text.on_the_way(self.item)

    def _ruled(self) -> str:
        """What the rules keep from us, in sentences."""
        rule = self.general
        said = []
        if rule and rule.mode != "on":
            code = reasons.ROUTING_SHADOW if rule.mode == "shadow" else reasons.ROUTING_OFF
            words_of_it = meaning(code)
            said.append(words_of_it[:1].upper() + words_of_it[1:] + ".")
        elif rule and rule.partial:
            said.append(
                _("The roll-out of its routing rule has reached %(percent)d percent of the learners.")
                % {"percent": rule.percentage}
            )
        if any(_share(each) != self.share for each in self.special):
            said.append(_("Other rules hold for single companies or courses."))
        return " ".join(said)

    @property
    def in_moodle(self) -> str:
        """Where it is in Moodle; '' where it has no place."""
        if self.queue:
            return f"{settings.MOODLE_WWWROOT}/local/email/template_list.php"
        cmid = self.item.cmid
        return f"{settings.MOODLE_WWWROOT}/course/modedit.php?update={cmid}" if cmid else ""

    @property
    def mails(self) -> str:
        """The mails that went out through us."""
        which = {"template": self.item.template} if self.queue else {"activity": self.item.activity_id}
        found = {**which, "source": self.item.source, "when": f"{SENT_DAYS}d"}
        return f"{reverse('emails')}?{urlencode(found)}&{urlencode([('state', state) for state in WENT_OUT])}"

    @property
    def left(self) -> list[tuple[str, int]]:
        """What passes left to Moodle lately, as (reason in words, rows)."""
        return [(meaning(code), rows) for code, rows in self.item.left[:LEFT_SHOWN]]

    @property
    def mode(self) -> str:
        """Who sends by the general rule, in words."""
        rule = self.general
        if rule is None:
            return _("we send, by default")
        if not rule.partial:
            return str(MODES[rule.mode])
        return _("%(mode)s, for %(percent)d percent of the learners") % {
            "mode": MODES[rule.mode],
            "percent": rule.percentage,
        }

    @property
    def fallback(self) -> str:
        """What happens when the cloud fails; '' where Moodle sends anyway."""
        if self.general and self.general.mode != "on":
            return ""
        return str(FALLBACKS[self.general.fallback if self.general else settings.DEFAULT_FALLBACK])

    @property
    def specials(self) -> list[tuple[Rule, str]]:
        """The rules for single companies or courses with what each is for, the first few."""
        return [(rule, scope_words(rule.scope)) for rule in self.special[:LEFT_SHOWN]]

    @property
    def more_specials(self) -> int:
        """How many rules there are beyond these."""
        return max(0, len(self.special) - LEFT_SHOWN)

    @property
    def explained(self) -> str:
        """The explanation which rule holds."""
        which = {"template": self.item.template} if self.queue else {"activity": self.item.activity_id}
        return f"{reverse('routing')}?{urlencode(which)}"

    @property
    def add_rule(self) -> str:
        """The admin's form for a rule of its own, filled in."""
        own: dict[str, Any] = {"source": self.item.source, "name": self.name[:100]}
        own |= {"template": self.item.template} if self.queue else {"activity_id": self.item.activity_id}
        return f"{reverse('admin:emailoffload_routingrule_add')}?{urlencode(own)}"


def _share(rule: Rule | None) -> float:
    if rule is None:
        return 1.0
    return rule.percentage / 100 if rule.mode == "on" else 0.0


def lines(found: Counted, rules: RoutingRules) -> list[Line]:
    """Every activity and kind of mail with the rules of now, the largest volume that is not ours first."""
    result = []
    for item in found.items:
        queue = item.source == IOMAD_QUEUE
        subject = Subject(
            0, item.source, 0, course_id=item.course_id, activity_id=item.activity_id, template=item.template
        )
        possible = rules.possible(subject, course_known=not queue)
        result.append(Line(item, possible, found.sources.get(item.source, {})))
    return sorted(result, key=lambda line: line.rank)


@dataclass(frozen=True, slots=True)
class Summary:
    """How much of a source is ours."""

    source: str
    total: int
    ours: int
    partly: int
    nobody: int
    week: int
    week_ours: int

    @property
    def sentence(self) -> str:
        """How many are offloaded: "41 of 52 activities are offloaded."."""
        if self.source == REENGAGEMENT:
            said = ngettext(
                "%(n)d of %(total)d activity is offloaded.",
                "%(n)d of %(total)d activities are offloaded.",
                self.total,
            )
        else:
            said = ngettext(
                "%(n)d of %(total)d kind of IOMAD mail is offloaded.",
                "%(n)d of %(total)d kinds of IOMAD mail are offloaded.",
                self.total,
            )
        return said % {"n": self.ours, "total": self.total}

    @property
    def volume(self) -> str:
        """How much of a week's mail is: "93 % of the mails owed in the next 7 days are ours."."""
        values = {"percent": self.percent, "week": number_format(self.week, force_grouping=True)}
        if self.source == REENGAGEMENT:
            if not self.week:
                return _("Activities owe no mail in the next 7 days.")
            return (
                _("We send %(percent)d %% of the %(week)s mails that they owe in the next 7 days.") % values
            )
        if not self.week:
            return _("IOMAD queued no mail in the last 7 days.")
        return (
            _("We send %(percent)d %% of mails such as the %(week)s that IOMAD queued in the last 7 days.")
            % values
        )

    @property
    def also(self) -> str:
        """How many are partly ours, and how many mail nobody; '' for none."""
        said = []
        if self.partly:
            said.append(
                ngettext("%(n)d more is partly offloaded.", "%(n)d more are partly offloaded.", self.partly)
                % {"n": self.partly}
            )
        if self.nobody:
            said.append(
                ngettext(
                    "%(n)d of the others mails nobody, in Moodle either.",
                    "%(n)d of the others mail nobody, in Moodle either.",
                    self.nobody,
                )
                % {"n": self.nobody}
            )
        return " ".join(said)

    @property
    def percent(self) -> int:
        """Of a week's mails, rounded down: only all of them are 100."""
        return 100 * self.week_ours // self.week if self.week else 0

    @property
    def tone(self) -> str:
        """Good where all is ours that mails anybody."""
        return "good" if self.ours + self.nobody >= self.total else "wait"


def summary(source: str, found: Sequence[Line]) -> Summary:
    """How much of these lines of one source is ours."""
    return Summary(
        source,
        len(found),
        sum(line.verdict == OFFLOADED for line in found),
        sum(line.verdict == PARTLY for line in found),
        sum(line.nobody for line in found),
        sum(line.item.week for line in found),
        sum(line.ours for line in found),
    )


def summaries(found: Counted, every: Sequence[Line]) -> list[Summary]:
    """One for each source that the site has."""
    return [
        summary(source, [line for line in every if line.item.source == source]) for source in found.sources
    ]


@dataclass(frozen=True, slots=True)
class Group:
    """The lines of one course, or all kinds of IOMAD mail."""

    course_id: int
    title: str
    lines: list[Line]
    silent: bool = False
    """Kinds of mail of which there was none lately; they come last."""

    @property
    def queue(self) -> bool:
        """Whether these are kinds of IOMAD mail."""
        return bool(self.lines) and self.lines[0].queue

    @property
    def in_moodle(self) -> str:
        """The course in Moodle; '' for mails of IOMAD and where there is no course."""
        return f"{settings.MOODLE_WWWROOT}/course/view.php?id={self.course_id}" if self.course_id else ""


def grouped(found: Sequence[Line]) -> list[Group]:
    """The lines by course, the course with the largest volume that is not ours first."""
    by_course: defaultdict[tuple[bool, bool, int], list[Line]] = defaultdict(list)
    for line in found:
        by_course[line.silent, line.queue, line.item.course_id].append(line)
    groups = []
    for (silent, queue, course_id), own in by_course.items():
        title = own[0].item.course_name or _("Without a course")
        if queue:
            title = _("Mails of IOMAD of which there was none lately") if silent else _("Mails of IOMAD")
        groups.append(Group(course_id, title, own, silent))
    groups.sort(
        key=lambda group: (
            group.silent, -sum(line.theirs for line in group.lines), group.title, group.course_id
        )
    )  # fmt: skip
    return groups
