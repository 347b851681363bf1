"""The state of a mail follows from its events together: their order and their repetition do not matter."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emailoffload.feedback.fold import Fact, Folded, Sent, fold
from emailoffload.feedback.models import EventType as T
from emailoffload.outbox.states import TRANSITIONS, EmailState
from tests.feedback.samples import AT

S = EmailState
SHAPES: dict[str, tuple[str, str, str]] = {
    "send": (T.SEND, "", ""),
    "delay": (T.DELIVERY_DELAY, "", "General"),
    "reject": (T.REJECT, "", ""),
    "rendering": (T.RENDERING_FAILURE, "", ""),
    "transient": (T.BOUNCE, "transient", "General"),
    "undetermined": (T.BOUNCE, "undetermined", "Undetermined"),
    "delivery": (T.DELIVERY, "", ""),
    "permanent": (T.BOUNCE, "permanent", "NoEmail"),
    "listed": (T.BOUNCE, "permanent", "OnAccountSuppressionList"),
    "complaint listed": (T.COMPLAINT, "", "OnAccountSuppressionList"),
    "open": (T.OPEN, "", ""),
    "click": (T.CLICK, "", ""),
    "complaint": (T.COMPLAINT, "abuse", ""),
    "not spam": (T.COMPLAINT, "not-spam", ""),
    "subscription": (T.SUBSCRIPTION, "", ""),
}


def fact(name: str, number: int = 1, seconds: int = 0, message_id: str = "m-1") -> Fact:
    type_, kind, subkind = SHAPES[name]
    return Fact(number, type_, AT + timedelta(seconds=seconds), message_id, kind, subkind, f"{name} said")


def sent(state: EmailState = S.ACCEPTED, **values: Any) -> Sent:
    return Sent(state, AT - timedelta(minutes=1), **values)


def folded(*names: str, state: EmailState = S.ACCEPTED, **values: Any) -> Folded:
    facts = [fact(name, number, number) for number, name in enumerate(names)]
    return fold(sent(state, **values), facts)


@pytest.mark.parametrize(
    ("names", "state", "reason"),
    [
        (("send",), S.ACCEPTED, ""),
        (("send", "delay"), S.DELAYED, "delivery_delayed"),
        (("send", "reject", "delay"), S.REJECTED, "ses_rejected"),
        (("rendering",), S.REJECTED, "rendering_failed"),
        (("delay", "transient"), S.BOUNCED, "bounced_transient"),
        (("undetermined",), S.BOUNCED, "bounced_transient"),
        (("delay", "delivery"), S.DELIVERED, ""),
        (("delivery", "permanent"), S.BOUNCED, "bounced_permanent"),
        (("send", "listed"), S.BOUNCED, "ses_suppression_list"),
        (("send", "complaint listed"), S.BOUNCED, "ses_suppression_list"),
        (("permanent", "open"), S.OPENED, ""),
        (("open", "click", "delivery"), S.CLICKED, ""),
        (("complaint", "click", "open", "delivery", "send"), S.COMPLAINED, ""),
        (("delivery", "not spam", "subscription"), S.DELIVERED, ""),
    ],
    ids=" ".join,
)
def test_the_highest_rank_decides(names: tuple[str, ...], state: EmailState, reason: str) -> None:
    found = folded(*names)
    assert (found.state, found.reason) == (state, reason)


@pytest.mark.parametrize("bounce", ["transient", "undetermined"])
@pytest.mark.parametrize("arrival", ["delivery", "open", "click", "complaint"])
def test_the_bounce_of_an_autoresponder_is_noted_and_not_believed(bounce: str, arrival: str) -> None:
    for names in ((arrival, bounce), (bounce, arrival)):
        found = folded("send", *names)
        assert found.state != S.BOUNCED
        assert found.bounced_at is None
        assert found.noted == {1 + names.index(bounce)}
    assert folded("send", bounce).bounced_at == AT + timedelta(seconds=1)


def test_times_are_those_of_the_first_event_of_each_kind() -> None:
    found = fold(
        sent(S.UNCERTAIN),
        [fact("send", 1, 0), fact("delivery", 2, 5), fact("open", 3, 90), fact("open", 4, 60), fact("click", 5, 70),
         fact("complaint", 6, 99), fact("permanent", 7, 50)],
    )  # fmt: skip
    seconds = [
        getattr(found, f"{name}_at") - AT
        for name in ("accepted", "delivered", "opened", "clicked", "complained", "bounced")
    ]
    assert seconds == [timedelta(seconds=s) for s in (0, 5, 60, 70, 99, 50)]


@pytest.mark.parametrize("state", [S.QUEUED, S.SENDING, S.UNCERTAIN, S.FAILED])
def test_an_event_settles_a_mail_whose_send_got_no_answer(state: EmailState) -> None:
    found = folded("send", state=state, reason="interrupted")
    assert (found.state, found.reason, found.message_id) == (S.ACCEPTED, "", "m-1")
    assert found.accepted_at == found.state_at == AT


@pytest.mark.parametrize("state", [S.RELEASED, S.SENT_SMTP, S.CANCELLED, S.SUPPRESSED])
def test_an_event_of_a_mail_that_went_another_way_is_told_and_undoes_nothing(state: EmailState) -> None:
    found = folded("send", "delivery", state=state, reason="deadline", detail="SES did not answer")
    assert (found.state, found.state_at) == (state, AT - timedelta(minutes=1))
    assert (found.reason, found.detail) == ("also_by_ses", "deadline: SES did not answer")
    assert found.double and found.delivered_at
    rejected = folded("reject", state=state, reason="deadline")
    assert (rejected.reason, rejected.double) == ("deadline", False)


def test_a_mail_that_ses_took_twice_says_so() -> None:
    found = fold(sent(message_id="m-2"), [fact("send", 1, message_id="m-1"), fact("delivery", 2)])
    assert (found.state, found.reason, found.message_id, found.double) == (
        S.DELIVERED,
        "sent_twice",
        "m-2",
        True,
    )


def history() -> st.SearchStrategy[list[Fact]]:
    one = st.builds(
        lambda name, seconds, message_id: (name, seconds, message_id),
        st.sampled_from(sorted(SHAPES)),
        st.integers(0, 5),
        st.sampled_from(["m-1", "m-1", "m-1", "m-2", ""]),
    )
    return st.lists(one, min_size=1, max_size=7, unique=True).map(
        lambda found: [
            fact(name, number, seconds, message_id)
            for number, (name, seconds, message_id) in enumerate(found)
        ]
    )


@settings(max_examples=400, deadline=None)
@given(
    st.data(),
    history(),
    st.sampled_from([S.QUEUED, S.SENDING, S.UNCERTAIN, S.ACCEPTED, S.FAILED, S.RELEASED, S.SENT_SMTP]),
    st.sampled_from(["", "m-1", "m-2"]),
)
def test_any_order_repetition_and_batching_ends_in_the_same_and_moves_as_the_table_says(
    data: st.DataObject, facts: list[Fact], state: EmailState, own: str
) -> None:
    accepted_at = AT + timedelta(seconds=2) if own else None
    start = sent(state, reason="deadline", detail="why", message_id=own, accepted_at=accepted_at)
    at_once = fold(start, facts)
    arrivals = data.draw(st.permutations(facts + data.draw(st.lists(st.sampled_from(facts), max_size=3))))
    seen: dict[int, Fact] = {}
    now = start
    while arrivals:
        size = data.draw(st.integers(1, len(arrivals)))
        batch, arrivals = arrivals[:size], arrivals[size:]
        seen |= {each.id: each for each in batch}
        step = fold(now, list(seen.values()))
        assert step.state == now.state or step.state in TRANSITIONS[now.state]
        # What SES answered us stays what it is; an id that only events told may be another one's next time.
        now = Sent(step.state, step.state_at, step.reason, step.detail, own, step.accepted_at)
    assert step == at_once
