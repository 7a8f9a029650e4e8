"""The time from a send to its handler on PostgreSQL, with one idle worker."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

from durableq.bench.app import HANDLER_VARIABLE, NOTES_VARIABLE, QUEUE
from durableq.bench.figures import Figure, Row, Setting, Spread, Theme, histogram, percentile
from durableq.bench.latency import begun, timed
from durableq.bench.postgres.server import Schemas
from durableq.bench.workers import APP, SECONDS
from durableq.client.app import URL_VARIABLE, DurableQ
from durableq.demo.processes import Processes

ROUNDS: Final = 3
MESSAGES, QUICK = 200, 20
ROWS: Final = (
    Row("wake-up of an idle worker, p50", "ms", 10, False, 60),
    Row("wake-up of an idle worker, p99", "ms", None, False, 1),
)


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module, which come from one sample."""
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


WAITING: Final = Theme("wake-up", ROWS, measure, ROUNDS)
