"""Routing: the rules in the order in which they count, which of them holds for a mail, and what shadows showed.

Rules concern the whole site, and explaining one would tell of other companies: people who are bound to companies
do not see this page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.db.utils import Error as DatabaseFailure
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.dashboard import access, moodle_away, shadows, words
from emailoffload.dashboard.copies import no_activity
from emailoffload.dashboard.filters import TEMPLATE, IdField
from emailoffload.dashboard.views import Page
from emailoffload.moodle import loaders, targets
from emailoffload.outbox.models import Claim
from emailoffload.policy import routing
from emailoffload.policy.copies import Subject
from emailoffload.policy.models import RoutingRule
from emailoffload.policy.routing import Effective, RoutingRules
from emailoffload.sources import registry

HEADLINES: Final[Mapping[str, Promise]] = {
    "on": gettext_lazy("We claim it and send it."),
    "shadow": gettext_lazy("Moodle sends it. We only watch, and compare."),
    "off": gettext_lazy("Moodle sends it."),
}
TONES: Final = {"on": "good", "shadow": "wait", "off": "quiet"}


class Question(forms.Form):
    """Which mail: one that exists, or any that fits what is known of it."""

    email = IdField(label=gettext_lazy("Email (number)"), required=False)
    user = IdField(label=gettext_lazy("User (id)"), required=False)
    activity = IdField(label=gettext_lazy("Activity (id)"), required=False)
    course = IdField(label=gettext_lazy("Course (id)"), required=False)
    company = IdField(label=gettext_lazy("Company (id)"), required=False)
    template = forms.CharField(
        label=gettext_lazy("Template of IOMAD"), required=False, max_length=100, validators=[TEMPLATE]
    )
    template.widget.attrs["autocomplete"] = "off"

    def clean(self) -> dict[str, Any]:
        """An email says everything itself, and a mail of IOMAD's belongs to no reminder activity."""
        asked: dict[str, Any] = super().clean() or {}
        others = [name for name in self.fields if name != "email" and asked.get(name)]
        if asked.get("email") and others:
            raise ValidationError(_("An email says all the rest itself: leave the other fields empty."))
        if asked.get("template") and asked.get("activity"):
            raise ValidationError(
                _(
                    "A template is a mail of IOMAD's, an activity one of the reminders: fill in only one of them."
                )
            )
        return asked


@dataclass(frozen=True, slots=True)
class Answer:
    """What holds for the mail if it is of this source."""

    source: str
    effective: Effective

    @property
    def headline(self) -> str:
        """Who sends, in one sentence."""
        if self._for_some:
            return _("We claim it and send it for a part of the learners; for the others Moodle sends.")
        return str(HEADLINES[self.effective.mode])

    @property
    def tone(self) -> str:
        """The colour of the headline."""
        return TONES[self.effective.mode]

    @property
    def _for_some(self) -> bool:
        effective = self.effective
        partial = bool(effective.matching) and effective.matching[0].partial
        return effective.mode == "on" and partial and not effective.subject.user_id


@dataclass(slots=True)
class Found:
    """The answer: one for each source that the mail may be of. `problem` says why there is none."""

    problem: str = ""
    answers: list[Answer] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    """What was found out about the mail, in sentences."""


def find(asked: Mapping[str, Any]) -> Found:
    """Answer a valid `Question`; a handful of queries."""
    try:
        return _of_email(asked["email"]) if asked["email"] else _of_any(asked)
    except DatabaseFailure as failure:
        moodle_away.note(failure)
        return Found(
            _(
                "Moodle's database does not answer now, so course and company of this mail are not known. Try again "
                "later, or name an email."
            )
        )


def _of_email(number: int) -> Found:
    claim = Claim.objects.filter(emails=number).first()
    if claim is None:
        return Found(_("There is no email %(id)d.") % {"id": number})
    subject = Subject(
        0, claim.source, claim.user_id, claim.company_id, claim.course_id, claim.activity_id, claim.template
    )
    kind = words.template(claim.template) if claim.template else claim.activity_name
    values = {"source": words.source(claim.source), "kind": kind or "–", "user": claim.user_id}
    label = RoutingRule.Fallback(claim.fallback).label
    known = [
        _("%(source)s (%(kind)s) to user %(user)d.") % values,
        _(
            "When it was claimed, the rules said for a cloud that fails: %(fallback)s. That still holds for it."
        )
        % {"fallback": label},
    ]
    return Found(answers=_answers(subject, [claim.source]), known=known)


def _of_any(asked: Mapping[str, Any]) -> Found:
    user_id, activity_id = asked["user"] or 0, asked["activity"] or 0
    course_id, company_id, template = asked["course"] or 0, asked["company"], asked["template"]
    known = []
    if activity_id:
        activity = loaders.load_activities([activity_id]).get(activity_id)
        if activity is None:
            return Found(no_activity(activity_id))
        home = activity.course.id if activity.course else 0
        values = {"activity": activity_id, "home": home}
        if course_id and course_id != home:
            return Found(_("Activity %(activity)d is in course %(home)d: leave the course empty.") % values)
        known.append(_("Activity %(activity)d is in course %(home)d.") % values)
        course_id = home
    if user_id and not company_id:
        company_id, name = loaders.load_company_of([user_id], few=True).get(user_id, (None, ""))
        if company_id:
            values = {"user": user_id, "name": name or "–", "company": company_id}
            known.append(_("User %(user)d belongs to %(name)s (company %(company)d).") % values)
    subject = Subject(0, "", user_id, company_id, course_id, activity_id, template)
    if activity_id or template:
        sources: Sequence[str] = [targets.REENGAGEMENT if activity_id else targets.IOMAD_QUEUE]
    else:
        sources = registry.NAMES
    return Found(answers=_answers(subject, sources), known=known)


def _answers(subject: Subject, sources: Sequence[str]) -> list[Answer]:
    rules = RoutingRules.load()
    return [Answer(source, rules.decide(replace(subject, source=source))) for source in sources]


@dataclass(frozen=True, slots=True)
class Line:
    """A rule as the list shows it."""

    row: RoutingRule
    scope: str
    partial: bool


def in_order() -> list[Line]:
    """Every rule, switched off ones last, the most specific first; one query."""
    ranked = [(row, routing.rule_of(row)) for row in RoutingRule.objects.all()]
    ranked.sort(key=lambda pair: (pair[0].enabled, pair[1].rank), reverse=True)
    return [Line(row, routing.scope_words(rule.scope), rule.partial) for row, rule in ranked]


class RoutingPage(Page):
    """The rules, the question which one holds, and what the shadows showed."""

    template_name = "offload/routing.html"
    permissions = (access.VIEW_ROUTINGRULE,)
    whole_site = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form as the address fills it; an answer where anything is asked and all fields can be used."""
        params = self.request.GET
        asked = any(params.get(name) for name in Question.base_fields)
        form = Question(params) if asked else Question()
        found = find(form.cleaned_data) if asked and form.is_valid() else None
        return super().get_context_data(
            form=form, found=found, rules=in_order(), shadows=shadows.counts(), **kwargs
        )
