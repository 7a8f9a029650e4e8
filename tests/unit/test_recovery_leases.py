"""What a recovery process shares and holds: leases while it thinks, the breaker in the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from durableq import Discard, DurableQ, Hold, Outcome, Requeue, Verdict
from durableq.clock import SystemClock
from durableq.errors import Busy, InvalidInput
from durableq.latch import Latch
from durableq.letters import RECOVERY_ACTOR
from durableq.message import DeadLetter, Receipt, Received
from durableq.recovery import desk, leases
from durableq.recovery.breaker import NOTE, Phase, State, Thresholds, read
from durableq.recovery.gate import Change, Gate
from durableq.recovery.leases import Leases
from durableq.recovery.process import Recovery
from durableq.recovery.rate import Rate
from tests.support import scaled, wait_for

LIMITS = Thresholds(window=4, least=2, cool_down=600, probes=1)


@pytest.fixture
def dq() -> Iterator[DurableQ]:
    with DurableQ("memory://") as dq:
        dq.queue("orders", max_receives=1, max_recoveries=100)
        dq.queue("orders-dlq", visibility_timeout=0.3)
        yield dq


def bury(dq: DurableQ, number: int) -> list[str]:
    orders = dq.queue("orders")
    ids = orders.send_many(list(range(number)))
    for message in orders.receive(number):
        message.reject("no")
    return ids


def leased(dq: DurableQ, leases: Leases, number: int) -> list[Receipt]:
    messages = dq.store.receive("orders-dlq", number).messages
    leases.take(messages)
    return [message.receipt for message in messages if message.receipt is not None]


def test_a_letter_in_hand_stays_leased_and_one_that_waits_goes_back(dq: DurableQ) -> None:
    bury(dq, 2)
    with Leases(dq.store, 0) as leases:
        first, second = leased(dq, leases, 2)
        assert leases.begin(first)
        (again,) = wait_for(
            lambda: dq.store.receive("orders-dlq", 2).messages, what="the other to go back"
        )
        assert again.id == second.message_id
        assert not leases.begin(second)
        assert leases.let_go([first, second]) == [first]
        assert not dq.store.release([first])[0].refused


def test_a_letter_that_is_lost_is_dropped(dq: DurableQ) -> None:
    bury(dq, 1)
    with Leases(dq.store, 0) as leases:
        (receipt,) = leased(dq, leases, 1)
        dq.queue("orders-dlq").purge()
        wait_for(lambda: not leases.begin(receipt), what="the loss to be seen")
        assert leases.let_go([receipt]) == []


def test_what_is_given_back_is_ready(dq: DurableQ) -> None:
    bury(dq, 3)
    with Leases(dq.store, 0) as leases:
        one, *_ = leased(dq, leases, 3)
        leases.give_back([one])
        assert dq.store.queue("orders-dlq").counts.ready == 1
        leases.give_back()
        assert dq.store.queue("orders-dlq").counts.ready == 3


def gate(dq: DurableQ, told: list[Change]) -> Gate:
    return Gate(dq.store, "orders", LIMITS, SystemClock(), told.append)


def bounced(dq: DurableQ, number: int) -> list[DeadLetter]:
    """Letters that recovery sent back and that died again."""
    bury(dq, number)
    received = dq.store.receive("orders-dlq", number).messages
    sent = [(m.receipt, Requeue()) for m in received if m.receipt is not None]
    dq.store.decide(sent, actor=f"{RECOVERY_ACTOR}1")
    for message in dq.queue("orders").receive(number):
        message.reject("no")
    found = [dq.store.dead_letter(message.id) for message in received]
    return [letter for letter in found if letter is not None]


def test_two_gates_are_one_breaker(dq: DurableQ) -> None:
    told: list[Change] = []
    one, two = gate(dq, told), gate(dq, told)
    one.look()
    two.look()
    letters = bounced(dq, 3)
    assert one.look(letters[:1]).phase is Phase.CLOSED
    assert two.look(letters[1:2]).phase is Phase.OPEN
    assert one.would_admit(letters[2])
    assert not one.admit(letters[2]), "it did not ask what the other had written"
    assert [(change.before, change.state.phase) for change in told] == [(Phase.CLOSED, Phase.OPEN)]
    assert "2 of 2 messages that recovery sent back died again" in told[0].words
    assert one.left_ms() > 500_000


def test_a_probe_is_given_to_one_of_two(dq: DurableQ) -> None:
    letters = bounced(dq, 2)
    state = State(Phase.HALF_OPEN, SystemClock().wall_ms(), 1)
    dq.store.remember(NOTE + "orders", state.to_json(), instead_of=None)
    one, two = gate(dq, []), gate(dq, [])
    assert [one.admit(letters[0]), two.admit(letters[1])] == [True, False]


def test_a_state_that_cannot_be_read_begins_anew(dq: DurableQ) -> None:
    (letter,) = bounced(dq, 1)
    dq.store.remember(NOTE + "orders", '{"phase": "ajar"}', instead_of=None)
    assert gate(dq, []).admit(letter)
    state = read(dq.store, "orders")
    assert state is not None
    assert state.phase is Phase.CLOSED


def test_a_queue_that_was_deleted_and_made_again_has_a_closed_breaker(dq: DurableQ) -> None:
    mine = gate(dq, [])
    mine.look()
    assert mine.look(bounced(dq, 2)).phase is Phase.OPEN
    dq.store.delete_queue("orders", force=True)
    assert read(dq.store, "orders") is None
    dq.store.declare_queue("orders", {})
    (letter,) = bounced(dq, 1)
    assert [one.look().phase for one in (mine, gate(dq, []))] == [Phase.CLOSED] * 2
    assert mine.admit(letter)


class Returning:
    """A store whose first release of a letter that waits takes as long as a policy does."""

    def __init__(self, dq: DurableQ, *, refuses: bool) -> None:
        self._release = dq.store.release
        self._refuses = refuses
        self.begun, self.judged = threading.Event(), threading.Event()

    def release(self, receipts: Sequence[Receipt]) -> list[Outcome]:
        if threading.current_thread() is threading.main_thread() or self.begun.is_set():
            return self._release(receipts)
        self.begun.set()
        assert self.judged.wait(scaled(30))
        threading.Event().wait(0.2)  # time to take the queue for empty
        if self._refuses:
            raise Busy("another process writes")
        return self._release(receipts)


@pytest.mark.parametrize("refuses", [False, True])
def test_once_waits_for_the_letters_that_are_on_their_way_back(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    returning = Returning(dq, refuses=refuses)
    monkeypatch.setattr(dq.store, "release", returning.release)
    monkeypatch.setattr(leases, "WAIT_SECONDS", 0.01)

    @dq.recovery("orders")
    def policy(_: DeadLetter) -> Verdict:
        assert returning.begun.wait(scaled(30))
        returning.judged.set()
        return Discard("looked at")

    bury(dq, 3)
    assert Recovery(dq).run(once=True, on_decision=lambda _: None) == 3
    assert dq.store.queue("orders-dlq").counts.present == 0


def test_once_looks_past_any_number_of_letters_that_expired(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receive that only removed what was overdue says so, and is no empty one."""
    bury(dq, 2)
    receive = dq.store.receive
    answers = [Received([], [], set_aside=10)] * 3
    monkeypatch.setattr(
        dq.store, "receive", lambda *a, **o: answers.pop() if answers else receive(*a, **o)
    )
    dq.recovery("orders")(lambda _: Discard("looked at"))
    assert Recovery(dq).run(once=True, on_decision=lambda _: None) == 2


