"""Which columns of *Emails* a person sees, and in which order: chosen once, remembered for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.utils.functional import Promise

from emailoffload.dashboard.models import Choice
from emailoffload.dashboard.tables import EmailTable

NAME: Final = "emails-columns"
STANDARD: Final = ("state", "recipient", "subject", "about", "company", "due_at", "state_at")
NEEDED: Final = "subject"
"""Always shown: it leads to the email."""
LABELS: Final[Mapping[str, str | Promise]] = {
    name: column.verbose_name or name
    for name, column in EmailTable.base_columns.items()  # type: ignore[attr-defined]
}
ALL: Final = tuple(LABELS)

Person = AbstractBaseUser | AnonymousUser


def clean(names: Any) -> list[str]:
    """Known columns among `names`, each once, in their order, with the one that is needed; of anything."""
    given = [name for name in names if isinstance(name, str)] if isinstance(names, list | tuple) else []
    found = [name for name in dict.fromkeys(given) if name in ALL]
    return found if NEEDED in found else [NEEDED, *found]


def of(chosen: dict[str, Any]) -> list[str]:
    """The columns among a person's choices (`choices`), else the standard ones."""
    value = chosen.get(NAME)
    return clean(value.get("columns")) if isinstance(value, dict) else list(STANDARD)


def choices(user: Person) -> dict[str, Any]:
    """What a person chose about *Emails*, by name; one query."""
    return dict(Choice.objects.filter(user=user.pk, name__startswith="emails-").values_list("name", "value"))


def choose(user: Person, names: Sequence[str]) -> None:
    """Remember columns and their order for a person."""
    assert user.pk is not None
    Choice.objects.update_or_create(
        user_id=user.pk, name=NAME, defaults={"value": {"columns": clean(list(names))}}
    )


def reset(user: Person) -> None:
    """Forget what a person chose: the standard columns again."""
    Choice.objects.filter(user=user.pk, name=NAME).delete()


def moved(names: Sequence[str], name: str, up: bool) -> list[str]:
    """The columns with one of them a place earlier or later; unchanged where there is no such place."""
    found = list(names)
    if name not in found:
        return found
    at = found.index(name)
    to = at - 1 if up else at + 1
    if 0 <= to < len(found):
        found[at], found[to] = found[to], found[at]
    return found
