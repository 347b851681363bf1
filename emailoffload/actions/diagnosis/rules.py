"""The doctor's look at routing and copy rules: do the things that they name still exist?"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.actions.diagnosis.finding import Found, Look, ok, warning
from emailoffload.moodle import models, variants
from emailoffload.policy.models import CopyRule, RoutingRule
from emailoffload.sources import registry

SHOWN = 5
Rule = RoutingRule | CopyRule


def named() -> Found:
    """Each enabled rule names only what Moodle has."""
    rules: list[Rule] = [
        *RoutingRule.objects.filter(enabled=True).order_by("name"),
        *CopyRule.objects.filter(enabled=True).order_by("name"),
    ]
    activities = _existing(models.Reengagement, {rule.activity_id for rule in rules})
    courses = _existing(models.Course, {rule.course_id for rule in rules})
    iomad = variants.detect().iomad
    companies = _existing(models.Company, {rule.company_id for rule in rules}) if iomad else set()
    wrong = list(chain.from_iterable(_wrong(rule, activities, courses, companies) for rule in rules))
    if not wrong:
        return ok(_("The rules name only what Moodle has."))
    more = _("; and %(n)d more") % {"n": len(wrong) - SHOWN} if len(wrong) > SHOWN else ""
    return warning(
        _("Rules name what does not exist, so they fit no mail: %(what)s.")
        % {"what": "; ".join(wrong[:SHOWN]) + more},
        _("Correct or remove them in the admin, under Routing rules and Copy rules."),
    )


def _existing(model: type[models.MoodleTable], wanted: set[int | None]) -> set[int]:
    ids = {pk for pk in wanted if pk}
    return set(model._default_manager.filter(pk__in=ids).values_list("pk", flat=True)) if ids else set()


def _wrong(rule: Rule, activities: set[int], courses: set[int], companies: set[int]) -> Iterable[str]:
    values = {"rule": rule.name}
    if rule.activity_id and rule.activity_id not in activities:
        yield _("%(rule)s: activity %(id)d") % {**values, "id": rule.activity_id}
    if rule.course_id and rule.course_id not in courses:
        yield _("%(rule)s: course %(id)d") % {**values, "id": rule.course_id}
    if rule.company_id and rule.company_id not in companies:
        yield _("%(rule)s: company %(id)d") % {**values, "id": rule.company_id}
    if rule.source and rule.source not in registry.NAMES:
        yield _("%(rule)s: source %(name)s") % {**values, "name": rule.source}


LOOKS = [
    Look(
        "rules.named",
        gettext_lazy("Routing and copy rules"),
        named,
        ("database.migrated", "moodle.reachable"),
    )
]
