"""After SES throttled us less of the rate is used, and then more again."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from emailoffload.delivery import pace, rate
from emailoffload.outbox.models import Email
from emailoffload.worker import dispatch
from tests.fake_ses import FakeSes, Reply
from tests.outbox.factory import queue_emails
from tests.worker.conftest import source

__all__ = ["source"]


def test_each_reduction_takes_a_part_and_time_gives_it_back() -> None:
    value = pace.reduced(None, 1000.0)
    assert value == {"share": 0.7, "at": 1000.0}
    assert pace.reduced(value, 1001.0) is None, "mails that were under way together count once"
    again = pace.reduced(value, 1002.0)
    assert again is not None and again["share"] == pytest.approx((0.7 + 2 / pace.RECOVERY) * 0.7)
    assert pace.share(value, 1000.0 + 0.3 * pace.RECOVERY) == 1.0
    assert pace.share(None, 5.0) == 1.0


@given(st.lists(st.floats(0, 300), max_size=30))
def test_whatever_happens_the_share_stays_within_its_bounds_and_comes_back(gaps: list[float]) -> None:
    now, value = 1000.0, None
    for gap in gaps:
        now += gap
        before = pace.share(value, now)
        value = pace.reduced(value, now) or value
        assert pace.LEAST <= pace.share(value, now) <= before <= 1.0
    assert pace.share(value, now + pace.RECOVERY) == 1.0


def test_a_clock_that_was_set_back_neither_raises_nor_stops_it() -> None:
    assert pace.share({"share": 0.5, "at": 1000.0}, 10.0) == 0.5


@pytest.mark.django_db(transaction=True)
def test_a_throttled_answer_lowers_the_rate_for_all_and_the_mails_leave_all_the_same(
    ses: FakeSes, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ses.account["SendQuota"]["MaxSendRate"] = 200.0
    refused: list[int] = []

    def behave(request: Any) -> Reply | None:
        if len(refused) < 3:
            refused.append(1)
            return Reply(
                status=429, code="TooManyRequestsException", message="Maximum sending rate exceeded."
            )
        return None

    ses.behave = behave
    queue_emails(20)
    result = dispatch.run(until_empty=True)
    assert (result.sent, result.retried, result.failed) == (20, 3, 0)
    assert not Email.objects.exclude(state="accepted").exists()
    assert 100.0 < rate.known().rate < 200.0
    later = timezone.now().timestamp() + pace.RECOVERY
    monkeypatch.setattr(rate.time, "time", lambda: later)
    assert rate.known(max_age=1e9).rate == 200.0
