"""One person's data: a page that hands it out as a file, one that erases it. For administrators of the whole site."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from emailoffload.actions import person, person_export
from emailoffload.dashboard import access, paging
from emailoffload.dashboard.views import Page
from emailoffload.outbox.persons import ErasedPerson

NAMES: Final[Mapping[str, Any]] = {
    "claims": ngettext_lazy("claim, with name and address", "claims, with name and address"),
    "mails_about": ngettext_lazy(
        "mail about them, to them or to others", "mails about them, to them or to others"
    ),
    "mails_to": ngettext_lazy("mail about others that went to them", "mails about others that went to them"),
    "events": ngettext_lazy(
        "event of Amazon SES that belongs to no known mail",
        "events of Amazon SES that belong to no known mail",
    ),
    "suppressions": ngettext_lazy("suppression of their addresses", "suppressions of their addresses"),
    "left_to_moodle": ngettext_lazy("row left to Moodle", "rows left to Moodle"),
    "shadows": ngettext_lazy("shadow", "shadows"),
    "row_errors": ngettext_lazy("error with their rows", "errors with their rows"),
    "saved_views": ngettext_lazy("saved view that looks for them", "saved views that look for them"),
}


class PersonForm(forms.Form):
    """Another address of theirs, and who asked for it."""

    address = forms.CharField(
        label=gettext_lazy("Another address of theirs"),
        max_length=254,
        required=False,
        help_text=gettext_lazy("Only if they name one that is not listed above."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "inputmode": "email"}),
    )
    reason = forms.CharField(
        label=gettext_lazy("Who asked for it, and when?"),
        max_length=500,
        help_text=gettext_lazy(
            "Kept in the audit log, with your name. A number of a ticket is enough: no names here."
        ),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def clean_address(self) -> str:
        """An address, or nothing."""
        address: str = self.cleaned_data["address"].strip()
        if address:
            validate_email(address)
        return address

    @property
    def also(self) -> list[str]:
        """The address, if one is given."""
        return [self.cleaned_data["address"]] if self.cleaned_data["address"] else []


class EraseForm(PersonForm):
    """The same, and the user's id once more: an erasure cannot be taken back."""

    confirm = forms.CharField(
        label=gettext_lazy("The user's id, to confirm"),
        max_length=20,
        widget=forms.TextInput(attrs={"autocomplete": "off", "inputmode": "numeric"}),
    )

    def __init__(self, *args: Any, user_id: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user_id = user_id

    def clean_confirm(self) -> str:
        """Exactly the id of the user whom the page is about."""
        typed: str = self.cleaned_data["confirm"]
        if typed != str(self.user_id):
            raise ValidationError(_("Type %(id)s: this page is about user %(id)s.") % {"id": self.user_id})
        return typed


class PersonPage(Page):
    """What is held about one person, and a form; a POST with a reason does it."""

    whole_site = True
    http_method_names = ("get", "head", "post", "options")

    @property
    def user_id(self) -> int:
        """The user that the address names; 0 where no user can have that id."""
        number: int = self.kwargs["user_id"]
        return number if number <= paging.MAX_ID else 0

    def form(self, data: Any = None) -> PersonForm:
        """The form of this page."""
        return PersonForm(data)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The numbers of what is held, and the form."""
        found = person.summary(self.user_id)
        kwargs.pop("user_id", None)  # the one of the address, as typed
        return super().get_context_data(
            user_id=self.user_id,
            found=found,
            numbers=[(NAMES[name] % number, number) for name, number in found.numbers.items() if number],
            most=person.MOST,
            kept=list(person.KEPT.values()),
            form=kwargs.pop("form", None) or self.form(),
            title=_("User %(id)d") % {"id": self.user_id},
            **kwargs,
        )

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Do it; 400 where the form says why not."""
        form = self.form(request.POST)
        if not form.is_valid():
            return self.render_to_response(self.get_context_data(form=form), status=400)
        return self.act(request, form)

    def act(self, request: HttpRequest, form: PersonForm) -> HttpResponse:
        """What the page is for."""
        raise NotImplementedError


class ExportPersonPage(PersonPage):
    """Everything that is held about a person, as a JSON file."""

    template_name = "offload/user_export.html"
    permissions = (access.VIEW_EMAIL, access.VIEW_CONTENT, access.EXPORT_PERSON)

    def act(self, request: HttpRequest, form: PersonForm) -> HttpResponse:
        """The file."""
        found = person_export.export(
            self.user_id,
            actor=request.user.get_username(),
            reason=form.cleaned_data["reason"],
            also=form.also,
        )
        text = json.dumps(found, ensure_ascii=False, indent=2, default=str)
        response = HttpResponse(text, content_type="application/json; charset=utf-8")
        name = f"user-{self.user_id}-{timezone.localtime():%Y%m%d-%H%M}.json"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        return response


class ErasePersonPage(PersonPage):
    """What would go and what would stay; a POST with the id typed once more erases it."""

    template_name = "offload/user_erase.html"
    permissions = (access.VIEW_EMAIL, access.ERASE_PERSON)

    def form(self, data: Any = None) -> PersonForm:
        """The form of this page."""
        return EraseForm(data, user_id=self.user_id)

    def act(self, request: HttpRequest, form: PersonForm) -> HttpResponse:
        """Erase, and lead back to the user with what became of it."""
        done = person.erase(
            self.user_id,
            actor=request.user.get_username(),
            reason=form.cleaned_data["reason"],
            also=form.also,
        )
        if done.complete:
            messages.success(request, _("What was held about this user is erased."))
        else:
            number = len(done.waiting)
            text = ngettext(
                "Erased but for %(n)s mail, which is being sent or handed back at this moment. Erase again in a few "
                "minutes.",
                "Erased but for %(n)s mails, which are being sent or handed back at this moment. Erase again in a few "
                "minutes.",
                number,
            )
            messages.error(request, text % {"n": number})
        return redirect("user", self.user_id)


def erased(user_id: int) -> ErasedPerson | None:
    """The mark of a user's erasure, or that one is to come because Moodle has deleted them; None: neither."""
    return ErasedPerson.objects.filter(user_id=user_id).first()