def test_once_looks_past_any_number_of_letters_that_the_breaker_keeps(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "MOST_PUT_OFF", 4)
    state = State(Phase.OPEN, SystemClock().wall_ms(), 1)
    dq.store.remember(NOTE + "orders", state.to_json(), instead_of=None)
    ids = bury(dq, 40)
    dq.recovery("orders")(lambda letter: Hold() if letter.id == ids[-1] else Requeue())
    assert Recovery(dq).run(once=True, on_decision=lambda _: None) == 1
    counts = dq.store.queue("orders-dlq").counts
    assert (counts.ready, counts.present) == (39, 40)


def test_a_rate_gives_its_turns_evenly_and_no_more_for_having_waited() -> None:
    now = 100.0
    rate = Rate(10, lambda: now)
    stopping = Latch()
    stopping.set()
    given = 0
    for _ in range(200):
        given += rate.wait(stopping)
        now += 0.01
    assert given == 20
    now += 60
    assert rate.wait(stopping)
    assert not rate.wait(stopping)
    stopping.close()


def test_a_rate_leases_no_more_than_a_seconds_letters() -> None:
    assert [Rate(rate).at_once(10) for rate in (None, 0.1, 3.5, 1000)] == [10, 1, 3, 10]
    for bad in (0, -1, float("inf"), float("nan")):
        with pytest.raises(InvalidInput, match="over 0"):
            Rate(bad)


def test_a_stop_ends_the_wait_for_a_turn() -> None:
    rate, stopping = Rate(0.001), Latch()
    assert rate.wait(stopping)
    stopping.set()
    began = time.monotonic()
    assert not rate.wait(stopping)
    assert time.monotonic() - began < scaled(5)
    stopping.close()
