"""Who may do what: every address of the site and every action, with the answer that each kind of person gets.

A new page needs a row here, or `test_every_address_of_the_site_has_a_row` fails. A row names the page (its name in the
URLconf), the address with one of `world.KEYS` in braces, and by letters who is let in:

    S  Support staff            O  Offload administrators
    A  Auditors                 R  superusers (root)

Everybody else gets 403, and who is not logged in the way to the login. `bound` is what support staff of one company
get; without it the same as `S`. An action has `do`, the form that is posted: for whom it is refused, nothing changes;
where it is allowed, something does (unless `changes` is False: a page that only asks).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

ANONYMOUS, NOBODY, BOUND = "anonymous", "no permission", "support staff of one company"
LETTERS: Final = {"S": "Support staff", "A": "Auditors", "O": "Offload administrators", "R": "superuser"}
ROLES: Final = (ANONYMOUS, NOBODY, *LETTERS.values(), BOUND)


@dataclass(frozen=True)
class Row:
    """One address, read or acted upon, and who may."""

    name: str
    path: str
    may: str
    ok: int = 200
    do: dict[str, str] | None = None
    bound: int | None = None
    changes: bool = True
    other: dict[str, int] = field(default_factory=dict)
    """Answers that follow no rule, by role."""
    free: bool = False
    """Everybody may change something by it: what changes is no matter of permissions."""

    def expected(self, role: str) -> int:
        """The status that a role gets."""
        if role in self.other:
            return self.other[role]
        if role == BOUND:
            return self.bound if self.bound is not None else self.expected(LETTERS["S"])
        if role == ANONYMOUS:
            return 302
        return self.ok if any(LETTERS[letter] == role for letter in self.may) else 403

    def allowed(self, role: str) -> bool:
        """Whether the role may do it; nobody bound to a company does anything to what belongs to another."""
        if role == BOUND:
            mine = "{foreign" not in f"{self.path}{self.do}"
            return self.free or (mine and "S" in self.may and self.expected(role) == self.ok)
        return self.free or any(LETTERS[letter] == role for letter in self.may)

    def __str__(self) -> str:
        return f"{'GET' if self.do is None else 'POST'} {self.path} {self.do or ''}".strip()


WHY: Final = {"reason": "They did not get it"}


def everybody(status: int) -> dict[str, int]:
    """The same answer for all."""
    return dict.fromkeys(ROLES, status)


def _foreign(form: dict[str, str] | None) -> dict[str, str] | None:
    return form and {name: value.replace("{own", "{foreign") for name, value in form.items()}


def foreign(*rows: Row) -> tuple[Row, ...]:
    """Rows about a record of the bound staff's own company, and the same about another company's: to them it is not
    there."""
    more = []
    for row in rows:
        path = row.path.replace("{own", "{foreign")
        bound = 403 if row.bound == 403 or "S" not in row.may else 404
        more.append(replace(row, path=path, bound=bound, do=_foreign(row.do)))
    return (*rows, *more)


SAVE: Final = "/emails/views/save/"
NOT_THEIRS: Final = {"Support staff": 404, "Auditors": 404}
DISMISS: Final = {"action": "dismiss", "ids": "{own_failed}"}
THEIRS: Final = {"action": "dismiss", "ids": "{foreign_failed}"}
SURE: Final = {"confirm": "1", **WHY}
GUESS: Final = {"username": "x", "password": "y"}
LOGGED_IN: Final = {**everybody(302), ANONYMOUS: 200}
PAGES: Final[tuple[Row, ...]] = (
    # Without a login
    Row("login", "/login/", "", other=LOGGED_IN),
    Row("login", "/login/", "", do=GUESS, other=LOGGED_IN, changes=False, free=True),
    Row("healthz", "/healthz", "", other=everybody(200)),
    Row("healthz-worker", "/healthz/worker", "", other=everybody(200)),
    Row("readyz", "/readyz", "", other=everybody(200)),
    Row("metrics", "/metrics", "", other=everybody(200)),
    Row("events-sns", "/events/sns/", "", do={"x": "y"}, other=everybody(404)),
    Row("set-language", "/language/", "", do={"language": "de"}, other=everybody(302), changes=False, free=True),
    # Everybody's own
    Row("logout", "/logout/", "", other={**everybody(405), ANONYMOUS: 302}),
    Row("logout", "/logout/", "SAOR", 302, {}, other={NOBODY: 302}, changes=False, free=True),
    Row("password_change", "/password/", "SAOR", other={NOBODY: 200}),
    Row("password_change", "/password/", "SAOR", do={"old_password": "x"}, changes=False, other={NOBODY: 200}),
    Row("password_change_done", "/password/done/", "SAOR", other={NOBODY: 200}),
    # Reading
    Row("overview", "/", "SAOR"),
    Row("left", "/left/", "SAOR"),
    Row("emails", "/emails/", "SAOR"),
    *foreign(Row("email", "/emails/{own}/", "SAOR")),
    Row("users", "/users/", "SAOR"),
    Row("user", "/users/15093/", "SAOR"),
    Row("user-export", "/users/15093/export/", "OR"),
    Row("user-export", "/users/15093/export/", "OR", 200, WHY),
    Row("user-erase", "/users/15093/erase/", "OR"),
    Row("user-erase", "/users/15093/erase/", "OR", 302, {"confirm": "15093", **WHY}),
    Row("user-erase", "/users/15093/erase/", "OR", 400, {"confirm": "1509", **WHY}, changes=False),
    Row("copies", "/copies/", "SAOR"),
    Row("coverage", "/coverage/", "SAOR", bound=403),
    Row("routing", "/routing/", "SAOR", bound=403),
    Row("shadows", "/routing/shadows/", "SAOR", bound=403),
    Row("fallbacks", "/fallbacks/", "SAOR"),
    Row("fallback-group", "/fallbacks/failed/", "SAOR"),
    Row("suppressions", "/suppressions/", "SAOR"),
    *foreign(Row("suppression", "/suppressions/{own_barred}/", "SAOR")),
    Row("events", "/events/", "SAOR"),
    Row("reconciliation", "/reconciliation/", "SAOR"),
    Row("reconciliation", "/reconciliation/", "SOR", 200, {"finding": "{own_finding}", **WHY}),
    Row("reconciliation", "/reconciliation/", "SOR", 200, {"finding": "{foreign_finding}", **WHY}, bound=400),
    Row("runs", "/runs/", "SAOR", bound=403),
    Row("run", "/runs/{run}/", "SAOR", bound=403),
    Row("reputation", "/reputation/", "AOR"),
    Row("alarms", "/alarms/", "AOR"),
    Row("audit", "/audit/", "AOR"),
    Row("configuration", "/settings/", "AOR"),
    Row("event-problems", "/events/problems/", "AOR"),
    Row("event-problem", "/events/problems/{problem}/", "AOR"),
    Row("event-problem-body", "/events/problems/{problem}/body/", "OR"),
    # What mails say
    *foreign(
        Row("email-preview", "/emails/{own}/preview/", "SOR"),
        Row("email-preview", "/emails/{own}/preview/?part=text", "SOR"),
        Row("email-preview", "/emails/{own}/preview/?part=headers", "SOR"),
        Row("email-preview-html", "/emails/{own}/preview/html/", "SOR"),
    ),
    # One mail
    *foreign(
        Row("email-resend", "/emails/{own}/resend/", "SOR"),
        Row("email-resend", "/emails/{own_fresh}/resend/", "SOR", 302, WHY),
        Row("email-cancel", "/emails/{own_queued}/cancel/", "SOR"),
        Row("email-cancel", "/emails/{own_queued}/cancel/", "SOR", 302, WHY),
        Row("email-hand-back", "/emails/{own_queued}/hand-back/", "SOR"),
        Row("email-hand-back", "/emails/{own_queued}/hand-back/", "SOR", 302, WHY),
        # The site has no SMTP server: they get as far as the refusal of the action itself.
        Row("email-smtp", "/emails/{own_failed}/smtp/", "SOR"),
        Row("email-smtp", "/emails/{own_failed}/smtp/", "SOR", 409, WHY, changes=False),
        Row("email-suppress", "/emails/{own_fresh}/suppress/", "SOR"),
    ),
    # An address is the whole site's: one company's staff suppress none.
    Row("email-suppress", "/emails/{own_fresh}/suppress/", "SOR", 302, WHY, bound=403),
    Row("email-suppress", "/emails/{foreign_fresh}/suppress/", "SOR", 302, WHY, bound=404),
    # Lists of mails
    Row("emails-columns", "/emails/columns/", "SAOR"),
    Row("emails-columns", "/emails/columns/", "SAOR", 302, {"column": "state"}),
    Row("emails-export", "/emails/export/", "AOR"),
    Row("emails-export", "/emails/export/", "AOR", 200, {"reason": "Audit"}),
    Row("saved-views", "/emails/views/", "SAOR"),
    Row("saved-view-save", SAVE, "SAOR", 302, {"name": "Mine", "query": "state=failed"}),
    Row("saved-view-save", SAVE, "OR", 302, {"name": "All", "query": "state=failed", "shared": "on"}),
    # Somebody else's view, shared: to who may not share it is theirs only to use.
    Row("saved-view-change", "/emails/views/{view}/", "OR", 302, {"do": "delete"}, bound=404, other=NOT_THEIRS),
    # Groups of mails: what is not theirs is left out of what bound staff confirm.
    Row("fallback-group", "/fallbacks/failed/?reason={own_reason}", "SOR", 200, DISMISS, changes=False),
    Row("fallback-group", "/fallbacks/failed/?reason={own_reason}", "SOR", 200, {**DISMISS, **SURE}),
    Row("fallback-group", "/fallbacks/failed/?reason={foreign_reason}", "SOR", 200, {**THEIRS, **SURE}),
    # Addresses
    Row("suppression-add", "/suppressions/add/", "SOR", bound=403),
    Row("suppression-add", "/suppressions/add/", "SOR", 302, {"address": "fresh@example.net", **WHY}, bound=403),
    *foreign(Row("suppression", "/suppressions/{own_barred}/", "SOR", 302, WHY)),
    # The site
    Row("pause", "/pause/", "OR"),
    Row("pause", "/pause/", "OR", 302, {"do": "pause-both", **WHY}),
    Row("reputation", "/reputation/", "OR", 302, {"lasting": "4", **WHY}),
    Row("coverage", "/coverage/", "SAOR", 302, {}, bound=403),
    Row("configuration", "/settings/", "AOR", 302, {}),
)  # fmt: skip

# --- Django's admin. All but people without any permission have staff status here. ---

VIEWED: Final = {
    "emailoffload.run": "SAOR", "emailoffload.rowerror": "AOR", "emailoffload.reconcilefinding": "SAOR",
    "emailoffload.claim": "SAOR", "emailoffload.shadow": "AOR", "emailoffload.leftrow": "SAOR",
    "emailoffload.email": "SAOR", "emailoffload.attempt": "SAOR", "emailoffload.lease": "AOR",
    "emailoffload.state": "AOR", "emailoffload.suppression": "SAOR", "emailoffload.auditentry": "AOR",
    "emailoffload.sensitivetemplate": "AOR", "emailoffload.groupcompany": "AOR",
    "emailoffload.copyrule": "SAOR", "emailoffload.routingrule": "SAOR",
    "auth.group": "R", "auth.user": "R",
    "django_q.schedule": "R", "django_q.success": "R", "django_q.failure": "R", "django_q.ormq": "R",
}  # fmt: skip
"""Who sees a kind of record."""
EDITED: Final = {
    "emailoffload.sensitivetemplate": "OR", "emailoffload.groupcompany": "OR", "emailoffload.copyrule": "OR",
    "emailoffload.routingrule": "OR", "auth.group": "R", "auth.user": "R",
}  # fmt: skip
"""Who adds, changes and deletes; nobody where it is missing."""
OF_COMPANIES: Final = frozenset(
    f"emailoffload.{name}"
    for name in ("reconcilefinding", "claim", "email", "attempt", "copyrule", "leftrow")
)
"""Kinds of which bound staff see their own company's records; of the others they see none."""
AUTOCOMPLETE: Final = "/admin/autocomplete/?app_label=emailoffload&model_name=email&field_name=claim&term=F"
OUTSIDE: Final = {ANONYMOUS: 302, NOBODY: 302}
"""Who may not enter Django's admin is led to the login."""


