"""Companies by name: which ones have mails, which of them a person meant, and how a scope is put in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django.db.models import OuterRef, Subquery
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from emailoffload.dashboard import people
from emailoffload.dashboard.paging import MAX_ID
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email
from emailoffload.policy.models import GroupCompany

MOST = 500
"""Companies that the filter suggests."""
RECENT = 2000
"""Mails whose companies are suggested to people who see the whole site."""
NAMED_MOST = 3


@dataclass(frozen=True, slots=True)
class Meant:
    """The companies that a typed text means, and the sentence that says so."""

    ids: tuple[int, ...]
    note: str


def stored(user: scope.Person) -> dict[int, str]:
    """Companies to choose from: id → the name on the newest mail, by name.

    Those that a person is bound to and that have mails, or those of the newest `RECENT` mails: no database
    finds all companies of ten million mails fast enough for each view. Two queries at most.
    """
    own = scope.companies_of(user)
    named: Iterable[tuple[int | None, str | None]]
    if own is None:
        newest: dict[int, int] = {}
        for company, pk in Email.objects.order_by("-pk").values_list("company_id", "pk")[:RECENT]:
            if company:
                newest.setdefault(company, pk)
        shown = list(newest.values())[:MOST]
        named = Email.objects.filter(pk__in=shown).values_list("company_id", "claim__company_name")
    else:
        mails = Email.objects.filter(company_id=OuterRef("company_id")).order_by("-pk")
        bindings = GroupCompany.objects.filter(company_id__in=own).order_by()
        named = bindings.annotate(named=Subquery(mails.values("claim__company_name")[:1])).values_list(
            "company_id", "named"
        )
    found = {company: name for company, name in named if company is not None and name is not None}
    return dict(sorted(found.items(), key=lambda pair: (pair[1].casefold(), pair[0])))


def understand(text: str, known: Mapping[int, str], user: scope.Person) -> Meant:
    """Decide which company `text` means: its id, its name, or a part of names.

    Names are those of the `known` companies, and for people who see the whole site also all of Moodle's.
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_ID:
        company = int(text)
        mails = scope.emails_for(user).filter(company_id=company).order_by("-pk")
        name = known.get(company) or mails.values_list("claim__company_name", flat=True).first() or ""
        return Meant((company,), _("Mails of %(company)s.") % {"company": label(company, {company: name})})
    found = _called(text, known)
    if not found and not scope.is_bound(user):
        found = _called(text, people.companies().value)
    if not found:
        return Meant((), _("No company has “%(text)s” in its name.") % {"text": text})
    names = [label(company, found) for company in found]
    return Meant(tuple(found), _("Mails of %(company)s.") % {"company": listed(names)})


def _called(text: str, known: Mapping[int, str]) -> dict[int, str]:
    """The companies with this name, or else those with it as a part of theirs."""
    wanted = text.casefold()
    exact = {company: name for company, name in known.items() if name.casefold() == wanted}
    return exact or {company: name for company, name in known.items() if wanted in name.casefold()}


def label(company: int, known: Mapping[int, str]) -> str:
    """A company's name with its id; its id alone where the name is not known."""
    name = known.get(company, "")
    values = {"name": name, "id": company}
    return _("%(name)s (company %(id)d)") % values if name else _("company %(id)d") % values


def listed(names: Sequence[str]) -> str:
    """Names as one text; beyond a few, the number of the others."""
    shown, others = ", ".join(names[:NAMED_MOST]), len(names) - NAMED_MOST
    if others <= 0:
        return shown
    more = ngettext("%(n)d other", "%(n)d others", others) % {"n": others}
    return _("%(names)s and %(others)s") % {"names": shown, "others": more}


def own(user: scope.Person) -> str:
    """The companies that a person is bound to, in words; empty where they see the whole site."""
    bindings = scope.bindings_of(user)
    if bindings is None:
        return ""
    return listed([name or label(company, {}) for company, name in bindings.items()])
