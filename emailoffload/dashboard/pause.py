"""The pause: what is paused now, by whom and why, and the form that changes it."""

from __future__ import annotations

from typing import Any, Final, cast

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from emailoffload.actions import pause as actions
from emailoffload.dashboard import access
from emailoffload.dashboard.views import Page
from emailoffload.outbox import switches

CHOICES: Final[dict[str, tuple[bool, actions.Parts, Promise]]] = {
    "pause-claims": (True, "claims", _("Pause claiming: Moodle sends, what is claimed already still leaves")),
    "pause-sends": (True, "sends", _("Pause sending: what is claimed waits here")),
    "pause-both": (True, "both", _("Pause both: nothing is claimed, nothing leaves")),
    "resume-claims": (False, "claims", _("Go on claiming")),
    "resume-sends": (False, "sends", _("Go on sending")),
    "resume-both": (False, "both", _("Go on with both")),
}
"""What can be chosen: pause or resume, what of it, and its words."""


def offered(now: switches.Pause) -> list[tuple[str, Promise]]:
    """The choices that would change something."""
    paused = {"claims": now.claims, "sends": now.sends}
    found = []
    for code, (pausing, parts, words) in CHOICES.items():
        # Both at once is offered only where both are in the same state: else one of the two does it.
        affected = [now.claims, now.sends] if parts == "both" else [paused[parts]]
        if pausing not in affected:
            found.append((code, words))
    return found


class PauseForm(forms.Form):
    """What to pause or resume, and why. All choices are taken: a page may be older than the state."""

    do = forms.ChoiceField(
        label=_("What to do"),
        choices=[(code, words) for code, (_pausing, _parts, words) in CHOICES.items()],
        widget=forms.RadioSelect,
    )
    reason = forms.CharField(
        label=_("Why?"),
        max_length=500,
        help_text=_("Shown on Overview, and kept in the audit log with your name."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class PausePage(Page):
    """Says what is paused; on a POST with a reason, pauses or resumes."""

    template_name = "offload/pause.html"
    permissions = (access.PAUSE,)
    whole_site = True
    http_method_names = ("get", "head", "post", "options")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The present pause, and the form with the choices that would change something."""
        now = switches.pause()
        form = kwargs.pop("form", None) or PauseForm()
        cast("forms.ChoiceField", form.fields["do"]).choices = offered(now)
        return super().get_context_data(pause=now, form=form, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Switch and lead to Overview; 400 without a choice or a reason."""
        form = PauseForm(request.POST)
        if not form.is_valid():
            return self.render_to_response(self.get_context_data(form=form, **kwargs), status=400)
        pausing, parts, _words = CHOICES[form.cleaned_data["do"]]
        act = actions.pause if pausing else actions.resume
        act(parts, actor=request.user.get_username(), reason=form.cleaned_data["reason"])
        return redirect("overview")
