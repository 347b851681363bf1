"""Who would get a mail: the recipients that Moodle, the site's patch and the copy rules give one user's mail.

Nothing is sent, claimed or stored. People bound to companies see it for members of their companies only, and
only the rules of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.utils import Error as DatabaseFailure
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.dashboard import access, moodle_away
from emailoffload.dashboard.filters import TEMPLATE, IdField
from emailoffload.dashboard.views import Page
from emailoffload.moodle import companies, loaders, messaging, targets
from emailoffload.moodle import models as moodle
from emailoffload.moodle.types import Activity, User
from emailoffload.outbox import scope
from emailoffload.policy.copies import MOST, CopyRules, Subject
from emailoffload.policy.credentials import sensitive_templates
from emailoffload.policy.models import CopyRule

MISSES: Final[Mapping[str, Promise]] = {
    "source": gettext_lazy("It is for another source of mail."),
    "company": gettext_lazy("It is for another company."),
    "course": gettext_lazy("It is for another course."),
    "activity": gettext_lazy("It is for another activity."),
    "credentials": gettext_lazy("This mail carries credentials, which the rule leaves out."),
}


class Question(forms.Form):
    """Whose mail, and which one."""

    user = IdField(label=gettext_lazy("User (id)"))
    activity = IdField(label=gettext_lazy("Activity (id)"), required=False)
    course = IdField(label=gettext_lazy("Course (id)"), required=False)
    template = forms.CharField(
        label=gettext_lazy("Template of IOMAD"), required=False, max_length=100, validators=[TEMPLATE]
    )
    template.widget.attrs["autocomplete"] = "off"

    def clean(self) -> dict[str, Any]:
        """A mail of IOMAD's belongs to no reminder activity."""
        asked: dict[str, Any] = super().clean() or {}
        if asked.get("template") and asked.get("activity"):
            raise ValidationError(
                _(
                    "A template is a mail of IOMAD's, an activity one of the reminders: fill in only one of them."
                )
            )
        return asked


@dataclass(frozen=True, slots=True)
class Line:
    """One recipient."""

    address: str
    name: str
    user_id: int | None
    text: str
    because: str
    rule_id: int | None = None


@dataclass(frozen=True, slots=True)
class Idle:
    """A rule that adds nobody to this mail, and why."""

    rule: CopyRule
    why: str


@dataclass(slots=True)
class Found:
    """The answer. `problem` says why there is none."""

    problem: str = ""
    user: User | None = None
    company: str = ""
    silent: str = ""
    """Why Moodle mails this user nothing, so that nobody gets a copy either."""
    lines: list[Line] = field(default_factory=list)
    idle: list[Idle] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def add(self, line: Line) -> None:
        """Add a recipient whose address has no mail yet."""
        if line.address.casefold() not in self._seen:
            self._seen.add(line.address.casefold())
            self.lines.append(line)


def find(asked: Mapping[str, Any], viewer: scope.Person) -> Found:
    """Answer a valid `Question` as far as `viewer` may know; some fifteen queries at most."""
    try:
        return _find(asked, viewer)
    except DatabaseFailure as failure:
        moodle_away.note(failure)
        return Found(
            _(
                "Moodle's database does not answer now, so nobody can say who would get the mail. Try again later."
            )
        )


def _find(asked: Mapping[str, Any], viewer: scope.Person) -> Found:
    user_id: int = asked["user"]
    user = loaders.load_users([user_id]).get(user_id)
    company_id, company = loaders.load_company_of([user_id], few=True).get(user_id, (None, ""))
    among = scope.companies_of(viewer)
    if among is not None and company_id not in among:
        return Found(
            _("None of your companies has a user %(id)d whose mails belong to it.") % {"id": user_id}
        )
    if user is None:
        return Found(_("Moodle has no user %(id)d. Look for the person under Users.") % {"id": user_id})
    activity, course_id, problem = _place(asked)
    # Whom other companies' courses and activities mail is not told by asking about a user of one's own.
    if among is not None and (problem or course_id) and not _enrolled(user_id, course_id):
        return Found(_("User %(id)d takes part in no such activity or course.") % {"id": user_id})
    if problem:
        return Found(problem)
    found = Found(user=user, company=company or "", silent=_silent(user))
    if not found.silent:
        subject = _subject(asked, company_id, course_id)
        _moodles_own(found, user, company_id, activity, reminder=subject.source == targets.REENGAGEMENT)
        _by_rules(found, subject, viewer)
    return found


def _enrolled(user_id: int, course_id: int) -> bool:
    methods = moodle.Enrol.objects.filter(courseid=course_id).values("id")
    return (
        bool(course_id) and moodle.UserEnrolment.objects.filter(userid=user_id, enrolid__in=methods).exists()
    )


