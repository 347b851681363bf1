"""Two mails compared by the parity rule of design §5: by what a person sees, part by part."""

from __future__ import annotations

import html
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from emailoffload.actions.fidelity.mails import Mail
from emailoffload.moodle.formatting import active_content

SHOWN_LINES: Final = 6
ALIKE: Final = 0.5
"""Texts that share less than this part of their lines are not two versions of one mail."""

DELIBERATE: Final = {
    1: "the subject is the plain text that was meant, not HTML-escaped",
    2: "$1 or \\1 in a value is text, not a back-reference",
    3: "a placeholder inside a value is not filled in again",
    4: "active content and markup in names are removed",
    5: "an address gets one mail of a reminder, not several",
}
"""The deliberate differences of docs/rendering.md, by their number there."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One part that is not the same; `moodle` and `ours` are what stands there, lines joined by line breaks."""

    part: str
    moodle: str
    ours: str


def differences(ours: Mail, moodles: Mail) -> list[Difference]:
    """The parts in which the two differ, in the order in which a reader meets them."""
    found = [
        Difference(part, theirs, own)
        for part, theirs, own in (
            (
                "recipient",
                _person(moodles.to_name, moodles.to_address),
                _person(ours.to_name, ours.to_address),
            ),
            (
                "From",
                _person(moodles.from_name, moodles.from_address),
                _person(ours.from_name, ours.from_address),
            ),
            (
                "Reply-To",
                _person(moodles.reply_to_name, moodles.reply_to_address),
                _person(ours.reply_to_name, ours.reply_to_address),
            ),
            ("subject", moodles.subject, ours.subject),
            ("format", _format(moodles), _format(ours)),
        )
        if theirs != own
    ]
    found += _by_line("visible text", moodles.seen.lines, ours.seen.lines)
    found += _by_line("links", _pairs(moodles.seen.links), _pairs(ours.seen.links))
    found += _by_line("images", _pairs(moodles.seen.images), _pairs(ours.seen.images))
    found += _by_line("text part", moodles.text_lines, ours.text_lines)
    return found


def _person(name: str, address: str) -> str:
    return f"{name} <{address}>" if name else address


def _format(mail: Mail) -> str:
    return "text only" if mail.html is None else "text and HTML"


def _pairs(items: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{text} → {address}" for text, address in items]


def _by_line(part: str, moodles: Sequence[str], ours: Sequence[str]) -> list[Difference]:
    """The lines that differ, at most some of them."""
    if list(moodles) == list(ours):
        return []
    start = 0
    while start < min(len(moodles), len(ours)) and moodles[start] == ours[start]:
        start += 1
    end = 0
    while end < min(len(moodles), len(ours)) - start and moodles[-1 - end] == ours[-1 - end]:
        end += 1
    return [Difference(part, _cut(moodles[start : len(moodles) - end]), _cut(ours[start : len(ours) - end]))]


def _cut(lines: Sequence[str]) -> str:
    more = len(lines) - SHOWN_LINES
    return "\n".join([*lines[:SHOWN_LINES], *([f"… and {more} more lines"] if more > 0 else [])])


def pairs(ours: Sequence[Mail], moodles: Sequence[Mail]) -> dict[int, int]:
    """Which mail of ours belongs to which of Moodle's, by their places: by recipient, then subject, then text.

    A mail has one partner at most. The best fitting pair is taken first; mails to the same recipient that are not alike
    at all stay alone.
    """
    by_recipient: defaultdict[str, list[int]] = defaultdict(list)
    for place, mail in enumerate(moodles):
        by_recipient[mail.to_address.casefold()].append(place)
    candidates = []
    for own, mail in enumerate(ours):
        for other in by_recipient.get(mail.to_address.casefold(), ()):
            score = _score(mail, moodles[other])
            if score >= ALIKE:
                candidates.append((-score, own, other))
    found: dict[int, int] = {}
    taken: set[int] = set()
    for _, own, other in sorted(candidates):
        if own not in found and other not in taken:
            found[own] = other
            taken.add(other)
    return found


def _score(ours: Mail, moodles: Mail) -> float:
    """How well two mails to one recipient fit: from 0 to 3."""
    subject = 2.0 if ours.subject == moodles.subject else 0.0
    if not subject and plain(ours.subject) == plain(moodles.subject):
        subject = 1.5
    mine, theirs = Counter(ours.text_lines), Counter(moodles.text_lines)
    union = sum((mine | theirs).values())
    return subject + (sum((mine & theirs).values()) / union if union else 1.0)


def plain(subject: str) -> str:
    """A subject as plain text: entities and tags undone, blank space collapsed."""
    return " ".join(re.sub(r"<[^<>]*>", "", html.unescape(subject)).split())


def deliberate(default: Mail, strict: Mail) -> tuple[set[int], list[Difference]]:
    """Why our mail is not what `strict` makes of the same row: numbers of `DELIBERATE`, and what none of them explains.

    A number is only given where the mails show what it is about.
    """
    reasons: set[int] = set()
    left = []
    for difference in differences(default, strict):
        why: set[int] = set()
        if difference.part == "subject":
            why = {1} if plain(difference.moodle) != " ".join(difference.moodle.split()) else set()
            if why and plain(difference.moodle) == plain(difference.ours):
                reasons |= why
                continue
        why |= _evidence(default, strict)
        if why:
            reasons |= why
        else:
            left.append(difference)
    return reasons, left


def _evidence(default: Mail, strict: Mail) -> set[int]:
    said = "\n".join([default.subject, *default.text_lines, *default.seen.lines])
    other = "\n".join([strict.subject, *strict.text_lines, *strict.seen.lines])
    found = set()
    reference = re.compile(r"[$\\]\{?\d")
    if len(reference.findall(said)) > len(reference.findall(other)):
        found.add(2)
    placeholder = re.compile(r"%[a-z_]+%")
    if len(placeholder.findall(said)) > len(placeholder.findall(other)):
        found.add(3)
    markup = re.compile(r"<[a-zA-Z/!]")
    if active_content.is_active(strict.html or "") or len(markup.findall(said)) > len(markup.findall(other)):
        found.add(4)
    return found
