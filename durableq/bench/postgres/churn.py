"""A long backlog on PostgreSQL, and dead rows that cannot be removed.

An open transaction pins the horizon: no row that dies after it began can be removed, in any table
of the database. So both sides run without it first, in turn, and then with it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import Any, Final

from durableq.bench.app import QUEUE
from durableq.bench.figures import RAW, SUBJECT, Figure, Row, Sample, Setting, Spread, Theme
from durableq.bench.messages import times_of
from durableq.bench.postgres.messages import Side
from durableq.bench.postgres.server import Schemas, watching
from durableq.bench.raw import LEASE_EPOCH_MS
from durableq.client.app import DurableQ
from durableq.model.message import FOREVER_MS

PINNED, DEEP = "pinned xmin, in 10, key", "backlog 1 M against 1 k"
ROUNDS, QUICK_ROUNDS = 7, 2
#: Of a round with the pinned horizon; 20 rounds are ten minutes.
PIN_SECONDS, QUICK_SECONDS = 30.0, 2.0
CLEAN_WINDOWS: Final = 5
BACKLOGS: Final = (1_000, 1_000_000)
#: The share of the longer backlog in the quick mode.
QUICK_SHARE: Final = 100
ROWS: Final = (
    Row(PINNED, "x clean", 0.7, seconds=int(PIN_SECONDS) * ROUNDS + 20),
    Row(DEEP, "x 1 k", 1.1, at_least=False, seconds=90, is_large=True),
)
_CYCLE: Final = {"operation": "both", "batch": 10, "keyed": True, "body_bytes": 250}
_RECEIVE: Final = {"operation": "receive", "batch": 1, "keyed": False, "body_bytes": 250}
_IN_WINDOW, _RECEIVED = 500, 300
_PIN: Final = (
    "SET idle_in_transaction_session_timeout = 0",
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "SELECT txid_current()",
)
_FILL: Final = f"""\
INSERT INTO durableq_message (
    queue_id, state, rank, priority, deferred, receive_count, recovery_count, lease_until_ms,
    delayed_until_ms, enqueued_at_ms, sent_at_ms, first_received_at_ms, retention_from_ms,
    expires_at_ms, debounce_until_ms, receipt, owner_id, body_bytes, body_format, sequence, body
)
SELECT q.id, 0, 0, 0, 0, 0, 0, {LEASE_EPOCH_MS}, 0, n.ms, n.ms, {FOREVER_MS}, n.ms, {FOREVER_MS},
    0, '\\x{bytes(16).hex()}'::bytea, {1 << 40}, octet_length(b.body), 0, 0, b.body
FROM durableq_queue AS q,
    (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) AS n,
    (SELECT '{{"text":"' || repeat('x', 226) || '"}}' AS body) AS b,
    generate_series(1, %s)
