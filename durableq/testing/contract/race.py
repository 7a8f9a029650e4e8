"""One process of a race: `race.py OPENER URL ROLE SEED` waits for a line on stdin, then runs.

It prints READY when its store is open, and at the end its ledger: one line for each answer. It is
run as a file, so that its start imports no pytest.
"""

from __future__ import annotations

import importlib
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from durableq.model.dead_letters import RedriveState
from durableq.model.message import Completion, Failure, Message, Outcome, Reason, Receipt, draft
from durableq.store.core import Capability, Store

QUEUE = "orders"
BATCHES = 25
BATCH = 4
RUNNERS = 4
LAPS = 50
#: Longer than any of these takes on a slow machine; a race that hangs ends here.
DEADLINE_SECONDS = 60


def send(store: Store, seed: int) -> Iterator[str]:
    """Send BATCHES batches, each message with a body of its own."""
    for batch in range(BATCHES):
        numbers = [f"{seed}-{batch}-{number}" for number in range(BATCH)]
        ids = store.send(QUEUE, [draft(number) for number in numbers])
        yield from (f"sent {message_id} {n}" for message_id, n in zip(ids, numbers, strict=True))


def hold(store: Store, seed: int) -> Iterator[str]:
    """Receive until nothing comes, and keep every lease."""
    rng = random.Random(seed)
    while not (received := store.receive(QUEUE, rng.randint(1, 7))).idle:
        yield from (f"received {message.id}" for message in received.messages)


def settle(store: Store, seed: int) -> Iterator[str]:
    """Receive and settle until the queue is empty: some fail or go back before they succeed."""
    rng = random.Random(seed)
    while store.require(Capability.INSPECT).queue(QUEUE).counts.present:
        received = store.receive(QUEUE, rng.randint(1, 7))
        for message in received.messages:
            yield f"received {message.id}"
            yield f"{_settle(store, message, rng)} {message.id} {message.key}"
        yield from (f"duplicate {found.message_id} {found.key}" for found in received.duplicates)


def redrive(store: Store, seed: int) -> Iterator[str]:
    """Continue the running redrive tasks, together with the others, in slices of random size."""
    rng, tasks = random.Random(seed), store.require(Capability.REDRIVE)
    while running := [
        task.id for task in tasks.redrive_tasks() if task.state is RedriveState.RUNNING
    ]:
        found = tasks.continue_redrive(rng.choice(running), rng.randint(1, 7))
        yield f"{found.state} {found.id}"


def relay(store: Store, seed: int) -> Iterator[str]:
    """Run LAPS laps: wait for the message in this runner's queue, then send one to the next's."""
    mine, following = (f"{QUEUE}-{number % RUNNERS}" for number in (seed, seed + 1))
    with closing(store.watch()) as watch:
        for lap in range(LAPS):
            while store.ready_in_ms([mine]) != 0:
                yield "woken" if watch.wait(DEADLINE_SECONDS / 4) else "missed"
            for message in store.receive(mine, 1).messages:
                yield f"{_ran(store, message)} {lap}"
            store.send(following, [draft(lap)])


def _ran(store: Store, message: Message) -> str:
    if message.receipt is None:
        raise AssertionError(f"Message {message.id} was received without a receipt.")
    [outcome] = _complete(store, message.receipt)
    return "ran" if not outcome.refused else "refused"


def _settle(store: Store, message: Message, rng: random.Random) -> str:
    if message.receipt is None:
        raise AssertionError(f"Message {message.id} was received without a receipt.")
    way, ended = rng.choice(WAYS) if message.receive_count < 3 else WAYS[0]
    [outcome] = way(store, message.receipt)
    return ended if not outcome.refused else "refused"


def _complete(store: Store, receipt: Receipt) -> list[Outcome]:
    return store.complete([Completion(receipt)])


def _fail(store: Store, receipt: Receipt) -> list[Outcome]:
    return store.fail([(receipt, Failure(Reason.HANDLER_ERROR, "E", "", retry_in_ms=0))])


def _release(store: Store, receipt: Receipt) -> list[Outcome]:
    return store.release([receipt])


WAYS: list[tuple[Callable[[Store, Receipt], list[Outcome]], str]] = [
    (_complete, "completed"),
    (_complete, "completed"),
    (_fail, "failed"),
    (_release, "released"),
]
ROLES: dict[str, Callable[[Store, int], Iterator[str]]] = {
    "send": send,
    "hold": hold,
    "settle": settle,
    "relay": relay,
    "redrive": redrive,
}


def main(opener: str, url: str, role: str, seed: str) -> None:
    """Open the store, wait for the start, run, and print the ledger."""
    module, _, function = opener.partition(":")
    store: Store = getattr(importlib.import_module(module), function)(url)
    sys.stdout.write("READY\n")
    sys.stdout.flush()
    sys.stdin.readline()
    ledger = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    for line in ROLES[role](store, int(seed)):
        ledger.append(line)
        if time.monotonic() > deadline:
            sys.exit(f"The race did not end within {DEADLINE_SECONDS} seconds: {ledger[-5:]}")
    store.close()
    sys.stdout.write("\n".join(ledger))


if __name__ == "__main__":
    main(*sys.argv[1:])
