"""The checks of a run against an SQS endpoint see each violation, and pass an honest run."""

from __future__ import annotations

from tests.chaos.served_ledger import (
    Held,
    Ledger,
    Trial,
    Trials,
    Tried,
    hold_problems,
    move_problems,
    order_problems,
    problems,
    trial_problems,
)


def honest() -> Ledger:
    """Return a ledger in which `a` was deleted, `b` is there, and `c` was never answered."""
    ledger = Ledger()
    for body in "abc":
        ledger.sending(body)
    for body in "ab":
        ledger.sent(body, f"id of {body}")
    ledger.received(ledger.event(), "id of a", "a")
    ledger.deleting("a")
    ledger.deleted("a")
    return ledger


LEFT = [("id of b", "b")]


def test_an_honest_run_passes() -> None:
    assert problems(honest(), LEFT) == []
    assert problems(honest(), [*LEFT, ("id of c", "c")]) == []
    assert honest().counts() == {"deleted": 1, "sent": 1, "unanswered": 1}


def test_a_lost_message_is_seen() -> None:
    assert problems(honest(), []) == ["b was sent, and is lost"]
    assert problems(honest(), [], workers=True) == []


def test_a_message_that_is_there_twice_is_seen() -> None:
    assert problems(honest(), [*LEFT, *LEFT]) == ["b is there 2 times"]
    assert problems(honest(), [*LEFT, ("other", "b")]) == [
        "b has several ids: ['id of b', 'other']",
        "b is there 2 times",
    ]


def test_a_deleted_message_that_is_back_is_seen() -> None:
    assert problems(honest(), [*LEFT, ("id of a", "a")]) == ["a was deleted, and is there"]
    ledger = honest()
    ledger.received(ledger.event(), "id of a", "a")
    assert problems(ledger, LEFT) == ["a was deleted, and was received again"]


def test_a_message_that_was_never_sent_is_seen() -> None:
    assert problems(honest(), [*LEFT, ("x", "x")]) == ["x was never sent"]


def test_a_message_that_overtakes_is_seen() -> None:
    assert order_problems(["a 1 worker", "b 1", "a 2", "a 1", "a 2", "a 3"]) == []
    assert order_problems(["a 1", "a 3"]) == ["a 3 came when 1 was the highest of a"]


def test_a_message_that_is_received_while_another_holds_an_earlier_one_is_seen() -> None:
    first, later = Held("a", 2, asked=0, answered=1, until=4), Held("a", 3, 3, 5, until=9)
    honest = [first, first, Held("b", 3, asked=2, answered=3, until=9), later]
    assert hold_problems([*honest, Held("a", 1, asked=2, answered=3, until=9)]) == []
    assert hold_problems([first, later, Held("a", 2, asked=2, answered=3.5, until=9)]) == [
        "a 2 was received 0.500 s before another let 2 go"
    ]


def test_a_move_that_loses_or_doubles_is_seen() -> None:
    assert move_problems({"a": True, "b": False}, ["a"]) == []
    assert move_problems({"a": True}, []) == ["a is lost"]
    assert move_problems({"a": True}, ["a", "a"]) == ["a is there 2 times"]
    assert move_problems({}, ["a"]) == ["a was never sent"]


def test_a_trial_that_overtakes_or_keeps_its_number_is_seen() -> None:
    first, second, moved = Tried("t", 1, "a", "1"), Tried("t", 2, "b", "2"), Tried("t", 3, "c", "1")
    messages = {"1": Trial(is_sent=True, is_deleting=True, is_deleted=True), "2": Trial()}
    honest = [first, second, first, second, moved]
    assert trial_problems(Trials(messages, honest), ["2"]) == []
    assert trial_problems(Trials(messages, [second, first]), []) == [
        "1 has 1, and came first after 2"
    ]
    again = Tried("t", 1, "c", "1")
    assert trial_problems(Trials(messages, [first, again]), []) == ["1 has 1 as a and as c"]


def test_a_trial_that_is_lost_doubled_or_back_is_seen() -> None:
    sent, deleted = Trial(is_sent=True), Trial(is_deleting=True, is_deleted=True)
    assert trial_problems(Trials({"1": sent}), []) == ["1 is lost"]
    assert trial_problems(Trials({"1": sent}), ["1", "1"]) == ["1 is there 2 times; deleted: False"]
    assert trial_problems(Trials({"1": deleted}), ["1"]) == ["1 is there 1 times; deleted: True"]