def admin_rows() -> tuple[Row, ...]:
    """A row for each address and action of each kind of record."""
    rows: list[Row] = []
    for label, seen in VIEWED.items():
        app, model = label.split(".")
        base, name, edited = f"/admin/{app}/{model}/", f"admin:{app}_{model}", EDITED.get(label, "")
        own = None if label in OF_COMPANIES else 403
        # Its note may be empty, so an empty form is a whole one.
        blank = 302 if label == "emailoffload.sensitivetemplate" else 200
        rows += [
            Row(f"{name}_changelist", base, seen, bound=own),
            Row(f"{name}_add", f"{base}add/", edited, bound=403),
            Row(f"{name}_add", f"{base}add/", edited, do={}, changes=False, bound=403),
        ]
        for key in (label, f"foreign {label}") if label in OF_COMPANIES else (label,):
            one = f"{base}{{{key}}}/"
            # What is not there, for bound staff, leads back to the index.
            there = own if key == label else 302
            past = None if key == label and label in OF_COMPANIES else 403 if app == "django_q" else 302
            rows += [
                Row("admin:", one, "", other=everybody(302)),
                Row(f"{name}_change", f"{one}change/", seen, bound=there),
                Row(f"{name}_change", f"{one}change/", edited, blank, {}, changes=False, bound=403),
                Row(f"{name}_history", f"{one}history/", seen, bound=past),
                Row(f"{name}_delete", f"{one}delete/", edited, bound=403),
                Row(f"{name}_delete", f"{one}delete/", edited, 302, {"post": "yes"}, bound=403),
            ]
    password = "/admin/auth/user/{auth.user}/password/"
    nothing = {role: 404 for role in ROLES if role != "superuser"}
    rows += [
        Row("admin:auth_user_password_change", password, "R"),
        Row("admin:auth_user_password_change", password, "R", do={}, changes=False),
        Row("admin:index", "/admin/", "SAOR"),
        Row("admin:app_list", "/admin/emailoffload/", "SAOR"),
        Row("admin:app_list", "/admin/django_q/", "R", other=nothing),
        Row("admin:jsi18n", "/admin/jsi18n/", "SAOR"),
        Row("admin:autocomplete", AUTOCOMPLETE, "SAOR"),
        Row("admin:view_on_site", "/admin/r/1/1/", "", other=everybody(404)),
        Row("admin:", "/admin/nowhere/", "", other=everybody(404)),
    ]
    return (
        *(replace(row, other={**row.other, **OUTSIDE}) for row in rows),
        # The admin's ways in and out are ours.
        Row("admin:login", "/admin/login/", ""),
        Row("admin:logout", "/admin/logout/", "", other={**everybody(405), ANONYMOUS: 302}),
        Row("admin:password_change", "/admin/password_change/", "", other=everybody(302)),
        Row("admin:password_change_done", "/admin/password_change/done/", "", other=everybody(302)),
    )


TABLE: Final[tuple[Row, ...]] = (*PAGES, *admin_rows())
