"""A recovery process: its leases while policies decide, and the breaker in the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from durableq import Decision, Discard, DurableQ, Hold, Outcome, Requeue
from durableq.model.dead_letters import RECOVERY_ACTOR
from durableq.model.errors import Busy, InvalidInput
from durableq.model.flow.breaker import Phase
from durableq.model.info import WorkerInfo
from durableq.model.message import DeadLetter, Receipt, Received
from durableq.recovery import leases, process
from durableq.recovery.circuit_breaker import (
    METADATA_PREFIX,
    BreakerChange,
    BreakerState,
    CircuitBreaker,
    Thresholds,
    read,
)
from durableq.recovery.leases import RecoveryLeases
from durableq.recovery.process import Recovery
from durableq.recovery.send_rate import SendRate
from durableq.runtime.clock import SystemClock
from durableq.runtime.wakeup import WakeupEvent
from durableq.store.core import Capability
from durableq.supervisor.liveness import this_process
from tests.support import scaled, wait_for

LIMITS = Thresholds(window=4, least=2, cool_down=600, probes=1)


@pytest.fixture
def dq() -> Iterator[DurableQ]:
    with DurableQ("memory://") as dq:
        dq.queue("orders", max_receives=1, max_recoveries=100)
        dq.queue("orders-dlq", visibility_timeout=scaled(0.3))
        yield dq


def bury(dq: DurableQ, number: int) -> list[str]:
    orders = dq.queue("orders")
    ids = orders.send_many(list(range(number)))
    for message in orders.receive(number):
        message.reject("no")
    return ids


def leased(dq: DurableQ, leases: RecoveryLeases, number: int) -> list[Receipt]:
    messages = dq.store.receive("orders-dlq", number).messages
    leases.add(messages)
    return [message.receipt for message in messages if message.receipt is not None]


def test_a_dead_letter_in_flight_stays_leased_and_one_that_waits_is_released(dq: DurableQ) -> None:
    bury(dq, 2)
    with RecoveryLeases(dq.store, 0) as leases:
        first, second = leased(dq, leases, 2)
        assert leases.start(first)
        (again,) = wait_for(
            lambda: dq.store.receive("orders-dlq", 2).messages, what="the other to go back"
        )
        assert again.id == second.message_id
        assert not leases.start(second)
        assert leases.forget([first, second]) == [first]
        assert not dq.store.release([first])[0].refused


def test_a_dead_letter_that_is_lost_is_dropped(dq: DurableQ) -> None:
    bury(dq, 1)
    with RecoveryLeases(dq.store, 0) as leases:
        (receipt,) = leased(dq, leases, 1)
        dq.queue("orders-dlq").purge()
        wait_for(lambda: not leases.start(receipt), what="the loss to be seen")
        assert leases.forget([receipt]) == []


def test_a_released_dead_letter_is_ready(dq: DurableQ) -> None:
    bury(dq, 3)
    with RecoveryLeases(dq.store, 0) as leases:
        one, *_ = leased(dq, leases, 3)
        leases.release([one])
        assert dq.store.require(Capability.INSPECT).queue("orders-dlq").counts.ready == 1
        leases.release()
        assert dq.store.require(Capability.INSPECT).queue("orders-dlq").counts.ready == 3


def breaker(dq: DurableQ, changes: list[BreakerChange]) -> CircuitBreaker:
    return CircuitBreaker(dq.store, "orders", LIMITS, SystemClock(), changes.append)


def bounced(dq: DurableQ, number: int) -> list[DeadLetter]:
    """Return dead letters that recovery sent back and that died again."""
    bury(dq, number)
    received = dq.store.receive("orders-dlq", number).messages
    sent = [(m.receipt, Requeue()) for m in received if m.receipt is not None]
    dq.store.require(Capability.DEAD_LETTERS).decide(sent, actor=f"{RECOVERY_ACTOR}1")
    for message in dq.queue("orders").receive(number):
        message.reject("no")
    found = [
        dq.store.require(Capability.DEAD_LETTERS).dead_letter(message.id) for message in received
    ]
    return [dead_letter for dead_letter in found if dead_letter is not None]


def test_two_processes_share_one_breaker(dq: DurableQ) -> None:
    changes: list[BreakerChange] = []
    one, two = breaker(dq, changes), breaker(dq, changes)
    one.update()
    two.update()
    dead_letters = bounced(dq, 3)
    assert one.update(dead_letters[:1]).phase is Phase.CLOSED
    assert two.update(dead_letters[1:2]).phase is Phase.OPEN
    assert one.may_admit(dead_letters[2])
    assert not one.admit(dead_letters[2]), "it did not ask what the other had written"
    assert [(change.before, change.state.phase) for change in changes] == [
        (Phase.CLOSED, Phase.OPEN)
    ]
    assert "2 of 2 messages that recovery sent back died again" in changes[0].text
    assert one.left_ms() > 500_000


def test_a_probe_is_given_to_one_of_two(dq: DurableQ) -> None:
    dead_letters = bounced(dq, 2)
    state = BreakerState(Phase.HALF_OPEN, SystemClock().wall_ms(), 1)
    dq.store.require(Capability.METADATA).compare_and_set(
        METADATA_PREFIX + "orders", state.to_json(), expected=None
    )
    one, two = breaker(dq, []), breaker(dq, [])
    assert [one.admit(dead_letters[0]), two.admit(dead_letters[1])] == [True, False]


def test_a_state_that_cannot_be_read_is_replaced_by_a_closed_breaker(dq: DurableQ) -> None:
    (dead_letter,) = bounced(dq, 1)
    dq.store.require(Capability.METADATA).compare_and_set(
        METADATA_PREFIX + "orders", '{"phase": "ajar"}', expected=None
    )
    assert breaker(dq, []).admit(dead_letter)
    state = read(dq.store, "orders")
    assert state is not None
    assert state.phase is Phase.CLOSED


def test_a_queue_that_was_deleted_and_made_again_has_a_closed_breaker(dq: DurableQ) -> None:
    mine = breaker(dq, [])
    mine.update()
    assert mine.update(bounced(dq, 2)).phase is Phase.OPEN
    dq.store.require(Capability.CONTROL).delete_queue("orders", force=True)
    assert read(dq.store, "orders") is None
    dq.store.declare_queue("orders", {})
    (dead_letter,) = bounced(dq, 1)
    assert [one.update().phase for one in (mine, breaker(dq, []))] == [Phase.CLOSED] * 2
    assert mine.admit(dead_letter)


class SlowRelease:
    """A store whose first release by the thread takes as long as a policy does."""

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


def test_a_recovery_process_tells_its_state_and_the_number_of_its_decisions(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(leases, "WAIT_SECONDS", 1000)
    ids = bury(dq, 3)
    fleet = dq.store.require(Capability.FLEET)
    seen = []

    @dq.recovery("orders")
    def policy(dead_letter: DeadLetter) -> Decision:
        done = ids.index(dead_letter.id)
        told = ("working", done, 3 - done)
        wait_for(
            lambda: told in [(one.state, one.handled, one.in_flight) for one in fleet.workers()],
            what=f"{told} in its row",
        )
        seen.append(told)
        return Discard("looked at")

    assert Recovery(dq).run(once=True, on_decision=lambda _: None) == 3
    assert seen == [("working", 0, 3), ("working", 1, 2), ("working", 2, 1)]


def test_a_recovery_process_is_idle_from_its_registration(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered: list[WorkerInfo] = []
    fleet = dq.store.require(Capability.FLEET)
    register = fleet.register

    def registering(worker: WorkerInfo) -> WorkerInfo:
        registered.append(register(worker))
        return registered[-1]

    monkeypatch.setattr(fleet, "register", registering)
    dq.recovery("orders")(lambda _: Discard("looked at"))
    Recovery(dq).run(once=True, on_decision=lambda _: None)
    assert [one.state for one in registered] == ["idle"]


def test_a_recovery_process_without_dead_letters_tells_that_it_is_idle(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    fleet = dq.store.require(Capability.FLEET)
    owner_id = fleet.register(this_process("recovery")).owner_id
    with RecoveryLeases(dq.store, owner_id):
        (told,) = wait_for(
            lambda: [one for one in fleet.workers() if one.state == "idle"], what="a beat"
        )
    assert (told.handled, told.in_flight) == (0, 0)


@pytest.mark.parametrize("refuses", [False, True])
def test_once_waits_for_dead_letters_that_are_being_released(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    returning = SlowRelease(dq, refuses=refuses)
    monkeypatch.setattr(dq.store, "release", returning.release)
    monkeypatch.setattr(leases, "WAIT_SECONDS", 0.01)

    @dq.recovery("orders")
    def policy(_: DeadLetter) -> Decision:
        assert returning.begun.wait(scaled(30))
        returning.judged.set()
        return Discard("looked at")

    bury(dq, 3)
    assert Recovery(dq).run(once=True, on_decision=lambda _: None) == 3
    assert dq.store.require(Capability.INSPECT).queue("orders-dlq").counts.present == 0


def test_once_looks_past_any_number_of_dead_letters_that_expired(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receive that only removed expired dead letters reports it, and is not an empty one."""
    bury(dq, 2)
    receive = dq.store.receive
    answers = [Received([], [], set_aside=10)] * 3
    monkeypatch.setattr(
        dq.store, "receive", lambda *a, **o: answers.pop() if answers else receive(*a, **o)
    )
    dq.recovery("orders")(lambda _: Discard("looked at"))
    assert Recovery(dq).run(once=True, on_decision=lambda _: None) == 2


