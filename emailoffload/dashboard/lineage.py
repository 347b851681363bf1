"""How an email is related to the others of its claim: what it repeats, what repeats it, and the other recipients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from emailoffload.outbox.models import Email

DEEPEST = 6
"""Resends of resends beyond this stand as deep as the last: a narrow screen has no room for more."""


@dataclass(frozen=True, slots=True)
class Node:
    """One email in the tree of resends."""

    email: Email
    depth: int
    relation: Literal["here", "parent", "child", "other"]
    """As the email of the page sees it; "other" is neither its direct original nor its direct resend."""


@dataclass(frozen=True, slots=True)
class Family:
    """The tree that an email belongs to, from its first original on (empty where nothing was sent again), and the
    claim's mails that are not in it."""

    tree: Sequence[Node]
    siblings: Sequence[Email]


def family(email: Email, others: Sequence[Email]) -> Family:
    """Sort the other emails of a claim by how they are related to this one."""
    by_id = {each.pk: each for each in [email, *others]}
    children: dict[int, list[Email]] = defaultdict(list)
    for each in sorted(by_id.values(), key=lambda one: one.pk):
        if each.resend_of_id in by_id:
            children[each.resend_of_id].append(each)
    root = email
    while root.resend_of_id in by_id:  # a resend is younger than what it repeats, so this ends
        root = by_id[root.resend_of_id]
    tree: list[Node] = []
    waiting = [(root, 0)]
    while waiting:
        each, depth = waiting.pop()
        tree.append(Node(each, min(depth, DEEPEST), _relation(each, email)))
        waiting += [(child, depth + 1) for child in reversed(children[each.pk])]
    ids = {node.email.pk for node in tree}
    return Family(tree if len(tree) > 1 else [], [other for other in others if other.pk not in ids])


def _relation(each: Email, here: Email) -> Literal["here", "parent", "child", "other"]:
    if each.pk == here.pk:
        return "here"
    if each.pk == here.resend_of_id:
        return "parent"
    return "child" if each.resend_of_id == here.pk else "other"


def recipients(email: Email, others: Sequence[Email]) -> list[Email]:
    """Of the claim's other recipients the newest mail of each: what may be sent again together with this one."""
    newest: dict[tuple[str, str], Email] = {}
    for each in sorted([email, *others], key=lambda one: one.pk):
        newest[_recipient(each)] = each
    newest.pop(_recipient(email), None)
    return sorted(newest.values(), key=lambda one: one.pk)


def _recipient(email: Email) -> tuple[str, str]:
    # The learner is one recipient, whatever address they had.
    return (email.role, "" if email.role == "user" else email.address.lower())
