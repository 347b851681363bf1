"""Where a learner is written to today: the address and the name that Moodle has now.

A mail keeps the address that its user had when it was rendered. Who sends it again may choose the present one
instead; the name changes with it, as Moodle would write it (facts §4.10), everything else stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import Error, connections
from django.utils.translation import gettext as _

from emailoffload.delivery import message
from emailoffload.moodle import senders
from emailoffload.moodle.errors import MoodleProblem
from emailoffload.moodle.formatting.names import fullname
from emailoffload.moodle.loaders import load_users
from emailoffload.moodle.site import load_site
from emailoffload.moodle.types import SiteConfig, User
from emailoffload.outbox.models import Email

LEARNER = "user"


@dataclass(frozen=True, slots=True)
class Present:
    """The address and name that Moodle has now, or why there is none to be used, in words."""

    address: str = ""
    name: str = ""
    why_not: str = ""


def present(emails: Sequence[Email]) -> dict[int, Present]:
    """Where these mails would go today, by their ids; a dozen queries to Moodle however many they are.

    Only the mail to the learner follows their address: managers, third parties and copies are what the activity, the
    template or a rule names. While Moodle cannot be asked, no present address is known.
    """
    found = {
        email.pk: Present(why_not=_("Only the mail to the learner can go to their present address."))
        for email in emails
        if email.role != LEARNER
    }
    learners = [email for email in emails if email.role == LEARNER]
    if not learners:
        return found
    try:
        site = load_site()
        users = load_users({_user(email) for email in learners})
    except (Error, MoodleProblem):  # a connection that was lost is no DatabaseError
        connections["moodle"].close_if_unusable_or_obsolete()
        away = _("Moodle does not answer now, so the present address is not known. Try again later.")
        return found | {email.pk: Present(why_not=away) for email in learners}
    return found | {email.pk: _of(users.get(_user(email)), site) for email in learners}


def _user(email: Email) -> int:
    return email.recipient_id or email.user_id


def _of(user: User | None, site: SiteConfig) -> Present:
    if user is None or user.deleted:
        return Present(why_not=_("The user is not in Moodle any more, so there is no present address."))
    address = user.email.strip()
    try:
        message.address(address)
    except message.Unsendable:
        address = ""
    if not address or address.endswith(".invalid") or len(address) > 254:
        return Present(why_not=_("The address that Moodle has now is none that a mail can go to."))
    if senders.diverted(site, address) is not False:
        return Present(why_not=_("This site diverts its mails to one address (divertallemailsto)."))
    return Present(address, senders.header_name(fullname(user, site)))
