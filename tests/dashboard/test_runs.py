"""Passes of the worker: found by kind and outcome, each with what it claimed and what it left."""

from __future__ import annotations

import pytest
from django.test import Client

from emailoffload.outbox.models import Run
from emailoffload.outbox.states import EmailState
from tests.dashboard.conftest import SignIn
from tests.dashboard.factories import make_claim, make_email, make_run

pytestmark = pytest.mark.django_db(databases=["default", "moodle"])


@pytest.fixture
def admin(sign_in: SignIn) -> Client:
    return sign_in("Offload administrators")


def shown(client: Client, query: str) -> set[int]:
    return {row.pk for row in client.get(f"/runs/{query}").context["page"].rows}


def test_passes_are_found_by_kind_and_outcome(admin: Client) -> None:
    good = make_run()
    bad = make_run(outcome="failed")
    other = make_run(kind="reconcile", outcome="failed")
    assert shown(admin, "") == {good.pk, bad.pk, other.pk}
    assert shown(admin, "?outcome=failed") == {bad.pk, other.pk}
    assert shown(admin, "?kind=reconcile&outcome=failed") == {other.pk}
    assert shown(admin, "?kind=reconcile&outcome=ok") == set()
    assert shown(admin, "?kind=odd&outcome=odd") == {good.pk, bad.pk, other.pk}


def test_a_pass_shows_its_claims_with_their_mails_and_what_it_left(admin: Client) -> None:
    run = make_run(counts={"source": "reengagement", "seen": 9, "claimed": 1, "left": {"cron_running": 8}})
    claim = make_claim(run=run, user_name="Alix Own")
    email = make_email(EmailState.DELIVERED, claim)
    stranger = make_email()
    response = admin.get(f"/runs/{run.pk}/")
    page = response.content.decode()
    assert f'href="/emails/{email.pk}/"' in page and "Alix Own" in page
    assert f'href="/emails/{stranger.pk}/"' not in page
    assert "8: " in page and "Reengagement reminder" in page


def test_a_pass_that_is_not_there_is_not_found(admin: Client) -> None:
    assert admin.get("/runs/999999999/").status_code == 404
    assert admin.get(f"/runs/{2**63}/").status_code == 404


def test_the_pages_of_a_passes_claims_hold_each_claim_once(admin: Client) -> None:
    run = Run.objects.get(pk=make_run().pk)
    made = {make_claim(run=run, row_id=900_000 + number).pk for number in range(60)}
    first = admin.get(f"/runs/{run.pk}/")
    second = admin.get(f"/runs/{run.pk}/" + first.context["older"])
    ids = [claim.pk for page in (first, second) for claim in page.context["claims"]]
    assert len(ids) == 60 and set(ids) == made
