"""Whether Moodle mails a person reminders at all, where to, and which settings decide: by the gates of a pass."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import get_language_info
from django.utils.translation import gettext as _

from emailoffload.dashboard import reasons
from emailoffload.dashboard.people import Answer, ask
from emailoffload.moodle import loaders, messaging
from emailoffload.moodle.refusals import Refusal
from emailoffload.moodle.site import load_site
from emailoffload.moodle.types import Learner


@dataclass(frozen=True, slots=True)
class Reach:
    """How a reminder reaches a user, or why none does. Without a course: what one activity says comes on top."""

    address: str
    """Where reminders go; '' where none do."""
    redirected: bool
    """That is another address than the one of the profile."""
    reason: str
    """Why none do: a code."""
    detail: str
    """The site's setting that decides, if one does."""
    language: str
    html: bool
    """The user wants HTML; else plain text only."""
    choice: str
    """How the user wants reminders: names of Moodle's message outputs; '' where the site's default holds."""
    bounces: str
    """How many mails Moodle counted as bounced, as text; '' where it counts none."""

    @property
    def language_name(self) -> str:
        """The language in its own words, where it is a known one; else Moodle's code."""
        try:
            return str(get_language_info(self.language.partition("_")[0])["name_local"])
        except KeyError:
            return self.language

    @property
    def why_not(self) -> str:
        """Why Moodle mails them no reminders, as a sentence."""
        return str(reasons.because(_("Moodle mails them no reminders"), self.reason)) if self.reason else ""


def of(user_id: int) -> Answer[Reach | None]:
    """How reminders reach this user; None where Moodle has no such user. Some twenty small queries."""
    return ask(lambda: _of(user_id), None)


def _of(user_id: int) -> Reach | None:
    found = loaders.load_learners(
        {(user_id, 0)}, groups=False, field_ids=(), preference_names=messaging.PREFERENCE_NAMES
    )
    learner = found.get((user_id, 0))
    return None if learner is None else _reach(learner)


def _reach(learner: Learner) -> Reach:
    site = load_site()
    delivery = messaging.MessageGates.load(site).for_user(learner)
    refusal = delivery if isinstance(delivery, Refusal) else Refusal("")
    address = delivery.address if isinstance(delivery, messaging.Delivery) else ""
    choice, _override, bounces, _sends, _charset = (
        learner.preferences.get(name, "") for name in messaging.PREFERENCE_NAMES
    )
    return Reach(
        address=address,
        redirected=address not in ("", learner.user.email),
        reason=refusal.reason,
        detail=refusal.detail,
        language=learner.user.lang or site.lang,
        html=learner.user.mailformat == 1,
        choice=choice,
        bounces="" if bounces == "0" else bounces,
    )
