"""What the codes of the audit log are called, and where the thing that an entry is about can be seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from django.urls import NoReverseMatch, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from emailoffload.dashboard import access
from emailoffload.dashboard.words import humanised
from emailoffload.outbox import scope

ACTIONS: Final[Mapping[str, Promise]] = {
    "view_content": gettext_lazy("read what a mail says"),
    "resend": gettext_lazy("sent a mail again"),
    "cancel": gettext_lazy("stopped a mail"),
    "retry": gettext_lazy("had a failed mail tried again"),
    "smtp": gettext_lazy("had a mail sent by SMTP"),
    "dismiss": gettext_lazy("marked a mail as dealt with"),
    "settle": gettext_lazy("decided about an uncertain mail"),
    "release": gettext_lazy("handed a claim back to Moodle"),
    "release_refused": gettext_lazy("could not hand a claim back"),
    "uncertain_policy": gettext_lazy("sent an uncertain mail once more, by policy"),
    "uncertain_not_taken": gettext_lazy("sent a mail once more that SES had not taken"),
    "finding_dealt_with": gettext_lazy("marked a finding as dealt with"),
    "accept_moodle": gettext_lazy("accepted Moodle's database as it is"),
    "suppress": gettext_lazy("suppressed an address"),
    "lift_suppression": gettext_lazy("let a suppressed address get mail again"),
    "pause": gettext_lazy("paused"),
    "resume": gettext_lazy("resumed"),
    "override_reputation": gettext_lazy("let claiming go on in spite of the reputation"),
    "end_override_reputation": gettext_lazy("ended the exception to the reputation's limits"),
    "coverage_count": gettext_lazy("had coverage counted again"),
    "share_view": gettext_lazy("shared a saved view with everybody"),
    "unshare_view": gettext_lazy("took back a saved view from everybody"),
    "export": gettext_lazy("exported emails"),
    "export_person": gettext_lazy("exported what is held about a user"),
    "erase_person": gettext_lazy("erased what is held about a user"),
    "checkup": gettext_lazy("had the doctor look"),
    "login": gettext_lazy("logged in"),
    "logout": gettext_lazy("logged out"),
    "login_failed": gettext_lazy("was given a wrong password"),
    "login_lock": gettext_lazy("refuses logins for a while"),
    "login_refused": gettext_lazy("did not let somebody in"),
    "password_change": gettext_lazy("changed their own password"),
    "set_password_user": gettext_lazy("set somebody's password"),
    "account_create": gettext_lazy("made an account by single sign-on"),
    "groups_by_sso": gettext_lazy("changed groups by single sign-on"),
    "add_user": gettext_lazy("added an account"),
    "change_user": gettext_lazy("changed an account"),
    "delete_user": gettext_lazy("deleted an account"),
    "add_group": gettext_lazy("added a group"),
    "change_group": gettext_lazy("changed a group"),
    "delete_group": gettext_lazy("deleted a group"),
    "bind_group": gettext_lazy("changed the companies of a group"),
    "add_routingrule": gettext_lazy("added a routing rule"),
    "change_routingrule": gettext_lazy("changed a routing rule"),
    "delete_routingrule": gettext_lazy("deleted a routing rule"),
    "add_copyrule": gettext_lazy("added a copy rule"),
    "change_copyrule": gettext_lazy("changed a copy rule"),
    "delete_copyrule": gettext_lazy("deleted a copy rule"),
    "sensitive_template_add": gettext_lazy("named a template as sensitive"),
    "sensitive_template_change": gettext_lazy("changed a sensitive template"),
    "sensitive_template_delete": gettext_lazy("no longer named a template as sensitive"),
}
OBJECTS: Final[Mapping[str, Promise]] = {
    "email": gettext_lazy("email"),
    "claim": gettext_lazy("claim"),
    "finding": gettext_lazy("finding"),
    "suppression": gettext_lazy("suppression"),
    "event_problem": gettext_lazy("unreadable message"),
    "pause": gettext_lazy("pause"),
    "reputation": gettext_lazy("reputation"),
    "routingrule": gettext_lazy("routing rule"),
    "copyrule": gettext_lazy("copy rule"),
    "template": gettext_lazy("template"),
    "group": gettext_lazy("group"),
    "user": gettext_lazy("account"),
    "person": gettext_lazy("user"),
    "site": gettext_lazy("whole site"),
    "savedview": gettext_lazy("saved view"),
}
_PAGES: Final[Mapping[str, str]] = {
    "email": "email",
    "person": "user",
    "suppression": "suppression",
    "event_problem": "event-problem",
    "routingrule": "admin:emailoffload_routingrule_change",
    "copyrule": "admin:emailoffload_copyrule_change",
    "group": "admin:auth_group_change",
    "user": "admin:auth_user_change",
    "claim": "admin:emailoffload_claim_change",
}
_NEEDED: Final[Mapping[str, str]] = {
    "email": access.VIEW_EMAIL,
    "person": access.VIEW_EMAIL,
    "suppression": access.VIEW_SUPPRESSION,
    "event_problem": access.VIEW_EVENTPROBLEM,
    "routingrule": access.VIEW_ROUTINGRULE,
    "copyrule": access.VIEW_COPYRULE,
    "group": "auth.view_group",
    "user": "auth.view_user",
    "claim": "emailoffload.view_claim",
    "pause": access.PAUSE,
    "reputation": access.VIEW_REPUTATION,
    "site": access.VIEW_CONFIGURATION,
}
"""What the page of a thing asks for: nobody is led to a page that refuses them."""
_PLACES: Final[Mapping[str, str]] = {"pause": "pause", "reputation": "reputation", "site": "configuration"}


def action(code: str) -> str:
    """What somebody did, as the rest of a sentence that begins with their name."""
    return str(ACTIONS[code]) if code in ACTIONS else humanised(code)


def thing(kind: str, number: str) -> str:
    """What it was done to, such as `email 15`."""
    name = str(OBJECTS[kind]) if kind in OBJECTS else humanised(kind)
    if not number or kind in _PLACES:
        return name
    return _("%(thing)s %(id)s") % {"thing": name, "id": number}


def place(kind: str, number: str, viewer: scope.Person) -> str:
    """Where the thing can be seen; empty where there is no such page, or none that would let the viewer in."""
    admins = _PAGES.get(kind, "").startswith("admin:")
    if admins and not viewer.is_staff:  # type: ignore[union-attr]
        return ""
    if kind in _NEEDED and not viewer.has_perm(_NEEDED[kind]):  # type: ignore[union-attr]
        return ""
    try:
        if kind in _PLACES:
            return reverse(_PLACES[kind])
        if kind in _PAGES and number.isascii() and number.isdigit():
            return reverse(_PAGES[kind], args=[int(number)])
    except NoReverseMatch:
        return ""
    return ""


def details(values: Any) -> list[tuple[str, str]]:
    """What an entry keeps beside its columns, as (name, text); what was and is stands as "old → new"."""
    if not isinstance(values, dict):
        return []
    before, after = values.get("before"), values.get("after")
    found: list[tuple[str, str]] = []
    if isinstance(before, dict) or isinstance(after, dict):
        old, new = before or {}, after or {}
        for name in dict.fromkeys([*old, *new]):
            if old.get(name) != new.get(name):
                found.append((humanised(name), f"{_plain(old.get(name))} → {_plain(new.get(name))}"))
    found += [
        (humanised(name), _plain(value)) for name, value in values.items() if name not in {"before", "after"}
    ]
    return found


def _plain(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
