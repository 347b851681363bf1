"""Who gets a queued mail and from whom, as IOMAD's `send_to_user` decides (facts §7.3).

Each recipient gets a message of their own: the user; the stored template's To and Cc users, then its To and Cc
addresses; for mails to users also their company managers and supervisors, unless the stored template says no.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _

from emailoffload.moodle import refusals, senders
from emailoffload.moodle.addresses import valid_address
from emailoffload.moodle.site import siteadmins
from emailoffload.moodle.types import QueueRow, SiteConfig, User
from emailoffload.sources import reasons
from emailoffload.sources.iomad_queue.headers import StoredTemplate, Unusable
from emailoffload.sources.protocol import Role

USER_TEMPLATES = frozenset({
    "completion_course_user", "completion_warn_user", "course_not_started_warning", "expiry_warn_user",
    "license_allocated", "license_removed", "password_update", "user_added_to_course", "user_create",
    "user_deleted", "user_programcompleted", "user_promoted", "user_removed_from_event", "user_reset",
    "user_signed_up_for_event", "user_signed_up_to_waitlist", "user_suspended", "user_unsuspended",
})  # fmt: skip
"""Mails to users that their managers and supervisors get too (facts §7.3)."""
COMPANY_NAME = "{Company_Name}"
"""The sender's name by which a template asks for the company's."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One message's recipient. `origin` says in words why; '' for the user."""

    role: Role
    address: str
    user_id: int | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a mail comes from; names as they stand in the header, decoded."""

    from_address: str
    from_name: str
    reply_to: str


@dataclass(frozen=True, slots=True)
class People:
    """All people that a batch's mails name, by id, whatever their state; managers and supervisors of a row."""

    users: Mapping[int, User]
    managers: Mapping[tuple[int, int], Sequence[User]]
    """By user and company."""
    supervisors: Mapping[int, Sequence[str]]


def copies_managers(template: str, stored: StoredTemplate) -> bool:
    """Whether IOMAD sends this mail to company managers too."""
    return template in USER_TEMPLATES and not stored.managers_off


def copies_supervisors(template: str, stored: StoredTemplate) -> bool:
    """Whether IOMAD sends this mail to supervisors too."""
    return template in USER_TEMPLATES and not stored.supervisors_off


def recipients(row: QueueRow, stored: StoredTemplate, people: People, *, diverted: bool) -> list[Recipient]:
    """The recipients in IOMAD's order, doubles and all.

    Sending stops at the first address that its mailer does not take: whoever comes later gets nothing. Where
    everything is diverted, only the target is asked, so nothing stops. Raises Unusable where the user's own
    address is such a one: then nobody gets anything.
    """
    user = people.users[row.userid]
    if not diverted and not valid_address(user.email.strip()):
        raise Unusable(refusals.ADDRESS_INVALID if user.email.strip() else refusals.NO_ADDRESS)
    result = [Recipient("user", user.email.strip(), user.id)]
    for each in _others(row, stored, people):
        address = each.address.strip()
        if not diverted and not valid_address(address):
            break
        result.append(Recipient(each.role, address, each.user_id, each.origin))
    return result


def _others(row: QueueRow, stored: StoredTemplate, people: People) -> list[Recipient]:
    template = row.templatename or ""
    to, cc = _("the template's To field"), _("the template's Cc field")
    found = [
        *_users(stored.to_users, people, to),
        *_users(stored.cc_users, people, cc),
        *(Recipient("copy", each, None, to) for each in stored.to_addresses if valid_address(each)),
        *(Recipient("copy", each, None, cc) for each in stored.cc_addresses if valid_address(each)),
    ]
    if copies_managers(template, stored):
        origin = _("company manager of the user")
        managers = people.managers.get((row.userid, row.companyid), ())
        found += [Recipient("manager", each.email, each.id, origin) for each in managers]
    if copies_supervisors(template, stored):
        origin = _("supervisor of the user")
        supervisors = people.supervisors.get(row.userid, ())
        found += [Recipient("manager", address, None, origin) for address in supervisors]
    return found


def _users(ids: Sequence[int], people: People, origin: str) -> list[Recipient]:
    """Those of the users who are neither deleted nor suspended."""
    users = [people.users[each] for each in ids if each in people.users]
    return [
        Recipient("copy", user.email, user.id, origin)
        for user in users
        if not user.deleted and not user.suspended
    ]


def sender_ids(row: QueueRow, stored: StoredTemplate, site: SiteConfig) -> set[int]:
    """The users whose names or addresses the sender may be made of."""
    return {each for each in (stored.from_user, _real_sender(row, site)) if each}


def _real_sender(row: QueueRow, site: SiteConfig) -> int:
    """The row's sender, if it is a real user and no site admin; else 0, and the support user's name counts."""
    sender = row.senderid or 0
    return sender if sender > 0 and sender not in siteadmins(site.config) else 0


def identity(
    row: QueueRow,
    stored: StoredTemplate,
    reply_to: str,
    people: People,
    site: SiteConfig,
    *,
    company_name: str,
    company_noreply: str,
) -> Identity:
    """Sender and reply address of a mail (facts §7.3).

    `company_noreply` is the company's own noreply address or ''. A company's own mail server is not used: we
    send through SES all the same. Raises Unusable where an address is not valid: IOMAD's mailer fails then.
    """
    name = _plain_name(row, people, site)
    override = stored.from_address if valid_address(stored.from_address) else ""
    if stored.from_name:
        name = company_name if stored.from_name == COMPANY_NAME else stored.from_name
    if stored.from_user:
        # A sender who does not exist any more has neither name nor address.
        user = people.users.get(stored.from_user)
        name, override = (user.firstname, user.email) if user else ("", "")
    noreply = company_noreply or senders.noreply_address(site)
    address = (override or noreply).strip()
    for each in (address, noreply.strip(), reply_to):
        if each and not valid_address(each):
            raise Unusable(reasons.SENDER_UNUSABLE)
    return Identity(address, senders.header_name(name), reply_to)


def _plain_name(row: QueueRow, people: People, site: SiteConfig) -> str:
    """The first name of the row's sender, or of the support user."""
    sender = _real_sender(row, site)
    support = site.support_user.user if site.support_user else None
    user = people.users.get(sender) if sender else support
    return user.firstname if user else ""
