"""What Amazon SES would never take is not claimed: IOMAD mails it, by a server that does."""

from __future__ import annotations

import pytest

from emailoffload.delivery import message
from emailoffload.outbox.models import Claim
from emailoffload.sandbox.ses_server import SandboxSES
from emailoffload.sources import reasons
from emailoffload.worker import intercept
from tests.conftest import Moodle
from tests.iomad import queue
from tests.policy.people import rule

pytestmark = pytest.mark.django_db(databases=["default", "moodle"], transaction=True)
QUOTED = '"anna"@lab.example'


@pytest.fixture(autouse=True)
def nothing_waits(moodle: Moodle) -> None:
    queue.empty(moodle)


def left(moodle: Moodle) -> dict[str, int]:
    """Why rows stay in a pass in which only one good row is claimed."""
    good = queue.put(moodle, userid=queue.MANAGER)
    result = intercept.run(source="iomad_queue")
    assert list(Claim.objects.values_list("row_id", flat=True)) == [good]
    return dict(result.left)


def test_a_mail_to_an_address_that_moodle_takes_and_ses_does_not(moodle: Moodle, ses: SandboxSES) -> None:
    moodle.execute("UPDATE mdl_user SET email = %s WHERE id = %s", (QUOTED, queue.USER))
    queue.put(moodle)
    assert left(moodle) == {reasons.UNSENDABLE: 1}


def test_a_mail_with_such_an_address_among_its_copies(moodle: Moodle, ses: SandboxSES) -> None:
    queue.put(moodle, headers=queue.headers(emailtoother=QUOTED))
    assert left(moodle) == {reasons.UNSENDABLE: 1}


@pytest.mark.parametrize("character", ["x", "界"])
def test_a_mail_that_is_larger_than_ses_takes(
    moodle: Moodle, ses: SandboxSES, monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    monkeypatch.setattr(message, "MAX_BYTES", 30_000)
    queue.put(moodle, body="<p>" + character * (30_000 // len(character.encode())) + "</p>")
    assert left(moodle) == {reasons.UNSENDABLE: 1}


def test_a_copy_to_such_an_address_is_left_out_and_keeps_no_mail_from_being_claimed(
    moodle: Moodle, ses: SandboxSES
) -> None:
    rule("profile_field", "labtext", source="iomad_queue", credentials=True)
    field = moodle.value("SELECT id FROM mdl_user_info_field WHERE shortname = 'labtext'")
    moodle.execute("DELETE FROM mdl_user_info_data WHERE userid = %s", (queue.MANAGER,))
    moodle.insert("mdl_user_info_data", userid=queue.MANAGER, fieldid=field, data=QUOTED, dataformat=0)
    assert left(moodle) == {}