def _subject(asked: Mapping[str, Any], company_id: int | None, course_id: int) -> Subject:
    template = asked["template"]
    return Subject(
        key=0,
        source=targets.IOMAD_QUEUE if template else targets.REENGAGEMENT,
        user_id=asked["user"],
        company_id=company_id,
        course_id=course_id,
        activity_id=asked["activity"] or 0,
        template=template,
        sensitive=bool(template) and template in sensitive_templates(),
    )


def _place(asked: Mapping[str, Any]) -> tuple[Activity | None, int, str]:
    """The activity and course that were asked about, or what is wrong with them."""
    activity_id, course_id = asked["activity"], asked["course"] or 0
    if not activity_id:
        return None, course_id, ""
    activity = loaders.load_activities([activity_id]).get(activity_id)
    if activity is None:
        return None, 0, no_activity(activity_id)
    home = activity.course.id if activity.course else 0
    if course_id and course_id != home:
        values = {"activity": activity_id, "home": home}
        return None, 0, _("Activity %(activity)d is in course %(home)d: leave the course empty.") % values
    return activity, home, ""


def no_activity(activity_id: int) -> str:
    """That there is no such activity; with the right number where the one of its address was entered."""
    modules = moodle.Module.objects.filter(name="reengagement").values("id")
    meant = (
        moodle.CourseModule.objects.filter(pk=activity_id, module__in=modules)
        .values_list("instance", flat=True)
        .first()
    )
    if meant is None:
        return _("Moodle has no reminder activity %(id)d.") % {"id": activity_id}
    return _(
        "Moodle has no reminder activity %(id)d. That number is in the address of activity %(meant)d: enter "
        "%(meant)d."
    ) % {"id": activity_id, "meant": meant}


def _silent(user: User) -> str:
    if user.deleted:
        return _("The account is deleted, so no mail goes out, to nobody.")
    if user.suspended:
        return _("The account is suspended, so no mail goes out, to nobody.")
    if user.auth == "nologin":
        return _("The account cannot log in, so Moodle sends no reminders, and nobody gets a copy.")
    return ""


def _moodles_own(
    found: Found, user: User, company_id: int | None, activity: Activity | None, *, reminder: bool
) -> None:
    """The user, and for reminders what Moodle itself adds (facts §2.8, §2.11)."""
    own = _("the user's text")
    name = f"{user.firstname} {user.lastname}".strip()
    found.add(Line(user.email, name, user.id, own, _("It is the user's own mail.")))
    if not reminder:
        return
    for address in companies.company_cc([company_id]).get(company_id, ()) if company_id else ():
        found.add(Line(address, "", None, own, _("The company's Cc addresses in Moodle.")))
    for address in messaging.third_party_addresses(activity.thirdpartyemails) if activity else ():
        because = _("The activity names this address as a third party.")
        found.add(Line(address, "", None, _("the third parties' text"), because))


def _by_rules(found: Found, subject: Subject, viewer: scope.Person) -> None:
    rows = scope.copy_rules_for(viewer)
    rules = CopyRules.load(rows)
    adding = set()
    before = len(found.lines)
    for copy in rules.copies([subject]).get(subject.key, []):
        text = _("the user's text") if copy.text == "user" else _("the third parties' text")
        found.add(Line(copy.address, copy.name, copy.recipient_id, text, copy.origin, copy.rule_id))
    adding = {line.rule_id for line in found.lines[before:]}
    misses = {rule.id: rule.misses(subject) for rule in rules.rules}
    for row in rows.order_by("name"):
        if row.pk not in adding:
            found.idle.append(Idle(row, _why_idle(row, rules, misses.get(row.pk, ""))))


def _why_idle(row: CopyRule, rules: CopyRules, miss: str) -> str:
    if not row.enabled:
        return _("It is switched off.")
    if row.pk in rules.broken:
        return _("It cannot be used: %(why)s") % {"why": rules.broken[row.pk]}
    if miss:
        return str(MISSES[miss])
    if row.pk in rules.too_many:
        return _("It finds more than %(most)d recipients for one mail, so it adds nobody.") % {"most": MOST}
    return _("It finds nobody, or only people who get this mail already.")


class CopiesPage(Page):
    """The question, and the answer once a user is named."""

    template_name = "offload/copies.html"
    permissions = (access.VIEW_COPYRULE,)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The form as the address fills it; an answer where a user is named and all fields can be used."""
        params, viewer = self.request.GET, self.request.user
        asked = "user" in params
        form = (
            Question(params) if asked else Question(initial={name: params.get(name, "") for name in params})
        )
        found = find(form.cleaned_data, viewer) if asked and form.is_valid() else None
        return super().get_context_data(
            form=form,
            found=found,
            template=params.get("template", ""),
            whole_site=not scope.is_bound(viewer),
            strict=settings.RENDER_PARITY == "strict",
            **kwargs,
        )
