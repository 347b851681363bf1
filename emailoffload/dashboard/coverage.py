"""Coverage: what of the site's mail is ours, what is not, why, and what to change in Moodle.

What can be claimed was counted by the worker (`worker.coverage`) with the code that claims; nothing here asks
Moodle. The routing rules are applied as they are now. It is about the whole site: people who are bound to
companies do not see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy

from emailoffload.actions import coverage as actions
from emailoffload.dashboard import access, words
from emailoffload.dashboard.coverage_lines import VERDICTS, Group, Line, grouped, lines, summaries
from emailoffload.dashboard.views import Page
from emailoffload.moodle.targets import IOMAD_QUEUE
from emailoffload.outbox import switches
from emailoffload.policy.routing import RoutingRules
from emailoffload.worker import coverage as counting

PAGE_SIZE: Final = 50


class Chosen(forms.Form):
    """Which lines are shown."""

    q = forms.CharField(
        label=gettext_lazy("Name or number"),
        required=False,
        max_length=100,
        widget=forms.TextInput(attrs={"type": "search", "autocomplete": "off"}),
    )
    verdict = forms.ChoiceField(
        label=gettext_lazy("Verdict"),
        required=False,
        choices=[("", gettext_lazy("all")), *((code, name) for code, (name, _tone) in VERDICTS.items())],
    )
    course = forms.CharField(
        label=gettext_lazy("Course (name or number)"),
        required=False,
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    source = forms.ChoiceField(
        label=gettext_lazy("Source"),
        required=False,
        choices=[("", gettext_lazy("all")), *words.SOURCES.items()],
    )

    def fits(self, line: Line) -> bool:
        """Whether a line is wanted. Only for a valid form."""
        wanted, item = self.cleaned_data, line.item
        if wanted["verdict"] and line.verdict != wanted["verdict"]:
            return False
        if wanted["source"] and item.source != wanted["source"]:
            return False
        if wanted["course"] and not _means(wanted["course"], [item.course_id], [item.course_name]):
            return False
        return not wanted["q"] or _means(
            wanted["q"], [item.activity_id, item.cmid], [line.name, item.template]
        )


def _means(typed: str, ids: Sequence[int], names: Sequence[str]) -> bool:
    """Whether a typed text is one of the numbers, or a part of one of the names."""
    typed = typed.strip().casefold()
    if typed.isascii() and typed.isdigit() and typed.lstrip("0") in {str(number) for number in ids if number}:
        return True
    return any(typed in name.casefold() for name in names)


@dataclass(frozen=True, slots=True)
class Shown:
    """One page of groups, and the numbers of its neighbours (0: there is none)."""

    groups: list[Group]
    total: int
    first: int
    last: int
    before: int
    after: int


def shown(groups: Sequence[Group], wanted: str) -> Shown:
    """The page with the number `wanted`; one that does not exist is the first."""
    flat = [(group, line) for group in groups for line in group.lines]
    pages = max(1, -(-len(flat) // PAGE_SIZE))
    number = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 7 else 1
    number = number if 1 <= number <= pages else 1
    part = flat[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
    found: list[Group] = []
    for group, line in part:
        if not found or (found[-1].course_id, found[-1].title) != (group.course_id, group.title):
            found.append(Group(group.course_id, group.title, [], group.silent))
        found[-1].lines.append(line)
    first = (number - 1) * PAGE_SIZE
    return Shown(
        found, len(flat), first + 1, first + len(part), number - 1, number + 1 if number < pages else 0
    )


class CoveragePage(Page):
    """What is offloaded and what is not; a POST has it counted again."""

    template_name = "offload/coverage.html"
    permissions = (access.VIEW_ROUTINGRULE,)
    whole_site = True
    http_method_names = ("get", "head", "post", "options")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """What was counted last, with the rules of now; four queries however many activities there are."""
        params = self.request.GET
        known = counting.known()
        every = lines(known.counted, RoutingRules.load())
        form = Chosen(params)
        valid = form.is_valid()
        page = shown(
            grouped([line for line in every if form.fits(line)] if valid else []), params.get("page", "")
        )
        kept = params.copy()
        kept.pop("page", None)
        user = self.request.user
        return super().get_context_data(
            known=known,
            form=form,
            valid=valid,
            filtered=any(params.get(name) for name in Chosen.base_fields),
            page=page,
            query=kept.urlencode(),
            summaries=summaries(known.counted, every),
            problems=[(source, problem) for source, problem in known.counted.sources.items() if problem],
            iomad=IOMAD_QUEUE in known.counted.sources,
            bell="popup" in known.counted.other_ways,
            strict=settings.RENDER_PARITY == "strict",
            pause=switches.pause(),
            may_edit=user.is_staff and user.has_perm("emailoffload.change_routingrule"),
            may_add=user.is_staff and user.has_perm("emailoffload.add_routingrule"),
            **kwargs,
        )

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Have it counted again, and lead back to the page."""
        actions.ask(request.user.get_username())
        return redirect("coverage")
