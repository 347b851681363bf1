"""The text filters that an active context applies, in Moodle's order (facts §4.6).

Each filter that we have is a module with `apply(text, scope) -> str`. A filter that we do not have stops
the text with `Unrenderable("filter_unsupported", name)` as soon as it could touch it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.formatting.filters import (
    activitynames,
    emoticon,
    multilang,
    multilang2,
    unsupported,
    urltolink,
)
from emailoffload.moodle.formatting.filters.scope import Scope
from emailoffload.moodle.types import SiteConfig, TextContext

APPLY: Mapping[str, Callable[[str, Scope], str]] = MappingProxyType(
    {
        "activitynames": activitynames.apply,
        "emoticon": emoticon.apply,
        "multilang": multilang.apply,
        "multilang2": multilang2.apply,
        "urltolink": urltolink.apply,
    }
)


def filter_text(text: str, site: SiteConfig, context: TextContext, text_format: int) -> str:
    """`text` after the context's filters, without the `<nolink>` tags that only they know.

    `text_format` is the text's format before it became HTML (0 Moodle, 1 HTML, 4 Markdown). Raises
    Unrenderable where a filter that we do not have could touch the text.
    """
    scope = Scope(site, context, text_format)
    for each in context.filters:
        text = _apply(each.name, text, scope)
    return text.replace("<nolink>", "").replace("</nolink>", "")


def filter_string(text: str, site: SiteConfig, context: TextContext) -> str:
    """`text` after the filters that the site applies to names (`stringfilters`)."""
    names = site.get("stringfilters").split(",")
    scope = Scope(site, context, None)
    for each in context.filters:
        if each.name in names:
            text = _apply(each.name, text, scope)
    return text


def _apply(name: str, text: str, scope: Scope) -> str:
    if not text:
        return text
    apply = APPLY.get(name)
    if apply is not None:
        return apply(text, scope)
    if unsupported.could_touch(name, text, scope.site):
        raise Unrenderable("filter_unsupported", name)
    return text
