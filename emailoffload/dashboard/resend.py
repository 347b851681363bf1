"""Send a mail again: a page that says to whom it would go and what speaks against it, and the request itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext_lazy as _

from emailoffload.actions.present import LEARNER, Present, present
from emailoffload.actions.resend import Resent, refusals, resend, warning
from emailoffload.dashboard import access, lineage
from emailoffload.dashboard.email import others_of, visible
from emailoffload.dashboard.views import Page
from emailoffload.feedback import suppression
from emailoffload.outbox.models import Email

SAME: Final = "same"
PRESENT: Final = "present"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mail that may be sent again: why not ('' where it can), and what to know before."""

    email: Email
    why_not: str
    warning: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Where the mail of the page can go: to the address that it has, to the one that Moodle has now."""

    same: Candidate
    present: Present | None
    """None where the question does not arise: Moodle has the same address, or it is no mail to the learner."""
    present_why_not: str
    """Why it cannot go to the present address; '' where it can, or the question does not arise."""

    @property
    def refusal(self) -> str:
        """Why it can go nowhere; '' where it can."""
        return "" if self.may_move else self.same.why_not

    @property
    def may_move(self) -> bool:
        """Whether it can go to the present address."""
        return self.present is not None and not self.present_why_not


class ResendForm(forms.Form):
    """To which address, which other recipients too, and why; the reason is kept in the audit log."""

    to = forms.ChoiceField(choices=[(SAME, SAME), (PRESENT, PRESENT)], required=False)
    present_address = forms.CharField(required=False, max_length=254)
    """The present address as the page showed it, so that what happens is what was agreed to."""
    also = forms.MultipleChoiceField(required=False)
    reason = forms.CharField(
        label=_("Why is it sent again?"),
        max_length=500,
        help_text=_("Kept in the audit log, with your name. Do not write a password here."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, data: Any, also: Sequence[Email]) -> None:
        super().__init__(data)
        self.fields["also"].choices = [(str(email.pk), str(email.pk)) for email in also]  # type: ignore[attr-defined]


class ResendPage(Page):
    """Says to whom the mail would go and what speaks against it; on a POST with a reason, sends it again."""

    template_name = "offload/resend.html"
    permissions = (access.VIEW_EMAIL, access.RESEND_EMAIL)
    http_method_names = ("get", "head", "post", "options")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The email, where it can go and why not, the other recipients, the form."""
        email: Email = kwargs.pop("email", None) or visible(self.request.user, self.kwargs["pk"])
        others = kwargs.pop("others", None)
        if others is None:
            others = lineage.recipients(email, others_of(email, self.request.user))
        form = kwargs.pop("form", None) or ResendForm(None, others)
        refused = refusals([email, *others])
        choice = choice_of(email, refused.get(email.pk, ""))
        told = kwargs.pop("refusal", "")
        return super().get_context_data(
            email=email,
            choice=choice,
            refusal=told or choice.refusal,
            others=[Candidate(each, refused.get(each.pk, ""), warning(each)) for each in others],
            chosen=_chosen(form, choice),
            form=form,
            **kwargs,
        )

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Queue the copies and lead to the first; 400 without a reason, 409 with the sentence where it is refused.

        Where several were asked for and some were refused, a page says which.
        """
        email = visible(request.user, self.kwargs["pk"])
        others = lineage.recipients(email, others_of(email, request.user))
        form = ResendForm(request.POST, others)
        if not form.is_valid():
            context = self.get_context_data(email=email, others=others, form=form, **kwargs)
            return self.render_to_response(context, status=400)
        values = form.cleaned_data
        ids = [email.pk, *map(int, values["also"])]
        moved = {email.pk: values["present_address"]} if values["to"] == PRESENT else {}
        outcomes = resend(ids, actor=request.user.get_username(), reason=values["reason"], to_present=moved)
        made = [outcome for outcome in outcomes if outcome.new_id is not None]
        if not made:
            context = self.get_context_data(
                email=email, others=others, form=form, refusal=outcomes[0].why_not, **kwargs
            )
            return self.render_to_response(context, status=409)
        if len(made) == len(outcomes):
            return redirect("email", made[0].new_id)
        context = self.get_context_data(email=email, others=others, form=form, **kwargs)
        context["outcomes"] = _named(outcomes, [email, *others])
        return self.render_to_response(context)


def choice_of(email: Email, why_not: str) -> Choice:
    """Where an email can go; Moodle is asked where it is the learner's."""
    same = Candidate(email, why_not, warning(email))
    if email.role != LEARNER:
        return Choice(same, None, "")
    now = present([email])[email.pk]
    if now.why_not:
        return Choice(same, now, now.why_not)
    if suppression.key(now.address) == suppression.key(email.address):
        return Choice(same, None, "")
    return Choice(same, now, refusals([email], {email.pk: now.address}).get(email.pk, ""))


def _chosen(form: ResendForm, choice: Choice) -> str:
    """Which address is marked when the page is shown."""
    if choice.may_move and (choice.same.why_not or form.data.get("to") == PRESENT):
        return PRESENT
    return SAME


def _named(outcomes: Sequence[Resent], emails: Sequence[Email]) -> list[tuple[Email, Resent]]:
    by_id = {email.pk: email for email in emails}
    return [(by_id[outcome.email_id], outcome) for outcome in outcomes]
