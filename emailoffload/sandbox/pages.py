"""What the sandbox's own pages have in common: the frame around them, their style, their headers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from emailoffload.sandbox.http import Reply

COMMON = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
PAGE_HEADERS = {
    **COMMON,
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
}
STYLE = b"""
:root { color-scheme: light dark; --ink: #1d2733; --soft: #56606d; --line: #d5dbe1; --back: #f7f8fa;
  --card: #fff; --link: #0b5cad; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #a3adb8; --line: #3a434d;
  --back: #14191e; --card: #1c2329; --link: #7ab8f5; --bad: #f2766d; } }
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
nav { margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .5rem 1.25rem; }
nav a { white-space: nowrap; }
form { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1.25rem;
  max-width: 30rem; margin: 1rem 0; }
label { display: block; font-weight: 600; margin-bottom: .25rem; }
input, select, button { font: inherit; color: var(--ink); background: var(--back); padding: .45rem .6rem;
  border: 1px solid var(--soft); border-radius: .35rem; margin-bottom: 1rem; max-width: 100%; }
button { color: var(--back); background: var(--link); border-color: var(--link); font-weight: 600;
  cursor: pointer; margin-bottom: 0; }
input:focus-visible, select:focus-visible, button:focus-visible { outline: 3px solid var(--link);
  outline-offset: 2px; }
ol { max-width: 45rem; padding-left: 1.5rem; }
li { margin: .5rem 0; }
.notice { border-left: .3rem solid var(--link); background: var(--card); color: var(--ink);
  padding: .75rem 1rem; margin: 1rem 0; }
.problem { border-left-color: var(--bad); }
@media (max-width: 40rem) { body { padding: 1rem; } tbody th { width: auto; } }
"""


def page(title: str, body: SafeString, status: int = 200) -> Reply:
    """A whole page; `body` is what stands under its title."""
    html = format_html(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{} · {}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="/style.css"></head><body><main><h1>{}</h1>{}</main></body></html>',
        title,
        _("Sandbox SES"),
        title,
        body,
    )
    return Reply(html.encode(), status, "text/html; charset=utf-8", dict(PAGE_HEADERS))


def moment(seconds: float) -> SafeString:
    """UNIX seconds as people read them."""
    when = datetime.fromtimestamp(seconds, UTC)
    return format_html(
        '<time datetime="{}">{} UTC</time>',
        when.isoformat(timespec="milliseconds"),
        when.strftime("%Y-%m-%d %H:%M:%S"),
    )


def nav(links: Sequence[tuple[str, str]]) -> SafeString:
    """Links (address, text) to other pages of the sandbox, or of the dashboard."""
    return format_html("<nav>{}</nav>", format_html_join("", '<a href="{}">{}</a>', links))


def heading(text: str) -> SafeString:
    """The heading of a section."""
    return format_html("<h2>{}</h2>", text)


def table(rows: list[tuple[str, str | SafeString]] | list[tuple[str, str]]) -> SafeString:
    """Names and values, one pair a row."""
    body = format_html_join("", '<tr><th scope="row">{}</th><td>{}</td></tr>', rows)
    return format_html('<div class="scroll"><table><tbody>{}</tbody></table></div>', body or mark_safe(""))
