"""`durableq serve`: boto3 beside a server that does nothing, many connections, and long polls.

Latencies are what boto3 waits beyond its own floor and the synced commits of its calls, all
measured in turns in the same run: the floor is a local server that answers the same bytes, the
commit is one hand-written send on a file beside.

What group commit gives is measured against the same server with one operation in each commit, in
turns in the same run: on the disk as it is, and with commits that take DISK_MS longer.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Final

import psutil

from durableq.bench.app import QUEUE
from durableq.bench.figures import Figure, Row, Setting, Spread, Theme
from durableq.bench.raw import Raw
from durableq.bench.serve_load import cpu_of_polls, cpu_seconds, requests_per_second
from durableq.bench.serve_process import Floor, Served, call
from durableq.client.app import DurableQ
from durableq.model.errors import Unsupported

ROUNDS, QUICK_ROUNDS = 9, 2
#: Calls of each side in a round; in the quick mode a tenth.
CALLS: Final = 100
BACKLOG: Final = 100_000
CONNECTIONS: Final = 64
POLLS: Final = 100
#: What a commit takes longer on the slow disk: a fast hard disk, or the volume of a cloud.
DISK_MS: Final = 4
#: Requests of a round for each one of the server with single commits, which is slower.
_MORE: Final = 4
BODY: Final = "x" * 256
_MS, _US = 1e3, 1e6
_FULL: Final = "full"


def _latency(name: str, target: float, operation: str, commits: int) -> Row:
    workload = {"operation": operation, "commits": commits}
    unit = "ms over the floor"
    return Row(name, unit, target, False, 30, True, workload, synchronous=_FULL)


SEND: Final = _latency("serve: send", 1.2, "send", 1)
RECEIVE: Final = _latency("serve: receive + delete", 2.4, "receive and delete", 2)
BATCH: Final = _latency("serve: send a batch of 10", 2.2, "send batch", 1)


def _many(name: str, commit_ms: int) -> Row:
    workload = {"commit_ms": commit_ms}
    return Row(name, "x single commits", 8, True, 40, True, workload, synchronous=_FULL)


MANY: Final = _many("serve: 64 connections", 0)
SLOW: Final = _many(f"serve: 64, disk {DISK_MS} ms slower", DISK_MS)
FLAT: Final = Row(
    *("serve: 100,000 messages", "x an empty queue", 1.2, False, 120, True), synchronous=_FULL
)
IDLE: Final = Row(*("serve: 100 long polls", "% of a core", 2, False, 40, True), synchronous=_FULL)
ROWS: Final = (SEND, RECEIVE, BATCH, MANY, SLOW, FLAT, IDLE)


class Side:
    """boto3 on one server, with the calls of a round.

    Args:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        self._queue = f"{url}/000000000000/{QUEUE}"
        self._sqs = _client(url)
        entries = [{"Id": str(number), "MessageBody": BODY} for number in range(10)]
        self.operations: Mapping[str, Callable[[], Any]] = {
            "send": lambda: self._sqs.send_message(QueueUrl=self._queue, MessageBody=BODY),
            "send batch": lambda: self._sqs.send_message_batch(
                QueueUrl=self._queue, Entries=entries
            ),
            "receive and delete": self._receive_and_delete,
        }

    def _receive_and_delete(self) -> None:
        [message] = self._sqs.receive_message(QueueUrl=self._queue)["Messages"]
        handle = message["ReceiptHandle"]
        self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=handle)

    def median_ms(self, operation: str, count: int) -> float:
        """Return the median duration of a call."""
        return _median_ms(self.operations[operation], count)


def _client(url: str) -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise Unsupported(
            f"The rows of `serve` need boto3, which cannot be imported ({error}). "
            "Install it: pip install 'durableq[bench]'."
        ) from error
    return boto3.client(
        "sqs",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",  # noqa: S106 - any will do
        config=Config(retries={"total_max_attempts": 1}),
    )


