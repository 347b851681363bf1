"""What a mail says, for those who may read it. Every look is written to the audit log.

The HTML part is a document of its own, shown in a frame without scripts, forms, pop-ups or our origin, under
a policy that loads nothing from anywhere; pictures from the internet only when a person asks for them,
because loading them tells the sender's servers that the mail was read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView

from emailoffload.dashboard import access
from emailoffload.dashboard.paging import MAX_ID
from emailoffload.dashboard.still import still
from emailoffload.delivery import message, mime
from emailoffload.outbox import content, scope
from emailoffload.outbox.models import AuditEntry, Content, Email
from emailoffload.policy.credentials import sensitive_templates

PARTS = ("html", "text", "headers")
IMAGES = "https: data:"
"""Where pictures may come from once they are asked for: not over plain HTTP, where anybody on the way could see."""
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src {images}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'; sandbox"
)


@dataclass(frozen=True, slots=True)
class Opened:
    """The parts of a mail, or the sentence that says why they are not shown."""

    parts: content.Parts | None
    refusal: str = ""


def is_secret(email: Email) -> bool:
    """Whether a mail carries credentials; a template that was just declared to counts before its mails are marked."""
    return email.sensitive or bool(email.template and email.template in sensitive_templates())


def open_content(email: Email, actor: str, part: str, *, images: bool = False) -> Opened:
    """Decrypt what a mail says and write down who looked at which part.

    Sensitive mails are never opened, not even for administrators (design §5).
    """
    if is_secret(email):
        return Opened(None, _("This mail carries credentials. What it says is never shown to anybody."))
    row = Content.objects.filter(pk=email.pk).first()
    if row is None:
        return Opened(None, _gone(email))
    try:
        parts = content.open_(row)
    except content.ContentError as error:
        return Opened(None, str(error))
    details: dict[str, Any] = {"part": part}
    if images:
        details["remote_images"] = True
    AuditEntry.objects.create(
        actor=actor, action="view_content", object_type="email", object_id=str(email.pk), details=details
    )
    return Opened(parts)


def _gone(email: Email) -> str:
    """That what a mail said is gone, and when it went."""
    if email.erased_at is None:
        return _("What this mail said is no longer stored.")
    day = date_format(timezone.localtime(email.erased_at), "DATETIME_FORMAT")
    return _("What this mail said was erased: %(at)s.") % {"at": day}


def header_lines(email: Email, parts: content.Parts) -> list[tuple[str, str]]:
    """The headers that the mail leaves with, as (name, value), decoded; the Message-ID once it is known."""
    lines = [
        ("From", _named(parts.from_name, parts.from_address)),
        ("To", _named(parts.to_name, parts.to_address)),
        ("Reply-To", _named(parts.reply_to_name, parts.reply_to_address)),
        ("Subject", parts.subject),
        ("Message-ID", _message_id(email, parts)),
        (message.HEADER, email.ref.hex),
    ]
    return [(name, value) for name, value in lines if value]


def tag_lines(email: Email) -> list[tuple[str, str]]:
    """What Amazon SES is told beside the mail, as (name, value): its events carry it, the recipient does not see it."""
    tags = [(message.TAG, email.ref.hex), (message.SOURCE_TAG, email.source)]
    return [*tags, (_("configuration set"), settings.SES_CONFIGURATION_SET or _("none"))]


def _message_id(email: Email, parts: content.Parts) -> str:
    """SES makes its own, of its message id and a domain of its region; the SMTP route has ours (`delivery.mime`)."""
    if email.route == "ses":
        return f"<{email.message_id}@…>" if email.message_id else ""
    try:
        return mime.message_id(parts, email.ref.hex)
    except message.Unsendable:
        return ""


def _images() -> str:
    """Where pictures may come from; a Moodle without HTTPS shows its own all the same."""
    site = urlsplit(settings.MOODLE_WWWROOT)
    return f"{IMAGES} http://{site.netloc}" if site.scheme == "http" and site.netloc else IMAGES


def _named(name: str, address: str) -> str:
    if not address:
        return ""
    return f"{name} <{address}>" if name else address


class Readable(access.NeedsPermission):
    """A view of one email's content, for people who may see emails and contents."""

    permissions = (access.VIEW_EMAIL, access.VIEW_CONTENT)

    def email(self) -> Email:
        """The email that the address names; 404 where there is none that the person may see."""
        number: int = self.kwargs["pk"]  # type: ignore[attr-defined]
        return get_object_or_404(scope.emails_for(self.request.user), pk=number if number <= MAX_ID else 0)

    @property
    def images(self) -> bool:
        """Whether pictures from the internet were asked for."""
        return self.request.GET.get("images") == "1"


@method_decorator(never_cache, name="dispatch")
class PreviewPage(Readable, TemplateView):
    """The content of one email: as HTML in a frame, as text, or its headers."""

    template_name = "offload/preview.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The chosen part; the frame opens the HTML part by itself, so only the others are opened here."""
        email = self.email()
        asked = self.request.GET.get("part", "html")
        part = asked if asked in PARTS else "html"
        secret = is_secret(email)
        context: dict[str, Any] = {"email": email, "part": part, "images": self.images, "sensitive": secret}
        if part != "html":
            opened = open_content(email, self.request.user.get_username(), part)
            context["refusal"] = opened.refusal
            if opened.parts:
                context["text"] = opened.parts.text
                context["headers"] = header_lines(email, opened.parts)
                context["tags"] = tag_lines(email)
                context["attachments"] = [
                    (each.name, each.media_type, len(each.content)) for each in opened.parts.attachments
                ]
        return super().get_context_data(**context, **kwargs)


@method_decorator(never_cache, name="dispatch")
class PreviewHtml(Readable, View):
    """The HTML part as a document for the frame; the text part where the mail has no other."""

    kwargs: dict[str, Any]

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The document, under a policy of its own."""
        opened = open_content(self.email(), request.user.get_username(), "html", images=self.images)
        if opened.parts is None or opened.parts.html is None:
            body: str = render_to_string("offload/frame.html", {"opened": opened})
        else:
            body = opened.parts.html if self.images else still(opened.parts.html)
        response = HttpResponse(body)
        response["Content-Security-Policy"] = POLICY.format(images=_images() if self.images else "data:")
        response["X-Frame-Options"] = "SAMEORIGIN"
        response["Referrer-Policy"] = "no-referrer"
        response["X-DNS-Prefetch-Control"] = "off"
        return response
