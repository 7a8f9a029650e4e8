"""The child processes of these tests: `python -m tests.process.children VERB ARGUMENT...`.

Each prints READY when it has come to the point that the test needs, and waits to be signalled.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import pty
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from durableq import Conflict, DeadLetter, Decision, DurableQ, Requeue
from durableq.client.gathering import Gathering
from durableq.client.handlers import load
from durableq.engines.sql import redrive as sql_redrive
from durableq.engines.sqlite.driver import driver
from durableq.engines.sqlite.store import SQLStore
from durableq.model.dead_letters import RedriveState
from durableq.recovery.process import Recovery
from durableq.store.core import Capability
from durableq.worker.options import WorkerOptions
from tests.process.app import APP, RECORD_EFFECT
from tests.support import scaled

BATCH = 7
BATCHES = 20_000
SENDERS = 16


def say(line: object) -> None:
    print(line, flush=True)


def ready() -> None:
    say("READY")
    signal.pause()


def hold(db: str) -> None:
    """Hold a message until killed; say when it was received, on the boot clock."""
    received = DurableQ(db).queue("orders").receive()
    say(time.clock_gettime(time.CLOCK_BOOTTIME))
    assert received
    ready()


def hold_next(db: str) -> None:
    """Say WAITS, wait for a message, and hold it until killed."""
    store = DurableQ(db).store
    say("WAITS")
    while store.receive("orders", 1, wait_ms=1_000).idle:
        pass
    ready()


def gather(db: str, least: str) -> None:
    """Gather messages in a window of ten minutes; say GATHERS once it waits."""
    queue, look = DurableQ(db).queue("orders"), Gathering.left_ms
    gathering: Any = Gathering

    def left_ms(*of: Any) -> int | None:
        left = look(*of)
        say("GATHERS" if left else left)
        return left

    gathering.left_ms = left_ms
    queue.receive(int(least), window=600)


def hold_transaction(db: str) -> None:
    """Wait inside message.transaction(): everything is written, nothing committed."""
    (message,) = DurableQ(db).queue("orders").receive()
    with message.transaction() as tx:
        tx.execute(RECORD_EFFECT, {"key": message.key, "pid": os.getpid()})
        tx.send("receipts", {"for": message.key})
        ready()


def send(db: str) -> None:
    """Send batch after batch; say the ids of each once it is stored."""
    queue = DurableQ(db).queue("orders")
    for number in range(BATCHES):
        say(" ".join(queue.send_many([{"batch": number}] * BATCH)))


def send_from_threads(db: str) -> None:
    """Send singly from many threads; say the id and the body of each message once it is stored."""

    def send_all(sender: int) -> None:
        for number in itertools.count():
            body = f"{sender}-{number}"
            os.write(1, f"{queue.send(body)} {body}\n".encode())  # one write for each line

    queue = DurableQ(db).queue("orders")
    for sender in range(SENDERS):
        threading.Thread(target=send_all, args=(sender,), daemon=True).start()
    signal.pause()


def send_from_coroutines(db: str) -> None:
    """Send singly from many coroutines, and say as the threads do."""
    queue = DurableQ(db).queue("orders")

    async def send_all(sender: int) -> None:
        for number in itertools.count():
            body = f"{sender}-{number}"
            os.write(1, f"{await queue.asend(body)} {body}\n".encode())

    async def main() -> None:
        await asyncio.gather(*map(send_all, range(SENDERS)))

    asyncio.run(main())


def churn(db: str) -> None:
    """Send, receive, complete, fail, release and leave messages leased, without an end."""
    queue = DurableQ(db).queue("orders")
    for number in itertools.count():
        for of in range(4):
            queue.send({"n": number}, key=f"{os.getpid()}-{number}-{of}")
        say(number)
        for delivery, settle in zip(
            queue.receive(4), ("complete", "fail", "release"), strict=False
        ):
            _ = getattr(delivery, settle)(*["boom"] * (settle == "fail"))


def fleet(db: str, procs: str, *words: str) -> int:
    """Run a supervisor with workers."""
    from durableq.supervisor.supervisor import Supervisor

    options = WorkerOptions(APP, db, "worker", ("orders",), drain="drain" in words)
    return Supervisor(
        options, int(procs), DurableQ(db).store, on_event=lambda event: say(event.text)
    ).run()


def work_in_terminal(*words: str) -> int:
    """Run `durableq work` in a terminal that is closed when stdin ends; "nohup" comes first."""
    said = os.dup(1), os.dup(2)
    pid, terminal = pty.fork()
    if pid == 0:
        for ours, theirs in zip(said, (1, 2), strict=True):
            os.dup2(ours, theirs)
        if words[0] == "nohup":
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        command = ["-m", "durableq", "work", "--json", *words[words[0] == "nohup" :]]
        os.execv(sys.executable, [sys.executable, *command])
    sys.stdin.read()
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def open_together(db: str) -> None:
    """Open a missing file at the moment that stdin ends, and send one message."""
    say("READY")
    sys.stdin.read()
    say(DurableQ(db).queue("orders").send({"from": os.getpid()}))


def fork(db: str) -> None:
    """Use an application before a fork, in both processes after it, and again in the parent."""
    dq = DurableQ(db)
    orders = dq.queue("orders")
    orders.send("before")
    for number in range(3):
        child = os.fork()
        if child == 0:
            (message,) = orders.receive()
            message.complete()
            orders.send(f"child {number}")
            return  # an ordinary end: inherited objects are finalised, not closed
        orders.send(f"parent {number}")
        _, status = os.waitpid(child, 0)
        say(os.waitstatus_to_exitcode(status))
    orders.send("after")


def fork_in_transaction(db: str, then: str) -> None:
    """Fork inside a transaction that the child leaves, and that the parent undoes afterwards."""
    dq = DurableQ(db)
    dq.queue("orders").send("paid", key="one")
    with dq.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE effect (name TEXT)")
    (message,) = dq.queue("orders").receive()
    parent = os.getpid()
    try:
        with message.transaction() as tx:
            tx.execute("INSERT INTO effect VALUES ('charged')")
            child = os.fork()
            if child == 0:
                if then == "write":
                    tx.execute("INSERT INTO effect VALUES ('charged by the child')")
                if then == "raise":
                    raise ValueError("in the child")
                if then == "exit":
                    sys.exit(7)
            else:
                _, status = os.waitpid(child, 0)
                say(os.waitstatus_to_exitcode(status))
                raise ValueError("in the parent")
    except (Conflict, ValueError) as error:
        if os.getpid() != parent:
            sys.exit(8 if isinstance(error, Conflict) else 9)
    message.release()
    dq.queue("orders").send("after")


def fork_beside(db: str, then: str) -> None:
    """Fork beside threads that opened connections at the same moment; say whether one was closed.

    The child closes the application, or looks at once.
    """
    from sqlalchemy import event  # late, as Supervisor: other verbs start in a third of the time

    dq = DurableQ(db)
    orders = dq.queue("orders")
    together, all_open, done = threading.Barrier(3), threading.Barrier(4), threading.Event()
    opened: list[Any] = []

    def meet(connection: Any, _: object) -> None:
        opened.append(connection)
        together.wait(scaled(30))

    def use() -> None:
        orders.info()
        all_open.wait(scaled(30))
        done.wait(scaled(30))

    event.listen(dq.engine, "connect", meet)
    for _ in range(3):
        threading.Thread(target=use).start()
    all_open.wait(scaled(30))
    child = os.fork()
    if child == 0:
        if then == "close":
            dq.close()
        os._exit(not all(_is_open(connection) for connection in opened))
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    done.set()


def _is_open(connection: Any) -> bool:
    """Return whether a driver's connection is open, without a statement."""
    try:
        return isinstance(connection.total_changes, int)
    except driver.ProgrammingError:
        return False


