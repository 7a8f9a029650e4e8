"""`once` on a file: threads and coroutines of one process, leases that are extended or lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from durableq import DurableQ, OutcomeUnknown
from durableq.client import computing, computing_async
from durableq.model.once import OnceAnswer, OnceEntry, OnceRequest, OnceStep
from durableq.store.core import Capability
from durableq.supervisor.liveness import Liveness, end_of, liveness
from tests.support import new_file, scaled, wait_for

CALLERS = 8


@pytest.fixture(params=["file", "memory"])
def dq(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DurableQ]:
    url = "memory://" if request.param == "memory" else str(new_file(tmp_path / "queue.db"))
    with DurableQ(url) as dq:
        yield dq


class Blocked:
    """A computation that ends when it is told to, and returns the number of its call."""

    def __init__(self) -> None:
        self.calls = 0
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __call__(self) -> int:
        self.calls += 1
        self.begun.set()
        assert self.go_on.wait(scaled(60))
        return self.calls


def entry(dq: DurableQ, key: str = "k") -> OnceEntry | None:
    return dq.store.require(Capability.ONCE).once_entry(key)


def lease_of_another(dq: DurableQ, *, lease_ms: int = 3_600_000, owner: str = "") -> bytes:
    """Lease the key for a process that this one cannot see."""
    token = b"x" * 16
    dq.store.require(Capability.ONCE).once_get_or_lease("k", OnceRequest(token, lease_ms, owner))
    return token


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by a key with each wait that begins."""
    waits: list[str] = []
    wait = computing.wait_for_end

    def counted(store: object, of: OnceEntry, *others: object) -> None:
        waits.append(of.key)
        wait(store, of, *others)  # type: ignore[arg-type]

    for module in (computing, computing_async):
        monkeypatch.setattr(module, "wait_for_end", counted)
    return waits