WHERE q.name = %s"""  # noqa: S608 - constants
_COUNT: Final = """\
UPDATE durableq_counters AS c SET sent = c.sent + %s
FROM durableq_queue AS q WHERE q.id = c.queue_id AND q.name = %s"""


def measure(rows: Sequence[Row], setting: Setting) -> Iterator[Figure]:
    """Measure rows of this module."""
    rounds = setting.rounds or (QUICK_ROUNDS if setting.quick else ROUNDS)
    for row in rows:
        yield (_deep if row.name == DEEP else _pinned)(row, setting, rounds)


def _pinned(row: Row, setting: Setting, rounds: int) -> Figure:
    """Compare the last quarter of the time with a pinned horizon with the time before."""
    seconds = rounds * (QUICK_SECONDS if setting.quick else PIN_SECONDS)
    with Schemas(setting.database) as schemas, ExitStack() as stack:
        sides = [stack.enter_context(Side(name, schemas.make(name))) for name in (SUBJECT, RAW)]
        _windows(sides, 1)  # warm
        setting.progress(f"{row.name}: clean")
        clean = _windows(sides, CLEAN_WINDOWS)
        turns: list[Mapping[str, Sequence[Sample]]] = []
        with _pin(setting.database):
            began = time.monotonic()
            for _ in range(rounds):
                now = time.monotonic() - began
                setting.progress(f"{row.name}: {now:.0f} s of {seconds:.0f} s pinned")
                turns.append(_turn(sides, seconds / rounds))
    last = turns[-max(rounds // 4, 1) :]
    pinned = {side.name: [one for turn in last for one in turn[side.name]] for side in sides}
    ratios = {name: _ratios(clean[name], pinned[name]) for name in clean}
    details = {"raw, x clean": Spread.of(ratios[RAW]), "pinned, s": Spread.of([seconds])}
    details |= {f"clean, {name}": value for name, value in times_of(clean).items()}
    details |= {f"pinned, {name}": value for name, value in times_of(pinned).items()}
    return Figure(row, setting.synchronous, Spread.of(ratios[SUBJECT]), details)


def _ratios(clean: Sequence[Sample], pinned: Sequence[Sample]) -> list[float]:
    usual = Spread.of([one.cpu_seconds for one in clean]).median
    return [usual / one.cpu_seconds for one in pinned]


def _windows(sides: Sequence[Side], count: int) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {side.name: [] for side in sides}
    for _ in range(count):
        for side in sides:
            found[side.name].append(side.run(_CYCLE, _IN_WINDOW))
    return found


def _turn(sides: Sequence[Side], seconds: float) -> dict[str, list[Sample]]:
    """Let each side run alone for its part of the time.

    durableq looks from the start of its index again after a share of the time that has passed, so
    a turn of one window, between long ones of raw, would count looks for the time of raw.
    """
    found: dict[str, list[Sample]] = {side.name: [] for side in sides}
    for side in sides:
        began = time.monotonic()
        while not found[side.name] or time.monotonic() - began < seconds / len(sides):
            found[side.name].append(side.run(_CYCLE, _IN_WINDOW))
    return found


@contextmanager
def _pin(url: str) -> Iterator[None]:
    """Keep a transaction with a snapshot open."""
    with closing(watching(url)) as connection:
        for text in _PIN:
            connection.execute(text)
        yield


def _deep(row: Row, setting: Setting, rounds: int) -> Figure:
    """Receive and complete messages one at a time from each backlog in turn."""
    few, many = BACKLOGS[0], BACKLOGS[1] // (QUICK_SHARE if setting.quick else 1)
    names = {few: f"{few:,} ready", many: f"{many:,} ready"}
    samples: dict[str, list[Sample]] = {name: [] for name in names.values()}
    with Schemas(setting.database) as schemas, ExitStack() as stack:
        sides = []
        for size, name in names.items():
            setting.progress(f"building: {name}")
            url = schemas.make(f"backlog_{size}")
            _fill(url, size)
            sides.append((name, stack.enter_context(Side(SUBJECT, url))))
        for number in range(rounds + 1):
            setting.progress(f"{row.name}: round {number} of {rounds}")
            for name, side in sides if number % 2 == 0 else reversed(sides):
                sample = side.run(_RECEIVE, _RECEIVED)
                if number:  # the first round warms up
                    samples[name].append(sample)
    short, long = samples.values()
    pairs = zip(long, short, strict=True)
    value = Spread.of([one.cpu_seconds / other.cpu_seconds for one, other in pairs])
    shown = replace(row, target=None) if setting.quick else row
    return Figure(shown, setting.synchronous, value, times_of(samples))


def _fill(url: str, count: int) -> None:
    """Store messages by one statement: this is not measured."""
    with DurableQ(url) as app:
        app.queue(QUEUE, visibility_timeout=3600)
        _ = app.store
    with closing(watching(url)) as connection:
        values: tuple[Any, ...] = (count, QUEUE)
        connection.execute(_FILL, values)
        connection.execute(_COUNT, values)
        connection.execute("VACUUM ANALYZE durableq_message")


CHURN: Final = Theme("churn", ROWS, measure, ROUNDS)
