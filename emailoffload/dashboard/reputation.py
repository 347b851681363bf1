"""The page Reputation: bounce and complaint rates against SES's thresholds, what is stopped, a person's override.

People bound to companies see the rates of these, and nothing of the site's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django import forms
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.actions import reputation as actions
from emailoffload.dashboard import access, companies
from emailoffload.dashboard.views import Page
from emailoffload.feedback import claimstop, rates
from emailoffload.feedback.claimstop import Stops
from emailoffload.feedback.rates import Level, Rate
from emailoffload.outbox import scope
from emailoffload.worker.alarm_conditions import percent

MOST = 200
"""Companies, and domains, that are shown: the worst."""
TONES: Final[dict[Level, str]] = {"stop": "bad", "warning": "warn", "good": "good", "few": "quiet"}
LEVELS: Final[dict[Level, Promise]] = {
    "stop": gettext_lazy("stops claims"),
    "warning": gettext_lazy("too high"),
    "good": gettext_lazy("good"),
    "few": gettext_lazy("too few mails to judge"),
}
TIMES: Final[dict[str, tuple[timedelta, Promise]]] = {
    "1": (timedelta(hours=1), gettext_lazy("an hour")),
    "4": (timedelta(hours=4), gettext_lazy("4 hours")),
    "24": (timedelta(hours=24), gettext_lazy("a day")),
    "72": (timedelta(hours=72), gettext_lazy("3 days")),
    "168": (timedelta(hours=168), gettext_lazy("a week")),
}
END: Final = "end"


@dataclass(frozen=True, slots=True)
class Measure:
    """One rate beside SES's thresholds; `fill` is its share of the pause threshold in percent, 100 at most."""

    shown: str
    number: int
    fill: str


@dataclass(frozen=True, slots=True)
class Line:
    """A rate as the page shows it."""

    name: str
    rate: Rate
    bounces: Measure
    complaints: Measure
    tone: str
    level: Promise


@dataclass(frozen=True, slots=True)
class Section:
    """The lines of a scope."""

    code: str
    title: Promise
    lines: Sequence[Line]
    more: int
    """How many are not shown."""


TITLES: Final[dict[str, Promise]] = {
    "account": gettext_lazy("The whole account"),
    "identity": gettext_lazy("By sender's domain"),
    "company": gettext_lazy("By company"),
}


class OverrideForm(forms.Form):
    """For how long claiming goes on in spite of the rates, and why."""

    lasting = forms.ChoiceField(
        label=gettext_lazy("For how long?"),
        choices=[
            *((code, words) for code, (_time, words) in TIMES.items()),
            (END, gettext_lazy("End it now")),
        ],
    )
    reason = forms.CharField(
        label=gettext_lazy("Why?"),
        max_length=500,
        help_text=gettext_lazy("Shown on Overview, and kept in the audit log with your name."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


def sections(user: scope.Person) -> list[Section]:
    """The rates that a person may see, by scope, the worst first; three queries."""
    own = scope.companies_of(user)
    found = rates.rates(companies=own)
    names = companies.stored(user)
    shown = []
    for code, title in TITLES.items():
        those = [each for each in found if each.scope == code and (each.mails or code == "account")]
        those.sort(key=_badness)
        if those:
            lines = [_line(each, names) for each in those[:MOST]]
            shown.append(Section(code, title, lines, len(those) - len(lines)))
    return shown


def _badness(each: Rate) -> tuple[int, float, str, bool]:
    worst = max(each.bounces / rates.BOUNCES_PAUSED, each.complained / rates.COMPLAINTS_PAUSED)
    return rates.WORST.index(each.level), -worst, each.key, each.window == "day"


def _line(each: Rate, names: dict[int, str]) -> Line:
    name = each.key
    if each.scope == "account":
        name = _("The whole account")
    elif each.scope == "company":
        name = names.get(int(each.key)) or _("Company %(id)s") % {"id": each.key}
    return Line(
        name,
        each,
        _measure(each.permanent_bounces, each.bounces, rates.BOUNCES_PAUSED),
        _measure(each.complaints, each.complained, rates.COMPLAINTS_PAUSED),
        TONES[each.level],
        LEVELS[each.level],
    )


def _measure(number: int, rate: float, pause: float) -> Measure:
    return Measure(percent(rate), number, f"{min(100.0, 100 * rate / pause):.1f}")


class ReputationPage(Page):
    """The rates and what is stopped; a POST lets claiming go on for a while, or ends that."""

    template_name = "offload/reputation.html"
    permissions = (access.VIEW_REPUTATION,)
    http_method_names = ("get", "head", "post", "options")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The sections, the stops in force, the thresholds, and the form for those who may pause."""
        whole = not scope.is_bound(self.request.user)
        stops = claimstop.known() if whole else Stops()
        form = kwargs.pop("form", None) or OverrideForm()
        return super().get_context_data(
            sections=sections(self.request.user),
            stops=stops,
            whole_site=whole,
            may_override=whole and self.request.user.has_perm(access.PAUSE),
            form=form,
            thresholds=thresholds(),
            volume=settings.REPUTATION_VOLUME,
            minimum=settings.REPUTATION_MINIMUM,
            **kwargs,
        )

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Override or end it; 400 without a time or a reason, 403 without the permission to pause."""
        if scope.is_bound(request.user) or not request.user.has_perm(access.PAUSE):
            raise PermissionDenied(str(access.NEEDED[access.PAUSE]) % {"permission": access.PAUSE})
        form = OverrideForm(request.POST)
        if not form.is_valid():
            return self.render_to_response(self.get_context_data(form=form, **kwargs), status=400)
        actor, reason = request.user.get_username(), form.cleaned_data["reason"]
        if form.cleaned_data["lasting"] == END:
            actions.end_override(actor=actor, reason=reason)
        else:
            actions.override(TIMES[form.cleaned_data["lasting"]][0], actor=actor, reason=reason)
        return redirect("reputation")


def thresholds() -> list[tuple[str, str, str]]:
    """What happens at which rate: (what, permanent bounces, complaints)."""
    warn = settings.REPUTATION_WARN_PERCENT / 100
    stop = settings.REPUTATION_STOP_PERCENT / 100
    rows = [
        (_("We warn"), warn * rates.BOUNCES_REVIEWED, warn * rates.COMPLAINTS_REVIEWED),
        (_("SES reviews the account"), rates.BOUNCES_REVIEWED, rates.COMPLAINTS_REVIEWED),
        (_("We stop claiming"), stop * rates.BOUNCES_PAUSED, stop * rates.COMPLAINTS_PAUSED),
        (_("SES may pause the account"), rates.BOUNCES_PAUSED, rates.COMPLAINTS_PAUSED),
    ]
    return [
        (what, percent(bounces), percent(complaints)) if bounces else (what, _("never"), _("never"))
        for what, bounces, complaints in rows
    ]