def test_of_many_threads_one_computes_and_the_others_wait(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, waits = Blocked(), watched(monkeypatch)
    with ThreadPoolExecutor(CALLERS) as threads:
        calls = [threads.submit(dq.once, "k", compute, ttl=60) for _ in range(CALLERS)]
        wait_for(lambda: len(waits) == CALLERS - 1, what="the others to wait")
        compute.go_on.set()
        assert [call.result(scaled(30)) for call in calls] == [1] * CALLERS
    assert compute.calls == 1


def test_a_waiting_thread_computes_where_the_first_failed(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = watched(monkeypatch)
    begun, go_on = threading.Event(), threading.Event()
    calls = []

    def compute() -> str:
        calls.append(threading.get_ident())
        if len(calls) == 1:
            begun.set()
            assert go_on.wait(scaled(60))
            raise OSError("down")
        return "up"

    with ThreadPoolExecutor(CALLERS) as threads:
        first = threads.submit(dq.once, "k", compute, ttl=60)
        assert begun.wait(scaled(30))
        others = [threads.submit(dq.once, "k", compute, ttl=60) for _ in range(CALLERS - 1)]
        wait_for(lambda: len(waits) >= CALLERS - 1, what="the others to wait")
        go_on.set()
        with pytest.raises(OSError, match="down"):
            first.result(scaled(30))
        assert {other.result(scaled(30)) for other in others} == {"up"}
    assert len(calls) == 2


def test_of_two_callers_that_find_no_lease_one_is_given_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look takes no lock: another caller comes between it and the lease."""
    with DurableQ(new_file(tmp_path / "queue.db")) as dq, DurableQ(tmp_path / "queue.db") as other:
        first, second = (one.store.require(Capability.ONCE) for one in (dq, other))
        database: Any = vars(first)["_database"]
        write = database.run

        def write_later(*operation: object) -> object:
            monkeypatch.undo()
            answer = second.once_get_or_lease("k", OnceRequest(b"2" * 16, 60_000))
            assert answer.step is OnceStep.COMPUTE
            return write(*operation)

        monkeypatch.setattr(database, "run", write_later)
        answer = first.once_get_or_lease("k", OnceRequest(b"1" * 16, 60_000))
        assert answer.step is OnceStep.WAIT
        assert answer.entry is not None
        assert answer.entry.token == b"2" * 16


def test_the_lease_of_a_long_computation_is_extended(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = Blocked()
    store = dq.store.require(Capability.ONCE)
    extend, extended = store.once_extend, threading.Semaphore(0)

    def counted(key: str, token: bytes, lease_ms: int) -> bool:
        is_mine = extend(key, token, lease_ms)
        if is_mine:
            extended.release()
        return is_mine

    monkeypatch.setattr(store, "once_extend", counted)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(dq.once, "k", compute, ttl=60, lease=scaled(1))
        for _ in range(6):  # at thirds of the lease: twice its length
            assert extended.acquire(timeout=scaled(30))
        compute.go_on.set()
        assert first.result(scaled(30)) == 1
    assert dq.once("k", Blocked(), ttl=60) == 1


def test_a_lease_of_a_process_that_cannot_be_seen_is_waited_for_to_its_end(dq: DurableQ) -> None:
    token = lease_of_another(dq, lease_ms=200)
    assert dq.once("k", lambda: "mine", ttl=60) == "mine"
    once = dq.store.require(Capability.ONCE)
    late = once.once_store("k", token, '"late"', ttl_ms=60_000, stale_ms=0, compute_ms=0)
    assert late is False
    assert dq.once("k", lambda: "again", ttl=60) == "mine"


def test_a_computation_whose_thread_cannot_be_started_gives_its_lease_back(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            dq.once("k", Blocked(), ttl=60)
    assert entry(dq) is None


def test_a_lease_whose_commit_raised_is_asked_for_again(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = dq.store.require(Capability.ONCE)
    ask, asked = store.once_get_or_lease, []

    def answer(key: str, request: OnceRequest) -> OnceAnswer:
        asked.append(ask(key, request))
        if len(asked) == 1:
            raise OutcomeUnknown("COMMIT failed.")
        return asked[-1]

    monkeypatch.setattr(store, "once_get_or_lease", answer)
    assert dq.once("k", lambda: 7, ttl=60) == 7
    assert [one.step for one in asked] == [OnceStep.COMPUTE] * 2


def test_a_wait_ends_with_a_process_whose_end_is_polled(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel has no descriptor of the process, so its liveness is looked at."""
    compute, seen = Blocked(), []

    def look(worker: object) -> Liveness:
        seen.append(worker)
        return Liveness.DEAD if len(seen) > 5 else Liveness.ALIVE

    def unsupported(pid: int) -> int:
        raise OSError(38, "no such call")

    monkeypatch.setattr("os.pidfd_open", unsupported)
    monkeypatch.setattr(computing, "liveness", look)
    monkeypatch.setattr(computing, "LOOK_SECONDS", 0.01)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(dq.once, "k", compute, ttl=60)
        assert compute.begun.wait(scaled(30))
        assert dq.once("k", lambda: "replaced", ttl=60) == "replaced"
        compute.go_on.set()
        assert first.result(scaled(30)) == 1  # its own result, which is not stored
    assert dq.once("k", lambda: "again", ttl=60) == "replaced"


def test_the_end_of_this_process_can_be_waited_for(dq: DurableQ) -> None:
    compute = Blocked()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(dq.once, "k", compute, ttl=60)
        assert compute.begun.wait(scaled(30))
        found = entry(dq)
        assert found is not None
        owner = computing.owner_of(found)
        assert owner is not None
        assert liveness(owner) is Liveness.ALIVE
        with end_of(owner) as end:
            assert end is not None
        compute.go_on.set()
        assert first.result(scaled(30)) == 1


# ---- coroutines


def waiting() -> int:
    """Return the number of coroutines that wait for a lease."""
    waits = [wait for loop in [*computing_async._WAITS.values()] for wait in [*loop.values()]]
    return sum(wait.waiting for wait in waits)


def run(coroutine: Callable[[], object]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(scaled(60)):
            await coroutine()  # type: ignore[misc]

    asyncio.run(limited())


def test_of_many_coroutines_one_computes_and_one_thread_waits(
    dq: DurableQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are more of them than threads, and a file of threads that wait would stop them all."""
    waits, callers = watched(monkeypatch), 50
    calls = []

    def all_wait() -> bool:
        return waiting() == callers - 1

    async def compute() -> int:
        calls.append(1)
        await asyncio.to_thread(wait_for, all_wait)  # the loop goes on meanwhile
        return len(calls)

    async def ask() -> None:
        asked = [dq.once_async("k", compute, ttl=60) for _ in range(callers)]
        assert await asyncio.gather(*asked) == [1] * callers

    run(ask)
    assert waits == ["k"]
    assert waiting() == 0


def test_a_cancelled_computation_gives_its_lease_back(dq: DurableQ) -> None:
    async def cancel() -> None:
        begun = asyncio.Event()

        async def compute() -> None:
            begun.set()
            await asyncio.Event().wait()

        first = asyncio.create_task(dq.once_async("k", compute, ttl=60))
        await begun.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert entry(dq) is None

    run(cancel)


def test_a_cancelled_wait_leaves_no_thread(dq: DurableQ) -> None:
    lease_of_another(dq)

    async def compute() -> str:
        return "mine"

    async def cancel() -> None:
        first = asyncio.create_task(dq.once_async("k", compute, ttl=60))
        await asyncio.to_thread(wait_for, waiting)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

    run(cancel)
    assert waiting() == 0
    names = {"durableq-once-wait"}
    wait_for(lambda: not names & {thread.name for thread in threading.enumerate()})


def test_coroutines_and_threads_that_fill_the_loops_executor_do_not_stop_each_other(
    dq: DurableQ,
) -> None:
    """Functions that wait in the loop's own threads wait for a coroutine that needs a thread."""

    async def mix() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(2))
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def compute() -> str:
            begun.set()
            await go_on.wait()
            return "value"

        first = asyncio.create_task(dq.once_async("k", compute, ttl=60))
        await begun.wait()
        waiting = [
            loop.run_in_executor(None, partial(dq.once, "k", Blocked(), ttl=60)) for _ in range(2)
        ]
        go_on.set()
        assert await asyncio.gather(first, *waiting) == ["value"] * 3

    run(mix)
