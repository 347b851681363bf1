"""Routing rules changed from the command line: one rule for one scope, on record like those of the admin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction
from django.forms.models import model_to_dict

from emailoffload.outbox.models import AuditEntry
from emailoffload.policy.models import RoutingRule

SCOPE: Final = ("source", "template", "company_id", "course_id", "activity_id")
"""The fields that say which mails a rule is about."""
_EMPTY: Final[Mapping[str, Any]] = {
    "source": "", "template": "", "company_id": None, "course_id": None, "activity_id": None,
}  # fmt: skip


class SeveralRules(ValueError):
    """More than one rule has this scope, so that it is not clear which one is meant; the text names them."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A rule after a change; `before` is None where it was made anew, `after` None where it was removed."""

    rule: RoutingRule
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @property
    def anything(self) -> bool:
        """Whether something is different now."""
        return self.before != self.after


def of_scope(scope: Mapping[str, Any]) -> RoutingRule | None:
    """The rule of exactly this scope, if there is one. Raises SeveralRules."""
    found = list(RoutingRule.objects.filter(**{**_EMPTY, **scope}).order_by("pk")[:5])
    if len(found) > 1:
        raise SeveralRules("Several rules have this scope: " + ", ".join(f"“{rule.name}”" for rule in found))
    return found[0] if found else None


def name_for(scope: Mapping[str, Any]) -> str:
    """A name for a new rule that says its scope and that no other rule has: "activity 13", "site"."""
    words = {"activity_id": "activity", "company_id": "company", "course_id": "course"}
    parts = [f"{words.get(field, field)} {scope[field]}" for field in reversed(SCOPE) if scope.get(field)]
    name = (", ".join(parts) or "site")[:90]
    taken = set(RoutingRule.objects.filter(name__startswith=name).values_list("name", flat=True))
    return next(each for each in [name, *(f"{name} ({n})" for n in range(2, 1000))] if each not in taken)


def save(rule: RoutingRule, *, actor: str, reason: str) -> Changed:
    """Store a rule, new or changed, together with the record of what it was and is; nothing where it is as it was.

    The caller has judged the values (`routing_admin.RoutingRuleForm`). A rule holds from the next pass on.
    """
    with transaction.atomic():
        stored = RoutingRule.objects.select_for_update().filter(pk=rule.pk).first() if rule.pk else None
        before = _values(stored) if stored else None
        after = _values(rule)
        if before != after:
            rule.save()
            _audit("change_routingrule" if stored else "add_routingrule", rule, before, after, actor, reason)
    return Changed(rule, before, after)


def remove(rule: RoutingRule, *, actor: str, reason: str) -> Changed:
    """Delete a rule together with the record of what it was."""
    with transaction.atomic():
        before = _values(rule)
        _audit("delete_routingrule", rule, before, None, actor, reason)
        rule.delete()
    return Changed(rule, before, None)


def _audit(
    action: str,
    rule: RoutingRule,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    actor: str,
    reason: str,
) -> None:
    AuditEntry.objects.create(
        actor=actor,
        action=action,
        object_type="routingrule",
        object_id=str(rule.pk),
        reason=reason[:500],
        details={"before": before, "after": after},
    )


def _values(rule: RoutingRule) -> dict[str, Any]:
    return model_to_dict(rule, exclude=["id"])
