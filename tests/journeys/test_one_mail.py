"""From a name to the answer, and what is then done with one mail: clicked, typed, and without JavaScript."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from emailoffload.delivery.message import TAG
from emailoffload.feedback.models import Suppression
from emailoffload.moodle.models import User as MoodleUser
from emailoffload.outbox.models import Claim, Email
from emailoffload.outbox.states import EmailState
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.worker import dispatch, fallback
from tests.conftest import Moodle
from tests.dashboard.browsing import Visit, Visitor
from tests.dashboard.factories import make_claim, make_email, make_suppression
from tests.fallback.sink import Sink
from tests.fallback.site import claimed, rows

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases=["default", "moodle"]),
]
LEARNER = 3
"""A user of the real site."""
S = EmailState
FIND = "Find a user: id, name or address"


def learner() -> MoodleUser:
    """The learner as Moodle has them."""
    return MoodleUser.objects.get(pk=LEARNER)


def mail_to(address: str, state: str = S.DELIVERED) -> Email:
    """A mail that the learner should have got."""
    claim = make_claim(user_id=LEARNER, user_name="Lea Learner", user_email=address)
    return make_email(state, claim, address=address, name="Lea Learner", body={})


def why(page: Page, words: str = "asked by phone") -> None:
    page.locator("main input[name=reason]").fill(words)


@pytest.mark.parametrize("by", ["id", "name", "address"])
def test_from_the_start_page_one_search_leads_to_the_verdict(visit: Visit, sam: User, by: str) -> None:
    person = learner()
    email = mail_to(person.email)
    typed = {"id": str(LEARNER), "name": f"{person.firstname} {person.lastname}", "address": person.email}
    page = (visitor := visit(sam)).page
    visitor.go("/")
    page.get_by_role("searchbox", name=FIND).fill(typed[by])
    page.get_by_role("searchbox", name=FIND).press("Enter")
    if by != "id":
        # Whoever is the only one found is one click away.
        page.locator(f"main a[href='/users/{LEARNER}/']").first.click()
    expect(page).to_have_url(f"{visitor.base}/users/{LEARNER}/")
    verdict = page.locator(".verdict .sentence")
    expect(verdict).to_contain_text(f"Yes: delivered to {email.address} on")
    # The answer stands above everything else of the page, in the first screenful.
    box, below = verdict.bounding_box(), page.locator("main section").first.bounding_box()
    assert box
    assert below
    assert box["y"] + box["height"] < min(below["y"], 450)
    visitor.check()


def send_again(visitor: Visitor, email: Email) -> None:
    """Read the verdict of a mail and send it again, to the address that is offered."""
    page = visitor.page
    visitor.go(f"/users/{LEARNER}/")
    expect(page.locator(".verdict .sentence")).to_contain_text("No:")
    page.locator(".mails a.subject").first.click()
    expect(page).to_have_url(f"{visitor.base}/emails/{email.pk}/")
    page.get_by_role("link", name=re.compile("again")).click()
    why(page)
    page.get_by_role("button", name="Send again").click()


def test_a_mail_is_sent_again_to_the_same_address_and_arrives(
    visit: Visit, sam: User, ses: SandboxSES
) -> None:
    email = mail_to(learner().email, S.BOUNCED)
    visitor = visit(sam)
    send_again(visitor, email)
    expect(visitor.page.locator(".verdict .sentence")).to_contain_text("Not yet:")
    visitor.check()
    copy = Email.objects.get(resend_of=email)
    dispatch.run(until_empty=True)
    visitor.go(f"/users/{LEARNER}/")
    expect(visitor.page.locator(".verdict .sentence")).to_contain_text(
        f"Sent: Amazon SES took the mail for {copy.address}"
    )
    expect(visitor.page.locator(".mails li").first).to_contain_text("resend")
    assert copy.address == email.address
    assert [message.tags[TAG] for message in ses.messages] == [copy.ref.hex]


def test_a_mail_to_a_former_address_is_sent_again_to_the_present_one(visit: Visit, sam: User) -> None:
    email = mail_to("once@example.org", S.BOUNCED)
    make_suppression(email)
    visitor = visit(sam)
    visitor.go(f"/emails/{email.pk}/resend/")
    page, now = visitor.page, learner().email
    expect(page.get_by_role("radio", name="the same as before")).to_be_disabled()
    expect(page.get_by_role("radio", name=f"the one that the user has in Moodle now: {now}")).to_be_checked()
    visitor.check()
    why(page)
    page.get_by_role("button", name="Send again").click()
    expect(page.locator("dd .address").first).to_have_text(now)
    assert Email.objects.get(resend_of=email).address == now
    visitor.check()


def test_a_suppressed_address_is_let_again_and_suppressed_from_its_mail(visit: Visit, sam: User) -> None:
    email = mail_to(learner().email, S.BOUNCED)
    barred = make_suppression(email)
    visitor = visit(sam)
    page = visitor.page
    visitor.go(f"/emails/{email.pk}/")
    page.get_by_role("link", name="Why, and how to change that").click()
    expect(page.get_by_role("heading", name=email.address)).to_be_visible()
    why(page, "the mailbox was made anew")
    page.get_by_role("button", name="Let it get mail again").click()
    barred.refresh_from_db()
    assert (barred.removed_by, barred.removal_reason) == ("sam", "the mailbox was made anew")
    visitor.check()
    visitor.go(f"/emails/{email.pk}/suppress/")
    why(page, "she asked for it")
    page.locator("main button.main").click()
    expect(page.locator(".note.bad").first).to_contain_text(f"{email.address} gets no mail")
    assert Suppression.objects.get(active_key=email.address.lower()).added_by == "sam"
    visitor.check()


def test_a_waiting_mail_is_stopped_and_another_handed_back_to_moodle(
    visit: Visit, sam: User, moodle: Moodle, ses: SandboxSES
) -> None:
    before = claimed(moodle, 2)
    stopped, back = Email.objects.order_by("pk")
    visitor = visit(sam)
    page = visitor.page
    visitor.go(f"/emails/{stopped.pk}/cancel/")
    expect(page.get_by_role("heading", name="What will happen")).to_be_visible()
    why(page, "the course is over")
    page.locator("main button.main").click()
    expect(page.locator(".head .badge")).to_have_text("cancelled")
    expect(page.locator(".timeline")).to_contain_text("the course is over")
    visitor.check()
    visitor.go(f"/emails/{back.pk}/hand-back/")
    why(page, "let Moodle do it")
    page.locator("main button.main").click()
    expect(page.locator(".head .badge")).to_have_text("released")
    visitor.check()
    row = back.claim.row_id
    assert [each for each in rows(moodle) if each[0] == row] == [each for each in before if each[0] == row]
    assert dispatch.run(until_empty=True).sent == 0


def test_a_mail_that_failed_goes_by_smtp(
    visit: Visit, sam: User, sink: Sink, moodle: Moodle, ses: SandboxSES
) -> None:
    claimed(moodle, 1)
    Email.objects.update(state=S.FAILED, reason="held:deadline")
    email = Email.objects.get()
    visitor = visit(sam)
    page = visitor.page
    visitor.go(f"/emails/{email.pk}/")
    page.get_by_role("link", name=re.compile("SMTP")).click()
    why(page, "SES does not take it")
    page.locator("main button.main").click()
    expect(page.locator(".head .badge")).to_have_text("queued")
    visitor.check()
    fallback.run()
    visitor.go(f"/emails/{email.pk}/")
    expect(page.locator(".head .badge")).to_have_text("sent by SMTP")
    assert sink.refs() == [email.ref.hex]


def test_the_whole_way_works_without_javascript(visit: Visit, sam: User) -> None:
    email = mail_to(learner().email, S.BOUNCED)
    visitor = visit(sam, java_script_enabled=False)
    page = visitor.page
    visitor.go("/")
    page.get_by_role("searchbox", name=FIND).fill(str(LEARNER))
    page.get_by_role("button", name="Find").click()
    expect(page).to_have_url(f"{visitor.base}/users/{LEARNER}/")
    send_again(visitor, email)
    copy = Email.objects.get(resend_of=email)
    expect(page).to_have_url(f"{visitor.base}/emails/{copy.pk}/")
    visitor.go(f"/emails/{copy.pk}/cancel/")
    why(page, "sent in error")
    page.locator("main button.main").click()
    expect(page.locator(".head .badge")).to_have_text("cancelled")
    assert visitor.wrong == []


def tab_to(page: Page, name: str, most: int = 60) -> None:
    """Press Tab until what has the focus is called so, and can be seen to have it."""
    for _ in range(most):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            "() => { const e = document.activeElement; const s = getComputedStyle(e);"
            " return [e.labels?.[0]?.innerText || e.innerText || e.getAttribute('aria-label') || '', s.outlineStyle]; }"
        )
        if name in focused[0]:
            assert focused[1] == "solid", f"{name} does not show that it has the focus"
            return
    raise AssertionError(f"the keyboard does not reach {name}")


def test_the_whole_way_works_by_the_keyboard_alone(visit: Visit, sam: User) -> None:
    email = mail_to(learner().email, S.BOUNCED)
    visitor = visit(sam)
    page = visitor.page
    visitor.go("/")
    page.keyboard.press("/")
    page.keyboard.type(str(LEARNER))
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{visitor.base}/users/{LEARNER}/")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{visitor.base}/emails/{email.pk}/")
    tab_to(page, "Send it again")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{visitor.base}/emails/{email.pk}/resend/")
    tab_to(page, "Why")
    page.keyboard.type("asked by phone")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
    assert Email.objects.get(resend_of=email).claim_id == Claim.objects.get().pk
    visitor.check()
