"""mod_reengagement's reminders as a source: find due rows, decide each with a reason, render, recheck.

What is claimed is exactly what facts §2-§3.4 allow; everything else stays with Moodle, which then does with it
what it always does. One row that cannot be handled is reported as such and never stops the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

from emailoffload import logs
from emailoffload.moodle import (
    companies,
    cronlock,
    enrolment,
    loaders,
    messaging,
    models,
    textcontexts,
    variants,
)
from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.formatting.names import fullname
from emailoffload.moodle.refusals import Refusal
from emailoffload.moodle.site import load_site
from emailoffload.moodle.types import (
    EMAILUSER_TIME,
    Activity,
    InProgress,
    Learner,
    TextContext,
    User,
)
from emailoffload.policy.copies import Copy, CopyRules, Subject
from emailoffload.sources import reasons
from emailoffload.sources.protocol import Candidate, ClaimView, Decision, Recheck
from emailoffload.sources.reengagement import outlook, scan, timing
from emailoffload.sources.reengagement.recipients import Extra, Recipients
from emailoffload.sources.reengagement.texts import PreparedActivity, TextRenderer

log = logging.getLogger(__name__)
NAME = "reengagement"


@dataclass(frozen=True, slots=True)
class _Eligibility:
    """What the gates of facts §2.7, §5 and §6 need for a set of rows, loaded with a bounded number of queries."""

    activities: dict[int, Activity]
    users: dict[int, User]
    learners: dict[tuple[int, int], Learner]
    enrolled: set[tuple[int, int]]
    completed_targets: set[tuple[int, int]]
    companies: dict[int, tuple[int, str]]
    """Company id and name by user."""
    company_cc: dict[int, tuple[str, ...]]
    """A company's own Cc addresses by company id (facts §2.11, P-akt)."""

    def cc_of(self, userid: int) -> tuple[str, ...]:
        """The Cc addresses of a user's company."""
        return self.company_cc.get(self.companies.get(userid, (0, ""))[0], ())


