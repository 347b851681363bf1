"""Who gets a copy of a mail, by the rules that administrators made (design §5).

The rules are read once for a pass; then `copies` answers for any number of mails with a bounded number of
queries. A copy is a message of its own, sent only along with the user's own mail. Each address gets one; the
user's own address gets none; people who are deleted, suspended or cannot log in get none. On a site without
IOMAD the kinds that ask for managers find nobody.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, cast

from django.db.models import QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.moodle import companies
from emailoffload.moodle.addresses import unusual, valid_address
from emailoffload.moodle.loaders import load_users
from emailoffload.moodle.types import User
from emailoffload.policy.models import CopyRule

log = logging.getLogger(__name__)

Text = Literal["thirdparty", "user"]
Miss = Literal["", "source", "company", "course", "activity", "credentials"]

MOST = 50
"""Most recipients that one rule may add to one mail. A rule that finds more is meant otherwise than it works
(the role of the learners, say), so it adds nobody."""
LARGEST_ID = 2**63 - 1
LONGEST_ORIGIN = 120
"""Characters of `Email.origin`."""
_BETWEEN = re.compile(r"[,;\n]")


@dataclass(frozen=True, slots=True)
class Subject:
    """A mail to a user for which copies are wanted; `key` is the caller's own name for it."""

    key: Hashable
    source: str
    user_id: int
    company_id: int | None = None
    course_id: int = 0
    activity_id: int = 0
    """Id of mod_reengagement's activity; 0 for mails of no activity."""
    template: str = ""
    """IOMAD's name of the kind of mail; '' for reminders."""
    sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """One recipient of a copy."""

    address: str
    name: str
    """First and last name of a person; '' for an address without a user."""
    recipient_id: int | None
    text: Text
    origin: str
    """The rule in words, for the record of the mail."""
    rule_id: int
    user: User | None = None
    """The recipient's row of `user`; None for an address without a user."""


