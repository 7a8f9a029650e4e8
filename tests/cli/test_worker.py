"""`durableq worker drain`: one worker is asked to end."""

from dataclasses import replace

from durableq.store.core import Capability
from durableq.supervisor.liveness import this_process
from tests.cli.console import Run, Shop


def test_one_worker_is_asked_to_end(run: Run, shop: Shop) -> None:
    fleet = shop.store.require(Capability.FLEET)
    for name in ("worker-1:7", "worker-2:8"):
        fleet.register(this_process(name))
    done = run("worker", "drain", "worker-2:8")
    assert (done.code, done.lines) == (
        0,
        ["worker-2:8: asked to end. It finishes its messages, and is not replaced."],
    )
    assert [worker.draining for worker in fleet.workers()] == [False, True]
    assert run("worker", "drain", "worker-2:8", "--json").json["draining"] is True


def test_a_worker_that_cannot_be_drained_is_named(run: Run, shop: Shop) -> None:
    fleet = shop.store.require(Capability.FLEET)
    unknown = run("worker", "drain", "worker-9:9")
    assert (unknown.code, "no worker 'worker-9:9'; there are none" in unknown.err) == (3, True)
    fleet.register(replace(this_process("worker-1:7"), created_ms=1))
    ended = run("worker", "drain", "worker-1:7")
    assert (ended.code, "Worker worker-1:7 has ended already." in ended.err) == (3, True)
    fleet.register(this_process("recovery:8"))
    recovery = run("worker", "drain", "recovery:8")
    assert (recovery.code, "is a recovery process" in recovery.err) == (5, True)
    assert not any(worker.draining for worker in fleet.workers())
