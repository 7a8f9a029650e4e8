"""Other queues on PostgreSQL for Python, where they are installed: `durableq bench --peers`.

Each is used by its documented API. Neither has a verb for receiving: a worker drains the queue,
with a handler that does nothing and as many jobs at once as the batch. Neither has keys in the
sense of durableq. pgmq is an extension of the server, and is not measured: its SQL without the
extension would be ours.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from durableq.bench.postgres.server import driver, location


def _conninfo(url: str) -> str:
    """Return the address for libpq, with the schema as the search path."""
    place = location(url)
    separator = "&" if "?" in place.conninfo else "?"
    return f"{place.conninfo}{separator}options=-csearch_path%3D{place.schema}"


class _Pgqueuer:
    """pgqueuer: a picked job has a heartbeat; a log row for each change of its state."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._open(_conninfo(url)))

    async def _open(self, conninfo: str) -> None:
        connection = await driver.AsyncConnection.connect(conninfo, autocommit=True)
        library = importlib.import_module("pgqueuer")
        self._drain = importlib.import_module("pgqueuer.types").QueueExecutionMode.drain
        self._connection, self._new = connection, library.PgQueuer.from_psycopg_connection
        self._queries = importlib.import_module("pgqueuer.queries").Queries(
            importlib.import_module("pgqueuer.db").PsycopgDriver(connection)
        )
        await self._queries.install()

    def send(self, body: Any, _key: str | None = None) -> None:
        self._run(self._queries.enqueue("bench", json.dumps(body).encode(), 0))

    def send_many(self, bodies: list[Any], _keys: list[str] | None = None) -> None:
        payloads: list[bytes | None] = [json.dumps(body).encode() for body in bodies]
        names = ["bench"] * len(bodies)
        self._run(self._queries.enqueue(names, payloads, [0] * len(bodies)))

    def drain(self, count: int, batch: int) -> None:
        """Let a worker end all jobs."""
        self._run(self._work(count, batch))

    async def _work(self, count: int, batch: int) -> None:
        worker, done = self._new(self._connection), 0

        async def handle(job: Any) -> None:
            nonlocal done
            json.loads(job.payload)
            done += 1

        worker.entrypoint("bench")(handle)
        await worker.qm.run(mode=self._drain, batch_size=batch)
        _check(done, count)

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        self._loop.run_until_complete(work)


class _Procrastinate:
    """procrastinate: a job is a task with arguments; an event row for each change of its state."""

    def __init__(self, url: str) -> None:
        library = importlib.import_module("procrastinate")
        self._loop = asyncio.new_event_loop()
        connector = library.PsycopgConnector(conninfo=_conninfo(url), min_size=1, max_size=2)
        self._app, self._done = library.App(connector=connector), 0
        self._task = self._app.task(name="bench")(self._handle)
        self._run(self._app.open_async())
        self._run(self._app.schema_manager.apply_schema_async())

    async def _handle(self, **body: Any) -> None:
        self._done += 1

    def send(self, body: Any, _key: str | None = None) -> None:
        self._run(self._task.defer_async(**body))

    def send_many(self, bodies: list[Any], _keys: list[str] | None = None) -> None:
        self._run(self._task.batch_defer_async(*bodies))

    def drain(self, count: int, batch: int) -> None:
        """Let a worker end all jobs."""
        self._done = 0
        self._run(
            self._app.run_worker_async(
                wait=False, concurrency=batch, listen_notify=False, install_signal_handlers=False
            )
        )
        _check(self._done, count)

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        self._loop.run_until_complete(work)


def _check(done: int, count: int) -> None:
    if done != count:
        raise ValueError(f"{done} of {count} jobs were done")


@dataclass(frozen=True, slots=True)
class Peer:
    """A queue to compare with.

    Args:
        distribution: its name for pip.
        open: opens it in the schema of a URL.
        promise: what differs from durableq's promises.
        modules: that it needs.
    """

    distribution: str
    open: Callable[[str], Any]
    promise: str
    modules: tuple[str, ...]

    @property
    def is_installed(self) -> bool:
        """Whether it can be imported."""
        return all(importlib.util.find_spec(name) is not None for name in self.modules)

    @property
    def version(self) -> str:
        """The version of the installed distribution."""
        return importlib.metadata.version(self.distribution)


PEERS: Final[dict[str, Peer]] = {
    peer.distribution: peer
    for peer in (
        Peer("pgqueuer", _Pgqueuer, "heartbeats; a log of each job", ("pgqueuer",)),
        Peer(
            "procrastinate",
            _Procrastinate,
            "a worker's jobs are retried by a task of yours; events of each job",
            ("procrastinate", "psycopg_pool"),
        ),
    )
}


def can(name: str, workload: Mapping[str, Any]) -> bool:
    """Return whether a side can do a workload; those that are no peers can do all."""
    return name not in PEERS or not workload["keyed"]
