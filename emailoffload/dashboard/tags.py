"""What the templates of the dashboard need: times, badges, words for codes, navigation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.conf import settings
from django.contrib.humanize.templatetags.humanize import naturaltime
from django.urls import reverse
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from emailoffload import version
from emailoffload.dashboard import companies, dates, nav, reasons, words
from emailoffload.dashboard.directions import apart

register = template.Library()
register.filter("apart", apart)
NOTHING = mark_safe('<span class="none">–</span>')


def _zone(moment: datetime) -> str:
    return timezone.localtime(moment).tzname() or settings.TIME_ZONE


def _exact(moment: datetime) -> str:
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M:%S} {_zone(moment)}"


@register.simple_tag
def when(moment: datetime | None) -> SafeString:
    """A moment to the minute with its zone; exact in the title. A script turns it into the viewer's zone."""
    if moment is None:
        return NOTHING
    local = timezone.localtime(moment)
    shown = f"{dates.minute(local)} {_zone(moment)}"
    return format_html(
        '<time datetime="{}" title="{}" data-when>{}</time>', local.isoformat(), _exact(moment), shown
    )


@register.simple_tag
def ago(moment: datetime | None) -> SafeString:
    """A moment as the distance from now ("3 minutes ago"); exact in the title."""
    if moment is None:
        return NOTHING
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', local.isoformat(), _exact(moment), naturaltime(moment)
    )


@register.simple_tag
def badge(state: str) -> SafeString:
    """An email's state: its name in the colour of its tone."""
    return format_html('<span class="badge {}">{}</span>', words.tone(state), words.state(state))


@register.simple_tag
def outcome_badge(outcome: str) -> SafeString:
    """How a pass ended, in the colour of its tone."""
    return format_html(
        '<span class="badge {}">{}</span>', words.RUN_TONES.get(outcome, "quiet"), words.run_outcome(outcome)
    )


@register.inclusion_tag("offload/_nav.html", takes_context=True)
def navigation(context: dict[str, Any]) -> dict[str, Any]:
    """The main navigation for the viewer, and the pages of the section that is open."""
    request = context["request"]
    match = getattr(request, "resolver_match", None)
    page = match.url_name or "" if match is not None else ""
    found = nav.of(request.user, page)
    return {"navigation": found, "records": request.user.is_staff}


@register.simple_tag
def sample_site() -> bool:
    """Whether this is the sample Moodle, not a real site."""
    return bool(settings.SAMPLE_SITE)


@register.simple_tag
def product_version() -> str:
    """The version of the product, for the foot of pages."""
    return version.current()


@register.simple_tag
def site_zone() -> str:
    """The time zone that pages show without JavaScript."""
    return settings.TIME_ZONE


@register.simple_tag(takes_context=True)
def this_page(context: dict[str, Any]) -> str:
    """The address of the page that is shown, to come back to; the overview where it only answers to a form."""
    request = context.get("request")
    if request is None:
        return reverse("overview")
    match = request.resolver_match
    view = getattr(match.func, "view_class", None) if match is not None else None
    asked = request.method in ("GET", "HEAD") or "get" in getattr(view, "http_method_names", ())
    return str(request.get_full_path()) if asked else reverse("overview")


@register.simple_tag
def languages() -> list[str]:
    """The codes of the languages that pages can speak."""
    return [code for code, _name in settings.LANGUAGES]


@register.simple_tag
def site_language() -> str:
    """The language of what is written down for all: findings of the doctor's, messages of passes."""
    return settings.LANGUAGE_CODE


@register.simple_tag(takes_context=True)
def own_companies(context: dict[str, Any]) -> str:
    """The companies that the viewer's account is bound to, in words; empty where it sees the whole site."""
    user = getattr(context.get("request"), "user", None)
    return companies.own(user) if user is not None and user.is_authenticated else ""


@register.filter
def share(part: int, whole: int) -> str:
    """A part of a whole in percent, as an SVG attribute takes it."""
    return f"{100 * part / whole:.1f}" if whole else "0"


@register.filter
def total(pairs: list[tuple[str, int]]) -> int:
    """The sum of the second values."""
    return sum(number for _name, number in pairs)


@register.filter
def state_tone(code: str) -> str:
    """The tone of an email's state."""
    return words.tone(code)


@register.filter
def state_name(code: str) -> str:
    """The name of an email's state."""
    return words.state(code)


@register.filter
def reason_text(code: str) -> str:
    """A reason code in words."""
    return reasons.meaning(code)


@register.filter
def role_name(code: str) -> str:
    """The name of a recipient's role."""
    return words.role(code)


@register.filter
def source_name(code: str) -> str:
    """The name of a source."""
    return words.source(code)


@register.filter
def template_name(code: str) -> str:
    """What kind of mail an IOMAD template is."""
    return words.template(code)


@register.filter
def kind_name(code: str) -> str:
    """The name of a kind of pass."""
    return words.kind(code)


@register.filter
def route_name(code: str) -> str:
    """The name of a route."""
    return words.route(code)


@register.filter
def attempt_name(code: str) -> str:
    """How an attempt ended."""
    return words.attempt_outcome(code)


@register.filter
def plain_counts(counts: Any) -> list[tuple[str, str]]:
    """The numbers that a pass kept, as (name, number), without zeros and without what it left to Moodle."""
    if not isinstance(counts, dict):
        return []
    return [
        (words.count_name(str(name), value), formats.number_format(value, force_grouping=True))
        for name, value in counts.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value and name != "seconds"
    ]


@register.filter
def left_counts(counts: Any) -> list[tuple[str, int]]:
    """What a pass left to Moodle, as (reason in words, rows), the most frequent first."""
    left = counts.get("left") if isinstance(counts, dict) else None
    if not isinstance(left, dict):
        return []
    pairs = [
        (reasons.meaning(str(code)), rows) for code, rows in left.items() if isinstance(rows, int) and rows
    ]
    return sorted(pairs, key=lambda pair: -pair[1])


@register.filter
def capped(count: Any) -> str:
    """A capped count as text: `1,234`, or `more than 10,000`."""
    number = formats.number_format(count.value, force_grouping=True)
    return _("more than %(number)s") % {"number": number} if count.more else number