def test_once_looks_past_any_number_of_dead_letters_that_the_breaker_keeps(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MAX_DEFERRED", 4)
    state = BreakerState(Phase.OPEN, 1, until_ms=SystemClock().wall_ms() + 600_000)
    dq.store.require(Capability.METADATA).compare_and_set(
        METADATA_PREFIX + "orders", state.to_json(), expected=None
    )
    ids = bury(dq, 40)
    dq.recovery("orders")(lambda dead_letter: Hold() if dead_letter.id == ids[-1] else Requeue())
    assert Recovery(dq).run(once=True, on_decision=lambda _: None) == 1
    counts = dq.store.require(Capability.INSPECT).queue("orders-dlq").counts
    assert (counts.ready, counts.present) == (39, 40)


def test_a_rate_is_even_and_allows_no_burst_after_a_pause() -> None:
    now = 100.0
    rate = SendRate(10, lambda: now)
    stopping = WakeupEvent()
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


def test_a_rate_leases_no_more_than_a_seconds_dead_letters() -> None:
    assert [SendRate(rate).batch_size(10) for rate in (None, 0.1, 3.5, 1000)] == [10, 1, 3, 10]
    for bad in (0, -1, float("inf"), float("nan")):
        with pytest.raises(InvalidInput, match="over 0"):
            SendRate(bad)


def test_a_stop_ends_the_wait_for_the_rate() -> None:
    rate, stopping = SendRate(0.001), WakeupEvent()
    assert rate.wait(stopping)
    stopping.set()
    began = time.monotonic()
    assert not rate.wait(stopping)
    assert time.monotonic() - began < scaled(5)
    stopping.close()
