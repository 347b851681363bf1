"""The mails of one row of IOMAD's queue: IOMAD's recipients first, then copies by rules (facts §7.3, design §5)."""

from __future__ import annotations

from collections.abc import Sequence

from emailoffload.moodle import refusals
from emailoffload.moodle.addresses import valid_address
from emailoffload.moodle.iomad import QueuedText
from emailoffload.moodle.types import QueueRow, SiteConfig
from emailoffload.policy.copies import Copy
from emailoffload.sources.iomad_queue import recipients
from emailoffload.sources.iomad_queue.attachments import Attachments
from emailoffload.sources.iomad_queue.headers import StoredHeaders, StoredTemplate, Unusable
from emailoffload.sources.iomad_queue.letter import letter, subject
from emailoffload.sources.iomad_queue.recipients import People, Recipient
from emailoffload.sources.protocol import RenderedMail


class Composer:
    """Composes mails for one pass."""

    def __init__(self, site: SiteConfig, attachments: Attachments, *, strict: bool) -> None:
        self.site = site
        self.strict = strict
        self.attachments = attachments
        self.diversion = site.get("divertallemailsto").strip() if site.flag("divertallemailsto") else ""
        """Where all mail goes; IOMAD knows no exceptions (facts §7.3)."""

    def mails(
        self,
        row: QueueRow,
        text: QueuedText,
        headers: StoredHeaders,
        template: StoredTemplate,
        people: People,
        *,
        company_name: str,
        company_noreply: str,
        sensitive: bool,
        copies: Sequence[Copy],
    ) -> tuple[RenderedMail, ...]:
        """One mail per recipient, the user's first. Raises Unusable where the row must stay with IOMAD.

        One address gets one mail, the first; in strict parity IOMAD's own doubles stay, and only copies by
        rules give way.
        """
        if self.diversion and not valid_address(self.diversion):
            raise Unusable(refusals.ADDRESS_INVALID, "divertallemailsto")
        found: list[tuple[Recipient, str]] = []
        seen: set[str] = set()
        for each in recipients.recipients(row, template, people, diverted=bool(self.diversion)):
            if self.strict or each.address.casefold() not in seen:
                seen.add(each.address.casefold())
                found.append((each, ""))
        for copy in copies:
            if copy.address.casefold() not in seen:
                seen.add(copy.address.casefold())
                found.append((Recipient("copy", copy.address, copy.recipient_id, copy.origin), copy.name))
        identity = recipients.identity(
            row,
            template,
            headers.reply_to,
            people,
            self.site,
            company_name=company_name,
            company_noreply=company_noreply,
        )
        parts = letter(text.body, self.site.branch, strict=self.strict)
        files = (self.attachments.read(headers.attachment),) if headers.attachment else ()
        return tuple(
            RenderedMail(
                role=each.role,
                to_address=self.diversion or each.address,
                to_name=name,
                from_address=identity.from_address,
                from_name=identity.from_name,
                reply_to_address=identity.reply_to,
                reply_to_name="",
                subject=subject(text.subject, each.address if self.diversion else "", strict=self.strict),
                text=parts.text,
                html=parts.html,
                recipient_id=each.user_id,
                sensitive=sensitive,
                origin=each.origin,
                attachments=files,
            )
            for each, name in found
        )