def _median_ms(work: Callable[[], Any], count: int) -> float:
    durations = []
    for _ in range(count):
        began = time.perf_counter()
        work()
        durations.append(time.perf_counter() - began)
    return _MS * statistics.median(durations)


class Bench:
    """A server on a file with a queue, the floor beside it, and commits by hand.

    Args:
        setting: of the run.
        variant: of the server, as `Served` takes it.
    """

    def __init__(self, setting: Setting, **variant: int) -> None:
        self._stack = ExitStack()
        path = setting.folder / "commit.db"
        with DurableQ(path) as app:
            app.queue(QUEUE).send({"order": 0})
        self._raw = Raw(path, QUEUE, setting.synchronous)
        self._stack.callback(self._raw.close)
        self._count = 0
        url = f"sqlite:///{setting.folder / 'served.db'}?synchronous={setting.synchronous}"
        self.served = self._stack.enter_context(Served(url, **variant))
        self.queue = f"{self.served.url}/000000000000/{QUEUE}"
        attributes = {"VisibilityTimeout": "3600"}
        call(self.served.url, "CreateQueue", {"QueueName": QUEUE, "Attributes": attributes})

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def floor(self) -> Floor:
        """Start the floor, which answers as the server does."""
        answers = {}
        queue = {"QueueUrl": self.queue}
        entries = [{"Id": str(number), "MessageBody": BODY} for number in range(10)]
        _, answers["SendMessage"] = call(
            self.served.url, "SendMessage", queue | {"MessageBody": BODY}
        )
        received, answers["ReceiveMessage"] = call(self.served.url, "ReceiveMessage", queue)
        handle = received["Messages"][0]["ReceiptHandle"]
        _, answers["DeleteMessage"] = call(
            self.served.url, "DeleteMessage", queue | {"ReceiptHandle": handle}
        )
        _, answers["SendMessageBatch"] = call(
            self.served.url, "SendMessageBatch", queue | {"Entries": entries}
        )
        return self._stack.enter_context(Floor(answers))

    def commit_ms(self, count: int) -> float:
        """Return the median duration of a hand-written send."""

        def send() -> None:
            self._count += 1
            self._raw.send({"order": self._count, "text": BODY})

        return _median_ms(send, count)

    def fill(self, count: int) -> None:
        """Send messages over SQS until the queue has this many."""
        entries = [{"Id": str(number), "MessageBody": BODY} for number in range(10)]
        action = {"QueueUrl": self.queue, "Entries": entries}
        requests_per_second(self.served.url, "SendMessageBatch", action, CONNECTIONS, count // 10)


class Load:
    """Sends over many connections at once.

    Args:
        bench: the server.
        requests: of a round.
    """

    def __init__(self, bench: Bench, requests: int) -> None:
        self._bench = bench
        self._requests = requests
        self._process = psutil.Process(bench.served.pid)
        #: Processor time of the server for a request, in each round.
        self.cpu_us: list[float] = []

    def requests_per_second(self) -> float:
        """Send the messages of a round; return how many were answered in a second."""
        parameters = {"QueueUrl": self._bench.queue, "MessageBody": BODY}
        url, before = self._bench.served.url, cpu_seconds(self._process)
        rate = requests_per_second(url, "SendMessage", parameters, CONNECTIONS, self._requests)
        seconds = cpu_seconds(self._process) - before
        self.cpu_us.append(_US * seconds / self._requests)
        return rate


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module, each on a server of its own."""
    rounds = setting.rounds or (QUICK_ROUNDS if setting.quick else ROUNDS)
    for number, row in enumerate(rows):
        folder = setting.folder / str(number)
        folder.mkdir()
        own = replace(setting, folder=folder)
        with Bench(own, commit_ms=row.workload.get("commit_ms", 0)) as bench:
            yield _MEASURES.get(row.name, _of_latency)(row, bench, own, rounds)


def _count(setting: Setting) -> int:
    return CALLS // 10 if setting.quick else CALLS


def _of_latency(row: Row, bench: Bench, setting: Setting, rounds: int) -> Figure:
    operation, commits = row.workload["operation"], row.workload["commits"]
    sides = {"boto3": Side(bench.served.url), "floor": Side(bench.floor().url)}
    count = _count(setting)
    works: dict[str, Callable[[], float]] = {
        **{name: partial(side.median_ms, operation, count) for name, side in sides.items()},
        "one commit": lambda: bench.commit_ms(count),
    }
    bench.fill(20 + (rounds + 1) * count)
    found = _in_turns(row, works, rounds, setting)
    values = [
        whole - floor - commits * commit
        for whole, floor, commit in zip(
            found["boto3"], found["floor"], found["one commit"], strict=True
        )
    ]
    details = {f"{name}, ms": Spread.of(sample) for name, sample in found.items()}
    return Figure(row, setting.synchronous, Spread.of(values), details)


def _of_many(row: Row, bench: Bench, setting: Setting, rounds: int) -> Figure:
    """Send over many connections; beside it a server with one operation in each commit."""
    folder = setting.folder / "single"
    folder.mkdir()
    requests = CONNECTIONS * max(_count(setting) // 5, 4)
    with Bench(replace(setting, folder=folder), most=1, **row.workload) as other:
        groups, singles = Load(bench, requests), Load(other, requests // _MORE)
        works = {
            "groups, requests/s": groups.requests_per_second,
            "single commits, requests/s": singles.requests_per_second,
        }
        found = _in_turns(row, works, rounds, setting)
    value = Spread.of([many / one for many, one in zip(*found.values(), strict=True)])
    details = {name: Spread.of(sample) for name, sample in found.items()}
    details["groups, µs CPU"] = Spread.of(groups.cpu_us[1:])
    details["single commits, µs CPU"] = Spread.of(singles.cpu_us[1:])
    return Figure(row, setting.synchronous, value, details)


def _of_backlog(row: Row, bench: Bench, setting: Setting, rounds: int) -> Figure:
    """Send, receive and delete beside an empty queue of the same server."""
    empty = Side(bench.served.url)
    backlog = BACKLOG // 10 if setting.quick else BACKLOG
    folder = setting.folder / "full"
    folder.mkdir()
    with Bench(replace(setting, folder=folder)) as other:
        other.fill(backlog)
        full, count = Side(other.served.url), _count(setting)

        def cycle(side: Side) -> float:
            def work() -> None:
                side.operations["send"]()
                side.operations["receive and delete"]()

            return _median_ms(work, count)

        works = {"empty": lambda: cycle(empty), f"{backlog:,}": lambda: cycle(full)}
        found = _in_turns(row, works, rounds, setting)
    pairs = zip(found[f"{backlog:,}"], found["empty"], strict=True)
    value = Spread.of([of_full / of_empty for of_full, of_empty in pairs])
    details = {f"{name}, ms": Spread.of(sample) for name, sample in found.items()}
    return Figure(row, setting.synchronous, value, details)


def _of_polls(row: Row, bench: Bench, setting: Setting, rounds: int) -> Figure:
    parameters = {"QueueUrl": bench.queue, "WaitTimeSeconds": 20}
    seconds = 2.0 if setting.quick else 15.0
    share = cpu_of_polls(bench.served, parameters, POLLS, seconds)
    return Figure(row, setting.synchronous, Spread.of([100 * share]), {})


def _in_turns(
    row: Row, works: Mapping[str, Callable[[], float]], rounds: int, setting: Setting
) -> dict[str, list[float]]:
    """Run each work in each round, in another order each time; the first round warms up."""
    found: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for number in range(rounds + 1):
        setting.progress(f"{row.name} ({setting.synchronous}): round {number} of {rounds}")
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            value = works[name]()
            if number:
                found[name].append(value)
    return found


_MEASURES: Final = {
    MANY.name: _of_many,
    SLOW.name: _of_many,
    FLAT.name: _of_backlog,
    IDLE.name: _of_polls,
}
SERVE: Final = Theme("serve", ROWS, measure, ROUNDS)