class BadValue(ValueError):
    """A rule's value that cannot be used. `words` says why and what to enter; `part` is the piece meant."""

    def __init__(self, words: Promise, part: str = "") -> None:
        super().__init__(str(words))
        self.words = words
        self.part = part


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule ready for use: its value is parsed according to its kind."""

    id: int
    name: str
    kind: str
    text: Text
    source: str = ""
    company_id: int | None = None
    course_id: int | None = None
    activity_id: int | None = None
    credentials: bool = False
    addresses: tuple[str, ...] = ()
    field: str = ""
    role: int = 0

    def misses(self, subject: Subject) -> Miss:
        """The first part of the scope that does not fit this mail; '' where the rule applies."""
        if self.source and self.source != subject.source:
            return "source"
        if self.company_id is not None and self.company_id != subject.company_id:
            return "company"
        if self.course_id is not None and self.course_id != subject.course_id:
            return "course"
        if self.activity_id is not None and self.activity_id != subject.activity_id:
            return "activity"
        return "credentials" if subject.sensitive and not self.credentials else ""


def parse(kind: str, value: str) -> dict[str, Any]:
    """A rule's value as the fields of `Rule` that its kind fills. Raises BadValue.

    Fixed addresses are separated by commas (semicolons and line breaks do as well), each valid to Moodle.
    """
    value = value.strip()
    if kind == CopyRule.Kind.FIXED:
        return {"addresses": _addresses(value)}
    if kind == CopyRule.Kind.PROFILE_FIELD:
        if not value or len(value) > 255 or _BETWEEN.search(value):
            raise BadValue(gettext_lazy("Enter the short name of one profile field, as Moodle lists it."))
        return {"field": value}
    if kind == CopyRule.Kind.COURSE_ROLE:
        if not (value.isascii() and value.isdigit() and 0 < int(value[:20]) <= LARGEST_ID):
            raise BadValue(
                gettext_lazy(
                    "Enter the number of the role: it is at the end of the address of the role's page in Moodle "
                    "(Site administration, Users, Define roles)."
                )
            )
        return {"role": int(value)}
    if kind not in CopyRule.Kind.values:
        raise BadValue(gettext_lazy("Choose who gets the copy."))
    if value:
        raise BadValue(
            gettext_lazy("Leave this empty: IOMAD says who the managers are, nothing is entered here.")
        )
    return {}


def _addresses(value: str) -> tuple[str, ...]:
    found = tuple(part for part in (part.strip() for part in _BETWEEN.split(value)) if part)
    if not found:
        raise BadValue(gettext_lazy("Enter at least one email address."))
    for part in found:
        if not valid_address(part) or unusual(part):
            raise BadValue(
                gettext_lazy(
                    "This is not an email address that Moodle and Amazon SES accept. Enter bare addresses, without "
                    "names, separated by commas."
                ),
                part,
            )
    return found


@lru_cache(maxsize=500)
def _complain(rule_id: int, words: str) -> None:
    """Log what is wrong with a rule, once for as long as the process lives; passes come every few seconds."""
    log.warning(
        "Copy rule %d adds nobody: %s. The mails go out without these copies. Correct the rule in the admin, under "
        "Copy rules.",
        rule_id,
        words.rstrip("."),
    )


@dataclass(frozen=True)
class CopyRules:
    """The rules that are switched on, by name."""

    rules: tuple[Rule, ...] = ()
    broken: Mapping[int, str] = field(default_factory=dict)
    """What is wrong with the rules that cannot be used, by id."""
    too_many: set[int] = field(default_factory=set)
    """Ids of rules that found more than `MOST` recipients for a mail so far."""

    @classmethod
    def load(cls, among: QuerySet[CopyRule] | None = None) -> CopyRules:
        """Read the rules (or those of `among`), one query. One that cannot be used is logged by number and
        left out."""
        rules, broken = [], {}
        rows = CopyRule.objects.all() if among is None else among
        for row in rows.filter(enabled=True).order_by("name"):
            try:
                rules.append(_rule(row))
            except BadValue as error:
                broken[row.pk] = str(error.words)
                _complain(row.pk, str(error.words))
        return cls(tuple(rules), broken)

    def copies(self, subjects: Sequence[Subject]) -> dict[Hashable, list[Copy]]:
        """The copies of each mail by its key, in the order of the rules' names; mails without any are missing.

        At most some ten queries on Moodle's database for any number of mails, none where no rule applies
        (lists of ids are split at a thousand). Raises database errors.
        """
        pairs = [(subject, rule) for subject in subjects for rule in self.rules if not rule.misses(subject)]
        if not pairs:
            return {}
        people = _People.load(pairs)
        result: dict[Hashable, list[Copy]] = {}
        taken: dict[Hashable, set[str]] = {}
        for subject, rule in pairs:
            if subject.key not in taken:
                taken[subject.key] = {people.own_address(subject)}
            found = _new(people.recipients(rule, subject), taken[subject.key])
            if len(found) > MOST:
                self.too_many.add(rule.id)
                _complain(rule.id, f"it finds more than {MOST} recipients for one mail")
                continue
            taken[subject.key].update(address.casefold() for address, _user in found)
            if found:
                result.setdefault(subject.key, []).extend(_copy(rule, *each) for each in found)
        return result


def _rule(row: CopyRule) -> Rule:
    return Rule(
        id=row.pk,
        name=row.name,
        kind=row.kind,
        text=cast("Text", row.text),
        source=row.source,
        company_id=row.company_id,
        course_id=row.course_id,
        activity_id=row.activity_id,
        credentials=row.credentials,
        **parse(row.kind, row.value),
    )


Recipient = tuple[str, User | None]


def _new(found: Iterable[Recipient], taken: set[str]) -> list[Recipient]:
    """The recipients whose address is not taken yet, each address once, in order."""
    seen = set(taken)
    fresh = []
    for address, user in found:
        if address.casefold() not in seen:
            seen.add(address.casefold())
            fresh.append((address, user))
    return fresh


def _copy(rule: Rule, address: str, user: User | None) -> Copy:
    return Copy(
        address=address,
        name=f"{user.firstname} {user.lastname}".strip() if user else "",
        recipient_id=user.id if user else None,
        text=rule.text,
        origin=(_("copy rule “%(name)s”") % {"name": rule.name})[:LONGEST_ORIGIN],
        rule_id=rule.id,
        user=user,
    )


@dataclass(frozen=True, slots=True)
class _People:
    """All that the rules need to know of Moodle's people for a set of mails."""

    users: Mapping[int, User]
    company_managers: Mapping[companies.Member, tuple[User, ...]]
    department_managers: Mapping[companies.Member, tuple[User, ...]]
    fields: Mapping[tuple[int, str], tuple[str, ...]]
    holders: Mapping[tuple[int, int], tuple[User, ...]]

    @classmethod
    def load(cls, pairs: Sequence[tuple[Subject, Rule]]) -> _People:
        members: defaultdict[str, set[companies.Member]] = defaultdict(set)
        for subject, rule in pairs:
            if subject.company_id:
                members[rule.kind].add((subject.user_id, subject.company_id))
        by_field = [(subject, rule) for subject, rule in pairs if rule.field]
        by_role = [(subject, rule) for subject, rule in pairs if rule.role and subject.course_id]
        return cls(
            users=load_users({subject.user_id for subject, _rule in pairs}),
            company_managers=companies.company_managers(members[CopyRule.Kind.COMPANY_MANAGERS]),
            department_managers=companies.department_managers(members[CopyRule.Kind.DEPARTMENT_MANAGERS]),
            fields=companies.profile_addresses(
                {subject.user_id for subject, _rule in by_field}, {rule.field for _subject, rule in by_field}
            ),
            holders=companies.role_holders(
                {subject.course_id for subject, _rule in by_role}, {rule.role for _subject, rule in by_role}
            ),
        )

    def own_address(self, subject: Subject) -> str:
        """The user's own address, for comparing; '' where the user does not exist."""
        user = self.users.get(subject.user_id)
        return user.email.casefold() if user else ""

    def recipients(self, rule: Rule, subject: Subject) -> list[Recipient]:
        """Everybody a rule finds for a mail who can be mailed, doubles too."""
        # A copy that SES would not take must not keep the user's own mail from being claimed.
        return [each for each in self._found(rule, subject) if not unusual(each[0])]

    def _found(self, rule: Rule, subject: Subject) -> list[Recipient]:
        if rule.kind == CopyRule.Kind.FIXED:
            return [(address, None) for address in rule.addresses]
        if rule.kind == CopyRule.Kind.PROFILE_FIELD:
            return [(address, None) for address in self.fields.get((subject.user_id, rule.field), ())]
        if rule.kind == CopyRule.Kind.COURSE_ROLE:
            found = self.holders.get((subject.course_id, rule.role), ())
        else:
            by_kind = {
                CopyRule.Kind.COMPANY_MANAGERS: self.company_managers,
                CopyRule.Kind.DEPARTMENT_MANAGERS: self.department_managers,
            }
            found = by_kind[CopyRule.Kind(rule.kind)].get((subject.user_id, subject.company_id or 0), ())
        return [
            (user.email, user)
            for user in found
            if user.id != subject.user_id and user.auth != "nologin" and valid_address(user.email)
        ]
