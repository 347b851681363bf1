"""The placeholders of mod_reengagement's texts and their values for one learner (facts §4.1-§4.3).

Two ways to substitute. *strict* is the plugin's: one placeholder after the other over the growing text,
values being replacement strings of regular expressions. *default* puts each value in as it is: `$1` is
text, and a placeholder inside a value stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from emailoffload.moodle.formatting import php
from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.types import Course, Learner, ProfileField, SiteConfig

COURSE = ("courseshortname", "coursefullname", "courseid")
USER = ("userfirstname", "userlastname", "userid", "usercity", "userinstitution", "userdepartment")
GROUPS = "usergroups"
PROFILE_PREFIX = "profilefield_"
_SAFE_SHORTNAME = re.compile(r"[A-Za-z0-9_ -]+")


class Token(str):
    """The name of a placeholder at its place in a template."""

    __slots__ = ()


Segments = tuple[str | Token, ...]


def order(site: SiteConfig) -> tuple[str, ...]:
    """The names of all placeholders in the order in which the plugin substitutes them."""
    return (*COURSE, *USER, GROUPS, *(PROFILE_PREFIX + field.shortname for field in site.profile_fields))


def check_shortnames(fields: Sequence[ProfileField]) -> None:
    """Raises Unrenderable where a field's shortname is a pattern of its own to the plugin (facts §4.2)."""
    for field in fields:
        if not _SAFE_SHORTNAME.fullmatch(field.shortname):
            raise Unrenderable("profile_shortname", field.shortname)


def used(templates: Iterable[str], names: Iterable[str]) -> frozenset[str]:
    """The placeholders that occur in any of the templates."""
    joined = "\n".join(templates)
    return frozenset(name for name in names if f"%{name}%" in joined)


def split(template: str, names: Iterable[str]) -> Segments:
    """`template` as literal texts and tokens, found in the plugin's order."""
    segments: list[str | Token] = [template]
    for name in names:
        mark = f"%{name}%"
        if mark not in template:
            continue
        found: list[str | Token] = []
        for segment in segments:
            if isinstance(segment, Token) or mark not in segment:
                found.append(segment)
                continue
            for index, literal in enumerate(segment.split(mark)):
                found += [literal] if index == 0 else [Token(name), literal]
        segments = found
    return tuple(segment for segment in segments if segment)


def fill(segments: Segments, value: Callable[[Token], str]) -> str:
    """The template with each token replaced by its value, as it is."""
    return "".join([value(segment) if isinstance(segment, Token) else segment for segment in segments])


def substitute_strictly(template: str, names: Iterable[str], values: Mapping[str, str]) -> str:
    """The template as the plugin fills it (facts §4.2); values are asked for only where they are needed."""
    for name in names:
        mark = f"%{name}%"
        if mark in template:
            template = template.replace(mark, php.preg_replacement(values[name], mark))
    return template


def course_values(course: Course) -> dict[str, str]:
    """What does not depend on the learner."""
    return {
        "courseshortname": course.shortname,
        "coursefullname": course.fullname,
        "courseid": str(course.id),
    }


def learner_values(learner: Learner) -> dict[str, str]:
    """Values of the user's own columns and groups, raw."""
    user = learner.user
    return {
        "userfirstname": user.firstname,
        "userlastname": user.lastname,
        "userid": str(user.id),
        "usercity": user.city,
        "userinstitution": user.institution,
        "userdepartment": user.department,
        GROUPS: ", ".join(learner.groups),
    }
