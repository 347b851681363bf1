"""Who gets which mail of one reminder: the user, a company's own Cc, third parties, copies (facts §2.8, design §5).

Each recipient gets a message of their own. Moodle's recipients come first; whoever is reached twice keeps the
first mail. In strict parity Moodle's own doubles stay, and only copies give way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.utils.translation import gettext as _

from emailoffload.moodle import messaging
from emailoffload.moodle.formatting.errors import Unrenderable
from emailoffload.moodle.refusals import Refusal
from emailoffload.moodle.types import Learner
from emailoffload.policy.copies import Copy
from emailoffload.sources.protocol import RenderedMail, Role
from emailoffload.sources.reengagement.texts import MailTexts, PreparedActivity, TextRenderer


@dataclass(frozen=True, slots=True)
class Extra:
    """Recipients beside those that the activity names."""

    company_cc: tuple[str, ...] = ()
    """Valid addresses of the user's company where the site has the patch of facts §2.11 (P-akt)."""
    copies: Sequence[Copy] = ()


@dataclass(slots=True)
class _Letter:
    """The texts for one reminder, each rendered once at most."""

    renderer: TextRenderer
    prepared: PreparedActivity
    learner: Learner
    _made: dict[tuple[str, bool], MailTexts] = field(default_factory=dict)

    def user(self, *, as_html: bool) -> MailTexts:
        """The user's text. Raises Unrenderable."""
        if ("user", as_html) not in self._made:
            texts = self.renderer.render_user(self.prepared, self.learner, as_html=as_html)
            self._made["user", as_html] = texts
        return self._made["user", as_html]

    def third_party(self, *, as_html: bool) -> MailTexts:
        """The text for third parties. Raises Unrenderable."""
        if ("third", as_html) not in self._made:
            texts = self.renderer.render_third_party(self.prepared, self.learner, as_html=as_html)
            self._made["third", as_html] = texts
        return self._made["third", as_html]

    def copy(self, text: str, *, as_html: bool) -> MailTexts:
        """The text of a copy: the one for third parties where there is one that can be rendered, else the
        user's. A copy of ours must not keep a reminder with Moodle that can go out."""
        if text == "thirdparty" and self.prepared.has_third_party_text:
            try:
                return self.third_party(as_html=as_html)
            except Unrenderable:
                pass
        return self.user(as_html=as_html)


class Recipients:
    """Composes the mails of reminders, for one pass."""

    def __init__(self, gates: messaging.MessageGates, renderer: TextRenderer) -> None:
        self.gates = gates
        self.renderer = renderer

    def user_delivery(self, learner: Learner, company_cc: Sequence[str]) -> messaging.Delivery | Refusal:
        """How the user gets their mail, or why not. With a company's Cc the patched plugin sends a mail
        instead of a message, so nobody asks for preferences (facts §2.11)."""
        return self.gates.for_user_directly(learner) if company_cc else self.gates.for_user(learner)

    def mails(
        self, prepared: PreparedActivity, learner: Learner, extra: Extra
    ) -> tuple[tuple[RenderedMail, ...], Refusal | None]:
        """The mails of one reminder in Moodle's order, and why the user gets none if so.

        Copies go out with the user's own mail only: where Moodle mails the user nothing, there is nothing to
        copy. No mails at all mean that the row stays with Moodle. Raises Unrenderable.
        """
        delivery = self.user_delivery(learner, extra.company_cc)
        refusal = delivery if isinstance(delivery, Refusal) else None
        if refusal and refusal.leaves_row:
            return (), refusal
        letter = _Letter(self.renderer, prepared, learner)
        mails: list[RenderedMail] = []
        seen: set[str] = set()
        if isinstance(delivery, messaging.Delivery):
            texts = letter.user(as_html=delivery.as_html)
            mails.append(self._mail("user", delivery, texts, learner.user.id))
            seen.add(learner.user.email.casefold())
            if not delivery.subject_prefix:
                seen.add(delivery.address.casefold())  # by the user's preference it may be another one
            for address in extra.company_cc:
                mails += self._company_copy(address, texts, seen)
        for address in messaging.third_party_addresses(prepared.activity.thirdpartyemails):
            if address.casefold() in seen and not self.renderer.strict:
                continue
            other = self.gates.for_address(address)
            if isinstance(other, messaging.Delivery):
                seen.add(address.casefold())
                mails.append(self._mail("thirdparty", other, letter.third_party(as_html=False), None))
            elif other.leaves_row:
                return (), other
        if isinstance(delivery, messaging.Delivery):
            for copy in extra.copies:
                mails += self._rule_copy(copy, letter, seen)
        return tuple(mails), refusal

    def _company_copy(self, address: str, texts: MailTexts, seen: set[str]) -> list[RenderedMail]:
        """The very mail of the user, which the patched plugin sends with a Cc header."""
        delivery = self._unseen(address, self.gates.for_copy(address), seen)
        origin = _("the company's Cc addresses in Moodle")
        return [self._mail("copy", delivery, texts, None, origin)] if delivery else []

    def _rule_copy(self, copy: Copy, letter: _Letter, seen: set[str]) -> list[RenderedMail]:
        delivery = self._unseen(copy.address, self.gates.for_copy(copy.address, copy.user), seen)
        if delivery is None:
            return []
        texts = letter.copy(copy.text, as_html=delivery.as_html)
        return [self._mail("copy", delivery, texts, copy.recipient_id, copy.origin)]

    def _unseen(
        self, address: str, delivery: messaging.Delivery | Refusal, seen: set[str]
    ) -> messaging.Delivery | None:
        """The delivery of a copy, unless the address has a mail already or is not mailed to."""
        if isinstance(delivery, Refusal) or address.casefold() in seen:
            return None
        seen.add(address.casefold())
        return delivery

    def _mail(
        self,
        role: Role,
        delivery: messaging.Delivery,
        texts: MailTexts,
        recipient_id: int | None,
        origin: str = "",
    ) -> RenderedMail:
        if role == "thirdparty":
            origin = _("the activity's third parties")
        sender = self.gates.sender()
        return RenderedMail(
            role=role,
            to_address=delivery.address,
            to_name=delivery.to_name,
            from_address=sender.from_address,
            from_name=sender.from_name,
            reply_to_address=sender.reply_to_address,
            reply_to_name=sender.reply_to_name,
            subject=self.gates.subject(texts.subject, delivery),
            text=texts.text,
            html=texts.html,
            recipient_id=recipient_id,
            origin=origin,
        )
