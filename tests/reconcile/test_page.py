"""The page of a reconciliation, what the overview and the doctor make of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from emailoffload.actions.diagnosis.background import reconciled
from emailoffload.actions.findings import deal_with
from emailoffload.outbox.models import AuditEntry, Claim, State
from emailoffload.outbox.reconciliation import ReconcileFinding
from emailoffload.outbox.states import EmailState
from emailoffload.policy.models import GroupCompany
from emailoffload.worker import reconcile, reconcile_findings
from emailoffload.worker import reconcile_words as words
from emailoffload.worker.reconcile_verdicts import Judgement
from tests.dashboard.factories import make_claim, make_email, make_finding, make_run
from tests.queries import counted

pytestmark = pytest.mark.django_db


@pytest.fixture
def root() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def page(client: Client, query: str = "") -> str:
    response = client.get(f"/reconciliation/{query}")
    assert response.status_code == 200
    return response.content.decode()


def compared(**changes: Any) -> None:
    """The reconciler came to its end a moment ago."""
    last = {
        "finished_at": timezone.now().isoformat(),
        "days": 7,
        "claims": 1234,
        "counts": {words.AGREES: 1200, words.TOUCHED: 34},
        "evidence": {"notifications": False, "task_log": True},
    }
    value = {"sweep": None, "last": last | changes}
    State.objects.update_or_create(name=reconcile.MEMORY, defaults={"value": value})


def test_every_finding_has_its_words_its_cure_and_its_ways_to_the_mail_and_the_user(root: Client) -> None:
    compared()
    claim = make_claim(activity_name="Fire safety <b>", user_name="Ada Lovelace")
    email = make_email(EmailState.ACCEPTED, claim)
    make_finding(claim)
    text = page(root)
    assert "1,234 claims of 7 days" in text
    assert ">1,200 agree</a>" in text
    assert "Not readable as evidence: Moodle" in text
    assert "?verdict=touched" in text
    assert "changed by somebody else (1)" in text
    assert "neither we nor Moodle&#x27;s own task write" in text
    assert "Ask who changes Moodle" in text
    assert f'href="/emails/{email.pk}/">Fire safety &lt;b&gt;</a>' in text
    assert '<a href="/users/15093/">Ada Lovelace</a>' in text
    assert f"claim {claim.pk}, row {claim.row_id}" in text
    assert 'aria-current="page">Reconciliation</a>' in text


def test_every_observation_is_shown_in_its_words(root: Client) -> None:
    for detail in words.DETAILS:
        make_finding(detail=detail, verdict=words.GONE)
    text = page(root).replace("&#x27;", "'")
    assert [detail for detail, said in words.DETAILS.items() if str(said.meaning) not in text] == []


def test_filters_name_verdict_source_user_and_whether_it_is_closed(root: Client) -> None:
    now = timezone.now()
    one = make_finding(verdict=words.DOUBLE, detail=words.OVERWRITTEN)
    two = make_finding(make_claim(source="iomad_queue", template="user_create", user_id=7))
    three = make_finding(closed_at=now, closed_because="agrees")
    for query, shown in (
        ("", {one, two}),
        ("?verdict=possible_double", {one}),
        ("?source=iomad_queue", {two}),
        ("?user=7", {two}),
        ("?status=closed", {three}),
        ("?status=all", {one, two, three}),
        ("?status=all&verdict=touched&source=reengagement", {three}),
        ("?user=99", set()),
    ):
        text = page(root, query)
        for finding in (one, two, three):
            assert (f"claim {finding.claim_id}, row" in text) == (finding in shown), query
    assert "it agrees by now" in page(root, "?status=closed")
    assert "No finding fits these filters." in page(root, "?user=99")
    for wrong in ("?user=x", "?user=-1", "?user=99999999999999999999", "?verdict=nonsense", "?status=x"):
        assert "A filter cannot be used" in page(root, wrong), wrong


def test_long_lists_have_pages_and_a_fixed_number_of_queries(root: Client) -> None:
    make_finding(make_email().claim)
    page(root)
    with counted() as few:
        page(root)
    for _ in range(60):
        make_finding(make_email().claim)
    with counted() as many:
        text = page(root)
    assert many == few
    assert "Older →" in text
    assert "changed by somebody else (61)" in text


def test_an_empty_page_says_what_comes_next(root: Client) -> None:
    assert "Nothing has been compared yet." in page(root)
    compared()
    assert "every claim that was compared agrees" in page(root)


def test_the_overview_names_open_findings_that_ask_for_a_person_and_no_others(root: Client) -> None:
    make_finding(verdict=words.WAITING, detail=words.NOT_YET)
    make_finding(closed_at=timezone.now())
    assert 'href="/reconciliation/"><strong>' not in root.get("/").content.decode()
    make_finding()
    make_finding(verdict=words.LOSS, detail=words.NO_MAIL)
    text = root.get("/").content.decode()
    assert '<a href="/reconciliation/"><strong>2</strong> claims do not agree' in text


def test_the_doctor_gives_the_reconciler_its_chance_on_a_site_that_has_just_begun() -> None:
    make_claim(created_at=timezone.now() - timedelta(minutes=5))
    assert reconciled()[0] == "ok"
    Claim.objects.update(created_at=timezone.now() - timedelta(hours=3, minutes=1))
    assert reconciled()[0] == "warning"


def test_the_doctor_names_serious_findings_and_a_reconciler_that_does_not_run() -> None:
    assert reconciled()[0] == "ok"
    make_claim(created_at=timezone.now() - timedelta(hours=4))
    assert reconciled()[0] == "warning"
    compared()
    assert reconciled()[0] == "ok"
    compared(finished_at=(timezone.now() - timedelta(hours=4)).isoformat())
    assert reconciled()[0] == "warning"
    State.objects.filter(name=reconcile.MEMORY).update(value={"sweep": {"at": 1}, "last": None})
    assert reconciled()[0] == "warning"
    make_run("reconcile")
    assert reconciled()[0] == "ok"
    make_finding()
    assert reconciled()[0] == "ok", "the overview shows it"
    make_finding(verdict=words.DOUBLE, detail=words.OVERWRITTEN)
    make_finding(verdict=words.OVERDUE, detail=words.NOT_RUN)
    verdict, text, cure = reconciled()
    assert verdict == "problem"
    assert "1 possible double, 1 not picked up by Moodle" in text
    assert "Reconciliation" in cure


@pytest.fixture
def support() -> Client:
    client = Client()
    user = User.objects.create_user("support")
    user.groups.add(Group.objects.get(name="Support staff"))
    client.force_login(user)
    return client


def test_what_a_person_has_dealt_with_is_closed_with_their_words_on_record(support: Client) -> None:
    one, two = make_finding(), make_finding()
    assert f'name="finding" value="{one.pk}"' in page(support)
    data = {"finding": [one.pk, "x", 2**70], "reason": "It was me"}
    answer = support.post("/reconciliation/?verdict=touched", data)
    text = answer.content.decode()
    assert answer.status_code == 200 and "1 finding is dealt with." in text
    assert f'value="{two.pk}"' in text and f'value="{one.pk}"' not in text
    one.refresh_from_db()
    assert one.closed_at is not None and one.closed_because == "dealt_with"
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.reason) == ("support", "finding_dealt_with", "It was me")
    assert entry.details == {"claim": one.claim_id, "verdict": "touched", "detail": "other_values"}
    closed = page(support, "?status=closed")
    assert "a person has dealt with it" in closed and 'name="finding"' not in closed
    assert support.post("/reconciliation/", data).status_code == 400, "it is closed by now"
    assert AuditEntry.objects.count() == 1


@pytest.mark.parametrize(("chosen", "reason"), [(True, "  "), (False, "Why not")])
def test_without_a_reason_or_a_choice_nothing_is_closed(support: Client, chosen: bool, reason: str) -> None:
    finding = make_finding()
    answer = support.post("/reconciliation/", {"finding": [finding.pk] if chosen else [], "reason": reason})
    assert answer.status_code == 400 and 'role="alert"' in answer.content.decode()
    finding.refresh_from_db()
    assert finding.closed_at is None
    with pytest.raises(ValueError, match="reason"):
        deal_with([finding.pk], actor="x", reason=" ")


def test_who_may_only_look_closes_nothing_and_bound_people_only_their_own(support: Client) -> None:
    finding = make_finding(make_claim(company_id=4))
    auditor, client = User.objects.create_user("auditor"), Client()
    auditor.groups.add(Group.objects.get(name="Auditors"))
    client.force_login(auditor)
    data = {"finding": finding.pk, "reason": "x"}
    assert 'name="finding"' not in page(client)
    assert client.post("/reconciliation/", data).status_code == 403
    GroupCompany.objects.create(group=Group.objects.get(name="Support staff"), company_id=5)
    assert support.post("/reconciliation/", data).status_code == 400
    finding.refresh_from_db()
    assert finding.closed_at is None


def test_a_finding_that_was_dealt_with_is_open_again_only_if_something_else_is_seen() -> None:
    claim, now = make_claim(), timezone.now()

    def observe(verdict: str, row: tuple[int, int]) -> ReconcileFinding:
        judgement = Judgement(verdict, words.OTHER_VALUES if verdict != words.AGREES else "")
        reconcile_findings.store([(claim, row, judgement)], now)
        return ReconcileFinding.objects.get(verdict=words.TOUCHED)

    finding = observe(words.TOUCHED, (1, 17))
    assert deal_with([finding.pk], actor="x", reason="y") == 1
    assert deal_with([finding.pk], actor="x", reason="y") == 0
    assert observe(words.TOUCHED, (1, 17)).closed_because == "dealt_with"
    observe(words.AGREES, (1, 17))
    assert observe(words.TOUCHED, (1, 17)).closed_because == "dealt_with"
    again = observe(words.TOUCHED, (1, 18))
    assert (again.closed_at, again.closed_because) == (None, "")
