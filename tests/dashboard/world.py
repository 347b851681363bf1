"""A site of several companies: records of one's own, of others and of none, and how a page is asked for them."""

from __future__ import annotations

import re

from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from emailoffload.feedback.models import Suppression
from emailoffload.outbox.figures import LeftRow
from emailoffload.outbox.models import Claim, Email, Lease, RowError, State
from emailoffload.outbox.states import EmailState
from emailoffload.policy.models import CopyRule, GroupCompany
from tests.dashboard.factories import (
    make_claim,
    make_email,
    make_finding,
    make_row_error,
    make_run,
    make_suppression,
)

PASSWORD = "a long enough passphrase"
"""Of everybody that tests make."""
OWN, FOREIGN, LAB = 3, 5, 1
"""Two companies of our records, and the one of the restored site (its members are the users 15 and 16)."""
MEMBER, STRANGER = 15, 3
UNKNOWN = 987_654_321
STATES = (EmailState.DELIVERED, EmailState.FAILED, EmailState.QUEUED, EmailState.UNCERTAIN)


def bind(user: User, *companies: int, name: str = "Northwind staff") -> Group:
    """Put a user into a group that is bound to companies."""
    group, _ = Group.objects.get_or_create(name=name)
    for company in companies:
        GroupCompany.objects.get_or_create(
            group=group, company_id=company, defaults={"company_name": f"Company {company}"}
        )
    user.groups.add(group)
    return group


def signed_in(user: User) -> Client:
    """A client that is logged in as this user."""
    client = Client()
    client.force_login(user)
    return client


def mails_of(company: int | None, user_id: int, word: str) -> list[Email]:
    """One mail in each of some states, of one company and user, in which every text carries `word`."""
    mails = []
    for state in STATES:
        claim = make_claim(
            source="iomad_queue",
            template=f"{word.lower()}_template",
            user_id=user_id,
            user_name=f"{word} Person",
            user_email=f"{word.lower()}@example.net",
            activity_id=user_id + 1,
            activity_name=f"{word} activity",
            course_id=user_id + 2,
            course_name=f"{word} course",
            company_id=company,
            company_name=f"{word} Ltd" if company else "",
            note=f"{word} note",
        )
        LeftRow.objects.create(
            source=claim.source, row_id=claim.row_id, due_at=claim.due_at, reason=f"{word}Left", user_id=user_id,
            activity_id=claim.activity_id, course_id=claim.course_id, company_id=company,
            first_seen=timezone.now(), last_seen=timezone.now(), detail=f"{word} left",
        )  # fmt: skip
        make_finding(claim, closed_at=timezone.now() if state == EmailState.QUEUED else None)
        mails.append(
            make_email(
                state,
                claim,
                template=claim.template,
                name=f"{word} Person",
                address=f"{word.lower()}@example.net",
                subject=f"{word} subject",
                reason=f"{word}Reason",
                detail=f"{word} detail",
                origin=f"{word} origin",
                message_id=f"0102{word.lower()}-{user_id}-{state}" if state == EmailState.DELIVERED else "",
                body={"html": f"<p>{word} html</p>", "text": f"{word} text"},
            )
        )
    return mails


class World:
    """Records of the bound user's company, of another one, and of none; the latter two can be removed."""

    def __init__(self) -> None:
        make_run()
        Lease.objects.create(name="dispatch-1", holder="mail-1", beat_at=timezone.now())
        self.own = mails_of(OWN, 15093, "Own")
        self.others = mails_of(FOREIGN, 20001, "Foreign") + mails_of(None, 30001, "Homeless")
        # A user with mails of two companies: only those of one are seen.
        self.others += mails_of(FOREIGN, 15093, "Second")
        # One's own, a stranger's, and one that a stranger's mail led to at an address of one's own.
        self.barred = make_suppression(self.own[0])
        self.foreign = [
            make_suppression(self.others[0]),
            make_suppression(self.others[8], address="second@example.net"),
        ]
        shared = make_email(
            EmailState.BOUNCED, self.others[0].claim, address="shared@example.net", name="Foreign Person"
        )
        make_email(EmailState.DELIVERED, self.own[0].claim, address="shared@example.net", name="Own Person")
        self.others.append(shared)
        self.shared = make_suppression(shared, detail="Foreign detail")
        make_row_error(user_id=15093)
        make_row_error(user_id=20001)
        CopyRule.objects.create(name="Own rule", kind="fixed", value="own@example.net", company_id=OWN)
        CopyRule.objects.create(name="Foreign rule", kind="fixed", value="x@example.net", company_id=FOREIGN)
        CopyRule.objects.create(name="Rule of all", kind="fixed", value="x@example.net")
        State.objects.create(name="something", value={"of": "the site"})

    def forget_others(self) -> None:
        """Make the site one that never had anything of others."""
        claims = {email.claim_id for email in self.others}
        Suppression.objects.filter(pk__in=[row.pk for row in self.foreign]).delete()
        LeftRow.objects.exclude(company_id=OWN).delete()
        Email.objects.filter(pk__in=[email.pk for email in self.others]).delete()
        Claim.objects.filter(pk__in=claims).delete()
        RowError.objects.all().delete()
        CopyRule.objects.exclude(company_id=OWN).delete()
        State.objects.all().delete()


def asked(client: Client, address: str, data: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and body of an answer, after redirects, without what differs from one second to the next."""
    ask = client.get if data is None else client.post
    response = ask(address, data, follow=True)
    body = response.content.decode()
    body = re.sub(r"<time .*?</time>", "<time>", body, flags=re.DOTALL)
    body = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "", body)
    return response.status_code, re.sub(r'nonce="[^"]+"', "", body)
