"""The sandbox's own pages: what SES got, for people. No script; every value is escaped; mails load
nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from email.errors import HeaderParseError
from email.header import decode_header, make_header

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from emailoffload.sandbox import pages
from emailoffload.sandbox.http import Reply, Request
from emailoffload.sandbox.mailbox import Mailbox, Message

PAGE_SIZE = 50
_MAIL_HEADERS = {
    **pages.COMMON,
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none';"
        " base-uri 'none'; frame-ancestors 'self'"
    ),
}


def respond(
    request: Request,
    mailbox: Mailbox,
    others: Sequence[tuple[str, str]],
    about: Callable[[Message], SafeString],
) -> Reply:
    """Answer a request for a page: `/`, `/messages/N`, `/messages/N/html`, `/style.css`.

    `others` are links (address, text) to further pages of this server; `about` says what became of a message.
    """
    if request.method not in ("GET", "HEAD"):
        return pages.page(
            _("Not possible"), format_html("<p>{}</p>", _("Pages can only be read.")), status=405
        )
    if request.path == "/style.css":
        return Reply(pages.STYLE, content_type="text/css; charset=utf-8", headers=dict(pages.COMMON))
    if request.path == "/":
        return _list(mailbox, _number(request.query("before")), others)
    parts = request.path.strip("/").split("/")
    message = (
        mailbox.find(_number(parts[1]) or 0) if len(parts) in (2, 3) and parts[0] == "messages" else None
    )
    if message is not None and len(parts) == 2:
        return _one(message, about(message), others)
    if message is not None and parts[2] == "html":
        return Reply(
            message.html.encode(), content_type="text/html; charset=utf-8", headers=dict(_MAIL_HEADERS)
        )
    text = _("There is no such page, or the message is no longer kept.")
    nav = pages.nav([("/", _("All messages"))])
    return pages.page(_("Not found"), format_html("<p>{}</p>{}", text, nav), 404)


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 15 else None


def _readable(address: str) -> str:
    """An address with its name decoded, as a mail program shows it."""
    try:
        return str(make_header(decode_header(address)))
    except (HeaderParseError, LookupError, UnicodeDecodeError):
        return address


def _list(mailbox: Mailbox, before: int | None, others: Sequence[tuple[str, str]]) -> Reply:
    """The newest messages first, one page; `before` is the number the page starts under."""
    messages = [item for item in reversed(mailbox.messages) if before is None or item.number < before]
    shown = messages[:PAGE_SIZE]
    last_minute = sum(item.received > time.time() - 60 for item in messages)
    intro = ngettext(
        "%(count)d message accepted, %(recent)d in the last minute. Nothing here has left this computer.",
        "%(count)d messages accepted, %(recent)d in the last minute. Nothing here has left this computer.",
        mailbox.accepted,
    ) % {"count": mailbox.accepted, "recent": last_minute}
    rows = format_html_join(
        "",
        '<tr><td>{}</td><td>{}</td><td><a href="/messages/{}">{}</a></td><td>{}</td></tr>',
        (
            (
                pages.moment(item.received),
                ", ".join(map(_readable, item.recipients)),
                item.number,
                item.subject or _("(no subject)"),
                _readable(item.sender),
            )
            for item in shown
        ),
    )
    if not shown:
        rows = format_html('<tr><td colspan="4">{}</td></tr>', _("No message yet."))
    table = format_html(
        '<div class="scroll"><table><thead><tr><th scope="col">{}</th><th scope="col">{}</th>'
        '<th scope="col">{}</th><th scope="col">{}</th></tr></thead><tbody>{}</tbody></table></div>',
        _("Accepted"),
        _("To"),
        _("Subject"),
        pgettext("sender of a mail", "From"),
        rows,
    )
    links = [("/", _("Newest"))]
    if len(messages) > PAGE_SIZE:
        links.append((f"/?before={shown[-1].number}", _("Older")))
    nav = pages.nav([*links, *others])
    return pages.page(_("Sandbox SES"), format_html("<p>{}</p>{}{}", intro, table, nav))


def _one(message: Message, became: SafeString, others: Sequence[tuple[str, str]]) -> Reply:
    facts = [
        (_("Accepted"), pages.moment(message.received)),
        (_("Message id"), message.message_id),
        (pgettext("sender of a mail", "From"), _readable(message.sender)),
        (_("To"), ", ".join(map(_readable, message.recipients))),
        (_("Reply-To"), ", ".join(map(_readable, message.reply_to)) or message.header("Reply-To")),
        (_("Configuration set"), message.request.get("ConfigurationSetName") or _("none")),
    ]
    facts += [(_("Tag %(name)s") % {"name": name}, value) for name, value in message.tags.items()]
    parts = [pages.table(facts), became]
    if message.headers:
        parts += [pages.heading(_("Headers")), pages.table(message.headers)]
    if message.html:
        parts += [
            pages.heading(_("HTML part")),
            format_html(
                '<iframe sandbox src="/messages/{}/html" title="{}"></iframe>', message.number, _("HTML part")
            ),
        ]
    if message.text:
        parts += [pages.heading(_("Text part")), format_html("<pre>{}</pre>", message.text)]
    nav = pages.nav([("/", _("All messages")), *others])
    body = format_html_join("", "{}", ((part,) for part in [nav, *parts]))
    return pages.page(message.subject or _("(no subject)"), body)
