"""Two hosts on one file: neither takes anything from the other while its leases run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from durableq.engines import open_store
from durableq.engines.sql import hosts as hosts_of_sql
from durableq.engines.sqlite.backup import back_up, restore
from durableq.engines.sqlite.location import Location
from durableq.model.limits import DAY_MS
from durableq.model.message import Completion, Message, Outcome, Receipt, State, draft
from durableq.store.core import Capability, Store, WorkerInfo
from durableq.supervisor.liveness import (
    Liveness,
    liveness,
    this_process,
)
from durableq.supervisor.peers import reclaim_dead_workers
from durableq.testing import FakeClock
from tests.engine import plain

VISIBILITY_SECONDS = 30


class Host:
    """A machine with clocks of its own, and a store and a worker on it."""

    def __init__(self, db: Path, name: str, up_ms: int) -> None:
        self.db, self.clock = db, FakeClock(lease_ms=up_ms, host_id=name)
        self.store = self.open()
        self.worker = self.register(f"worker of {name}")

    def open(self) -> Store:
        self.store = open_store(str(self.db), clock=self.clock)
        self.store.declare_queue("orders", {"visibility_timeout_ms": VISIBILITY_SECONDS * 1000})
        return self.store

    def register(self, name: str) -> WorkerInfo:
        clock = self.clock
        worker = WorkerInfo(name, 7, 1, clock.boot_id(), "pid:[1]", host_id=clock.host_id())
        return self.store.require(Capability.FLEET).register(worker)

    def receive(self, owner_id: int | None = None) -> list[Message]:
        owner_id = self.worker.owner_id if owner_id is None else owner_id
        return self.store.receive("orders", 10, owner_id=owner_id).messages

    def take(self, body: str, owner_id: int | None = None) -> Receipt:
        self.store.send("orders", [draft(body)])
        (message,) = self.receive(owner_id)
        assert message.receipt is not None
        return message.receipt

    def complete(self, receipt: Receipt) -> Outcome:
        return self.store.complete([Completion(receipt)])[0]

    def state(self, receipt: Receipt) -> State:
        message = self.store.require(Capability.INSPECT).message(receipt.message_id)
        assert message is not None
        return message.state

    def workers(self) -> set[str]:
        return {worker.name for worker in self.store.require(Capability.FLEET).workers()}


@pytest.fixture(params=[10_000, 400 * DAY_MS], ids=["younger", "older"])
def hosts(request: pytest.FixtureRequest, db: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts, of which the second has been up for less or for longer than the first."""
    first, second = Host(db, "a", DAY_MS), Host(db, "b", request.param)
    yield first, second
    first.store.close()
    second.store.close()


def advance(hosts: tuple[Host, Host], seconds: float) -> None:
    for host in hosts:
        host.clock.advance(seconds)


def test_hosts_take_nothing_from_each_other_while_leases_run(hosts: tuple[Host, Host]) -> None:
    leases = [(host, host.take("by its worker")) for host in hosts]
    leases += [(host, host.take("outside a worker", 0)) for host in hosts]
    for _ in range(3):
        advance(hosts, VISIBILITY_SECONDS / 4)
        for host in hosts:
            host.store.close()
            host.open()
            assert host.receive() == []
            assert host.store.require(Capability.FLEET).reclaim() == 0
            assert host.workers() == {"worker of a", "worker of b"}
    assert [host.complete(receipt) for host, receipt in leases] == [Outcome.DONE] * 4


