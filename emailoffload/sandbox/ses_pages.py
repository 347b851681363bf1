"""The sandbox's own pages: what SES got, for people. No script; every value is escaped; mails load
nothing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from emailoffload.sandbox.http import Reply, Request
from emailoffload.sandbox.mailbox import Mailbox, Message

PAGE_SIZE = 50
_COMMON = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
_PAGE_HEADERS = {
    **_COMMON,
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
}
_MAIL_HEADERS = {
    **_COMMON,
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none';"
        " base-uri 'none'; frame-ancestors 'self'"
    ),
}
_STYLE = b"""
:root { color-scheme: light dark; --ink: #1d2733; --soft: #56606d; --line: #d5dbe1; --back: #f7f8fa;
  --card: #fff; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #a3adb8; --line: #3a434d;
  --back: #14191e; --card: #1c2329; --link: #7ab8f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; font: 1rem/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--back); }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p { margin: .25rem 0 1rem; color: var(--soft); }
a { color: var(--link); }
a:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .5rem .75rem; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 600; }
td { overflow-wrap: anywhere; }
td:first-child, .number { white-space: nowrap; font-variant-numeric: tabular-nums; }
tbody th { width: 12rem; font-weight: 600; color: var(--soft); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; padding: 1rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; }
iframe { width: 100%; height: 32rem; border: 1px solid var(--line); border-radius: .5rem; background: #fff; }
nav { margin: 1rem 0; display: flex; gap: 1.25rem; }
@media (max-width: 40rem) { body { padding: 1rem; } tbody th { width: auto; } }
"""


def respond(request: Request, mailbox: Mailbox) -> Reply:
    """Answer a request for a page: `/`, `/messages/N`, `/messages/N/html`, `/style.css`."""
    if request.method not in ("GET", "HEAD"):
        return _page(_("Not possible"), format_html("<p>{}</p>", _("Pages can only be read.")), status=405)
    if request.path == "/style.css":
        return Reply(_STYLE, content_type="text/css; charset=utf-8", headers=dict(_COMMON))
    if request.path == "/":
        return _list(mailbox, _number(request.query("before")))
    parts = request.path.strip("/").split("/")
    message = (
        mailbox.find(_number(parts[1]) or 0) if len(parts) in (2, 3) and parts[0] == "messages" else None
    )
    if message is not None and len(parts) == 2:
        return _one(message)
    if message is not None and parts[2] == "html":
        return Reply(
            message.html.encode(), content_type="text/html; charset=utf-8", headers=dict(_MAIL_HEADERS)
        )
    text = _("There is no such page, or the message is no longer kept.")
    return _page(
        _("Not found"), format_html('<p>{}</p><nav><a href="/">{}</a></nav>', text, _("All messages")), 404
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 15 else None


def _page(title: str, body: SafeString, status: int = 200) -> Reply:
    html = format_html(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{} · {}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/style.css"></head><body><main><h1>{}</h1>{}</main></body></html>',
        title,
        _("Sandbox SES"),
        title,
        body,
    )
    return Reply(html.encode(), status, "text/html; charset=utf-8", dict(_PAGE_HEADERS))


def _moment(seconds: float) -> SafeString:
    moment = datetime.fromtimestamp(seconds, UTC)
    return format_html(
        '<time datetime="{}">{} UTC</time>',
        moment.isoformat(timespec="milliseconds"),
        moment.strftime("%Y-%m-%d %H:%M:%S"),
    )


def _readable(address: str) -> str:
    """An address with its name decoded, as a mail program shows it."""
    try:
        return str(make_header(decode_header(address)))
    except (HeaderParseError, LookupError, UnicodeDecodeError):
        return address


def _list(mailbox: Mailbox, before: int | None) -> Reply:
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
                _moment(item.received),
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
        _("From"),
        rows,
    )
    links = [("/", _("Newest"))]
    if len(messages) > PAGE_SIZE:
        links.append((f"/?before={shown[-1].number}", _("Older")))
    nav = format_html("<nav>{}</nav>", format_html_join("", '<a href="{}">{}</a>', links))
    return _page(_("Sandbox SES"), format_html("<p>{}</p>{}{}", intro, table, nav))


def _one(message: Message) -> Reply:
    facts = [
        (_("Accepted"), _moment(message.received)),
        (_("Message id"), message.message_id),
        (_("From"), _readable(message.sender)),
        (_("To"), ", ".join(map(_readable, message.recipients))),
        (_("Reply-To"), ", ".join(map(_readable, message.reply_to)) or message.header("Reply-To")),
        (_("Configuration set"), message.request.get("ConfigurationSetName") or _("none")),
    ]
    facts += [(_("Tag %(name)s") % {"name": name}, value) for name, value in message.tags.items()]
    parts = [_table(facts)]
    if message.headers:
        parts += [_heading(_("Headers")), _table(message.headers)]
    if message.html:
        parts += [
            _heading(_("HTML part")),
            format_html(
                '<iframe sandbox src="/messages/{}/html" title="{}"></iframe>', message.number, _("HTML part")
            ),
        ]
    if message.text:
        parts += [_heading(_("Text part")), format_html("<pre>{}</pre>", message.text)]
    nav = format_html('<nav><a href="/">{}</a></nav>', _("All messages"))
    body = format_html_join("", "{}", ((part,) for part in [nav, *parts]))
    return _page(message.subject or _("(no subject)"), body)


def _heading(text: str) -> SafeString:
    return format_html("<h2>{}</h2>", text)


def _table(rows: list[tuple[str, str | SafeString]] | list[tuple[str, str]]) -> SafeString:
    body = format_html_join("", '<tr><th scope="row">{}</th><td>{}</td></tr>', rows)
    return format_html('<div class="scroll"><table><tbody>{}</tbody></table></div>', body or mark_safe(""))