class ReengagementSource:
    """The source for one pass: the site's configuration is read once and used for the whole pass."""

    name = NAME

    def __init__(
        self, *, parity: str, variant: variants.Variant | None = None, copy_rules: CopyRules | None = None
    ) -> None:
        self.site = load_site()
        self.variant = variant or variants.detect()
        self.gates = messaging.MessageGates.load(self.site, models.IOMAD_TABLES if self.variant.iomad else ())
        self.renderer = TextRenderer(self.site, "strict" if parity == "strict" else "default")
        self.recipients = Recipients(self.gates, self.renderer)
        self._copy_rules = copy_rules
        self._activities: dict[int, Activity | None] = {}
        self._prepared: dict[int, PreparedActivity | Unrenderable] = {}
        self._contexts: dict[int, TextContext] = {}

    # --- decide and render ---

    def decide(self, rows: Sequence[InProgress], clock: timing.Clock) -> list[Decision]:
        """One decision per row, in the order given; what is to be claimed is rendered.

        A bounded number of queries for any number of rows. Raises database errors; anything that goes wrong
        with one row becomes the decision BROKEN_ROW for that row.
        """
        decisions: dict[int, Decision] = {}
        hopeful: list[tuple[InProgress, timing.Plan]] = []
        facts = self._load(rows, texts=True)
        for row in rows:
            try:
                verdict = self._first_look(row, facts, clock)
            except Exception as error:
                verdict = self._broken(row, error)
            if isinstance(verdict, timing.Plan):
                hopeful.append((row, verdict))
            else:
                decisions[row.id] = verdict
        copies = self._copies([row for row, _plan in hopeful], facts)
        for row, plan in hopeful:
            try:
                extra = Extra(facts.cc_of(row.userid), copies.get(row.id, ()))
                decisions[row.id] = self._render(row, plan, facts, extra)
            except Unrenderable as error:
                decisions[row.id] = Decision(row.id, error.reason, detail=error.detail)
            except Exception as error:
                decisions[row.id] = self._broken(row, error)
        return [decisions[row.id] for row in rows]

    def _copies(self, rows: Sequence[InProgress], facts: _Eligibility) -> dict[Hashable, list[Copy]]:
        """The copies that rules ask for, by row id. The rules are read when the first mail needs them."""
        if self._copy_rules is None:
            self._copy_rules = CopyRules.load()
        subjects = []
        for row in rows:
            course = facts.activities[row.reengagement].course
            assert course is not None
            company = facts.companies.get(row.userid, (None, ""))[0]
            subjects.append(Subject(row.id, NAME, row.userid, company, course.id, row.reengagement))
        return self._copy_rules.copies(subjects)

    def _broken(self, row: InProgress, error: Exception) -> Decision:
        # The text of an exception may quote a learner's data; its type and place do not.
        log.error(
            "The reminder in row %d could not be looked at (%s). It stays with Moodle and is listed under row errors "
            "on Overview.",
            row.id,
            logs.named(error),
            extra={"source": NAME, "row": row.id},
        )
        return Decision(row.id, reasons.BROKEN_ROW, detail=f"{type(error).__name__} while handling the row")

    def _load(self, rows: Sequence[InProgress], *, texts: bool) -> _Eligibility:
        """What the gates need of these rows; with `texts` also what the activities' texts need."""
        self._load_activities({row.reengagement for row in rows}, texts=texts)
        activities = {
            id_: a for id_ in {r.reengagement for r in rows} if (a := self._activities[id_]) is not None
        }
        users = loaders.load_users({row.userid for row in rows})
        pairs: set[tuple[int, int]] = set()
        modules: set[tuple[int, int]] = set()
        targets: set[tuple[int, int]] = set()
        for row in rows:
            activity = activities.get(row.reengagement)
            if (
                activity is None
                or activity.course is None
                or activity.cmid is None
                or row.userid not in users
            ):
                continue
            pairs.add((row.userid, activity.course.id))
            modules.add((activity.cmid, row.userid))
            if activity.suppresstarget > 0:
                targets.add((row.userid, activity.suppresstarget))
        prepared = [
            p for a in activities.values() if texts and isinstance(p := self._prepare(a), PreparedActivity)
        ]
        learners = loaders.load_learners(
            pairs,
            groups=any(p.uses_groups for p in prepared),
            field_ids={f.id for p in prepared for f in p.profile_fields},
            preference_names=messaging.PREFERENCE_NAMES,
            users=users,
        )
        company_of = loaders.load_company_of(users) if texts or self.variant.company_cc else {}
        return _Eligibility(
            activities=activities,
            users=users,
            learners=learners,
            enrolled=enrolment.eligible(modules, int(time.time()), self.site),
            completed_targets=loaders.load_target_completions(targets) if targets else set(),
            companies=company_of,
            company_cc=(
                companies.company_cc({company for company, _name in company_of.values()})
                if self.variant.company_cc
                else {}
            ),
        )

    def _load_activities(self, ids: set[int], *, texts: bool) -> None:
        new = ids - self._activities.keys()
        if not new:
            return
        loaded = loaders.load_activities(new)
        for id_ in new:
            self._activities[id_] = loaded.get(id_)
        courses = {a.course.id for a in loaded.values() if a.course} - self._contexts.keys()
        if texts and courses:
            self._contexts |= textcontexts.load_text_contexts(courses, self.site)

    def _prepare(self, activity: Activity) -> PreparedActivity | Unrenderable:
        """The activity's texts made ready, once per pass; or why they cannot be rendered."""
        if activity.id not in self._prepared:
            context = (
                self._contexts.get(activity.course.id, TextContext()) if activity.course else TextContext()
            )
            try:
                self._prepared[activity.id] = self.renderer.prepare(activity, context)
            except Unrenderable as error:
                self._prepared[activity.id] = error
            except Exception as error:
                # Broad on purpose, as for a row: one activity must not stop the others.
                log.error(
                    "The texts of the activity %d could not be prepared (%s). Its reminders stay with Moodle and are "
                    "listed under row errors on Overview.",
                    activity.id,
                    logs.named(error),
                    extra={"source": NAME},
                )
                words = f"{type(error).__name__} while preparing the activity's texts"
                self._prepared[activity.id] = Unrenderable(reasons.BROKEN_ROW, words)
        return self._prepared[activity.id]

    def _first_look(
        self, row: InProgress, facts: _Eligibility, clock: timing.Clock
    ) -> timing.Plan | Decision:
        """Everything that can be said before rendering: the row's plan, or the decision to leave it."""

        def leave(reason: str, detail: str = "") -> Decision:
            return Decision(row.id, reason, detail=detail)

        activity = facts.activities.get(row.reengagement)
        user = facts.users.get(row.userid)
        plan = timing.plan(row, activity.remindercount, activity.emaildelay, clock) if activity else ""
        if isinstance(plan, str) and plan:
            return leave(plan)
        reason = self._not_eligible(row.userid, activity, user, facts)
        if reason:
            return leave(reason)
        assert activity is not None
        assert isinstance(plan, timing.Plan)
        prepared = self._prepare(activity)
        if isinstance(prepared, Unrenderable):
            return leave(prepared.reason, prepared.detail)
        return plan

    def _not_eligible(
        self, userid: int, activity: Activity | None, user: User | None, facts: _Eligibility
    ) -> str:
        """Why Moodle would not mail this user for this activity, or why we cannot; '' if nothing speaks against it."""
        lacking = outlook.lacking(activity)
        if lacking:
            return lacking
        assert activity is not None
        assert activity.cmid is not None
        if user is None:
            return reasons.USER_MISSING
        if user.deleted:
            return reasons.USER_DELETED
        barred = outlook.barred(activity)
        if barred:
            return barred
        if (activity.cmid, userid) not in facts.enrolled:
            return reasons.NOT_ENROLLED
        if activity.suppresstarget and (userid, activity.suppresstarget) in facts.completed_targets:
            return reasons.TARGET_COMPLETE
        return ""

    def _render(self, row: InProgress, plan: timing.Plan, facts: _Eligibility, extra: Extra) -> Decision:
        activity = facts.activities[row.reengagement]
        course = activity.course
        assert course is not None
        assert activity.cmid is not None
        learner = facts.learners[(row.userid, course.id)]
        prepared = self._prepare(activity)
        assert isinstance(prepared, PreparedActivity)
        mails, refusal = self.recipients.mails(prepared, learner, extra)
        if not mails:
            return Decision(row.id, refusal.reason if refusal else reasons.NOBODY_TO_MAIL)
        company = facts.companies.get(row.userid)
        candidate = Candidate(
            source=NAME,
            row_id=row.id,
            before={"emailsent": row.emailsent, "emailtime": row.emailtime, "completed": row.completed},
            after={"emailsent": plan.emailsent, "emailtime": plan.emailtime, "completed": row.completed},
            under_lock=plan.under_lock,
            due=row.emailtime,
            user_id=row.userid,
            user_name=fullname(learner.user, self.site).strip(),
            user_email=learner.user.email,
            activity_id=activity.id,
            activity_name=activity.name,
            cmid=activity.cmid,
            course_id=course.id,
            course_name=course.fullname,
            ordinal=row.emailsent + 1,
            is_last=plan.is_last,
            completiontime=row.completiontime,
            company_id=company[0] if company else None,
            company_name=company[1] if company else "",
            mails=mails,
            rearm=activity.emaildelay if plan.under_lock and not plan.is_last else 0,
        )
        if plan.is_last:
            reason = reasons.LAST_MAIL_OWED
        else:
            reason = reasons.CLAIMED_UNDER_LOCK if plan.under_lock else reasons.CLAIMED_AHEAD
        return Decision(row.id, reason, candidate)

    # --- coverage ---

    def outlooks(self, ids: Collection[int], clock: timing.Clock) -> list[tuple[Activity, outlook.Outlook]]:
        """What the settings of those of these activities that exist come to; some ten queries. Nothing of them is
        kept, so that a site's activities can be gone through some hundred at a time. Raises database errors."""
        self._load_activities(set(ids), texts=True)
        learner = outlook.typical_learner(self.site)
        found = []
        for activity in filter(None, map(self._activities.get, ids)):
            prepared = self._prepare(activity) if activity.course else None
            look = outlook.outlook(activity, prepared, self.recipients, learner, clock)
            found.append((activity, look))
        for kept in (self._activities, self._prepared, self._contexts):
            kept.clear()
        return found

    def other_ways(self) -> set[str]:
        """By which ways beside email Moodle would notify a learner about whom nothing is special."""
        return self.gates.other_processors(outlook.typical_learner(self.site))

    # --- the moment of the claim ---

    def carries_credentials(self, row: InProgress) -> bool:
        """Reminders never do."""
        return False

    def as_of(self, candidate: Candidate, now: int) -> Candidate:
        """A due candidate with the `emailtime` that a claim at `now` writes (design §3.2)."""
        if not candidate.rearm:
            return candidate
        emailtime = max(candidate.due, now - 1) + candidate.rearm
        return replace(candidate, after={**candidate.after, "emailtime": emailtime})

    def lock_target(self) -> str:
        """The plugin's scheduled task. Raises TaskMissing."""
        return cronlock.task_of("mod_reengagement")

    def obstacle(self) -> str:
        """Ad hoc tasks of the plugin run under locks of their own (facts §3.5)."""
        if self.variant.kind == "adhoc" and variants.adhoc_tasks_present():
            return reasons.ADHOC_TASK_QUEUED
        return ""

    # --- recheck ---

    def recheck(self, views: Sequence[ClaimView], now: int) -> list[Recheck]:
        """Which claims' mails may no longer leave, and why: all that Moodle would test at the due time.

        Facts §3.4: the row, the two-day rule, user, module, enrolment, suppress target, message preferences.
        A bounded number of queries. Raises database errors.
        """
        self._activities.clear()  # an activity may have changed or gone since the last time
        rows = scan.rows_by_id([view.row_id for view in views])
        stand_ins = [_stand_in(view, rows.get(view.row_id)) for view in views]
        facts = self._load(stand_ins, texts=False)
        found: list[Recheck] = []
        for view in views:
            reason = _row_verdict(view, rows.get(view.row_id), now)
            activity = facts.activities.get(view.activity_id)
            user = facts.users.get(view.user_id)
            if not reason and activity is not None and activity.emailuser != EMAILUSER_TIME:
                reason = reasons.ROW_CHANGED
            reason = reason or self._not_eligible(view.user_id, activity, user, facts)
            if reason:
                found.append(Recheck(view.claim_id, reason))
                continue
            assert activity is not None
            assert activity.course is not None
            learner = facts.learners[(view.user_id, activity.course.id)]
            delivery = self.recipients.user_delivery(learner, facts.cc_of(view.user_id))
            if isinstance(delivery, Refusal) and not {"user", "copy"}.isdisjoint(view.roles):
                # A copy goes where the user's own mail goes, or nowhere.
                found.append(Recheck(view.claim_id, delivery.reason, roles=("user", "copy")))
        return found


