"""One side of a comparison, in a process of its own: durableq, raw, or a peer.

Started by path, so that another source tree can be on the path (`--against`); of that tree it uses
the public API alone. Each line of stdin is a workload in JSON; the answer is one line with the
processor time and the wall time of its timed part.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

QUEUE = "bench"


class Subject(Protocol):
    """The operations that a comparison needs. Received messages are a list of any type."""

    def send(self, body: Any, key: str | None = None) -> None:
        """Store one message."""

    def send_many(self, bodies: list[Any], keys: list[str] | None = None) -> None:
        """Store messages in one commit."""

    def receive(self, limit: int) -> Any:
        """Lease messages and decode their bodies."""

    def complete(self, received: Any) -> None:
        """End received messages."""


class OfDurableQ:
    """durableq by its public API.

    Args:
        url: of the store.
    """

    def __init__(self, url: str) -> None:
        from durableq import DurableQ

        self.app = DurableQ(url)
        self.queue = self.app.queue(QUEUE, visibility_timeout=3600, max_body_bytes=1 << 20)
        _ = self.app.store  # creates the file
        self.send_one = self.queue.send
        self.complete_many = getattr(self.queue, "complete_many", None)  # not in release 0.1
        self._producers: dict[int, Any] = {}

    def send(self, body: Any, key: str | None = None) -> None:
        """Store one message."""
        self.send_one(body, key=key)

    def send_many(self, bodies: list[Any], keys: list[str] | None = None) -> None:
        """Store messages in one commit, through a producer where each has a key."""
        if keys is None:
            self.queue.send_many(bodies)
            return
        producer = self._producers.get(len(bodies))
        if producer is None:
            producer = self.queue.producer(batch_size=len(bodies), linger=None)
            self._producers[len(bodies)] = producer
        for body, key in zip(bodies, keys, strict=True):
            producer.send(body, key=key)  # the last one fills the batch, which is sent at once

    def receive(self, limit: int) -> Any:
        """Lease messages and decode their bodies."""
        received = self.queue.receive(limit)
        for message in received:
            _ = message.body
        return received

    def complete(self, received: Any) -> None:
        """End received messages in one commit."""
        if len(received) == 1:
            received[0].complete()
        elif self.complete_many is not None:
            self.complete_many(received)
        else:
            from durableq.model.message import Completion

            done = [Completion(one.receipt, None, one.key) for one in received]
            outcomes = self.app.store.complete(done)
            if any(outcome.refused for outcome in outcomes):
                raise ValueError("a completion was refused")


def raw(path: Path, synchronous: str) -> Subject:
    """Return the statements by hand, on a file that durableq makes."""
    from durableq.bench.raw import Raw

    OfDurableQ(f"sqlite:///{path}?synchronous={synchronous}").app.close()
    return Raw(path, QUEUE, synchronous)


def opened(name: str, folder: Path, synchronous: str) -> Subject:
    """Return a subject by name: `durableq`, `raw` or the name of a peer."""
    if name == "raw":
        return raw(folder / "raw.db", synchronous)
    if name in {"durableq", "against"}:
        return OfDurableQ(f"sqlite:///{folder / name}.db?synchronous={synchronous}")
    peers = importlib.import_module("durableq.bench.peers")
    peer: Subject = peers.PEERS[name].open(folder / name, synchronous)
    return peer


class Workloads:
    """The workloads of a subject; each but `store` leaves the queue as it was.

    Args:
        subject: the subject.
        cpu: the seconds of processor time that count, up to now.
    """

    def __init__(self, subject: Subject, cpu: Callable[[], float] = time.process_time) -> None:
        self._subject = subject
        self._cpu = cpu
        self._sent = 0

    def run(
        self, operation: str, count: int, batch: int, body_bytes: int, *, keyed: bool
    ) -> tuple[float, float]:
        """Run one workload; return the seconds of processor time and of wall time.

        Args:
            operation: `send` or `receive`, which is the timed half; `both`: the whole is timed;
                `store`: messages are sent, and stay.
            count: the number of messages, a multiple of `batch`.
            batch: messages in a commit; 1: single calls.
            body_bytes: the length of a body, about.
            keyed: whether each message has a key of its own.
        """
        bodies, keys = self._messages(count, body_bytes, keyed=keyed)
        if operation == "store":
            return self._timed(lambda: self._send(bodies, keys, batch))
        if operation == "both":

            def cycle() -> None:
                self._send(bodies, keys, batch)
                self._receive(count, batch)

            return self._timed(cycle)
        if operation == "send":
            times = self._timed(lambda: self._send(bodies, keys, batch))
            self._receive(count, 100)
        else:
            self._send(bodies, keys, 100 if count % 100 == 0 else 1)
            times = self._timed(lambda: self._receive(count, batch))
        return times

    def _messages(
        self, count: int, body_bytes: int, *, keyed: bool
    ) -> tuple[list[Any], list[str] | None]:
        text = "x" * max(0, body_bytes - 24)
        numbers = range(self._sent, self._sent + count)
        self._sent += count
        bodies = [{"order": number, "text": text} for number in numbers]
        return bodies, [f"order-{number}" for number in numbers] if keyed else None

    def _send(self, bodies: list[Any], keys: list[str] | None, batch: int) -> None:
        subject = self._subject
        if batch == 1:
            for body, key in zip_longest(bodies, keys or ()):
                subject.send(body, key)
            return
        for start in range(0, len(bodies), batch):
            end = start + batch
            subject.send_many(bodies[start:end], None if keys is None else keys[start:end])

    def _receive(self, count: int, batch: int) -> None:
        subject, left = self._subject, count
        if (drain := getattr(subject, "drain", None)) is not None:  # it has no verbs of its own
            drain(count, batch)
            return
        while left > 0:
            received = subject.receive(batch)
            if not received:
                raise ValueError(f"{left} of {count} messages are missing")
            left -= len(received)
            subject.complete(received)

    def _timed(self, work: Callable[[], None]) -> tuple[float, float]:
        gc.collect()
        cpu, wall = self._cpu(), time.perf_counter()
        work()
        ended = time.perf_counter()
        return self._cpu() - cpu, ended - wall


def main() -> None:
    """Serve workloads until the end of stdin."""
    name, folder, synchronous = sys.argv[1:]
    workloads = Workloads(opened(name, Path(folder), synchronous))
    for line in sys.stdin:
        answer = workloads.run(**json.loads(line))
        print(json.dumps(answer), flush=True)  # noqa: T201 - the answer to the starter


if __name__ == "__main__":
    main()
