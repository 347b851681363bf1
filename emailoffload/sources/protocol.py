"""What a source of mail is: find, decide, render, recheck. The outbox and the worker know only this.

A *source* is what is claimed from: mod_reengagement's reminders, IOMAD's queue. Times here are Moodle's
whole UNIX seconds; the outbox turns them into aware datetimes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

Role = Literal["user", "thirdparty", "manager", "copy"]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a mail; `media_type` as in `image/png`."""

    name: str
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class RenderedMail:
    """One message for one recipient, as it leaves.

    `text` and `html` are the decoded parts of the mail as Moodle would send it; `html` is None where the
    mail is a single text part. Names and addresses are plain text, not header-encoded.
    """

    role: Role
    to_address: str
    to_name: str
    from_address: str
    from_name: str
    reply_to_address: str
    reply_to_name: str
    subject: str
    text: str = field(repr=False)
    html: str | None = field(repr=False)
    recipient_id: int | None = None
    """Moodle's user id of the recipient; None for an address without a user."""
    sensitive: bool = False
    origin: str = ""
    """Why a copy has this recipient, in words; '' for the mail to the user."""
    attachments: tuple[Attachment, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that is to be claimed, with the values it was read with and the mails it yields."""

    source: str
    row_id: int
    before: Mapping[str, int | None]
    """The columns that the claim compares, with the values read."""
    after: Mapping[str, int | None]
    """The columns that the claim writes, with their new values."""
    under_lock: bool
    """True where the claim is safe only while Moodle's cron lock is ours; False: claimed ahead."""
    due: int
    user_id: int
    user_name: str
    user_email: str
    activity_id: int
    activity_name: str
    cmid: int
    course_id: int
    course_name: str
    ordinal: int
    """Which reminder of the activity this is, from 1."""
    is_last: bool
    """True where this is the last mail owed for the row."""
    completiontime: int
    company_id: int | None = None
    company_name: str = ""
    mails: tuple[RenderedMail, ...] = field(default=(), repr=False)
    template: str = ""
    """IOMAD's name of the kind of mail; '' for reminders."""
    rearm: int = 0
    """Seconds until the next mail, where the value to write depends on the moment of the claim; else 0."""
    fallback: str = "moodle"
    """moodle, smtp or hold: what the routing rules say about a cloud that fails."""
    on_suppressed: str = "record"
    """record or moodle: what the routing rules say about a user whose address is suppressed."""
    suppressed: frozenset[int] = frozenset()
    """Which of `mails`, by their place, go to suppressed addresses: they are recorded and never sent."""

    @property
    def sensitive(self) -> bool:
        """Whether all its mails carry credentials; such a candidate may use the quota kept for them."""
        return bool(self.mails) and all(mail.sensitive for mail in self.mails)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a pass decides about one row: a candidate, or the reason why it stays with Moodle."""

    row_id: int
    reason: str
    """A code of `sources.reasons`."""
    candidate: Candidate | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ClaimView:
    """What `recheck` needs to know of a claim."""

    claim_id: int
    row_id: int
    user_id: int
    activity_id: int
    due: int
    completiontime: int
    before: Mapping[str, int | None]
    after: Mapping[str, int | None]
    roles: Sequence[Role] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Recheck:
    """Why a claim's mails may no longer leave. `roles` None means all of them."""

    claim_id: int
    reason: str
    """A code of `sources.reasons`."""
    roles: tuple[Role, ...] | None = None


@dataclass(frozen=True, slots=True)
class Clock:
    """The times that decisions of one pass are made by, in whole seconds."""

    now: int
    margin: int
    """Rows due sooner than `now + margin` count as due."""
    cron_period: int


class Row(Protocol):
    """What a pass needs to know of a row that a source found."""

    @property
    def id(self) -> int:
        """Moodle's id of the row."""

    @property
    def due(self) -> int:
        """When its mail is due."""

    @property
    def userid(self) -> int:
        """Whom the mail is about."""

    @property
    def activity_id(self) -> int:
        """The activity that the row belongs to; 0 for none."""

    @property
    def template(self) -> str:
        """IOMAD's name of the kind of mail; '' for reminders."""

    @property
    def course_id(self) -> int | None:
        """The course, where the row itself names one."""

    @property
    def company_id(self) -> int | None:
        """The company, where the row itself names one."""


RowT = TypeVar("RowT", bound=Row, contravariant=True)


class Source(Protocol[RowT]):
    """One source for one pass: it reads the site's configuration once."""

    @property
    def name(self) -> str:
        """Its name in `registry.NAMES`."""

    def decide(self, rows: Sequence[RowT], clock: Clock) -> list[Decision]:
        """One decision per row, in the order given; what is to be claimed is rendered.

        What is wrong with one row is that row's decision. Raises database errors.
        """

    def carries_credentials(self, row: RowT) -> bool:
        """Whether the row's mails carry credentials; asked before others are left out for want of quota."""

    def as_of(self, candidate: Candidate, now: int) -> Candidate:
        """The candidate of a row that is already due, with the values to write if it is claimed at `now`.

        They are values that no run of Moodle's that starts at `now` or later writes (`moodle.claims`).
        """

    def recheck(self, views: Sequence[ClaimView], now: int) -> list[Recheck]:
        """Which claims' mails may no longer leave at `now`, and why. Raises database errors."""

    def lock_target(self) -> str:
        """Moodle's task whose lock guards due rows, as `task_scheduled` has it. Raises TaskMissing."""

    def obstacle(self) -> str:
        """A code of `sources.reasons` for which due rows may not be claimed even under the lock; '' for none."""