def _stand_in(view: ClaimView, row: InProgress | None) -> InProgress:
    """The claim's row as it is, or as it was where it is gone, so that the same loading serves both."""
    return row or InProgress(
        view.row_id, view.activity_id, view.user_id, view.completiontime, view.due, _sent(view.after), 0
    )


def _sent(values: Mapping[str, int | None]) -> int:
    return values["emailsent"] or 0


def _row_verdict(view: ClaimView, row: InProgress | None, now: int) -> str:
    """What the row in Moodle says about a claim (facts §3.4); '' if the mail may leave."""
    if view.due + timing.TWO_DAYS < now:
        return reasons.TOO_LATE
    if row is None:
        # Deleted by Moodle's completion phase, or by a reset. With something sent before, Moodle would have
        # sent nothing more; as the first mail it is owed, but only if completion is why the row is gone.
        if _sent(view.before) >= 1:
            return reasons.COMPLETED_MEANWHILE
        return "" if view.completiontime < now else reasons.ROW_REMOVED
    values = (row.emailsent, row.emailtime)
    if values == (view.after["emailsent"], view.after["emailtime"]):
        return ""
    if values == (view.before["emailsent"], view.before["emailtime"]):
        return reasons.ROW_RESTORED
    if row.emailsent > _sent(view.after) and row.emailtime >= (view.after["emailtime"] or 0):
        # Somebody read our values and went on from them: a later reminder of the row was claimed by us, or
        # mailed by Moodle. That takes nothing from this one.
        return ""
    return reasons.ROW_CHANGED
