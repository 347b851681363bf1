"""The texts of a reminder as they leave: subject, text part, HTML part (facts §4, §5.6, §5.7; design §5).

`strict` reproduces Moodle to the letter. `default` differs in what design §5 lists, and nowhere else that a
person could see:

1. the subject is the plain text that Moodle meant: nothing is HTML-escaped, and of a profile field's HTML
only the
   text stays;
2. and 3. values are text: `$1` and `\\1` are no back-references, placeholders inside values are not expanded;
4. active content is removed from HTML bodies.

In `default` what learners can edit (names, city, institution, department) is HTML-escaped in bodies, so that
`a < b > c` reads the same and markup cannot be injected; profile texts were cleaned by Moodle's rules and are
inserted as HTML, or as escaped text where the placeholder stands inside a tag. What staff edit (course and
group names) is inserted as Moodle does it, markup included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.formatting.html_to_text import frame
from emailoffload.moodle.types import Activity, Course, Learner, ProfileField, SiteConfig, TextContext
from emailoffload.sources.reengagement import placeholders
from emailoffload.sources.reengagement.body import Body
from emailoffload.sources.reengagement.subject import Subject
from emailoffload.sources.reengagement.values import Values

Parity = Literal["default", "strict"]
_EMPTY_MARKUP = re.compile(r"</?(?:p|div|span|br)\b[^>]*>|&nbsp;|\s", re.I)


@dataclass(frozen=True, slots=True)
class MailTexts:
    """What a recipient gets. `text` is the decoded text part, framed by newlines; `html` None: text only."""

    subject: str
    text: str
    html: str | None


@dataclass(frozen=True, slots=True)
class _Letter:
    """One subject and one body."""

    subject: Subject
    body: Body


@dataclass(frozen=True, slots=True)
class PreparedActivity:
    """All that does not depend on the learner; keep it for as long as the activity's row is unchanged."""

    activity: Activity
    course: Course
    placeholders: frozenset[str]
    """Names of the placeholders in use, without the percent signs."""
    profile_fields: tuple[ProfileField, ...]
    """Profile fields in use: learners need the values of these only."""
    uses_groups: bool
    user: _Letter
    third_party: _Letter | Unrenderable

    @property
    def has_third_party_text(self) -> bool:
        """Whether a text for third parties was written at all; an editor leaves empty paragraphs behind."""
        return bool(
            self.activity.emailsubjectthirdparty.strip()
            and _EMPTY_MARKUP.sub("", self.activity.emailcontentthirdparty)
        )


class TextRenderer:
    """Renders reminders of one site. Stateless after construction, apart from caches; for one thread."""

    def __init__(self, site: SiteConfig, parity: Parity) -> None:
        self.site = site
        self.strict = parity == "strict"
        self._order = placeholders.order(site)

    def prepare(self, activity: Activity, context: TextContext) -> PreparedActivity:
        """Everything about `activity` that does not depend on the learner.

        `context` is that of the activity's course. Raises Unrenderable where no mail of the activity can be
        rendered as Moodle would; a third-party text counts only where the activity has third parties.
        """
        if activity.course is None:
            raise Unrenderable("no_course", str(activity.id))
        user_texts = (activity.emailsubject, activity.emailcontent)
        third_texts = (activity.emailsubjectthirdparty, activity.emailcontentthirdparty)
        placeholders.check_shortnames(self.site.profile_fields)
        used = placeholders.used((*user_texts, *third_texts), self._order)
        return PreparedActivity(
            activity=activity,
            course=activity.course,
            placeholders=used,
            profile_fields=tuple(
                field
                for field in self.site.profile_fields
                if placeholders.PROFILE_PREFIX + field.shortname in used
            ),
            uses_groups=placeholders.GROUPS in used,
            user=self._letter(user_texts, activity.course, context),
            third_party=self._third_party(third_texts, activity, activity.course, context),
        )

    def render_user(self, prepared: PreparedActivity, learner: Learner, *, as_html: bool) -> MailTexts:
        """The learner's own mail; `as_html` where the recipient's mailformat is 1.

        Raises Unrenderable where a value cannot be rendered as Moodle would.
        """
        return self._render(prepared.user, prepared, learner, as_html=as_html)

    def render_third_party(
        self, prepared: PreparedActivity, learner: Learner, *, as_html: bool = False
    ) -> MailTexts:
        """The mail about the learner to a third party: text only, as for Moodle's own third parties (facts
        §5.6), or also HTML for a copy to a person. Raises Unrenderable."""
        if isinstance(prepared.third_party, Unrenderable):
            raise Unrenderable(prepared.third_party.reason, prepared.third_party.detail)
        return self._render(prepared.third_party, prepared, learner, as_html=as_html)

    def _third_party(
        self, texts: tuple[str, str], activity: Activity, course: Course, context: TextContext
    ) -> _Letter | Unrenderable:
        try:
            return self._letter(texts, course, context)
        except Unrenderable as error:
            if activity.thirdpartyemails.strip():
                raise
            return error

    def _letter(self, texts: tuple[str, str], course: Course, context: TextContext) -> _Letter:
        subject, body = texts
        return _Letter(
            Subject(subject, self._order, strict=self.strict),
            Body(body, self._order, self.site, context, course, strict=self.strict),
        )

    def _render(
        self, letter: _Letter, prepared: PreparedActivity, learner: Learner, *, as_html: bool
    ) -> MailTexts:
        values = Values(prepared.course, learner, self.site, prepared.placeholders)
        text, html = letter.body.render(values, as_html=as_html)
        return MailTexts(subject=letter.subject.render(values), text=frame(text), html=html)