def recover(db: str, liveness: str = "") -> None:
    """Recover dead letters; with a number N, die when the policy is asked for the next after N."""
    app = load(APP, DurableQ)
    app.use(db)
    judge = app.policies["orders"]
    judged = 0

    def policy(dead_letter: DeadLetter) -> Decision:
        nonlocal judged
        judged += 1
        decision = judge(dead_letter)
        if liveness and judged > int(liveness):
            os.kill(os.getpid(), signal.SIGKILL)
        return decision

    app.policies["orders"] = policy
    say("READY")
    if not liveness:
        sys.stdin.read()
    Recovery(app).run(once=False, on_decision=lambda decision: say(decision.dead_letter.id))


def lock(db: str) -> None:
    """Hold the write lock until killed."""
    with ExitStack() as stack:
        stack.enter_context(DurableQ(db).engine.begin())
        ready()


def sweep(call: str, db: str) -> None:
    """Make a call on a copy of the file and die before its statement N, for N = 1, 2, 3 ...

    The call succeeds in the last copy. Each runs in a fork: nothing is open before it.
    """
    for number in itertools.count(1):
        copy = Path(db).with_name(f"killed-{number:03}.db")
        shutil.copy(db, copy)
        child = os.fork()
        if child == 0:
            die_at_statement(number, call, DurableQ(copy))
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            say(number)
            break
        if code != -signal.SIGKILL:
            sys.exit(f"statement {number}: it failed before it was killed")


