"""What of a user's mail we left to Moodle: since when, why, and what was seen of Moodle afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from django.db.models import Model, Q, QuerySet
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.dashboard import access, people, reasons, words
from emailoffload.dashboard.sentences import Tone, Verdict, say
from emailoffload.dashboard.shadows import reason as seen
from emailoffload.moodle import refusals
from emailoffload.outbox import scope
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import Shadow
from emailoffload.sources import reasons as codes
from emailoffload.worker import shadow as comparison

MOST: Final = 10
M = TypeVar("M", bound=Model)


_RULED: Final[Mapping[str, Promise]] = {
    codes.ROUTING_OFF: gettext_lazy("a routing rule says so"),
    codes.ROUTING_SHADOW: gettext_lazy("a routing rule says that we only watch"),
    codes.ROLLOUT: gettext_lazy("the roll-out of the routing rule has not reached this learner yet"),
}
"""Where the words of the reason name Moodle themselves."""
_AS_IT_SHOULD_BE: Final = frozenset(
    {
        codes.TARGET_COMPLETE, codes.COMPLETES_FIRST, codes.NOT_ENROLLED, codes.USER_DELETED,
        codes.TEMPLATE_DISABLED, refusals.USER_DELETED,
    }
)  # fmt: skip
_NO_CLAUSES: Final = frozenset({codes.CRON_RUNNING, codes.LOCK_UNAVAILABLE, codes.ADHOC_TASK_QUEUED})


@dataclass(frozen=True, slots=True)
class Untaken:
    """One mail that was owed and that we did not take: the record, and what a comparison showed."""

    row: LeftRow | None
    shadow: Shadow | None
    activity: str
    """Its activity's name, where Moodle could be asked."""

    @property
    def _found(self) -> LeftRow | Shadow:
        found = self.row or self.shadow
        assert found is not None
        return found

    @property
    def due_at(self) -> datetime:
        """When it was due."""
        return self._found.due_at

    @property
    def row_id(self) -> int:
        """The row in Moodle."""
        return self._found.row_id

    @property
    def source(self) -> str:
        """What it was found in."""
        return words.source(self._found.source)

    @property
    def what(self) -> str:
        """Which activity, or which kind of mail."""
        if self._found.template:
            return words.template(self._found.template)
        return self.activity or _("activity %(id)d") % {"id": self._found.activity_id or 0}

    @property
    def verdict(self) -> Verdict:
        """Who sent it, as far as anybody knows."""
        reason = self.row.reason if self.row else codes.ROUTING_SHADOW
        due = self.due_at
        if self.shadow and self.shadow.verdict == comparison.SENT:
            left = say(_("“{what}”, due on {due}, was left to Moodle"), what=self.what, due=due)
            return Verdict(
                _("Moodle sent it itself"),
                because(left, reason),
                "good",
                seen(self.shadow),
                self.shadow.compared_at,
            )
        evidence, at = self._evidence()
        if reason in codes.MOODLE_SENDS_NOTHING:
            nobody = say(_("nobody mails “{what}”, due on {due}"), what=self.what, due=due)
            return Verdict(_("No"), because(nobody, reason), tone(reason), evidence, at, reasons.cure(reason))
        left = say(_("“{what}”, due on {due}, was left to Moodle"), what=self.what, due=due)
        return Verdict(
            _("Moodle has it"),
            because(left, reason),
            "quiet",
            evidence,
            at,
            _("Whether Moodle has sent it is in Moodle's own records."),
        )

    def _evidence(self) -> tuple[str, datetime | None]:
        if self.shadow and self.shadow.compared_at:
            return seen(self.shadow), self.shadow.compared_at
        if self.row:
            return _("A pass looked at its row in Moodle and did not claim it."), self.row.last_seen
        at = self.shadow.seen_at if self.shadow else None
        return _("A pass looked at its row in Moodle and only watched it."), at


def of(user_id: int, viewer: scope.Person, *, members: bool) -> Sequence[Untaken]:
    """What of a user's mail was due and left to Moodle, what was due last first, as far as the viewer may know.

    `members`: the user's mails belong to a company of the viewer's, so that records which name no company are theirs.
    Two queries by user, and one on Moodle for names.
    """
    if not viewer.has_perm(access.VIEW_LEFTROW):  # type: ignore[union-attr]
        return []
    now = timezone.now()
    left = _visible(LeftRow.objects.filter(user_id=user_id, due_at__lte=now), viewer, members=members)
    shadows = _visible(Shadow.objects.filter(user_id=user_id, due_at__lte=now), viewer, members=members)
    rows = {(row.source, row.row_id, row.due_at): row for row in left.order_by("-pk")[:MOST]}
    watched = {(row.source, row.row_id, row.due_at): row for row in shadows.order_by("-pk")[:MOST]}
    # What was claimed after all is no longer left.
    keys = rows.keys() | {k for k, row in watched.items() if row.detail != comparison.CLAIMED_BY_US}
    found = [(rows.get(key), watched.get(key)) for key in keys]
    ids = {activity for pair in found for row in pair if row and (activity := row.activity_id)}
    names = people.activities(ids).value
    made = [
        Untaken(row, shadow, names.get((row or shadow).activity_id or 0, ""))  # type: ignore[union-attr]
        for row, shadow in found
    ]
    return sorted(made, key=lambda one: (one.due_at, one.row_id), reverse=True)[:MOST]


def _visible(rows: QuerySet[M], viewer: scope.Person, *, members: bool) -> QuerySet[M]:
    companies = scope.companies_of(viewer)
    if companies is None:
        return rows
    theirs = Q(company_id__in=companies)
    return rows.filter(theirs | Q(company_id=None) if members else theirs)


def because(sentence: SafeString | str, code: str) -> SafeString:
    """A sentence that says who sends, without its full stop, and the reason for it."""
    if code in _RULED:
        return say(_("{sentence}, because {reason}."), sentence=sentence, reason=_RULED[code])
    if code in _NO_CLAUSES:
        return say("{sentence}: {reason}.", sentence=sentence, reason=reasons.meaning(code))
    return reasons.because(sentence, code)


def tone(code: str) -> Tone:
    """The colour of a mail that nobody sends: quiet where that is as it should be."""
    return "quiet" if code in _AS_IT_SHOULD_BE else "warn"


def is_ruled(code: str) -> bool:
    """Whether a routing rule is the reason."""
    return code in _RULED
