"""The navigation: which pages there are, in which section they stand, and who sees an entry.

A section with several pages shows them in a row of their own while one of them is open. An entry is shown only to
people whom its page would let in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from emailoffload.dashboard import access
from emailoffload.outbox import scope


@dataclass(frozen=True, slots=True)
class Entry:
    """One page: the name of its address, its label, the permission it needs, and pages that belong to it."""

    name: str
    label: Promise
    permission: str
    pages: frozenset[str] = frozenset()
    whole_site: bool = False
    """Not for people who are bound to companies."""

    def holds(self, page: str) -> bool:
        """Whether the page with this name of an address is this entry's."""
        return page == self.name or page in self.pages

    def open_to(self, user: scope.Person) -> bool:
        """Whether this person may open it."""
        if not user.has_perm(self.permission):  # type: ignore[union-attr]
            return False
        return not (self.whole_site and scope.is_bound(user))


@dataclass(frozen=True, slots=True)
class Section:
    """A group of entries under one label; a section with one entry is that entry."""

    label: Promise
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """An entry as a page shows it."""

    label: str
    address: str
    here: bool


def _one(entry: Entry) -> Section:
    return Section(entry.label, (entry,))


EMAIL_PAGES: Final = frozenset({
    "email", "email-preview", "email-resend", "email-cancel", "email-hand-back", "email-smtp", "email-suppress",
    "emails-columns", "emails-export", "saved-views",
})  # fmt: skip
SECTIONS: Final[tuple[Section, ...]] = (
    _one(Entry("overview", _("Overview"), access.VIEW_EMAIL, frozenset({"pause"}))),
    _one(
        Entry(
            "emails",
            _("Emails"),
            access.VIEW_EMAIL,
            EMAIL_PAGES,
        )
    ),
    _one(Entry("users", _("Users"), access.VIEW_EMAIL, frozenset({"user", "user-export", "user-erase"}))),
    _one(Entry("fallbacks", _("Fallbacks"), access.VIEW_EMAIL, frozenset({"fallback-group"}))),
    Section(
        _("Delivery"),
        (
            Entry("events", _("Events"), access.VIEW_EVENT, frozenset({"event-problems", "event-problem"})),
            Entry(
                "suppressions",
                _("Suppressions"),
                access.VIEW_SUPPRESSION,
                frozenset({"suppression", "suppression-add"}),
            ),
            Entry("reputation", _("Reputation"), access.VIEW_REPUTATION),
        ),
    ),
    Section(
        _("Rules"),
        (
            Entry("routing", _("Routing"), access.VIEW_ROUTINGRULE, frozenset({"shadows"}), whole_site=True),
            Entry("coverage", _("Coverage"), access.VIEW_ROUTINGRULE, whole_site=True),
            Entry("copies", _("Copies"), access.VIEW_COPYRULE),
        ),
    ),
    Section(
        _("Operation"),
        (
            Entry("alarms", _("Alarms"), access.VIEW_ALARM, whole_site=True),
            Entry("runs", _("Runs"), access.VIEW_RUN, frozenset({"run"}), whole_site=True),
            Entry("left", _("Left to Moodle"), access.VIEW_LEFTROW),
            Entry("reconciliation", _("Reconciliation"), access.VIEW_EMAIL),
            Entry("audit", _("Audit"), access.VIEW_AUDIT, whole_site=True),
            Entry("configuration", _("Settings"), access.VIEW_CONFIGURATION, whole_site=True),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Navigation:
    """The sections that a person sees, and the entries of the one they are in (none where it has only one)."""

    sections: Sequence[Link]
    entries: Sequence[Link]
    label: str
    """Of the section that is open."""


def of(user: scope.Person, page: str) -> Navigation:
    """The navigation for a person on the page with this name of an address; no query beyond those of permissions."""
    sections: list[Link] = []
    entries: list[Link] = []
    label = ""
    for section in SECTIONS:
        seen = [entry for entry in section.entries if entry.open_to(user)]
        if not seen:
            continue
        here = any(entry.holds(page) for entry in seen)
        sections.append(Link(str(section.label), reverse(seen[0].name), here))
        if here and len(seen) > 1:
            label = str(section.label)
            entries = [Link(str(entry.label), reverse(entry.name), entry.holds(page)) for entry in seen]
    return Navigation(sections, entries, label)
