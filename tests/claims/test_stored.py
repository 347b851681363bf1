"""What an intent puts on record: every column of the claim and of its mails, as long as the column holds."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import replace
from typing import Any

import pytest
from django.utils import timezone

from emailoffload.outbox import intents
from emailoffload.outbox.models import Claim, Email, Run
from emailoffload.outbox.states import ADDRESS_SUPPRESSED
from tests.claims.candidates import MAIL, some
from tests.conftest import Moodle

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
LONG = "".join(chr(97 + number % 26) for number in range(2000))


def length(model: Any, column: str) -> int:
    """How many characters the column holds."""
    return int(model._meta.get_field(column).max_length)


def test_every_column_is_stored_and_what_is_too_long_is_cut_at_the_columns_length(
    moodle: Moodle, settings: Any
) -> None:
    settings.SEND_DEADLINE_SECONDS = 700
    run = Run.objects.create(kind="intercept", started_at=timezone.now())
    due = int(timezone.now().timestamp()) + 500
    user = replace(
        MAIL,
        role="user",
        to_address=LONG,
        to_name=LONG,
        subject=LONG,
        recipient_id=31,
        origin=LONG,
        sensitive=True,
    )
    manager = replace(MAIL, role="manager", recipient_id=32)
    found = replace(
        some(moodle, 1)[0], under_lock=True, due=due, user_id=41, user_name=LONG, user_email=LONG, activity_id=42,
        activity_name=LONG, cmid=43, course_id=44, course_name=LONG, company_id=45, company_name=LONG, ordinal=46,
        is_last=True, completiontime=47, template=LONG, fallback="hold", mails=(user, manager),
        suppressed=frozenset({1}),
    )  # fmt: skip
    began = timezone.now()
    (stored,) = intents.intend([found], run).claims.values()
    moment = dt.datetime.fromtimestamp(due, dt.UTC)
    assert (stored.source, stored.row_id, stored.due_at) == ("reengagement", found.row_id, moment)
    assert (stored.before, stored.after) == (found.before, found.after)

    claim = Claim.objects.get()
    assert claim.pk == stored.pk
    expected: dict[str, Any] = {
        "source": "reengagement", "row_id": found.row_id, "state": "intended", "before": dict(found.before),
        "after": dict(found.after), "under_lock": True, "user_id": 41, "activity_id": 42, "cmid": 43, "course_id": 44,
        "company_id": 45, "ordinal": 46, "is_last": True, "completiontime": 47, "fallback": "hold", "run_id": run.pk,
        "due_at": moment, "intent_key": intents.intent_key(found),
    }  # fmt: skip
    for column in ("template", "user_name", "user_email", "activity_name", "course_name", "company_name"):
        expected[column] = LONG[: length(Claim, column)]
    assert {name: getattr(claim, name) for name in expected} == expected
    assert began <= claim.created_at <= timezone.now()

    first, second = Email.objects.order_by("pk")
    expected = {
        "claim_id": claim.pk, "source": "reengagement", "template": claim.template, "role": "user", "user_id": 41,
        "recipient_id": 31, "activity_id": 42, "course_id": 44, "company_id": 45, "sensitive": True,
        "state": "prepared", "reason": "", "due_at": moment, "next_try_at": moment,
        "deadline_at": moment + dt.timedelta(seconds=700), "created_at": claim.created_at, "state_at": claim.created_at,
        "origin": LONG[: length(Email, "origin")], "address": LONG[: length(Email, "address")],
        "name": LONG[: length(Email, "name")], "subject": LONG[: length(Email, "subject")],
    }  # fmt: skip
    assert {name: getattr(first, name) for name in expected} == expected
    assert (second.role, second.recipient_id, second.reason) == ("manager", 32, ADDRESS_SUPPRESSED)
    assert (second.sensitive, second.address) == (False, MAIL.to_address)
    assert len({claim.ref, first.ref, second.ref}) == 3


def test_what_was_due_before_it_was_found_has_its_whole_time_from_now(moodle: Moodle, settings: Any) -> None:
    settings.SEND_DEADLINE_SECONDS = 700
    (found,) = some(moodle, 1)
    intents.intend([replace(found, due=int(timezone.now().timestamp()) - 9000)], None)
    email = Email.objects.get()
    assert email.deadline_at == email.created_at + dt.timedelta(seconds=700)
    assert Claim.objects.get().run_id is None


def test_the_ids_of_stored_mails_are_told_in_their_order(moodle: Moodle) -> None:
    found = some(moodle, 3)
    intents.intend(found, None)
    first: dict[str, Any] = dict(Email.objects.order_by("pk").values()[0])
    del first["id"]
    rows = [{**first, "ref": uuid.uuid4(), "name": f"n{n}"} for n in range(3)]
    ids = intents.store_emails(rows, [("key", b"x")] * 3)
    assert [Email.objects.get(pk=pk).name for pk in ids] == ["n0", "n1", "n2"]
