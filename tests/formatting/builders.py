"""Sites, activities and learners for the formatting tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from emailoffload.moodle.types import (
    Activity,
    Course,
    CourseActivityName,
    Learner,
    ProfileField,
    ProfileValue,
    SiteConfig,
    TextContext,
    TextFilter,
    User,
)
from emailoffload.sources.reengagement.texts import MailTexts, TextRenderer

WWWROOT = "https://moodle.example"
FRESH_FILTERS = ("displayh5p", "activitynames", "mathjaxloader", "emoticon", "urltolink", "mediaplugin")
"""Active on a fresh install, in this order."""
FIELDS = (
    ProfileField(1, "area", "textarea"),
    ProfileField(2, "note", "text"),
    ProfileField(3, "joined", "datetime", "1"),
)


def site(branch: int = 404, *, lang: str = "en", **config: str) -> SiteConfig:
    return SiteConfig(
        wwwroot=WWWROOT,
        shortname="Site",
        fullname="The site",
        config={"theme": "boost", "themerev": "7", "filter_multilang_converted": "1", **config},
        branch=branch,
        lang=lang,
        profile_fields=FIELDS,
    )


def context(*filters: str, activities: tuple[tuple[int, str, str], ...] = ()) -> TextContext:
    return TextContext(
        filters=tuple(map(TextFilter, filters)),
        course_id=2,
        activities=tuple(CourseActivityName(*each) for each in activities),
    )


def activity(subject: str = "", body: str = "", **more: Any) -> Activity:
    base = Activity(
        id=1,
        name="Reminder",
        emailuser=2,
        emailsubject=subject,
        emailcontent=body,
        emailrecipient=0,
        thirdpartyemails="",
        emailsubjectthirdparty="",
        emailcontentthirdparty="",
        emailsubjectmanager="",
        emailcontentmanager="",
        duration=0,
        remindercount=1,
        emaildelay=0,
        suppresstarget=0,
        course=Course(id=2, shortname="HS", fullname="Health & safety"),
        cmid=5,
    )
    return replace(base, **more)


def learner(
    groups: tuple[str, ...] = (), profile: dict[int, ProfileValue] | None = None, **user: Any
) -> Learner:
    values = {"id": 7, "firstname": "Ann", "lastname": "Lee", **user}
    return Learner(user=User(**values), groups=groups, profile=profile or {})


def render(
    body: str,
    who: Learner | None = None,
    *,
    subject: str = "",
    parity: Any = "strict",
    where: TextContext | None = None,
    on: SiteConfig | None = None,
    **more: Any,
) -> MailTexts:
    renderer = TextRenderer(on or site(), parity)
    prepared = renderer.prepare(activity(subject, body, **more), where or context())
    return renderer.render_user(prepared, who or learner(), as_html=True)
