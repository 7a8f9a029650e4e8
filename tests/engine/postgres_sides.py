"""One of several processes that use hot verbs at once: `python -m tests.engine.postgres_sides`.

It opens the store, says that it is ready, waits for a line, works, and prints what it has seen.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

from durableq.engines import open_store
from durableq.engines.postgres.store import PostgresStore
from durableq.model.message import Completion, Message, Outcome, draft
from durableq.store.core import Receive, Settle
from durableq.testing.contract.case import ORDERS
from tests.support import scaled

PROCESSES = 4
SENT_EACH = 300
#: Messages with each key of a process.
TIMES = 2
KEYS = [f"key {number}" for number in range(60)]


def in_processes(work: Callable[..., Any], url: str, *arguments: str) -> list[Any]:
    """Run a function of this module in processes that begin together; return their answers."""
    command = [sys.executable, "-m", "tests.engine.postgres_sides", work.__name__, url]
    with ExitStack() as stack:
        sides = []
        for number in range(PROCESSES):
            side = subprocess.Popen(
                [*command, str(number), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(side)
            stack.callback(side.kill)
            sides.append(side)
        for side in sides:
            assert side.stdout is not None
            assert side.stdout.readline() == "ready\n"
        for side in sides:
            assert side.stdin is not None
            side.stdin.write("\n")
            side.stdin.flush()
        answers = [json.loads(side.communicate(timeout=scaled(100))[0]) for side in sides]
        assert [side.returncode for side in sides] == [0] * PROCESSES
        return answers


def completions(messages: list[Message]) -> list[Completion]:
    return [Completion(one.receipt, None, one.key) for one in messages if one.receipt is not None]


def send(store: PostgresStore, number: str) -> None:
    """Send with keys and without, in batches whose ids are in order."""
    for start in range(0, SENT_EACH, 20):
        keys = [f"{number} {start + n}" if start % 40 else None for n in range(20)]
        ids = store.send(ORDERS, [draft(1, key=key) for key in keys])
        assert [*map(int, ids)] == sorted(map(int, ids))


def share(store: PostgresStore, _: str, way: str) -> list[str]:
    """Receive and complete until nothing is left; return the ids."""
    taken: list[str] = []
    ended: list[Completion] = []
    while True:
        if way == "together" and ended:
            outcomes, received = store.together([Settle(ended, []), Receive(ORDERS, 7)])
        else:
            outcomes = store.complete(ended)
            received = store.receive(ORDERS, 7)
        assert outcomes == [Outcome.DONE] * len(ended)
        messages: list[Message] = received.messages  # type: ignore[union-attr]
        if not messages and store.queue(ORDERS).counts.present == 0:
            return taken
        taken += [message.id for message in messages]
        ended = completions(messages)


def send_equal_keys(store: PostgresStore, _: str) -> None:
    """Send the same keys as the others, in an order of its own."""
    for _time in range(TIMES):
        store.send(ORDERS, [draft(1, key=key) for key in random.sample(KEYS, len(KEYS))])


def take_keys(store: PostgresStore, _: str) -> list[str]:
    """Receive and complete until no message is left; return the keys."""
    done: list[str] = []
    while True:
        received = store.receive(ORDERS, 15)
        keys = [str(message.key) for message in received.messages]
        assert len({*keys}) == len(keys)
        ended = completions(received.messages)
        assert store.complete(ended) == [Outcome.DONE] * len(ended)
        done += keys
        if received.idle and store.queue(ORDERS).counts.present == 0:
            return done


if __name__ == "__main__":
    name, url, *given = sys.argv[1:]
    with closing(open_store(url)) as opened:
        print("ready", flush=True)
        sys.stdin.readline()
        print(json.dumps(globals()[name](opened, *given)), flush=True)
