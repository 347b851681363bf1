"""IOMAD's mail queue as a source: find waiting rows, decide each with a reason, render, recheck.

Rows of the queue are due when they are born, so a claim is made under the lock of IOMAD's own task
(design §3.1), except where IOMAD's delay setting puts `due` far enough ahead. What IOMAD's task would skip or
delete stays with it (facts §7.7), and so does what cannot be rendered exactly as IOMAD would. A row that
cannot be handled is reported as such and never stops the others.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from emailoffload import logs
from emailoffload.moodle import companies, cronlock, iomad, loaders, refusals, variants
from emailoffload.moodle.formatting.names import fullname
from emailoffload.moodle.site import load_site, siteadmins
from emailoffload.moodle.targets import IOMAD_QUEUE, queue_time
from emailoffload.moodle.types import Course, QueueRow, User
from emailoffload.policy.copies import Copy, CopyRules, Subject
from emailoffload.policy.credentials import sensitive_templates
from emailoffload.sources import reasons
from emailoffload.sources.iomad_queue import headers, lookup, recipients, scan
from emailoffload.sources.iomad_queue.attachments import Attachments
from emailoffload.sources.iomad_queue.compose import Composer
from emailoffload.sources.iomad_queue.headers import StoredHeaders, StoredTemplate, Unusable
from emailoffload.sources.protocol import Candidate, ClaimView, Clock, Decision, Recheck

log = logging.getLogger(__name__)
NAME = IOMAD_QUEUE
_TYPICAL = User(id=1)
"""A user about whom nothing is special."""
COMPONENT = "local_email"
"""The plugin whose task mails the queue."""


@dataclass(frozen=True, slots=True)
class _Gates:
    """What tells whether IOMAD would mail a set of rows at all."""

    users: dict[int, User]
    companies: dict[int, str]
    """Names by id."""
    disabled: set[iomad.Kind]


@dataclass(frozen=True, slots=True)
class _Mail:
    """A row that may be claimed, with what it says."""

    row: QueueRow
    text: iomad.QueuedText
    headers: StoredHeaders
    template: StoredTemplate
    """The stored one, or the one that IOMAD finds when it sends."""


class QueueSource:
    """The source for one pass: the site's configuration is read once and used for the whole pass.

    `variant` is what was found of the site, as for every source; nothing here depends on it, because a pass
    asks beforehand whether the queue's own version is known (`moodle.variants.detect_queue`).
    """

    name = NAME

    def __init__(
        self, *, parity: str, variant: variants.Variant | None = None, copy_rules: CopyRules | None = None
    ) -> None:
        self.site = load_site()
        self.variant = variant
        self.composer = Composer(self.site, Attachments(), strict=parity == "strict")
        self._copy_rules = copy_rules

    # --- decide and render ---

    def decide(self, rows: Sequence[QueueRow], clock: Clock) -> list[Decision]:
        """One decision per row, in the order given; what is to be claimed is rendered.

        A bounded number of queries for any number of rows. Raises database errors; anything that goes wrong
        with one row becomes the decision BROKEN_ROW for that row.
        """
        decisions: dict[int, Decision] = {}
        gates = self._gates([(row.userid, row.companyid, row.templatename or "") for row in rows])
        hopeful = []
        for row in rows:
            reason = self._not_mailed(row.userid, row.companyid, row.templatename or "", gates)
            if not reason and row.due < 0:
                # No time that anything was ever due at, and perhaps none that a database can hold.
                decisions[row.id] = Decision(row.id, reasons.BROKEN_ROW, detail="its due time is none")
                continue
            if not reason and row.modifiedtime < clock.now + clock.cron_period - iomad.RETENTION_SECONDS:
                reason = reasons.QUEUED_TOO_LONG
            if reason:
                decisions[row.id] = Decision(row.id, reason)
            else:
                hopeful.append(row)
        courses = loaders.load_courses({row.courseid for row in hopeful if row.courseid})
        mails = self._read(hopeful, gates, courses, decisions)
        self._compose(mails, gates, courses, clock, decisions)
        return [decisions[row.id] for row in rows]

    def _gates(self, rows: Sequence[tuple[int, int, str]]) -> _Gates:
        """Loaded for rows given as (user id, company id, template)."""
        return _Gates(
            users=loaders.load_users({user for user, _, _ in rows if user > 0}),
            companies=iomad.load_company_names({company for _, company, _ in rows}),
            disabled=iomad.load_disabled({(company, name) for _, company, name in rows}, self.site.branch),
        )

    def _not_mailed(self, userid: int, companyid: int, template: str, gates: _Gates) -> str:
        """Why IOMAD's task would not mail this row, or why we cannot; '' if nothing speaks against it."""
        if self.site.flag("noemailever"):
            return refusals.NOEMAILEVER
        if userid == iomad.SHOP_ADMIN:
            # Only some versions mail such rows at all (facts §7.2).
            return reasons.SHOP_ADMIN
        user = gates.users.get(userid)
        if user is None:
            return reasons.USER_MISSING
        if user.deleted:
            return reasons.USER_DELETED
        if user.suspended and template != iomad.COMPANY_SUSPENDED:
            return refusals.USER_SUSPENDED
        if companyid not in gates.companies:
            return reasons.COMPANY_UNKNOWN
        return reasons.TEMPLATE_DISABLED if (companyid, template) in gates.disabled else ""

    def _read(
        self,
        rows: Sequence[QueueRow],
        gates: _Gates,
        courses: Mapping[int, Course],
        decisions: dict[int, Decision],
    ) -> list[_Mail]:
        """The rows with what they say; those that cannot be read get their decisions."""
        texts = iomad.load_texts(row.id for row in rows)
        read: list[tuple[QueueRow, iomad.QueuedText, StoredHeaders]] = []
        for row in rows:
            text = texts.get(row.id)
            try:
                if text is None:
                    raise Unusable(reasons.ROW_CHANGED, "gone or sent since it was found")
                read.append((row, text, headers.parse(text.headers)))
            except Exception as error:
                decisions[row.id] = _left(row, error)
        bare = {(row.companyid, row.templatename or "") for row, _, stored in read if stored.template is None}
        found = iomad.load_templates(bare) if bare else {}
        mails = []
        for row, text, stored in read:
            try:
                template = stored.template
                if template is None:
                    lang = gates.users[row.userid].lang or self.site.lang
                    own = found.get((row.companyid, row.templatename or ""), {})
                    template = lookup.template(row, stored, own, lang, courses)
                mails.append(_Mail(row, text, stored, template))
            except Exception as error:
                decisions[row.id] = _left(row, error)
        return mails

    def _compose(
        self,
        mails: Sequence[_Mail],
        gates: _Gates,
        courses: Mapping[int, Course],
        clock: Clock,
        decisions: dict[int, Decision],
    ) -> None:
        """Render the mails and add their decisions."""
        if not mails:
            return
        people = self._people(mails, gates)
        noreply = iomad.load_noreply_addresses({mail.row.companyid for mail in mails}, self.site)
        copies = self._copies(mails)
        for mail in mails:
            row = mail.row
            try:
                rendered = self.composer.mails(
                    row,
                    mail.text,
                    mail.headers,
                    mail.template,
                    people,
                    company_name=gates.companies[row.companyid],
                    company_noreply=noreply.get(row.companyid, ""),
                    sensitive=self.carries_credentials(row),
                    copies=copies.get(row.id, ()),
                )
            except Exception as error:
                decisions[row.id] = _left(row, error)
            else:
                candidate = replace(self._candidate(row, gates, courses, clock), mails=rendered)
                reason = reasons.CLAIMED_UNDER_LOCK if candidate.under_lock else reasons.CLAIMED_AHEAD
                decisions[row.id] = Decision(row.id, reason, candidate)

    def _people(self, mails: Sequence[_Mail], gates: _Gates) -> recipients.People:
        wanted: set[int] = set()
        managed: set[companies.Member] = set()
        supervised: set[int] = set()
        for mail in mails:
            row, stored = mail.row, mail.template
            wanted |= {*stored.to_users, *stored.cc_users, *recipients.sender_ids(row, stored, self.site)}
            if recipients.copies_managers(row.templatename or "", stored):
                managed.add((row.userid, row.companyid))
            if recipients.copies_supervisors(row.templatename or "", stored):
                supervised.add(row.userid)
        return recipients.People(
            users=gates.users | loaders.load_users(wanted - gates.users.keys()),
            managers=companies.company_managers(managed, cron_user=self._cron_user()),
            supervisors=companies.supervisors(supervised, self.site),
        )

    def _cron_user(self) -> int:
        """The account that Moodle's cron runs as: the first site admin (facts §4.6)."""
        return next(iter(siteadmins(self.site.config)), 0)

    def _copies(self, mails: Sequence[_Mail]) -> Mapping[Hashable, Sequence[Copy]]:
        """The copies that rules ask for, by row id. The rules are read when the first mail needs them."""
        if self._copy_rules is None:
            self._copy_rules = CopyRules.load()
        return self._copy_rules.copies(
            [
                Subject(
                    key=mail.row.id,
                    source=NAME,
                    user_id=mail.row.userid,
                    company_id=mail.row.companyid,
                    course_id=mail.row.courseid or 0,
                    template=mail.row.templatename or "",
                    sensitive=self.carries_credentials(mail.row),
                )
                for mail in mails
            ]
        )

    def _candidate(
        self, row: QueueRow, gates: _Gates, courses: Mapping[int, Course], clock: Clock
    ) -> Candidate:
        user = gates.users[row.userid]
        course = courses.get(row.courseid or 0)
        written = queue_time(row.modifiedtime, clock.now)
        return Candidate(
            source=NAME,
            row_id=row.id,
            before={"sent": None, "modifiedtime": row.modifiedtime},
            after={"sent": written, "modifiedtime": written},
            under_lock=row.due < clock.now + clock.margin,
            due=row.due,
            user_id=row.userid,
            user_name=fullname(user, self.site).strip(),
            user_email=user.email,
            activity_id=0,
            activity_name="",
            cmid=0,
            course_id=row.courseid or 0,
            course_name=course.fullname if course else "",
            ordinal=1,
            is_last=True,
            completiontime=0,
            company_id=row.companyid,
            company_name=gates.companies[row.companyid],
            template=row.templatename or "",
        )

    # --- coverage ---

    def outlooks(self, kinds: Collection[iomad.Kind]) -> dict[iomad.Kind, str]:
        """Why mails of these kinds of these companies stay with IOMAD, to a user about whom nothing is special;
        '' for those that can be claimed. A bounded number of queries. Raises database errors."""
        gates = _Gates(
            users={_TYPICAL.id: _TYPICAL},
            companies=iomad.load_company_names({company for company, _ in kinds}),
            disabled=iomad.load_disabled(kinds, self.site.branch),
        )
        return {
            (company, name): self._not_mailed(_TYPICAL.id, company, name, gates) for company, name in kinds
        }

    # --- the moment of the claim ---

    def carries_credentials(self, row: QueueRow) -> bool:
        """Whether the row's template is one of those whose mails are sensitive."""
        return (row.templatename or "") in self._sensitive

    @cached_property
    def _sensitive(self) -> frozenset[str]:
        return sensitive_templates()

    def as_of(self, candidate: Candidate, now: int) -> Candidate:
        """The candidate with `sent` and `modifiedtime` as a claim at `now` writes them (design §3.2)."""
        written = queue_time(candidate.before["modifiedtime"] or 0, now)
        return replace(candidate, after={"sent": written, "modifiedtime": written})

    def lock_target(self) -> str:
        """IOMAD's scheduled task. Raises TaskMissing."""
        return cronlock.task_of(COMPONENT)

    def obstacle(self) -> str:
        """Nothing: IOMAD mails the queue in that one task only."""
        return ""

    # --- recheck ---

    def recheck(self, views: Sequence[ClaimView], now: int) -> list[Recheck]:
        """Which claims' mails may no longer leave, and why: all that IOMAD's task would test when sending.

        The row (still ours, not queued again), the user, the company's template. A bounded number of queries.
        Raises database errors.
        """
        states = scan.states([view.row_id for view in views])
        rows = {
            view.row_id: (view.user_id, state.companyid, state.templatename or "")
            for view in views
            if (state := states.get(view.row_id)) is not None
        }
        gates = self._gates(list(rows.values()))
        found = []
        for view in views:
            state = states.get(view.row_id)
            reason = _row_verdict(view, state)
            if not reason:
                reason = self._not_mailed(*rows[view.row_id], gates)
            if reason:
                found.append(Recheck(view.claim_id, reason))
        return found


def _left(row: QueueRow, error: Exception) -> Decision:
    """The decision to leave a row; an error that nobody foresaw is recorded on the row."""
    if isinstance(error, Unusable):
        return Decision(row.id, error.reason, detail=error.detail)
    # The text of an exception may quote the mail; its type and place do not.
    log.error(
        "The mail in row %d of IOMAD's queue could not be looked at (%s). It stays with IOMAD and is listed under row "
        "errors on Overview.",
        row.id,
        logs.named(error),
        extra={"source": NAME, "row": row.id},
    )
    return Decision(row.id, reasons.BROKEN_ROW, detail=f"{type(error).__name__} while handling the row")


def _row_verdict(view: ClaimView, state: scan.RowState | None) -> str:
    """What the row in IOMAD's queue says about a claim (facts §7.6); '' if the mail may leave.

    Somebody who asks IOMAD to send a mail again sets `sent` back to NULL: whoever takes that row sends the
    mail, so ours must not leave as well.
    """
    if state is None:
        return reasons.ROW_REMOVED
    if state.sent is None:
        return reasons.ROW_RESTORED
    values = (state.sent, state.modifiedtime)
    return "" if values == (view.after["sent"], view.after["modifiedtime"]) else reasons.ROW_CHANGED
