"""Send a mail again: a page that asks for the reason, and the request itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView

from emailoffload.actions.resend import ON_ITS_WAY, resend, reset_advice, warning, why_not
from emailoffload.dashboard import access
from emailoffload.dashboard.paging import MAX_ID
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email
from emailoffload.outbox.states import EmailState


@dataclass(frozen=True, slots=True)
class Family:
    """An email among the others of its claim: what it is a resend of, its own resends, and the rest."""

    original: Email | None
    resends: Sequence[Email]
    siblings: Sequence[Email]
    offered: bool
    """Whether the page of the email offers to send it again; the next page knows all that may speak against it."""
    advice: str
    """What to do instead, where its credentials are erased; ''."""


def family(email: Email, others: Sequence[Email]) -> Family:
    """Sort the other emails of a claim by how they are related to this one."""
    resends = [other for other in others if other.resend_of_id == email.pk]
    original = next((other for other in others if other.pk == email.resend_of_id), None)
    erased = email.sensitive and email.erased_at is not None
    return Family(
        original,
        resends,
        [other for other in others if other not in resends and other != original],
        offered=not erased and email.state not in {*ON_ITS_WAY, EmailState.RELEASED},
        advice=reset_advice() if erased else "",
    )


class ReasonForm(forms.Form):
    """Why a mail is sent again; kept in the audit log."""

    reason = forms.CharField(
        label=_("Why is it sent again?"),
        max_length=500,
        help_text=_("Kept in the audit log, with your name. Do not write a password here."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


@method_decorator(never_cache, name="dispatch")
class ResendPage(access.NeedsPermission, TemplateView):
    """Says to whom the mail would go and what speaks against it; on a POST with a reason, sends it again."""

    template_name = "offload/resend.html"
    permissions = (access.VIEW_EMAIL, access.RESEND_EMAIL)
    http_method_names = ("get", "head", "post", "options")

    def email(self) -> Email:
        """The email that the address names; 404 where there is none that the person may see."""
        number: int = self.kwargs["pk"]
        return get_object_or_404(scope.emails_for(self.request.user), pk=number if number <= MAX_ID else 0)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The email, why it cannot be sent again if so, the warning that its state calls for, the form."""
        email: Email = kwargs.pop("email", None) or self.email()
        refusal = kwargs.pop("refusal", None)
        form = kwargs.pop("form", None) or ReasonForm()
        return super().get_context_data(
            email=email,
            refusal=why_not(email) if refusal is None else refusal,
            warning=warning(email),
            form=form,
            **kwargs,
        )

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Queue the copy and lead to it; 400 without a reason, 409 with the sentence where it is refused."""
        email = self.email()
        form = ReasonForm(request.POST)
        if not form.is_valid():
            return self.render_to_response(
                self.get_context_data(email=email, form=form, **kwargs), status=400
            )
        actor = request.user.get_username()
        (outcome,) = resend([email.pk], actor=actor, reason=form.cleaned_data["reason"])
        if outcome.new_id is None:
            context = self.get_context_data(email=email, form=form, refusal=outcome.why_not, **kwargs)
            return self.render_to_response(context, status=409)
        return redirect("email", outcome.new_id)
