"""No page of a busy site says anything that is not translated."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client

from emailoffload.dashboard import configuration
from emailoffload.moodle import iomad
from offloadsite import env
from tests.dashboard.busy import Busy, make_busy_site
from tests.dashboard.test_every_page import PAGES, stem
from tests.i18n.marked import recorded, speak_marked, unmarked

# Coverage is counted through a connection of its own.
pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "moodle"])

EDGES = " ·,:;()“”„<>"
NO_WORDS = re.compile(
    r"\bemail(?:sent|time)\b|\d[\d:.,-]*(?: UTC)?|UTC|(?<![\w/])/[\w./-]+|[\w.+-]+@[\w.…-]+"
    r"|\b[A-Z][a-z]+[A-Z]\w*|\b\w+_\w+\b|\b[\w.]+\.\w{2,}\b|[\w-]+-[\w-]+-[\w-]+"
)
"""Times, paths, addresses, words of SES's, names of columns and templates, ids."""
WORD = re.compile(r"[A-Za-zÀ-ÿ]{2}")
COMMA = re.compile(r' (?:x|y|x1|x2|y1|y2|width|height|r|rx|value|max|min|low|high)="-?\d+,\d*%?"')
SAID = {
    "nonsense",
    "weather",
    "from",
    "reply-to",
    "message-id",
    "learn (via example)",
    "english",
    "deutsch",
    *iomad.BUILT_IN,
}
"""What the addresses ask for, headers, the sender of the mail shown, languages in their own words, templates."""


def addresses(busy: Busy) -> Iterator[str]:
    """Every page, and what its forms say of wrong entries."""
    for name, pages in PAGES.items():
        for rest in pages(busy).values():
            yield stem(name) + rest


def test_every_page_says_only_what_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = make_busy_site()
    client = Client(headers={"accept-language": "de"})
    client.force_login(User.objects.get(username="ada"))
    known = recorded()
    known |= {each.raw.casefold() for each in env.given()} | SAID
    known |= {f"{name} {number}".casefold() for name, number in configuration.versions()}
    text = "\n".join(known)
    speak_marked(monkeypatch)
    wrong: dict[str, list[str]] = {}
    drawn: list[str] = []
    for address in addresses(busy):
        page = client.get(address).content.decode()
        assert "\ue000" in page, address
        drawn += [f"{found.group()} on {address}" for found in COMMA.finditer(page)]
        for piece in unmarked(page):
            for part in piece.split(" · "):
                bare = NO_WORDS.sub("", part)
                if WORD.search(bare) and not any(
                    each.casefold().strip(EDGES) in text for each in (part, bare)
                ):
                    wrong.setdefault(part, []).append(address)
    assert not wrong, "\n".join(f"{piece!r} on {places[0]}" for piece, places in sorted(wrong.items()))
    assert drawn == [], "a number in an attribute is written as people write it, not as browsers read it"


def test_what_was_not_given_to_gettext_is_found_wherever_people_read_it() -> None:
    page = (
        '<title>One</title><p title="two">\ue000drei\ue001 four <code>five</code><img alt="six"></p>'
        '<p lang="en">seven</p><svg><title>eight</title></svg><script>nine</script><time>10 Nov</time>'
    )
    assert list(unmarked(page)) == ["One", "two", "four", "six", "eight"]
