"""The two stores of a transfer: opened, counted, and judged before anything is changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from durableq.engines import is_postgres, open_end
from durableq.model.errors import Conflict, DurableQError, NotFound
from durableq.model.info import WorkerInfo
from durableq.model.moving import Mark, refused
from durableq.model.text import address, visible
from durableq.runtime.clock import Clock
from durableq.store.moving import End
from durableq.supervisor.liveness import may_be_alive

#: The clocks of source and target; None is the engine's own.
Clocks = tuple[Clock | None, Clock | None]


@dataclass(frozen=True)
class Plan:
    """The rows that a transfer would move, and the reasons for which it would be refused."""

    source: str
    target: str
    #: new: it does not exist yet. empty. unfinished: a transfer between the two goes on.
    target_is: str
    #: By table.
    rows: dict[str, int]
    #: Of each queue, by name: its messages by state.
    queues: dict[str, dict[str, int]]
    #: Leases that would be given back, uncounted.
    leases: int
    refusals: list[str]


def plan(source: str, target: str, clocks: Clocks = (None, None)) -> Plan:
    """Return the numbers of a transfer, and what forbids it; change nothing.

    Args:
        source: the URL or path of a store.
        target: the URL or path of another one, which need not exist.
        clocks: of both, for tests.

    Raises:
        NotFound: there is no source.
        DatabaseUnusable: one of them cannot be opened.
    """
    with both(source, target, clocks) as (old, new):
        mark, note = old.look()
        refusals = [*_source_refusals(old, target)]
        target_is = "new"
        if new is not None:
            target_is = "empty"
            if is_filled_from(new, old):
                target_is = "unfinished"
            elif error := target_refusal(old, new):
                refusals.append(str(error))
        if mark is not None and target_is != "unfinished":
            refusals.append(str(refused(mark, note, old.address)))
        queues = {info.name: dataclasses.asdict(info.counts) for info in old.queues()}
        to = new.address if new else address(target)
        return Plan(old.address, to, target_is, old.counts(), queues, old.leases(), refusals)


def _source_refusals(old: End, target: str) -> Iterator[str]:
    living = [worker for worker in old.workers() if may_be_alive(worker)]
    if living:
        yield str(_in_use(old.address, living))
    if error := nul_refusal(old, target):
        yield str(error)


def target_refusal(old: End, new: End) -> DurableQError | None:
    """Return the reason for which a target cannot be filled from this source, or None."""
    if old.identity == new.identity:
        return Conflict(f"{old.address} and {new.address} are the same store.")
    if is_filled_from(new, old):
        return None
    mark, note = new.look()
    if mark is not None:
        return refused(mark, note, new.address)
    if there := {name: rows for name, rows in new.counts().items() if rows}:
        listed = ", ".join(f"{rows} in {name}" for name, rows in there.items())
        return Conflict(
            f"{new.address} is not empty ({listed}): a transfer would mix two stores. Nothing was "
            "changed. Name another file, or another schema: ?schema=name."
        )
    return None


def is_filled_from(new: End, old: End) -> bool:
    """Return whether a transfer between the two has begun, and not ended."""
    mark, note = new.look()
    return mark is Mark.FILLING and note is not None and note.source_is == old.identity


def nul_refusal(old: End, target: str) -> Conflict | None:
    """Return the refusal to move texts with U+0000 to PostgreSQL; None if there are none."""
    if not is_postgres(target):
        return None
    found = old.with_nul()
    if not found:
        return None
    places = ", ".join(f"{each.rows} in {each.table}.{each.column}" for each in found)
    return Conflict(
        f"{old.address} has texts with the character U+0000, which PostgreSQL cannot store "
        f"({places}). Nothing was changed. Complete, cancel or forget them first: durableq lint "
        "--target postgres names them."
    )


def _in_use(place: str, living: list[WorkerInfo]) -> Conflict:
    first = living[0]
    others = f" and {len(living) - 1} others work" if len(living) > 1 else " works"
    return Conflict(
        f"Worker {first.name} (pid {first.pid}){others} on {place}. Nothing was changed. Stop "
        "its fleet first: what its handlers do now could not be acknowledged, and would be done "
        "again. A worker of another host that was killed is forgotten a minute after its last "
        "heartbeat."
    )


def check_unused(place: str) -> Callable[[list[WorkerInfo]], None]:
    """Return a check of registered workers, which raises Conflict if one may be alive."""

    def check(workers: list[WorkerInfo]) -> None:
        if living := [worker for worker in workers if may_be_alive(worker)]:
            raise _in_use(place, living)

    return check


@contextmanager
def both(source: str, target: str, clocks: Clocks) -> Iterator[tuple[End, End | None]]:
    """Open the source, and the target if it is there, for a block."""
    with closing(open_source(source, clocks[0])) as old:
        new = open_end(target, clock=clocks[1])
        try:
            yield old, new
        finally:
            if new is not None:
                new.close()


def open_source(url: str, clock: Clock | None) -> End:
    """Open a store that must be there.

    Raises:
        NotFound: it is not.
    """
    end = open_end(url, clock=clock)
    if end is None:
        raise NotFound(f"There is no durableq database at {visible(address(url), 200)}.")
    return end
