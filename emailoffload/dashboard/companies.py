"""Companies by name: which ones have mails, which of them a person meant, and how a scope is put in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db.models import Max
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from emailoffload.dashboard.paging import MAX_ID
from emailoffload.outbox import scope
from emailoffload.outbox.models import Email

MOST = 1000
"""Companies whose names are known to the filter; others are found by their id."""
NAMED_MOST = 3


@dataclass(frozen=True, slots=True)
class Meant:
    """The companies that a typed text means, and the sentence that says so."""

    ids: tuple[int, ...]
    note: str


def stored(user: scope.Person) -> dict[int, str]:
    """Companies that have mails, of those that a person may see: id → the name on the newest mail, by name.

    Two queries, at most `MOST` companies: the first jumps through the index on company and id.
    """
    newest = (
        scope.emails_for(user)
        .filter(company_id__gt=0)
        .order_by()
        .values_list("company_id")
        .annotate(newest=Max("pk"))[:MOST]
    )
    named = Email.objects.filter(pk__in=[pk for _company, pk in newest]).values_list(
        "company_id", "claim__company_name"
    )
    found = {company: name for company, name in named if company is not None}
    return dict(sorted(found.items(), key=lambda pair: (pair[1].casefold(), pair[0])))


def understand(text: str, known: Mapping[int, str]) -> Meant:
    """Decide which company `text` means: its id, its name, or a part of names; by names only `known` ones."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_ID:
        return Meant((int(text),), _("Mails of %(company)s.") % {"company": label(int(text), known)})
    wanted = text.casefold()
    ids = [company for company, name in known.items() if name.casefold() == wanted]
    ids = ids or [company for company, name in known.items() if wanted in name.casefold()]
    if not ids:
        return Meant((), _("No company with mails has “%(text)s” in its name.") % {"text": text})
    names = [label(company, known) for company in ids]
    return Meant(tuple(ids), _("Mails of %(company)s.") % {"company": listed(names)})


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
