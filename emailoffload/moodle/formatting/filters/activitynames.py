"""The filter *activitynames*: the names of a course's activities become links to them (facts §4.6).

Longer names (in bytes) first, in course order where equal; any case; whole words; not inside links, scripts,
`nolink`. A name with markup characters also matches in its escaped form. An activity's own name is linked
in its own mails too, as the plugin formats its texts in the course's context.
"""

from __future__ import annotations

from functools import lru_cache

from emailoffload.moodle.formatting import php
from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.formatting.filters.phrases import Phrase, compile_phrase, link_phrases
from emailoffload.moodle.formatting.filters.scope import Scope
from emailoffload.moodle.formatting.strings import s
from emailoffload.moodle.formatting.striptags import strip_tags
from emailoffload.moodle.types import CourseActivityName

FLEXIBLE_SPACES_FROM = 405
"""Some release after 4.4 lets a space in a name match any white space; which one the database does not
tell.
"""


def apply(text: str, scope: Scope) -> str:
    """`text` with activity names linked.

    Raises Unrenderable where Moodle's result depends on what cannot be known: other mails of the same cron
    run (`filtermatchoneperpage`), or the release's treatment of white space in names.
    """
    site = scope.site
    activities, wwwroot = scope.context.activities, site.wwwroot
    once_a_page = site.flag("filtermatchoneperpage")
    first_only = once_a_page or site.flag("filtermatchonepertext")
    linked = link_phrases(text, phrases(activities, wwwroot, False), first_only=first_only)
    if linked != text and once_a_page:
        raise Unrenderable("filter_unsupported", "activitynames")
    if site.branch >= FLEXIBLE_SPACES_FROM:
        flexible = link_phrases(text, phrases(activities, wwwroot, True), first_only=first_only)
        if flexible != linked:
            raise Unrenderable("filter_unsupported", "activitynames")
    return linked


@lru_cache(maxsize=256)
def phrases(activities: tuple[CourseActivityName, ...], wwwroot: str, flexible: bool) -> tuple[Phrase, ...]:
    """The phrases of a course's activities in the order in which they are linked."""
    found = []
    for activity in sorted(activities, key=lambda each: -len(each.name.encode())):
        title = s(php.trim(strip_tags(activity.name)))
        if title in ("", "0"):
            continue
        url = f"{wwwroot}/mod/{activity.modname}/view.php?id={activity.cmid}"
        opening = f'<a class="autolink" title="{s(title)}" href="{url}">'
        name = php.trim(activity.name)
        for form in dict.fromkeys((name, s(name))):
            pattern = compile_phrase(form, flexible=flexible)
            if pattern is not None:
                found.append(Phrase(pattern, opening))
    return tuple(found)
