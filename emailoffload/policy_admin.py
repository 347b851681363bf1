"""Copy rules in Django's admin: entered with care, because who gets copies of people's mails is decided here."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import connections
from django.db.utils import Error as DatabaseFailure
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from emailoffload import logs
from emailoffload.admin_recorded import Recorded
from emailoffload.dashboard import words
from emailoffload.dashboard.copies import no_activity
from emailoffload.moodle import loaders, models, targets
from emailoffload.policy.copies import LARGEST_ID, BadValue, parse
from emailoffload.policy.models import CopyRule
from emailoffload.sources import registry

log = logging.getLogger(__name__)
IDS = ("company_id", "course_id", "activity_id")


class CopyRuleForm(forms.ModelForm):  # type: ignore[type-arg]
    """Takes only rules that can work: the value fits its kind, and Moodle has what the scope names.

    While Moodle's database does not answer, what can only be known from it is taken as entered.
    """

    source = forms.ChoiceField(
        label=_("Source"),
        required=False,
        choices=[("", _("any mail")), *((name, words.source(name)) for name in registry.NAMES)],
        help_text=_("Which mails get the copy. All that is filled in below must fit too."),
    )

    class Meta:
        model = CopyRule
        fields = (
            "name", "enabled", "source", "company_id", "course_id", "activity_id",
            "kind", "value", "text", "credentials", "note",
        )  # fmt: skip
        widgets = {"value": forms.Textarea(attrs={"rows": 3})}
        help_texts = {
            "name": _("Stands with each mail that the rule adds, so that support staff see why it went out."),
            "company_id": _("Only mails to users of this company of IOMAD. Empty: all companies."),
            "course_id": _("Only mails about this course: the number in the address of its page."),
            "activity_id": _(
                "Only reminders of this activity: its own number, as the filter of Emails takes it. The number in "
                "the address of its page is another one."
            ),
            "value": _(
                "Fixed addresses: separated by commas. Profile field: its short name; it holds addresses separated "
                "by commas. Role: its number in Moodle, whoever holds it in the course, its categories or the whole "
                "site. Managers: leave empty; IOMAD says who they are."
            ),
            "text": _(
                "An activity without a text for third parties gives the user's text. Mails of IOMAD have only one."
            ),
            "credentials": _(
                "A copy of a new account's mail shows the password to whoever gets it. Leave this off unless that "
                "is wanted."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in IDS:
            if name in self.fields:
                self.fields[name].validators += [MinValueValidator(1), MaxValueValidator(LARGEST_ID)]

    def clean(self) -> dict[str, Any]:
        """Judge value and scope; each error stands at its field and says what to enter."""
        entered: dict[str, Any] = super().clean() or {}
        kind, value = entered.get("kind", ""), entered.get("value", "")
        if kind:
            try:
                parse(kind, value)
            except BadValue as error:
                self.add_error("value", f"{error.part}: {error.words}" if error.part else str(error.words))
        if entered.get("activity_id") and entered.get("source") == targets.IOMAD_QUEUE:
            self.add_error("activity_id", _("Mails of IOMAD belong to no activity: leave this empty."))
        if not self.errors:
            try:
                self._ask_moodle(entered)
            except DatabaseFailure as failure:
                log.warning(
                    "The ids in a copy rule were not compared with Moodle, whose database did not answer (%s). The "
                    "rule is stored as it was typed; `manage.py doctor` (rules.named) looks later.",
                    logs.named(failure),
                )
                connections["moodle"].close()
        return entered

    def _ask_moodle(self, entered: dict[str, Any]) -> None:
        activity_id, course_id = entered.get("activity_id"), entered.get("course_id")
        if activity_id:
            activity = loaders.load_activities([activity_id]).get(activity_id)
            if activity is None:
                self.add_error("activity_id", no_activity(activity_id))
            elif course_id and activity.course and activity.course.id != course_id:
                self.add_error(
                    "course_id",
                    _("The activity is in course %(id)d: enter that, or leave this empty.")
                    % {"id": activity.course.id},
                )
        elif course_id and not loaders.load_courses([course_id]):
            self.add_error("course_id", _("Moodle has no course %(id)d.") % {"id": course_id})
        if entered["kind"] == CopyRule.Kind.PROFILE_FIELD:
            name = entered["value"].strip()
            known = models.UserInfoField.objects.filter(shortname=name).values_list("shortname", flat=True)
            if name not in known:
                raise ValidationError(
                    {
                        "value": _(
                            "Moodle has no profile field with the short name “%(name)s”. Capitals count; the names "
                            "are in Moodle under Site administration, Users, User profile fields."
                        )
                        % {"name": name}
                    }
                )


@admin.register(CopyRule)
class CopyRuleAdmin(Recorded):
    """Copy rules; every change is written to the audit log."""

    company = "company_id"
    form = CopyRuleForm
    list_display = ("name", "enabled", "kind", "company_id", "course_id", "activity_id", "text")
    list_filter = ("enabled", "kind", "source")
    search_fields = ("name", "note")

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The page of a rule, with the way to see whom it adds."""
        rule = self.get_object(request, object_id)
        asked = {"activity": rule.activity_id, "course": rule.course_id} if rule else {}
        # An activity says its course.
        asked = {"activity": asked["activity"]} if asked.get("activity") else asked
        query = urlencode({name: value for name, value in asked.items() if value})
        address = reverse("copies") + (f"?{query}" if query else "")
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "who": address})
