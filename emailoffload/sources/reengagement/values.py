"""The values of one learner, computed when a text asks for them."""

from __future__ import annotations

from emailoffload.moodle.formatting import profile
from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.types import Course, Learner, ProfileField, SiteConfig
from emailoffload.sources.reengagement import placeholders

_OPENING, _CLOSING = '<div class="text_to_html">', "</div>"


class Values(dict[str, str]):
    """Values by placeholder, as the plugin inserts them: columns raw, profile fields formatted (facts §4.3).

    `loaded` are the placeholders whose data the learner carries. Asking for another one, which only a value
    that looks like a placeholder can cause, raises Unrenderable("placeholder_in_value").
    """

    def __init__(self, course: Course, learner: Learner, site: SiteConfig, loaded: frozenset[str]) -> None:
        super().__init__(placeholders.course_values(course))
        self.update(placeholders.learner_values(learner))
        if placeholders.GROUPS not in loaded:
            del self[placeholders.GROUPS]
        self.learner = learner
        self._site = site
        self._loaded = loaded

    def __missing__(self, name: str) -> str:
        if name not in self._loaded:
            raise Unrenderable("placeholder_in_value", name)
        field = self.field(name)
        value = profile.format_value(field, self.learner.profile.get(field.id), self._site)
        self[name] = value
        return value

    def inner_text(self, name: str) -> str | None:
        """The stored text of a profile placeholder whose value is just that text in Moodle's `div`, else None."""
        value = self[name]
        if not (value.startswith(_OPENING) and value.endswith(_CLOSING)):
            return None
        stored = self.learner.profile[self.field(name).id].data
        return stored if value == f"{_OPENING}{stored}{_CLOSING}" else None

    def field(self, name: str) -> ProfileField:
        """The profile field of a placeholder."""
        shortname = name.removeprefix(placeholders.PROFILE_PREFIX)
        return next(field for field in self._site.profile_fields if field.shortname == shortname)
