"""How things stand, as a store tells it: queues, workers, what upkeep did."""

from __future__ import annotations

from dataclasses import dataclass

from durableq.model.counters import Counters, Counts
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_METADATA_CHARS, MAX_METADATA_NAME_CHARS
from durableq.model.queues import QueueSettings
from durableq.model.text import shown, storable


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue as it stands."""

    name: str
    settings: QueueSettings
    #: None for a dead-letter queue itself.
    dead_letter_queue: str | None
    counters: Counters
    counts: Counts
    #: Wall-clock time the longest-waiting ready message came to the queue.
    oldest_ready_ms: int | None


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """What a worker tells of itself with a beat."""

    #: A word of its own: starting, working, draining.
    state: str = ""
    #: Deliveries settled since it began.
    handled: int = 0
    #: Those of them that failed.
    failed: int = 0
    #: Messages leased to it and not settled yet.
    in_hand: int = 0
    #: Wall-clock time the longest-running handler began; 0 where none runs.
    oldest_began_ms: int = 0


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A process that receives. `processes.fate` tells whether it lives."""

    name: str
    pid: int
    #: When it was started: tells it from a later process with the same pid.
    created_ms: int
    #: The boot of the machine it runs in; empty where that has no name.
    boot_id: str = ""
    #: Where its pid is its own: another container has other processes under the same pids.
    pid_namespace: str = ""
    #: Given by the store: the mark in this worker's receipts.
    owner_id: int = 0
    #: Given by the store: wall-clock time it was registered.
    started_at_ms: int = 0
    #: Given by the store: wall-clock time it last said that it lives.
    beat_at_ms: int = 0
    #: How often a worker in its place was started anew before it.
    restarts: int = 0
    #: This and what follows: of its newest WorkerStats.
    state: str = ""
    handled: int = 0
    failed: int = 0
    in_hand: int = 0
    oldest_began_ms: int = 0
    #: The queues it receives from, dead-letter queues too; None if it has not told them.
    queues: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one prune removed."""

    expired: int
    records: int
    history: int


def metadata_suffix(queue: str) -> str:
    """Return the end of the names of a queue's notes, which are deleted with the queue."""
    return f":{queue}"


def check_metadata(name: str, text: str) -> None:
    """Refuse what cannot be remembered.

    Raises:
        InvalidInput: a name that is empty or too long, a text that is too long, a lone surrogate.
    """
    if not 1 <= len(name) <= MAX_METADATA_NAME_CHARS:
        raise InvalidInput(
            f"A note's name has 1 to {MAX_METADATA_NAME_CHARS} characters: {shown(name)}."
        )
    if len(text) > MAX_METADATA_CHARS:
        raise InvalidInput(f"A note has at most {MAX_METADATA_CHARS} characters, got {len(text)}.")
    if storable(name + text) != name + text:
        raise InvalidInput(f"The note {shown(name)} contains a lone surrogate.")