def die_at_statement(number: int, call: str, dq: DurableQ) -> None:
    """Make the call, counting the statements that its connection begins."""
    make = ready_to(call, dq)
    store = dq.store
    assert isinstance(store, SQLStore)
    statements = itertools.count(1)

    def count(_: str) -> None:
        if next(statements) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    store._database.session().raw.set_trace_callback(count)
    make()


def ready_to(call: str, dq: DurableQ) -> Callable[[], object]:
    """Prepare the message that a call acts on; return the call."""
    orders = dq.queue("orders")
    if call == "receive":
        return orders.receive
    if call == "send":
        return lambda: orders.send_many([2, 3, 4])
    (message,) = dq.queue("orders-dlq").receive() if call == "decide" else orders.receive()
    if call == "fail":
        return lambda: message.fail("for the last time")
    if call == "decide":
        return lambda: dq.store.require(Capability.DEAD_LETTERS).decide(
            [(message.receipt, Requeue("again"))]
        )

    def transaction() -> None:
        with message.transaction() as tx:
            tx.execute(RECORD_EFFECT, {"key": message.key, "pid": os.getpid()})
            tx.send("receipts", {"for": message.key})

    return transaction


def redrive(db: str, task_id: str, last_step: str = "", when: str = "") -> None:
    """Continue a redrive task, from the end of stdin on; be killed within a step, or after it."""

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    store = DurableQ(db).store
    tasks = store.require(Capability.REDRIVE)
    task = tasks.redrive_task(task_id)
    say("READY")
    sys.stdin.read()
    with closing(store.watch()) as watch:
        for step in itertools.count(1):
            if task.state is not RedriveState.RUNNING:
                return
            if (str(step), when) == (last_step, "within"):
                vars(sql_redrive)["_update"] = die  # its dead letters are moved, and not committed
            task = tasks.continue_redrive(task_id, BATCH)
            if (str(step), when) == (last_step, "after"):
                die()
            watch.wait(task.wait_ms / 1000)


VERBS: dict[str, Callable[..., int | None]] = {
    verb.__name__: verb
    for verb in (
        hold,
        hold_next,
        gather,
        hold_transaction,
        send,
        send_from_threads,
        send_from_coroutines,
        churn,
        fleet,
        work_in_terminal,
        open_together,
        fork,
        fork_in_transaction,
        fork_beside,
        recover,
        redrive,
        lock,
        sweep,
    )
}

if __name__ == "__main__":
    sys.exit(VERBS[sys.argv[1]](*sys.argv[2:]))