def test_a_lease_that_has_ended_is_taken_over_by_the_other_host(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    lost = [first.take("a worker's"), first.take("no worker's", 0)]
    advance(hosts, VISIBILITY_SECONDS - 1)
    assert second.receive() == []
    kept = second.take("of the other")
    advance(hosts, 1)
    taken = {message.id for message in second.store.receive("orders", 10).messages}
    second.clock.advance(600)  # past the backoff
    first.clock.advance(600)
    taken |= {message.id for message in second.store.receive("orders", 10).messages}
    assert {receipt.message_id for receipt in lost} <= taken
    assert [first.complete(receipt) for receipt in lost] == [Outcome.STALE] * 2
    assert second.complete(kept) is Outcome.STALE  # it ended as well, by its own host's clock


def test_the_wall_clock_of_a_host_set_later_ends_no_lease(hosts: tuple[Host, Host]) -> None:
    leases = [(host, host.take(host.worker.name)) for host in hosts]
    advance(hosts, 20)  # the anchors are due
    hosts[1].clock.set_wall(hosts[1].clock.wall_ms() + DAY_MS)
    for host in hosts:
        host.store.close()
        host.open()
        assert host.receive() == []
    assert [host.complete(receipt) for host, receipt in leases] == [Outcome.DONE] * 2


def test_a_restarted_host_takes_back_its_own_leases_only(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    lost, kept = [first.take("1"), first.take("2", 0)], [second.take("3"), second.take("4", 0)]
    first.store.close()
    first.clock.advance(5)
    second.clock.advance(5)
    first.clock.reboot()
    first.open()
    assert all(first.state(receipt) is not State.IN_FLIGHT for receipt in lost)
    assert first.workers() == {"worker of b"}
    assert [second.complete(receipt) for receipt in kept] == [Outcome.DONE] * 2


@pytest.mark.parametrize("is_copy", [False, True])
def test_leases_of_an_earlier_boot_are_taken_back_in_slices(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch, is_copy: bool
) -> None:
    """Also when the process is killed between two of them."""
    monkeypatch.setattr(hosts_of_sql, "SLICE", 3)
    first, _ = hosts
    leases = [first.take(str(n), owner_id=0 if n % 2 else None) for n in range(8)]
    first.store.close()
    first.clock.reboot()
    if is_copy:
        plain.script(first.db, "DELETE FROM durableq_meta WHERE name LIKE 'boot%'")
    enter, slices = hosts_of_sql.enter, list[bool]()

    def noted(*arguments: Any) -> bool:
        if len(slices) == 1:
            slices.append(False)
            raise KeyboardInterrupt
        slices.append(enter(*arguments))
        return slices[-1]

    monkeypatch.setattr(hosts_of_sql, "enter", noted)
    with pytest.raises(KeyboardInterrupt):
        first.open()
    in_flight = "SELECT count(*) FROM durableq_message WHERE state = 1"
    assert plain.one(first.db, in_flight) == 5
    first.open()
    assert slices == [False, False, False, True]
    assert all(first.state(receipt) is not State.IN_FLIGHT for receipt in leases)
    assert first.workers() == (set() if is_copy else {"worker of b"})


def test_a_copy_has_no_leases_of_any_host(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    first, second = hosts
    receipts = [first.take("1"), second.take("2")]
    back_up(Location(first.db), tmp_path / "copy.db", lambda _: None)
    restored = tmp_path / "restored.db"
    restore(
        tmp_path / "copy.db",
        Location(restored),
        second.clock,
        replace=False,
        progress=lambda _: None,
    )
    there = open_store(str(restored), clock=second.clock)
    found = [there.require(Capability.INSPECT).message(one.message_id) for one in receipts]
    assert [message.state for message in found if message is not None] == [State.READY] * 2
    assert there.require(Capability.FLEET).workers() == []
    there.close()


def test_a_worker_of_another_host_is_not_judged_by_its_boot(hosts: tuple[Host, Host]) -> None:
    first, _ = hosts
    lease = first.take("of a living worker")
    assert liveness(first.worker) is Liveness.UNKNOWN
    assert reclaim_dead_workers(first.store) == 0
    assert first.state(lease) is State.IN_FLIGHT
    here = replace(this_process("here"), boot_id="an earlier one")
    assert liveness(here) is Liveness.DEAD
    first.store.require(Capability.FLEET).register(here)
    assert reclaim_dead_workers(first.store) == 1


def test_hosts_that_wrote_nothing_for_long_are_forgotten(hosts: tuple[Host, Host]) -> None:
    first, second = hosts
    first.store.close()
    advance(hosts, 8 * DAY_MS / 1000)
    second.clock.reboot()
    second.store.close()
    second.open()
    names = "SELECT name FROM durableq_meta WHERE name LIKE 'boot:%' ORDER BY name"
    assert plain.column(second.db, names) == ["boot:b"]
    assert second.workers() == set()
    first.open()
    assert first.store.receive("orders", 1).messages == []


def test_the_host_id_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    found = this_process("me").host_id
    assert len(found) == 32
    assert found == this_process("me").host_id
    monkeypatch.setattr("socket.gethostname", lambda: "another-name")
    assert this_process("me").host_id != found, "copies of an image would be one host"
    monkeypatch.setitem(os.environ, "DURABLEQ_HOST_ID", " node-7 ")
    assert this_process("me").host_id == "node-7"
