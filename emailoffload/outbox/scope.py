"""Whose records a person sees: everything, or those of the companies that their groups are bound to.

An administrator binds groups to companies (`policy.models.GroupCompany`). A person in at least one bound group
sees and touches what belongs to the companies of those groups and nothing else, also when another group of
theirs is not bound: the stricter one wins. Superusers are never bound. A record without a company (NULL, or
IOMAD's 0 for unknown) belongs to none, so bound people do not see it.

Every list, count, page and action about claims, emails and attempts begins with a queryset from here. Passes,
row errors, leases, shared state and the audit log belong to the whole site: ask `is_bound` and refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Model, QuerySet

from emailoffload.outbox.models import Attempt, Claim, Email
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.policy.models import CopyRule, GroupCompany

Person = AbstractBaseUser | AnonymousUser
M = TypeVar("M", bound=Model)
_REMEMBERED = "_offload_companies"


def bindings_of(user: Person) -> Mapping[int, str] | None:
    """The companies that a person is bound to, id → name (may be empty text); None: bound to none, sees all.

    One query for each user object, which Django makes anew for each request; nobody logged in sees nothing.
    """
    if not user.is_authenticated:
        return {}
    if getattr(user, "is_superuser", False):
        return None
    if not hasattr(user, _REMEMBERED):
        rows = GroupCompany.objects.filter(group__user=user.pk).values_list("company_id", "company_name")
        setattr(user, _REMEMBERED, dict(sorted(rows)) or None)
    found: Mapping[int, str] | None = getattr(user, _REMEMBERED)
    return found


def companies_of(user: Person) -> frozenset[int] | None:
    """The ids of the companies that a person is bound to; None: not bound, sees all."""
    found = bindings_of(user)
    return None if found is None else frozenset(found)


def is_bound(user: Person) -> bool:
    """Whether a person sees only some companies, and therefore no record of the whole site."""
    return bindings_of(user) is not None


def narrow(rows: QuerySet[M], user: Person, company: str) -> QuerySet[M]:
    """Of `rows` those that a person may see; `company` is the lookup of the row's company id."""
    companies = companies_of(user)
    return rows if companies is None else rows.filter(**{f"{company}__in": companies})


def emails_for(user: Person) -> QuerySet[Email]:
    """The emails that a person may see and act upon."""
    return narrow(Email.objects.all(), user, "company_id")


def claims_for(user: Person) -> QuerySet[Claim]:
    """The claims that a person may see and act upon."""
    return narrow(Claim.objects.all(), user, "company_id")


def attempts_for(user: Person) -> QuerySet[Attempt]:
    """The attempts to send emails that a person may see."""
    return narrow(Attempt.objects.all(), user, "email__company_id")


def findings_for(user: Person) -> QuerySet[ReconcileFinding]:
    """The findings of reconciliations that a person may see."""
    return narrow(ReconcileFinding.objects.all(), user, "company_id")


def copy_rules_for(user: Person) -> QuerySet[CopyRule]:
    """The copy rules that a person may see; rules without a company concern all, so bound people do not."""
    return narrow(CopyRule.objects.all(), user, "company_id")
