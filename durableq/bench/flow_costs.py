"""The cost of limits: the same work on a queue with a limit, and beside it on one without.

Both queues stand in files of their own, and each round runs on both in turn. The limits are so high
that they never hold a message back, so the figure is the cost of evaluating them.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from durableq.bench.app import QUEUE
from durableq.bench.figures import Figure, Row, Sample, Setting, Spread, Theme
from durableq.client.app import DurableQ
from durableq.client.queue import Queue
from durableq.model.message import Completion

ROUNDS, QUICK_ROUNDS = 11, 3
#: Messages received in a round, singly and in batches; in the quick mode a tenth.
SINGLE, BATCHED = 300, 3_000
_MANY: Final = 1_000_000
RATE: Final = {"rate": float(_MANY), "burst": _MANY}
#: As high as SQLite counts the leases themselves, and one with a counter.
IN_FLIGHT: Final = {"max_in_flight": 100}
MANY_IN_FLIGHT: Final = {"max_in_flight": _MANY}
BREAKER: Final = {"breaker": True}
RETRIES: Final = {"retry_share": 0.2}
GROUPS: Final = {"group_concurrency": 1}
BACKLOG: Final = {"max_backlog": 1_000 * _MANY, "max_backlog_bytes": 1_000_000 * _MANY}
EXPIRY: Final = {"expires_in": 86_400.0}


@dataclass(frozen=True, slots=True)
class Case:
    """A comparison.

    Args:
        settings: of the limited queue.
        batch: messages in a receive, or in a send.
        groups: the number of groups among which the messages are spread; 0: they have none.
        backlog: messages that wait behind those of a round.
        sends: whether sends are timed, instead of receives with their completions.
        by_group: whether a receive takes consecutive messages of one group, as for a handler with
            `group_by="group"`; both sides then use the engine, for a Queue has no such receive.
    """

    settings: Mapping[str, Any]
    batch: int
    groups: int = 0
    backlog: int = 0
    sends: bool = False
    by_group: bool = False

    def count(self, *, quick: bool) -> int:
        """Return the number of messages in a round."""
        count = SINGLE if self.batch == 1 else BATCHED
        return max(count // 10, self.batch) if quick else count


def _row(name: str, target: float | None, case: Case) -> Row:
    seconds = 8 if case.backlog else 5
    return Row(
        name,
        "x plain",
        target,
        at_least=False,
        seconds=seconds,
        is_large=True,
        workload={"case": case},
    )


def _received(name: str, settings: Mapping[str, Any], target: float | None) -> list[Row]:
    """Return the rows of a limit of receives: singly, and in tens."""
    return [
        _row(f"{name}: receive + complete one", target, Case(settings, 1)),
        _row(f"{name}: receive + complete in 10", target, Case(settings, 10)),
    ]


def _grouped(number: int) -> list[Row]:
    """Return the rows of a number of groups, with 10,000 messages behind those of a round."""
    return [
        _row(f"{number:,} groups: one", 1.2, Case(GROUPS, 1, number, 10_000)),
        _row(f"{number:,} groups: in 10", 2, Case(GROUPS, 10, number, 10_000)),
    ]


ROWS: Final = (
    *_received("rate", RATE, 1.05),
    *_received("max_in_flight", IN_FLIGHT, 1.05),
    *_received("high max_in_flight", MANY_IN_FLIGHT, 1.05),
    *_received("breaker", BREAKER, None),
    *_received("retry_share", RETRIES, None),
    *_received(
        "rate, max_in_flight, breaker, retry_share", RATE | IN_FLIGHT | BREAKER | RETRIES, None
    ),
    *_received("expires_in", EXPIRY, None),
    *_grouped(100),
    *_grouped(1_000),
    *_grouped(10_000),
    _row("one group of 100,000: one", 1.2, Case(GROUPS, 1, 1, 100_000)),
    _row(
        "one group of 100,000: batches of 100",
        1.25,
        Case(GROUPS, 100, 1, 100_000, by_group=True),
    ),
    *(
        _row(f"groups: send in {batch}", None, Case(GROUPS, batch, 100, sends=True))
        for batch in (1, 10, 100)
    ),
    *(
        _row(f"backlog limits: send in {batch}", None, Case(BACKLOG, batch, sends=True))
        for batch in (1, 10)
    ),
)


class Side:
    """One of the two queues of a comparison.

    Args:
        name: of its file.
        case: the comparison.
        settings: of the queue.
        setting: of the run.
    """

    def __init__(
        self, name: str, case: Case, settings: Mapping[str, Any], setting: Setting
    ) -> None:
        path = setting.folder / f"{name}.db"
        self._app = DurableQ(f"sqlite:///{path}?synchronous={setting.synchronous}")
        options: Any = {"visibility_timeout": 3600, **settings}
        self._queue = self._app.queue(QUEUE, **options)
        self._case = case
        self._is_limited = bool(settings)
        self._sent = 0
        self._send(case.backlog // (10 if setting.quick else 1), 1_000)

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self._app.close()

    def run(self, count: int) -> Sample:
        """Send, receive and complete messages; return the seconds of each in the timed part."""
        case = self._case
        gc.collect()
        if case.sends:
            sample = _timed(lambda: self._send(count, case.batch), count)
            _drain(self._queue, count, 100)
            return sample
        self._send(count, 1_000)
        if case.by_group:
            return _timed(lambda: self._drain_engine(count), count)
        return _timed(lambda: _drain(self._queue, count, case.batch), count)

    def _drain_engine(self, count: int) -> None:
        """Receive and complete messages; on the limited side those of one group."""
        store, by_group = self._app.store, self._is_limited
        left = count
        while left > 0:
            received = store.receive(QUEUE, self._case.batch, by_group=by_group).messages
            if not received:
                raise _missing(left, count)
            left -= len(received)
            store.complete([Completion(one.receipt) for one in received if one.receipt is not None])

    def _send(self, count: int, batch: int) -> None:
        """Send messages in batches; those of groups go to each group in turn."""
        queue, groups = self._queue, self._case.groups
        bodies = [{"order": number} for number in range(self._sent, self._sent + count)]
        self._sent += count
        if batch == 1:
            for body in bodies:
                queue.send(body, group=f"group-{body['order'] % groups}" if groups else None)
            return
        with queue.producer(batch_size=batch, linger=None) as producer:
            for body in bodies:
                producer.send(body, group=f"group-{body['order'] % groups}" if groups else None)


def _drain(queue: Queue, count: int, batch: int) -> None:
    left = count
    while left > 0:
        received = queue.receive(min(batch, left))
        if not received:
            raise _missing(left, count)
        left -= len(received)
        queue.complete_many(received)


def _missing(left: int, count: int) -> ValueError:
    return ValueError(f"{left} of {count} messages are missing")


def _timed(work: Any, count: int) -> Sample:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Sample((time.process_time() - cpu) / count, (time.perf_counter() - wall) / count)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module, interleaved."""
    rounds = setting.rounds or (QUICK_ROUNDS if setting.quick else ROUNDS)
    for number, row in enumerate(rows):
        case: Case = row.workload["case"]
        count = case.count(quick=setting.quick)
        pairs = []
        with ExitStack() as stack:
            plain, limited = (
                stack.enter_context(Side(f"{number}-{name}", case, settings, setting))
                for name, settings in (("plain", {}), ("limited", case.settings))
            )
            for turn in range(rounds + 1):
                setting.progress(f"{row.name} ({setting.synchronous}): round {turn} of {rounds}")
                pair = {side: side.run(count) for side in (plain, limited)[:: 1 - 2 * (turn % 2)]}
                if turn:  # the first round warms up
                    pairs.append((pair[plain], pair[limited]))
        yield _figure(row, setting.synchronous, pairs)


def _figure(row: Row, synchronous: str, pairs: Sequence[tuple[Sample, Sample]]) -> Figure:
    value = Spread.of([limited.cpu_seconds / plain.cpu_seconds for plain, limited in pairs])
    wall = Spread.of([limited.wall_seconds / plain.wall_seconds for plain, limited in pairs])
    details = {
        "plain, µs CPU": Spread.of([1e6 * plain.cpu_seconds for plain, _ in pairs]),
        "limited, µs CPU": Spread.of([1e6 * limited.cpu_seconds for _, limited in pairs]),
        "wall, x plain": wall,
    }
    return Figure(row, synchronous, value, details)


FLOW_COSTS: Final = Theme("flow", ROWS, measure, ROUNDS)
