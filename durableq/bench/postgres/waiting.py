"""The time until a handler begins on PostgreSQL.

*wake-up*: from a send, with one idle worker. *killed host*: from the kill of a fleet that holds a
message, each process of it, to the handler of another fleet. Each fleet has a host id of its own,
so that nothing but the server tells one about the other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Final

from durableq.bench.app import HANDLER_VARIABLE, HOLD, NOTES_VARIABLE, QUEUE
from durableq.bench.figures import Figure, Row, Setting, Spread, Theme, histogram, percentile
from durableq.bench.fleet import Notes
from durableq.bench.latency import begun, timed
from durableq.bench.postgres.server import Schemas, watching
from durableq.bench.workers import APP, SECONDS
from durableq.client.app import URL_VARIABLE, DurableQ
from durableq.demo.processes import Processes, kill_sessions
from durableq.store.core import Capability

ROUNDS: Final = 3
MESSAGES, QUICK = 200, 20
#: Killed fleets of a round.
KILLS, QUICK_KILLS = 10, 2
KILLED: Final = "killed host, longest"
#: For five seconds after its start a server's locks are not believed: all processes take theirs
#: again.
SETTLED_SECONDS: Final = 6.0
_SETTLE: Final = """\
SELECT pg_sleep(greatest(0, %s - extract(
    epoch FROM clock_timestamp() - pg_postmaster_start_time())))"""
ROWS: Final = (
    Row("wake-up of an idle worker, p50", "ms", 10, False, 60),
    Row("wake-up of an idle worker, p99", "ms", None, False, 1),
    Row(KILLED, "ms", 250, False, 90),
)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module; those of the wake-up come from one sample."""
    waked = [row for row in rows if row.name != KILLED]
    if waked:
        yield from _wake_ups(waked, setting)
    for row in rows:
        if row.name == KILLED:
            yield _killed(row, setting)


def _wake_ups(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    rounds = setting.rounds or (1 if setting.quick else ROUNDS)
    samples = []
    for number in range(rounds):
        setting.progress(f"wake-up: round {number + 1} of {rounds}")
        samples.append(_sample(setting))
    everything = [one for sample in samples for one in sample]
    for row in rows:
        percent = 99 if row.name.endswith("p99") else 50
        value = Spread.of([percentile(sample, percent) for sample in samples])
        details = {"longest, ms": Spread.of([max(sample) for sample in samples])}
        chart = histogram("wake-up of an idle worker", everything, "messages")
        yield Figure(row, setting.synchronous, value, details, chart)


def _sample(setting: Setting) -> list[float]:
    """Return the ms from the return of each send to its handler, with a new fleet."""
    notes = setting.folder / "notes"
    notes.write_text("")
    with Schemas(setting.database) as schemas:
        url = schemas.make("latency")
        environment = {URL_VARIABLE: url, NOTES_VARIABLE: str(notes), HANDLER_VARIABLE: "note"}
        with (
            DurableQ(url) as app,
            Processes(setting.folder, environment, setting.progress) as processes,
        ):
            app.queue(QUEUE).send("warm")
            processes.start("work", "--procs", "1", "--app", APP)
            processes.wait_for(lambda: len(begun(notes)) == 1, "the worker", SECONDS)
            time.sleep(0.5)
            return timed(app, notes, processes, QUICK if setting.quick else MESSAGES, None)


def _killed(row: Row, setting: Setting) -> Figure:
    """Kill fleets in turn, each while it holds a message that the next one then handles."""
    count = (setting.rounds or ROUNDS) * KILLS
    count = QUICK_KILLS if setting.quick else count
    notes = Notes(setting.folder / "notes")
    notes.path.write_text("")
    sample = []
    with Schemas(setting.database) as schemas, ExitStack() as stack:
        looking = stack.enter_context(closing(watching(setting.database)))
        looking.execute(_SETTLE, (SETTLED_SECONDS,))
        url = schemas.make("killed")
        app = stack.enter_context(DurableQ(url))
        queue = app.queue(QUEUE, backoff_base=0)
        environment = {URL_VARIABLE: url, NOTES_VARIABLE: str(notes.path)}
        holder = stack.enter_context(_host(0, environment, app, setting))
        for number in range(1, count + 1):
            setting.progress(f"killed host: {number} of {count}")
            message_id = queue.send(HOLD)
            holder.wait_for(partial(notes.of, message_id), "the message in hand", SECONDS)
            other = stack.enter_context(_host(number, environment, app, setting))
            began_ns = time.monotonic_ns()
            kill_sessions({holder.pid("work")})
            again = partial(notes.again, message_id)
            sample.append((other.wait_for(again, "its return", SECONDS) - began_ns) / 1e6)
            holder = other
    details = {"p50, ms": Spread.of([percentile(sample, 50)]), "kills": Spread.of([len(sample)])}
    chart = histogram("from the kill of a host to another handler", sample, "kills")
    return Figure(row, setting.synchronous, Spread.of([max(sample)]), details, chart)


@contextmanager
def _host(
    number: int, environment: Mapping[str, str], app: DurableQ, setting: Setting
) -> Iterator[Processes]:
    """Run a fleet of one worker that says it is on a host of its own."""
    host = f"host-{number}"
    folder = setting.folder / host
    folder.mkdir()
    environment = {**environment, "DURABLEQ_HOST_ID": host}
    fleet = app.store.require(Capability.FLEET)
    with Processes(folder, environment, setting.progress) as processes:
        processes.start("work", "--procs", "1", "--app", APP)
        processes.wait_for(
            lambda: any(one.host_id == host and one.queues for one in fleet.workers()),
            "the fleet",
            SECONDS,
        )
        time.sleep(1)  # the work of starting ends
        yield processes


WAITING: Final = Theme("wake-up", ROWS, measure, ROUNDS)
