"""The faults that meet limits: only a holder of the last is killed, and an outage ends.

The file tells who holds the last, and records each receive.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from durableq import Delivery, DurableQ, Unavailable
from durableq.demo.app import make_ledger
from durableq.demo.show import place_of
from durableq.engines.sql.columns import LEASE_EPOCH_MS
from durableq.runtime.clock import SystemClock
from durableq.testing.chaos import limit_faults, limited, recording
from durableq.testing.chaos.faults import Limit, Phase
from durableq.testing.chaos.injection import Injector, Planned
from durableq.testing.chaos.ledger import Step, read
from durableq.testing.chaos.limit_faults import (
    KillHead,
    KillHolder,
    KillLastPlace,
    KillLastToken,
    Limits,
    Outage,
)
from durableq.testing.chaos.limited import CALLS, STEPS
from durableq.testing.chaos.recording import CLOSED, HALF_OPEN, Stand, Watch
from tests.chaos.supervisor import Supervisor
from tests.support import new_file, wait_for

HELD = ("7", "receipt-0.1")


@pytest.mark.parametrize("kind", [KillLastToken, KillLastPlace, KillHead])
def test_only_the_holder_of_the_last_is_killed(fleet: Supervisor, kind: type[KillHolder]) -> None:
    fleet.start(2)
    holder, other = fleet.processes
    assert fleet.advance(kind()) is Phase.WAITING, "no message holds it"
    fleet.holders[kind.limit] = [HELD]
    fleet.note(other.pid, Step.INVOKE, "0.2")
    fleet.note(holder.pid, Step.PASSED)
    assert fleet.advance(kind()) is Phase.WAITING, "it may have committed"
    fleet.note(holder.pid, Step.INVOKE)
    assert fleet.advance(kind()) is Phase.HAPPENED
    assert holder.wait() == -signal.SIGKILL
    assert [process.pid for process in fleet.living()] == [other.pid]
    line = read(fleet.folder)[-1]
    assert (line.operation, line.message_id, line.receipt) == (kind.name, *HELD)


def test_an_outage_lasts_until_a_prober_was_killed(
    fleet: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_faults, "OUTAGE_SECONDS", 0.0)
    fleet.start()
    outage = Outage()
    assert not is_down(fleet.folder)
    assert fleet.advance(outage) is Phase.UNDERWAY
    assert is_down(fleet.folder)
    fleet.note(fleet.processes[0].pid, Step.INVOKE)
    assert fleet.advance(outage) is Phase.UNDERWAY
    fleet.holders[Limit.PROBE] = [HELD]
    assert fleet.advance(outage) is Phase.HAPPENED
    assert not is_down(fleet.folder)


def test_an_outage_ends_with_the_faults(fleet: Supervisor) -> None:
    with Injector([Planned(0.0, Outage())], fleet.targets) as injector:
        injector.tick()
        assert is_down(fleet.folder)
    assert not is_down(fleet.folder)


def is_down(folder: Path) -> bool:
    return (folder / limited.DOWN).exists()


@pytest.fixture
def dq(tmp_path: Path) -> Iterator[DurableQ]:
    with DurableQ(new_file(tmp_path / "chaos.db")) as dq:
        limited.declare(dq)
        recording.prepare(dq)
        make_ledger(dq)
        yield dq


@pytest.fixture
def watch(dq: DurableQ) -> Iterator[Watch]:
    with closing(Watch(place_of(dq))) as watch:
        yield watch


@pytest.fixture
def limits(dq: DurableQ, watch: Watch) -> Limits:
    return Limits(watch, lambda name: dq.queue(name).info().limits)


def held(delivery: Delivery) -> tuple[str, str]:
    return delivery.id, delivery.receipt.token


def test_the_holders_of_the_last_token_and_place_are_found(dq: DurableQ, limits: Limits) -> None:
    calls = dq.queue(CALLS)
    calls.send_many([{}] * 5)
    assert limits.holders(Limit.TOKEN) == limits.holders(Limit.PLACE) == []
    (first,) = calls.receive(1)
    assert limits.holders(Limit.PLACE) == []
    (second,) = calls.receive(9)
    assert limits.holders(Limit.PLACE) == [held(second)]
    first.complete()
    assert limits.holders(Limit.PLACE) == []
    dq.queue(CALLS, rate=1, burst=1)
    (third,) = wait_for(lambda: calls.receive(1), what="a token")
    assert limits.holders(Limit.TOKEN) == [held(third)]


def test_the_holder_of_a_probe_is_found(dq: DurableQ, watch: Watch, limits: Limits) -> None:
    calls = dq.queue(CALLS, breaker_open=0.001)
    calls.send_many([{}] * 3)
    (first,) = calls.receive(1)
    watch.look()
    assert watch.stand(CALLS).breaker == CLOSED
    assert limits.holders(Limit.PROBE) == []
    first.fail(Unavailable())
    (probe,) = wait_for(lambda: calls.receive(9), what="a probe")
    watch.look()
    assert watch.stand(CALLS).breaker == HALF_OPEN
    assert limits.holders(Limit.PROBE) == [held(probe)]


def test_the_head_of_a_group_is_found_if_others_wait(dq: DurableQ, limits: Limits) -> None:
    steps = dq.queue(STEPS)
    first = steps.send({}, group="a")
    steps.send({}, group="b")
    heads = {one.id: one for one in steps.receive(9)}
    assert limits.holders(Limit.HEAD) == []
    steps.send({}, group="a")
    assert limits.holders(Limit.HEAD) == [held(heads[first])]


def test_each_receive_is_recorded_in_its_transaction(dq: DurableQ) -> None:
    """Also one whose message was never handled, and a later one of the same message."""
    calls, steps = dq.queue(CALLS), dq.queue(STEPS)
    call, other = calls.send_many([{}, {}])
    step = steps.send({}, group="a")
    dq.queue("others").send({})
    dq.queue("others").receive()
    calls.receive(2)
    steps.receive()[0].release()
    wait_for(steps.receive, what="the next token of the group")
    recorded = recording.read(place_of(dq)).receives
    assert [(one.queue, one.message_id, one.in_flight, one.in_group) for one in recorded] == [
        (CALLS, call, 1, 0),
        (CALLS, other, 2, 0),
        (STEPS, step, 1, 1),
        (STEPS, step, 1, 1),
    ]
    assert recorded[-1].receipt != recorded[-2].receipt
    now_ms = SystemClock().lease_ms() + LEASE_EPOCH_MS
    assert all(now_ms - 60_000 < one.at_ms <= now_ms for one in recorded)


def test_looks_show_counter_and_leases(dq: DurableQ, watch: Watch) -> None:
    calls = dq.queue(CALLS)
    calls.send_many([{}] * 3)
    calls.receive(9)
    watch.look()
    assert watch.stand(CALLS) == Stand(CALLS, None, CLOSED, 2)
