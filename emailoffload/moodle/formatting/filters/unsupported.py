"""Filters that we do not have: could they touch this text?

The tests are conservative: a "no" is certain, a "yes" leaves the text to Moodle. A filter that is not
listed here might do anything.
"""

from __future__ import annotations

import re

from emailoffload.moodle.types import SiteConfig

_I = re.IGNORECASE
_TRIGGERS = {
    "algebra": re.compile(r"@@|<algebra|\[algebra", _I),
    "codehighlighter": re.compile(r"<pre|<code", _I),
    "displayh5p": re.compile(r"http[^ &<]*h5p", _I),
    "emailprotect": re.compile(r"@"),
    "mathjaxloader": re.compile(r"\\[(\[]|\$\$|</? *tex|\[/?tex|<math|\\begin", _I),
    "tex": re.compile(r"\\[(\[]|\$\$|</? *tex|\[/?tex", _I),
}
"""What must be in a text before the filter changes anything."""
_PLAYERS = {
    "html5audio": "",
    "html5video": "",
    "swf": "",
    "videojs": r"youtu",
    "vimeo": r"vimeo",
    "youtube": r"youtu",
}
"""Players that come with Moodle: what a link they embed has, beside a known file extension."""
_EXTENSION = re.compile(
    r"\.(?:3gp|aac|aif|aiff|aifc|asf|au|avi|dv|dif|f4v|fl[av]|fmp4|m3u8?|m4[abv]|mka|mkv|mov(?:ie)?|mp[34]|mpe?g?"
    r"|mpd|mts|m2ts|og[agxv]|opus|qt|ra?m|rmvb|rv|smil?|swf|swfl|ts|wav|webm|wm[av]|xspf)(?=$|[?#&%])"
)
_ORIGIN = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//[^/?#]*")
_HREF = re.compile(r'<a\s[^>]*?href="([^"]*)"')
_TAG = re.compile(r"<[^>]*>")
_MEDIA_OPENING = re.compile(r"<(a|video|audio)\s", re.ASCII)
_SHIPPED_PLAYERS = "videojs,youtube"


def could_touch(name: str, text: str, site: SiteConfig) -> bool:
    """True unless the filter is known to leave `text` alone."""
    if name == "mediaplugin":
        return _media_could_touch(text, site)
    trigger = _TRIGGERS.get(name)
    if trigger is None or trigger.search(text):
        return True
    return any(delimiter in text for delimiter in literal_triggers(name, site))


def literal_triggers(name: str, site: SiteConfig) -> list[str]:
    """Delimiters that the site's own configuration adds."""
    if name != "mathjaxloader":
        return []
    extra = site.filter_config.get("filter_mathjaxloader", {}).get("additionaldelimiters", "")
    return [delimiter for delimiter in extra.split(",") if delimiter]


def _media_could_touch(text: str, site: SiteConfig) -> bool:
    """Video and audio, links to media, and links that are never closed (the filter loses what follows)."""
    lowered = text.lower()
    if "</a>" not in lowered and "</video>" not in lowered and "</audio>" not in lowered:
        return False
    players = [name for name in site.get("media_plugins_sortorder", _SHIPPED_PLAYERS).split(",") if name]
    if any(name not in _PLAYERS for name in players):
        return True
    if re.search(r"<(?:video|audio)\b", lowered) or _leaves_open_link(text):
        return True
    services = "|".join(_PLAYERS[name] for name in players if _PLAYERS[name])
    return any(
        bool(services and re.search(services, link)) or bool(_EXTENSION.search(_ORIGIN.sub("", link)))
        for link in _HREF.findall(lowered)
    )


def _leaves_open_link(text: str) -> bool:
    opened = ""
    for match in _TAG.finditer(text):
        tag = match[0]
        if opened and f"</{opened}>" in tag:
            opened = ""
        elif (opening := _MEDIA_OPENING.search(tag)) and opened in ("", opening[1]):
            if opened:
                return True
            opened = opening[1]
    return bool(opened)
