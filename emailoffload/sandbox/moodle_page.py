"""The sandbox's page of the sample Moodle: create users, and follow their welcome mails.

A plain form on loopback. A page of another site open in the same browser cannot use it: it does not know the
token, and the server answers to no other name than its own.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import parse_qs

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from emailoffload.sandbox import pages, sample_moodle, sample_users
from emailoffload.sandbox.http import Reply, Request
from emailoffload.sandbox.sample_schema import Writer
from emailoffload.sandbox.sample_site import EMAIL_DELAY
from emailoffload.sandbox.sample_users import MAX_USERS, CannotCreate, Created

PATH = "/moodle"
KEPT = 50
"""Results that can still be looked at."""
MAX_FORM = 4096
PATIENCE = 2.0
"""Seconds that a request waits for the file: the local SES answers nobody meanwhile."""
_SELECTED = mark_safe(" selected")


class MoodlePage:
    """Answers `/moodle` and `/moodle/created/N`; `dashboard` is the dashboard's address."""

    def __init__(self, path: Path, prefix: str, dashboard: str) -> None:
        self.path = path
        self.prefix = prefix
        self.dashboard = dashboard.rstrip("/")
        self.token = secrets.token_urlsafe(32)
        self._created: deque[tuple[int, Created]] = deque(maxlen=KEPT)
        self._number = 0

    def respond(self, request: Request) -> Reply:
        """Answer one request under `PATH`."""
        if request.path == PATH and request.method == "POST":
            return self._on_sample(lambda connection: self._create(connection, request))
        if request.method not in ("GET", "HEAD"):
            return self._say(_("Not possible"), _("This page can only be read."), 405)
        if request.path == PATH:
            return self._on_sample(self._form)
        created = self._find(request.path.removeprefix(f"{PATH}/created/"))
        if created is None:
            text = _("There is no such page, or the sandbox has been started anew since.")
            return self._say(_("Not found"), text, 404)
        return self._on_sample(lambda connection: self._next(connection, created))

    def _find(self, number: str) -> Created | None:
        return next((created for known, created in self._created if str(known) == number), None)

    def _on_sample(self, answer: Callable[[sqlite3.Connection], Reply]) -> Reply:
        """Answer with the sample's file open; says in words why it cannot be used."""
        try:
            connection = sample_moodle.open_existing(self.path, patience=PATIENCE)
        except sample_moodle.NoSample as error:
            return self._say(_("There is no sample Moodle"), str(error), 503)
        try:
            return answer(connection)
        except sqlite3.OperationalError:
            text = _("The sample Moodle is being written to. Nothing was created; please try again.")
            return self._say(_("One moment"), text, 503)
        finally:
            connection.close()

    # --- the form ---

    def _form(
        self,
        connection: sqlite3.Connection,
        *,
        count: str = "25",
        company: str = "",
        problem: str = "",
        status: int = 200,
    ) -> Reply:
        known = [("", _("All of them, in turn"))]
        known += [(str(id_), name) for id_, name in sample_users.companies(connection, self.prefix).items()]
        options = format_html_join(
            "",
            '<option value="{}"{}>{}</option>',
            ((value, _SELECTED if value == company else "", name) for value, name in known),
        )
        form = format_html(
            '<form method="post" action="{}"><input type="hidden" name="token" value="{}">'
            '<label for="count">{}</label>'
            '<input id="count" name="count" type="number" min="1" max="{}" required value="{}">'
            '<label for="company">{}</label><select id="company" name="company">{}</select>'
            '<div><button type="submit">{}</button></div></form>',
            PATH,
            self.token,
            _("How many users"),
            MAX_USERS,
            count,
            _("Company"),
            options,
            _("Create users"),
        )
        intro = _(
            "As when somebody uploads a list of new employees to IOMAD: each user gets an account, a place in"
            " a department, and a welcome mail with a password that waits in IOMAD's mail queue. Every third"
            " one is put into a course as well, and gets a mail about it. All people are invented."
        )
        notice = format_html('<p class="notice problem" role="alert">{}</p>', problem) if problem else ""
        body = format_html("{}<p>{}</p>{}{}", self._nav(), intro, notice, form)
        return pages.page(_("Create users in the sample Moodle"), body, status)

    def _create(self, connection: sqlite3.Connection, request: Request) -> Reply:
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "application/x-www-form-urlencoded" or len(request.body) > MAX_FORM:
            return self._form(connection, problem=_("Please use the form below."), status=400)
        fields = parse_qs(request.body.decode("latin-1"), keep_blank_values=True)
        token, count, company = (fields.get(name, [""])[0] for name in ("token", "count", "company"))
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            problem = _(
                "Nothing was created: this form was not the one that this page gave out. The sandbox may have"
                " been started anew since; send the form once more."
            )
            return self._form(connection, problem=problem, status=403)
        try:
            created = sample_users.create_users(
                connection, _whole(count), _whole(company) if company else None, prefix=self.prefix
            )
        except CannotCreate as error:
            return self._form(connection, count=count, company=company, problem=str(error), status=400)
        self._number += 1
        self._created.append((self._number, created))
        # Reloading the next page must not create them again.
        return Reply(status=303, headers={**pages.COMMON, "Location": f"{PATH}/created/{self._number}"})

    # --- what happens next ---

    def _next(self, connection: sqlite3.Connection, created: Created) -> Reply:
        waiting, gone, by_moodle = self._progress(connection, created)
        total = created.welcome + created.enrolled
        title = ngettext("%(count)d user created", "%(count)d users created", created.users) % {
            "count": created.users
        }
        where = created.company or _("all companies")
        facts: list[tuple[str, str | SafeString]] = [
            (_("User ids"), f"{created.first_id} – {created.last_id} ({where})"),
            (_("Queued mails"), str(total)),
            (_("Due"), pages.moment(created.due)),
            (_("Still waiting in IOMAD's queue"), str(waiting)),
            (_("Claimed by Email Offload"), str(gone - by_moodle)),
            (_("Mailed by Moodle's own cron"), str(by_moodle)),
        ]
        steps = [
            _(
                "The mails wait in IOMAD's queue and are due %(delay)d seconds after they were created: that"
                " is IOMAD's own setting iomad_emaildelay. This sample site is one SQLite file, which has no"
                " lock to share with Moodle's cron, so Email Offload claims the mails ahead of their time. On"
                " MariaDB and MySQL it takes the cron's lock instead, and needs no delay."
            )
            % {"delay": EMAIL_DELAY},
            _(
                "Email Offload's worker claims them before they are due: it marks the rows as sent, and the"
                " mails appear in the dashboard. What a welcome mail says is not shown there: it carries a"
                " password."
            ),
            _("When they are due they leave. The local SES shows them as the users' mailboxes would."),
            _(
                "Moodle's cron comes by every five minutes. It finds nothing left to mail; what nobody has"
                " claimed by then, it mails itself."
            ),
        ]
        links = [
            (f"{self.dashboard}/emails/?template=user_create", _("Welcome mails in the dashboard")),
            ("/", _("Messages that the local SES got")),
            (f"{PATH}", _("Create more users")),
        ]
        body = format_html(
            "{}{}{}<ol>{}</ol>{}<p>{}</p>",
            self._nav(),
            pages.table(facts),
            pages.heading(_("What happens next")),
            format_html_join("", "<li>{}</li>", ((step,) for step in steps)),
            pages.nav(links),
            _("Load this page again to see how far they are."),
        )
        return pages.page(title, body)

    def _progress(self, connection: sqlite3.Connection, created: Created) -> tuple[int, int, int]:
        """How many of the queued rows wait, how many do not, and how many of those Moodle's cron mailed."""
        query = Writer(connection, self.prefix).query
        people = (created.first_id, created.last_id)
        (waiting, gone) = query(
            "SELECT coalesce(sum(sent IS NULL), 0), coalesce(sum(sent IS NOT NULL), 0) FROM {email}"
            " WHERE userid BETWEEN ? AND ?",
            people,
        )[0]
        ((by_moodle,),) = query(
            "SELECT count(DISTINCT row_id) FROM sandbox_moodle_mail WHERE source = 'iomad_queue'"
            " AND user_id BETWEEN ? AND ?",
            people,
        )
        return waiting, gone, by_moodle

    def _nav(self) -> SafeString:
        return pages.nav([*self.links(), (f"{self.dashboard}/", _("Dashboard"))])

    def links(self) -> Sequence[tuple[str, str]]:
        """This page and the messages, for the navigation of both."""
        return [("/", _("All messages")), (PATH, _("Create users"))]

    def _say(self, title: str, text: str, status: int) -> Reply:
        return pages.page(title, format_html("{}<p>{}</p>", self._nav(), text), status)


def _whole(text: str) -> int:
    """A whole number as typed; what is none counts as 0, which is never allowed."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else 0
