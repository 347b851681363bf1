"""What a person does with one mail: stop it, hand it back, send it by SMTP, suppress its address.

Each is a page of its own: it says exactly what will happen, or why it cannot; a POST with a reason does it. The
actions guard themselves: what has changed since the page was shown is refused by them, in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from emailoffload.actions import cancel, release, smtp, suppressions
from emailoffload.dashboard import access, offers, suppressed
from emailoffload.dashboard.email import others_of, visible
from emailoffload.dashboard.sentences import say
from emailoffload.dashboard.suppressions import NOT_YOURS, may_add
from emailoffload.dashboard.timeline_claim import changes
from emailoffload.dashboard.views import Page
from emailoffload.feedback.models import Suppression
from emailoffload.moodle.errors import MoodleProblem, check_reachable
from emailoffload.outbox.models import Content, Email
from emailoffload.outbox.states import OPEN, EmailState

S = EmailState
ADD, LIFT = "add", "lift"
MOST_WAITING = 100
"""Waiting mails to an address that are counted."""


class ReasonForm(forms.Form):
    """Why it is done; kept in the audit log."""

    reason = forms.CharField(
        label=gettext_lazy("Why?"),
        max_length=500,
        help_text=gettext_lazy("Kept in the audit log, with your name. Do not write a password here."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class ActionPage(Page):
    """One action on one mail: says what will happen; on a POST with a reason, does it."""

    template_name = "offload/email_action.html"
    http_method_names = ("get", "head", "post", "options")
    title: Promise | str
    button: Promise | str

    def why_not(self, email: Email) -> str:
        """Why it cannot be done now, in words; '' where it can."""
        raise NotImplementedError

    def effects(self, email: Email) -> Sequence[str]:
        """What exactly will happen, a sentence each; they may be HTML."""
        raise NotImplementedError

    def warning(self, email: Email) -> str:
        """What to know before; ''."""
        return ""

    def act(self, email: Email, actor: str, reason: str) -> str:
        """Do it; returns why it was refused, or ''."""
        raise NotImplementedError

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The email, what will happen or why not, the form."""
        email: Email = kwargs.pop("email", None) or visible(self.request.user, self.kwargs["pk"])
        refusal = kwargs.pop("refusal", "") or self.why_not(email)
        return super().get_context_data(
            email=email,
            title=self.title,
            button=self.button,
            refusal=refusal,
            effects=[] if refusal else self.effects(email),
            warning="" if refusal else self.warning(email),
            form=kwargs.pop("form", None) or ReasonForm(),
            **kwargs,
        )

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Do it and lead back to the mail; 400 without a reason, 409 with the sentence where it is refused."""
        email = visible(request.user, self.kwargs["pk"])
        form = ReasonForm(request.POST)
        if not form.is_valid():
            context = self.get_context_data(email=email, form=form, **kwargs)
            return self.render_to_response(context, status=400)
        why_not = self.act(email, request.user.get_username(), form.cleaned_data["reason"])
        if why_not:
            fresh = visible(request.user, email.pk)
            context = self.get_context_data(email=fresh, form=form, refusal=why_not, **kwargs)
            return self.render_to_response(context, status=409)
        return redirect("email", email.pk)

    def others(self, email: Email) -> list[Email]:
        """The other mails of its claim that the person may see."""
        return others_of(email, self.request.user)


class CancelPage(ActionPage):
    """Stop a mail that has not left."""

    permissions = (access.VIEW_EMAIL, access.CANCEL_EMAIL)
    title = gettext_lazy("Stop this mail?")
    button = gettext_lazy("Stop it")

    def why_not(self, email: Email) -> str:
        """What the table of states says."""
        return cancel.refusal(email.state, email.claim.state)

    def effects(self, email: Email) -> Sequence[str]:
        """That nobody sends it, what becomes of the other mails of its claim, and that it is final."""
        others = [other for other in self.others(email) if other.state in {*OPEN, S.FAILED}]
        found = [
            _("We do not send it, not now and not later."),
            _(
                "Moodle does not send it either: since we claimed it, Moodle counts it as sent. So nobody sends it."
            ),
        ]
        if others:
            found.append(
                ngettext(
                    "%(n)d other mail of the same claim has not left yet. It stays as it is.",
                    "%(n)d other mails of the same claim have not left yet. They stay as they are.",
                    len(others),
                )
                % {"n": len(others)}
            )
            found.append(
                _(
                    "From then on none of them can be handed back to Moodle, because Moodle would send this one too."
                )
            )
        found.append(_("It cannot be undone; but the mail can be sent again later, as a new one."))
        return found

    def warning(self, email: Email) -> str:
        """That it may have left."""
        if not cancel.may_have_left(email):
            return ""
        return _(
            "A try of it got no answer, so it may have left already. Stopping it prevents further tries only."
        )

    def act(self, email: Email, actor: str, reason: str) -> str:
        """Stop it."""
        (outcome,) = cancel.cancel([email.pk], actor=actor, reason=reason)
        return outcome.why_not


class HandBackPage(ActionPage):
    """Hand the claim of a mail back to Moodle."""

    permissions = (access.VIEW_EMAIL, access.HANDLE_FALLBACK)
    title = gettext_lazy("Hand this mail back to Moodle?")
    button = gettext_lazy("Hand it back")

    def why_not(self, email: Email) -> str:
        """What our own rows say; Moodle's row is looked at when it is done."""
        mails = [email, *self.others(email)]
        return release.why_not(email.claim, mails, release.unanswered(mails))

    def effects(self, email: Email) -> Sequence[str]:
        """What is written to Moodle's row, who will be mailed by Moodle, and that we send nothing."""
        claim, mails = email.claim, [email, *self.others(email)]
        back = {name: claim.before[name] for name in claim.after if name in claim.before}
        columns = [format_html("{} {}", name, change) for name, change in changes(claim.after, back)]
        found = [
            say(
                _("Row {row} in Moodle gets its former values again ({columns})."),
                row=claim.row_id,
                columns=format_html_join(", ", "{}", ((column,) for column in columns)),
            ),
            say(_("Moodle sends it by itself when it is due, on {at}. We send none of it."), at=email.due_at)
            if email.due_at > timezone.now()
            else _("Moodle sends it by itself, at its next run. We send none of it."),
        ]
        if len(mails) > 1:
            found.insert(
                1,
                ngettext(
                    "This concerns the whole claim: %(n)d mail, to %(who)s.",
                    "This concerns the whole claim: %(n)d mails, to %(who)s.",
                    len(mails),
                )
                % {"n": len(mails), "who": ", ".join(mail.address for mail in mails)},
            )
        found.append(
            _("It is refused if somebody has changed the row since, or while Moodle's cron is at work on it.")
        )
        return found

    def act(self, email: Email, actor: str, reason: str) -> str:
        """Hand it back, if Moodle's database answers."""
        try:
            check_reachable()
        except MoodleProblem as problem:
            return f"{problem} {problem.cure}"
        (outcome,) = release.release([email.claim_id], actor=actor, reason=reason)
        return outcome.why_not


