"""A run of the spike: downstream, workers and producer as processes, and a sampler beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from durableq.client.app import URL_VARIABLE, DurableQ
from durableq.demo.processes import Processes, ended_by_signals, scaled
from durableq.demo.show import check_shared
from durableq.demo.spike.downstream import Client
from durableq.demo.spike.load import APP, DOWNSTREAM_VARIABLE, QUEUE, Load
from durableq.demo.spike.recording import Recording, Sampler
from durableq.model.errors import Conflict
from durableq.store.core import Capability, Store

DOWNSTREAM: Final = "durableq.demo.spike.downstream"
START_SECONDS: Final = 60.0
#: Interval between two samples.
POLL_SECONDS: Final = 0.1
#: The most that a run may take: so much, and so many times the expected length.
DEADLINE_SECONDS: Final = 60.0
DEADLINE_FACTOR: Final = 5.0


def run(
    load: Load, show: Callable[[Recording], None], progress: Callable[[str], None]
) -> Recording:
    """Send all messages at once, and record the run until each has ended.

    No process outlives the call, and nothing stays in the database.

    Args:
        load: the size of the run, and its database.
        show: called after each sample.
        progress: called with a line for each process that had to be killed.

    Raises:
        Conflict: the database has such a queue already.
        Unsupported: several processes cannot share the database.
        DurableQError: one of the processes failed.
    """
    with ended_by_signals(), TemporaryDirectory(prefix="durableq-spike-") as name:
        folder = Path(name)
        with DurableQ(load.url or folder / "spike.db") as app, _queue(app, load):
            port = folder / "port"
            environment = {URL_VARIABLE: app.url, DOWNSTREAM_VARIABLE: str(port)}
            with Processes(folder, environment, progress) as processes:
                _start(processes, load, port, app.store)
                with closing(Client(port)) as client:
                    return _record(processes, load, app.store, client, folder, show)


@contextmanager
def _queue(app: DurableQ, load: Load) -> Iterator[None]:
    """Create the queue of a run; delete it after the run, so the next one finds none."""
    check_shared(app, "The spike")
    inspect, control = app.store.require(Capability.INSPECT), app.store.require(Capability.CONTROL)
    if any(info.name == QUEUE for info in inspect.queues()):
        raise Conflict(
            f"{app.address} has a queue {QUEUE!r} already, and the spike would delete it at its "
            "end. Nothing was started. Give a new file or schema, or none at all."
        )
    app.queue(QUEUE, **load.settings)
    try:
        yield
    finally:
        control.delete_queue(QUEUE, force=True)


def _start(processes: Processes, load: Load, port: Path, store: Store) -> None:
    """Start the downstream and the workers; return when they are ready."""
    outage = (str(load.messages // 2), str(load.outage_seconds))
    processes.start("downstream", str(port), str(load.capacity), *outage, module=DOWNSTREAM)
    processes.start("work", "--procs", str(load.procs), "--app", APP)
    processes.wait_for(port.exists, "the downstream to start", START_SECONDS)
    fleet = store.require(Capability.FLEET)
    processes.wait_for(
        lambda: len(fleet.workers()) == load.procs, "the workers to start", START_SECONDS
    )


def _record(
    processes: Processes,
    load: Load,
    store: Store,
    client: Client,
    folder: Path,
    show: Callable[[Recording], None],
) -> Recording:
    """Start the producer, and sample until every message has ended."""
    lines = folder / "messages.jsonl"
    lines.write_text("".join(f"{number}\n" for number in range(load.messages)))
    recording = Recording(load, time.monotonic_ns())
    sampler = Sampler(recording, store, client)
    allowed = scaled(DEADLINE_SECONDS + DEADLINE_FACTOR * load.expected_seconds)
    processes.start("produce", str(lines), "--queue", QUEUE)
    while True:
        is_produced = processes.ended("produce")
        for name in ("downstream", "work"):
            processes.expect_running(name)
        sample = sampler.sample()
        show(recording)
        if is_produced and not sample.backlog:
            return recording
        if sample.at > allowed:
            recording.interruption = (
                f"The run did not end in {allowed:.0f} seconds: {sample.backlog} messages are left."
            )
            return recording
        time.sleep(POLL_SECONDS)
