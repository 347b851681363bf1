"""Routing rules in Django's admin: what is entered can work, and who entered it is on record."""

from __future__ import annotations

import logging
from typing import Any

from django import forms
from django.contrib import admin
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import connections
from django.db.utils import Error as DatabaseFailure
from django.utils.translation import gettext_lazy as _

from emailoffload import logs
from emailoffload.admin_recorded import Recorded
from emailoffload.dashboard import words
from emailoffload.dashboard.copies import no_activity
from emailoffload.dashboard.filters import TEMPLATE
from emailoffload.moodle import loaders, models, targets
from emailoffload.moodle.schema import readable
from emailoffload.policy.copies import LARGEST_ID
from emailoffload.policy.models import RoutingRule
from emailoffload.sources import registry

log = logging.getLogger(__name__)
IDS = ("company_id", "course_id", "activity_id")


class RoutingRuleForm(forms.ModelForm):  # type: ignore[type-arg]
    """Takes only rules that some mail can fit: parts of the scope that exclude each other are refused.

    While Moodle's database does not answer, what can only be known from it is taken as entered.
    """

    source = forms.ChoiceField(
        label=_("Source"),
        required=False,
        choices=[("", _("any mail")), *((name, words.source(name)) for name in registry.NAMES)],
        help_text=_("Which mails it is about. All that is filled in below must fit too."),
    )

    class Meta:
        model = RoutingRule
        fields = (
            "name", "enabled", "source", "template", "company_id", "course_id", "activity_id",
            "mode", "percentage", "fallback", "suppressed", "note",
        )  # fmt: skip
        help_texts = {
            "name": _("Stands in explanations. A new name chooses other learners for a roll-out in percent."),
            "template": _("Only mails of this template of IOMAD, such as license_allocated. Empty: all."),
            "company_id": _("Only mails to users of this company of IOMAD. Empty: all companies."),
            "course_id": _("Only mails about this course: the number in the address of its page."),
            "activity_id": _(
                "Only reminders of this activity: its own number, as the filter of Emails takes it. The number in "
                "the address of its page is another one."
            ),
            "percentage": _(
                "From 0 to 100: for how many of the learners it holds; for the others Moodle sends. Raising it "
                "only adds learners. Not used when the mode is off."
            ),
            "fallback": _("What happens to a claimed mail that Amazon SES does not take."),
            "suppressed": _(
                "What happens where the user's own address is suppressed. Moodle does not know our list: what is left "
                "to it is mailed, and will bounce again if nothing has changed."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in IDS:
            if name in self.fields:
                self.fields[name].validators += [MinValueValidator(1), MaxValueValidator(LARGEST_ID)]
        if "percentage" in self.fields:
            self.fields["percentage"].validators += [MinValueValidator(0), MaxValueValidator(100)]
        if "template" in self.fields:
            self.fields["template"].validators.append(TEMPLATE)

    def clean(self) -> dict[str, Any]:
        """Judge the scope; each error stands at its field and says what to enter."""
        entered: dict[str, Any] = super().clean() or {}
        source, template = entered.get("source"), entered.get("template")
        if template and source != targets.IOMAD_QUEUE:
            self.add_error(
                "template", _("Templates are IOMAD's: choose the source “IOMAD mail”, or leave this empty.")
            )
        if entered.get("activity_id") and source == targets.IOMAD_QUEUE:
            self.add_error("activity_id", _("Mails of IOMAD belong to no activity: leave this empty."))
        if not self.errors:
            try:
                self._ask_moodle(
                    entered.get("activity_id"), entered.get("course_id"), entered.get("company_id")
                )
            except DatabaseFailure as failure:
                log.warning(
                    "The ids in a routing rule were not compared with Moodle, whose database did not answer (%s). The "
                    "rule is stored as it was typed; `manage.py doctor` (rules.named) looks later.",
                    logs.named(failure),
                )
                connections["moodle"].close()
        return entered

    def _ask_moodle(self, activity_id: int | None, course_id: int | None, company_id: int | None) -> None:
        iomad = readable(models.Company)
        if company_id and iomad and not models.Company.objects.filter(pk=company_id).exists():
            self.add_error("company_id", _("Moodle has no company %(id)d.") % {"id": company_id})
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


@admin.register(RoutingRule)
class RoutingRuleAdmin(Recorded):
    """Routing rules. They are about the whole site: people bound to companies do not see them."""

    form = RoutingRuleForm
    list_display = (
        "name", "enabled", "mode", "percentage", "source", "template", "company_id", "course_id", "activity_id",
        "fallback", "suppressed",
    )  # fmt: skip
    list_filter = ("enabled", "mode", "source", "fallback", "suppressed")
    search_fields = ("name", "note")
