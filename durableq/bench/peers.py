"""Other queues in SQLite for Python, where they are installed: `durableq bench --peers`.

Each is used by its documented API, with the same `synchronous` as durableq and JSON bodies. They
promise different things; `promise` says so in the report. A workload that a peer cannot do, such as
a key or a batch, is left out for it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

INSTALL: Final = "pip install 'durableq[bench]'"


class _Localqueue:
    """localqueue: leases, acknowledgements and dead letters; its engine is native code."""

    def __init__(self, folder: Path, synchronous: str) -> None:
        library = importlib.import_module("localqueue")
        mode = library.DurabilityMode.DURABLE if synchronous == "full" else None
        self._empty = library.Empty
        self._queue = library.SimpleQueue(
            str(folder), durability=mode or library.DurabilityMode.RELAXED
        )

    def send(self, body: Any, key: str | None = None) -> None:
        self._queue.put(body, job_id=key)

    def send_many(self, bodies: list[Any], keys: list[str] | None = None) -> None:
        self._queue.put_many(bodies)

    def receive(self, _limit: int) -> Any:
        try:
            return [self._queue.get_nowait()]
        except self._empty:
            return []

    def complete(self, received: Any) -> None:
        self._queue.ack(received[0])


class _Litequeue:
    """litequeue: locks a message, and marks it done; a lock has no end."""

    def __init__(self, folder: Path, synchronous: str) -> None:
        queue = importlib.import_module("litequeue").LiteQueue
        # The versions for Python 3.12 and newer take a name and a folder.
        takes_folder = "folder" in inspect.signature(queue).parameters
        self._queue = queue(folder.name, folder.parent) if takes_folder else queue(f"{folder}.db")
        self._queue.conn.execute(f"PRAGMA synchronous = {synchronous}")

    def send(self, body: Any, _key: str | None = None) -> None:
        self._queue.put(json.dumps(body))

    def send_many(self, bodies: list[Any], _keys: list[str] | None = None) -> None:
        with self._queue.transaction():
            for body in bodies:
                self._queue.put(json.dumps(body))

    def receive(self, _limit: int) -> Any:
        message = self._queue.pop()
        if message is None:
            return []
        json.loads(message.data)
        return [message]

    def complete(self, received: Any) -> None:
        self._queue.done(received[0].message_id)


class _Huey:
    """huey's SqliteStorage: a message is removed when it is received."""

    def __init__(self, folder: Path, synchronous: str) -> None:
        library = importlib.import_module("huey.storage")
        self._queue = library.SqliteStorage(filename=f"{folder}.db")
        self._queue.conn.execute(f"PRAGMA synchronous = {synchronous}")

    def send(self, body: Any, _key: str | None = None) -> None:
        self._queue.enqueue(json.dumps(body).encode())

    def send_many(self, bodies: list[Any], _keys: list[str] | None = None) -> None:
        for body in bodies:
            self.send(body)

    def receive(self, _limit: int) -> Any:
        return [json.loads(bytes(self._queue.dequeue()))]

    def complete(self, received: Any) -> None:
        """Do nothing: it is gone already."""


class _PersistQueue:
    """persist-queue's SQLiteAckQueue: acknowledgements; one process at a time."""

    def __init__(self, folder: Path, synchronous: str) -> None:
        library = importlib.import_module("persistqueue")
        serializers = importlib.import_module("persistqueue.serializers.json")
        self._queue = library.SQLiteAckQueue(str(folder), serializer=serializers)
        self._queue._conn.execute(f"PRAGMA synchronous = {synchronous}")

    def send(self, body: Any, _key: str | None = None) -> None:
        self._queue.put(body)

    def send_many(self, bodies: list[Any], _keys: list[str] | None = None) -> None:
        for body in bodies:
            self._queue.put(body)

    def receive(self, _limit: int) -> Any:
        return [self._queue.get(raw=True)]

    def complete(self, received: Any) -> None:
        self._queue.ack(id=received[0]["pqid"])


class _Simplebroker:
    """simplebroker: a message is removed when it is read."""

    def __init__(self, folder: Path, synchronous: str) -> None:
        os.environ["BROKER_SYNC_MODE"] = synchronous.upper()
        library = importlib.import_module("simplebroker")
        self._queue = library.Queue("bench", db_path=f"{folder}.db", persistent=True)

    def send(self, body: Any, _key: str | None = None) -> None:
        self._queue.write(json.dumps(body))

    def send_many(self, bodies: list[Any], _keys: list[str] | None = None) -> None:
        for body in bodies:
            self.send(body)

    def receive(self, _limit: int) -> Any:
        return [json.loads(self._queue.read_one())]

    def complete(self, received: Any) -> None:
        """Do nothing: it is gone already."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A queue to compare with.

    Args:
        distribution: its name for pip.
        module: the module to import.
        open: opens a queue in a folder with a setting of `synchronous`.
        promise: the promises that differ from durableq's.
        sends_batches: whether it stores several messages in one commit.
        is_shared: whether several processes can receive, and a message ends when it is completed.
    """

    distribution: str
    module: str
    open: Callable[[Path, str], Any]
    promise: str
    sends_batches: bool = False
    is_shared: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether it can be imported."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def version(self) -> str:
        """The version of the installed distribution."""
        return importlib.metadata.version(self.distribution)


PEERS: Final[dict[str, Peer]] = {
    peer.distribution: peer
    for peer in (
        Peer("localqueue", "localqueue", _Localqueue, "leases; at least once", True, True),
        Peer("litequeue", "litequeue", _Litequeue, "locks that never end", True, True),
        Peer("huey", "huey", _Huey, "removed at receive: at most once"),
        Peer("persist-queue", "persistqueue", _PersistQueue, "one process"),
        Peer("simplebroker", "simplebroker", _Simplebroker, "removed at read: at most once"),
    )
}


def installed() -> list[str]:
    """Return the names of the installed peers."""
    return [name for name, peer in PEERS.items() if peer.is_installed]


def shared() -> list[str]:
    """Return the names of the installed peers that a fleet can share."""
    return [name for name in installed() if PEERS[name].is_shared]


def missing() -> list[str]:
    """Return the names of the peers that are not installed."""
    return [name for name, peer in PEERS.items() if not peer.is_installed]


def can(name: str, workload: Mapping[str, Any]) -> bool:
    """Return whether a side can do a workload; those that are no peers can do all."""
    peer = PEERS.get(name)
    if peer is None:
        return True
    if workload["keyed"]:
        return False
    return workload["batch"] == 1 or (workload["operation"] == "send" and peer.sends_batches)