class SmtpPage(ActionPage):
    """Send a mail by SMTP."""

    permissions = (access.VIEW_EMAIL, access.HANDLE_FALLBACK)
    title = gettext_lazy("Send this mail by SMTP?")
    button = gettext_lazy("Send it by SMTP")

    def why_not(self, email: Email) -> str:
        """What its state and the settings say."""
        stored = Content.objects.filter(pk=email.pk).exists()
        return smtp.why_not(email, email.claim.state, stored=stored)

    def effects(self, email: Email) -> Sequence[str]:
        """When it leaves, and what is not known afterwards."""
        return [
            _(
                "It is set aside for the SMTP server of EMAIL_URL and leaves within a minute, if it is still owed."
            ),
            _("Amazon SES does not get it any more."),
            _("It comes from another server, so no delivery, bounce or opening will be reported."),
            _(
                "If the server does not take it before its deadline, it waits for a person, on the page Fallbacks."
            ),
        ]

    def act(self, email: Email, actor: str, reason: str) -> str:
        """Set it aside."""
        if why_not := self.why_not(email):
            return why_not
        acted = smtp.send([email.pk], actor=actor, reason=reason)
        return "" if acted.done else " ".join(acted.refused)


class SuppressPage(ActionPage):
    """Suppress the address of a mail, or let it get mail again, whichever its state asks for.

    The form says which of the two was agreed to, so that a second click never does the opposite.
    """

    permissions = (access.VIEW_EMAIL,)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Only for people who may do one of the two; which one it is, is looked at afterwards."""
        user = request.user
        either = (access.ADD_SUPPRESSION, access.LIFT_SUPPRESSION)
        if user.has_perm(access.VIEW_EMAIL) and not any(user.has_perm(each) for each in either):
            raise PermissionDenied(str(access.NEEDED[either[0]]) % {"permission": either[0]})
        return super().dispatch(request, *args, **kwargs)

    def row(self, email: Email) -> Suppression | None:
        """Why the address gets no mail now, if so."""
        return suppressed.of(email.address, self.request.user)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """What the state of the address asks for."""
        email: Email = kwargs.pop("email", None) or visible(self.request.user, self.kwargs["pk"])
        row = self.row(email)
        self.title = _("Let this address get mail again?") if row else _("Suppress this address?")
        self.button = _("Let it get mail again") if row else _("Suppress it")
        return super().get_context_data(email=email, do=LIFT if row else ADD, row=row, **kwargs)

    def why_not(self, email: Email) -> str:
        """What permissions and companies say."""
        row = self.row(email)
        return offers.suppression(email, row, row, self.request.user).why_not

    def effects(self, email: Email) -> Sequence[str]:
        """For whom and for what it counts, and what becomes of mails that wait or were stopped."""
        if self.row(email):
            return [
                say(
                    _("Mails to {address} leave again, of every company and for every purpose."),
                    address=email.address,
                ),
                _("The address is taken off the list of the SES account too."),
                _(
                    "If the next mail comes back, the address is suppressed again, and that counts against the sender."
                ),
                _("Mails that were suppressed are not sent by this: send them again one by one."),
            ]
        found = [
            say(
                _(
                    "{address} gets no mail from then on, of no company and for no purpose, credentials included."
                ),
                address=email.address,
            ),
            _(
                "It is put on the list of the SES account too, so other systems that send through it stop as well."
            ),
        ]
        waiting = (
            Email.objects.filter(address=email.address, state=S.QUEUED).order_by()[:MOST_WAITING].count()
        )
        if waiting:
            found.append(
                ngettext(
                    "%(n)d mail that waits for this address will not be sent.",
                    "%(n)d mails that wait for this address will not be sent.",
                    waiting,
                )
                % {"n": waiting}
            )
        return found

    def warning(self, email: Email) -> str:
        """What led to the suppression, where somebody complained or decided."""
        row = self.row(email)
        if row and row.reason == Suppression.Reason.COMPLAINT:
            return _(
                "Somebody at this address said that a mail was unwanted. Do this only if they asked for it."
            )
        if row and row.reason == Suppression.Reason.PERSON:
            return _("A person decided that it gets no mail. Read why, and speak with them.")
        if row:
            return _("Do this only if you know that the mailbox works now.")
        return ""

    def act(self, email: Email, actor: str, reason: str) -> str:
        """Do the one that was agreed to. Raises PermissionDenied."""
        user, row, asked = self.request.user, self.row(email), self.request.POST.get("do", "")
        needed = access.LIFT_SUPPRESSION if asked == LIFT else access.ADD_SUPPRESSION
        if not user.has_perm(needed):
            raise PermissionDenied(str(access.NEEDED[needed]) % {"permission": needed})
        try:
            if asked == LIFT:
                if row is None:
                    return _("This address is not suppressed any more.")
                if not suppressed.line(row, user).mine:
                    raise PermissionDenied(str(NOT_YOURS))
                suppressions.lift(row.pk, actor=actor, reason=reason)
            elif not may_add(user):
                raise PermissionDenied(str(access.WHOLE_SITE))
            else:
                suppressions.add(email.address, actor=actor, reason=reason)
        except suppressions.Refused as why:
            return str(why)
        return ""
