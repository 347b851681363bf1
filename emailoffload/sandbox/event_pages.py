"""Pages of the sandbox about events: what was published, who is suppressed, and a form that makes something happen."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from urllib.parse import parse_qs

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from emailoffload.sandbox import pages
from emailoffload.sandbox.event_shapes import WHATS
from emailoffload.sandbox.events import Published
from emailoffload.sandbox.http import Reply, Request
from emailoffload.sandbox.mailbox import Message
from emailoffload.sandbox.ses_api import SesApi

PATH = "/events"
LIST = "/suppressions"
SHOWN = 200
"""Events on one page."""
MAX_FORM = 4096


class EventPages:
    """`/events`, `/suppressions`, and the part about events of a message's page."""

    def __init__(self, api: SesApi) -> None:
        self.api = api
        self.token = secrets.token_urlsafe(16)
        """Only a form of this page has it, so no other page in the browser can make anything happen."""

    def links(self) -> list[tuple[str, str]]:
        """These pages, for the navigation of others."""
        return [(PATH, _("Events")), (LIST, _("Suppression list"))]

    def respond(self, request: Request) -> Reply:
        """Answer a request for one of these pages."""
        if request.path == PATH and request.method == "POST":
            return self._publish(request)
        if request.method not in ("GET", "HEAD"):
            return self._say(_("Not possible"), _("This page can only be read."), 405)
        return self._suppressions() if request.path == LIST else self._events()

    def about(self, message: Message) -> SafeString:
        """What became of a message so far, and the form that makes more become of it."""
        known = [each for each in self.api.events.published if each.message_id == message.message_id]
        options = format_html_join(
            "", '<option value="{}">{}</option>', ((name, what.label) for name, what in WHATS.items())
        )
        form = format_html(
            '<form method="post" action="{}"><input type="hidden" name="token" value="{}">'
            '<input type="hidden" name="message" value="{}"><label for="what">{}</label>'
            '<select id="what" name="what">{}</select><div><button type="submit">{}</button></div></form>',
            PATH,
            self.token,
            message.number,
            _("What becomes of it"),
            options,
            _("Publish the event"),
        )
        return format_html("{}{}{}", pages.heading(_("Events")), self._table(known, with_message=False), form)

    def _events(self) -> Reply:
        events = self.api.events
        visible, held, _delayed = self.api.sqs.queue.counts()
        waiting = ngettext(
            "%(count)d event is still to come.", "%(count)d events are still to come.", events.waiting
        ) % {"count": events.waiting}
        queue = _("In the queue: %(visible)d, and %(held)d that a reader holds.") % {
            "visible": visible,
            "held": held,
        }
        newest = list(events.published)[: -SHOWN - 1 : -1]
        body = format_html("{}<p>{} {}</p>{}", self._nav(), waiting, queue, self._table(newest))
        return pages.page(_("Events that SES published"), body)

    def _table(self, events: Sequence[Published], *, with_message: bool = True) -> SafeString:
        rows = format_html_join(
            "",
            '<tr><td>{}</td><td class="number">{}</td><td>{}</td><td>{}</td>{}</tr>',
            (
                (
                    pages.moment(each.at),
                    WHATS[each.what].type,
                    WHATS[each.what].label,
                    each.address,
                    _link(each.number) if with_message else "",
                )
                for each in events
            ),
        )
        names = [_("When"), _("Event"), _("Meaning"), _("Recipient")]
        return _columns([*names, _("Message")] if with_message else names, rows, _("No event yet."))

    def _suppressions(self) -> Reply:
        rows = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            ((pages.moment(each.at), each.address, each.reason) for each in self.api.suppressions.entries()),
        )
        intro = _(
            "Addresses of this account that bounced for good or complained. SES takes mails for them, does not"
            " send them, and publishes a bounce or a complaint."
        )
        table = _columns([_("Since"), _("Address"), _("Reason")], rows, _("Nobody is suppressed."))
        return pages.page(_("Suppression list"), format_html("{}<p>{}</p>{}", self._nav(), intro, table))

    def _publish(self, request: Request) -> Reply:
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "application/x-www-form-urlencoded" or len(request.body) > MAX_FORM:
            return self._say(_("Not possible"), _("Please use the form on a message's page."), 400)
        fields = parse_qs(request.body.decode("latin-1"))
        token, number, what = (fields.get(name, [""])[0] for name in ("token", "message", "what"))
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            text = _(
                "Nothing was published: this form was not the one that the message's page gave out. The sandbox may"
                " have been started anew since; load that page again."
            )
            return self._say(_("Not possible"), text, 403)
        message = self.api.mailbox.find(int(number)) if number.isdecimal() and len(number) < 15 else None
        if message is None or what not in WHATS:
            return self._say(
                _("Not found"), _("There is no such message or event, or it is no longer kept."), 404
            )
        self.api.events.publish(what, message)
        # Reloading the next page must not publish it again.
        return Reply(status=303, headers={**pages.COMMON, "Location": f"/messages/{message.number}"})

    def _nav(self) -> SafeString:
        return pages.nav([("/", _("All messages")), *self.links()])

    def _say(self, title: str, text: str, status: int) -> Reply:
        return pages.page(title, format_html("{}<p>{}</p>", self._nav(), text), status)


def _link(number: int) -> SafeString:
    text = _("Message %(number)d") % {"number": number}
    return format_html('<td class="number"><a href="/messages/{}">{}</a></td>', number, text)


def _columns(names: Sequence[str], rows: SafeString, empty: str) -> SafeString:
    """A table with a line that says so where it is empty."""
    if not rows:
        rows = format_html('<tr><td colspan="{}">{}</td></tr>', len(names), empty)
    head = format_html_join("", '<th scope="col">{}</th>', ((name,) for name in names))
    return format_html(
        '<div class="scroll"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>', head, rows
    )
