"""Information that a store returns about queues, workers and pruning; the bounds of metadata."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from durableq.model.arguments import check_page_start, check_text
from durableq.model.errors import Conflict, InvalidInput
from durableq.model.flow.breaker import Phase
from durableq.model.flow.info import LimitsInfo
from durableq.model.flow.queue_breaker import QueueBreaker
from durableq.model.limits import MAX_METADATA_CHARS, MAX_METADATA_NAME_CHARS
from durableq.model.message import Event, HistoryEvent, Message, State
from durableq.model.queues import Counters, Counts
from durableq.model.settings import QueueSettings
from durableq.model.text import shown, storable


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """The settings, counters and present messages of a queue."""

    name: str
    settings: QueueSettings
    #: None for a dead-letter queue itself.
    dead_letter_queue: str | None
    counters: Counters
    counts: Counts
    #: The wall-clock time at which the oldest ready message arrived. A large queue looks for it
    #: among the messages that have been there longest.
    oldest_ready_ms: int | None
    #: Its limits as they stand.
    limits: LimitsInfo = field(default_factory=LimitsInfo)
    #: Those of its messages that are dead letters, wherever they are. None if its dead-letter queue
    #: is private and has nothing else, and without `queues(dead_letters=True)`.
    dead_letters: Counts | None = None


class Sample(NamedTuple):
    """A queue at a time, as maintenance found it."""

    #: Milliseconds of the wall clock.
    at_ms: int
    #: Numbers of messages since the queue was created: a rate is the difference of two samples.
    counters: Counters
    #: Numbers of messages then.
    counts: Counts


class Search(NamedTuple):
    """The messages that are wanted: those that meet each of the conditions that are not None."""

    state: State | None = None
    #: The idempotency key.
    key: str | None = None
    #: Somewhere in a JSON body, as it is stored: without blanks between its parts, with quotes and
    #: control characters in strings escaped. Case counts. Bodies of bytes are not searched.
    text: str | None = None

    def check(self, before_id: str | None) -> int:
        """Return the row number before which the next page begins.

        Raises:
            InvalidInput: `before_id` is no message id; a key or a text that no message has.
        """
        for name, value in (("key", self.key), ("text", self.text)):
            if value is None:
                continue
            check_text(value, f"The {name} of a search")
            if not value or "\0" in value or storable(value) != value:
                raise InvalidInput(
                    f"The {name} of a search has characters, and neither U+0000 nor lone "
                    f"surrogates: got {shown(value)}."
                )
        return check_page_start(before_id) if before_id is not None else (1 << 63) - 1


#: All messages.
ANYTHING: Final = Search()


class SearchPage(NamedTuple):
    """Messages that a search has found."""

    #: Newest first.
    messages: list[Message]
    #: The id down to which it has looked, which the next page comes before; None: to the end.
    looked_to: str | None


class HistoryFilter(NamedTuple):
    """The events of the history that are wanted."""

    #: Names of the queues in which they happened. None: all queues.
    queues: Collection[str] = ()
    #: None: all kinds of events.
    kinds: Collection[Event] = ()

    def fits(self, event: HistoryEvent) -> bool:
        """Whether an event is wanted."""
        is_of_queue = not self.queues or event.queue in self.queues
        return is_of_queue and (not self.kinds or event.event in self.kinds)


#: All events.
ALL_EVENTS: Final = HistoryFilter()


class HistoryMark(NamedTuple):
    """An event in the history of all messages, as a place from which to go on."""

    #: 0: before the first one.
    id: int = 0
    #: Steady time, and the message: an engine may give the id of a removed event again.
    at_ms: int = 0
    message_id: int = 0

    def __str__(self) -> str:
        return f"{self.id}.{self.at_ms}.{self.message_id}" if self.id else ""

    @classmethod
    def parse(cls, text: str) -> HistoryMark:
        """Parse the string form of a mark.

        Raises:
            InvalidInput: it is none.
        """
        if text == "":
            return cls()
        found = re.fullmatch("([0-9]{1,18})[.]([0-9]{1,18})[.](-?[0-9]{1,18})", text)
        if found is None:
            raise InvalidInput(
                f"{shown(text)} is not a mark in the history. A page continues at the mark of the "
                "page before it."
            )
        return cls(*map(int, found.groups()))


class HistoryPage(NamedTuple):
    """Events of all messages, in the order in which they were written."""

    events: list[HistoryEvent]
    #: The next page continues here.
    mark: str


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """The messages for which the blocked ones of a group wait, in its order."""

    active: list[Message]
    #: Its dead letters.
    dead: list[Message]


@dataclass(frozen=True, slots=True)
class BreakerInfo:
    """The circuit breaker of a queue."""

    queue: str
    #: Whether the queue uses it.
    is_on: bool
    phase: Phase
    #: The time since the phase began; 0 if it never left its first.
    age_ms: int
    #: While open: the time until it probes.
    left_ms: int
    #: The number of times in a row that it opened.
    trips: int
    #: While it is not closed: of the `judged` messages that made it open, those that failed.
    failed: int
    judged: int
    #: Why the phase began.
    reason: str
    #: The changes of phase that are kept, oldest first: their details have `phase` and `reason`.
    transitions: tuple[HistoryEvent, ...] = ()

    @classmethod
    def of(
        cls,
        queue: str,
        state: QueueBreaker,
        now_ms: int,
        transitions: Iterable[HistoryEvent],
        *,
        is_on: bool,
    ) -> BreakerInfo:
        """Return a state for people.

        Args:
            queue: the name of the queue.
            state: the state.
            now_ms: lease time.
            transitions: the events of the queue; those of the breaker are kept.
            is_on: whether the queue uses it.
        """
        age_ms = now_ms - state.since_ms if state.reason else 0
        is_open = state.phase is Phase.OPEN
        numbers = (state.died, state.judged) if is_open else (0, 0)
        left_ms = state.left_ms(now_ms)
        return cls(
            *(queue, is_on, state.phase, age_ms, left_ms, state.trips, *numbers, state.reason),
            transitions=tuple(one for one in transitions if one.event is Event.BREAKER),
        )


def no_breaker(queue: str) -> Conflict:
    """Return the error for opening or closing a breaker that is off."""
    return Conflict(
        f"Queue {shown(queue)} has no circuit breaker to open or close: its setting breaker is "
        f"off. Switch it on (durableq queue set {queue} --breaker on), or pause the queue "
        f"(durableq queue pause {queue})."
    )


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """The statistics that a worker reports with a heartbeat."""

    #: idle, working or draining; empty while it starts.
    state: str = ""
    #: Deliveries settled since the start.
    handled: int = 0
    #: Failed deliveries among them.
    failed: int = 0
    #: Messages in flight in this worker.
    in_flight: int = 0
    #: The wall-clock start of the longest-running handler; 0 if none runs.
    oldest_began_ms: int = 0


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A registered worker or recovery process. `liveness.liveness()` tells whether it lives."""

    name: str
    pid: int
    #: The start time of the process, which tells it from a later one with the same pid.
    created_ms: int
    #: The boot id of its machine; empty if the system has none.
    boot_id: str = ""
    #: The pid namespace: the pids of another container name other processes.
    pid_namespace: str = ""
    #: Assigned by the store; the messages that this worker leases bear it.
    owner_id: int = 0
    #: Assigned by the store: the wall-clock time of the registration.
    started_at_ms: int = 0
    #: Assigned by the store: the wall-clock time of the last heartbeat.
    beat_at_ms: int = 0
    #: The number of earlier starts of this worker by its supervisor.
    restarts: int = 0
    #: The fields from here to `oldest_began_ms` are those of the newest WorkerStats.
    state: str = ""
    handled: int = 0
    failed: int = 0
    in_flight: int = 0
    oldest_began_ms: int = 0
    #: The queues from which it receives, dead-letter queues included; None if not reported.
    queues: tuple[str, ...] | None = None
    #: The id of its machine or container; empty if it registered before revision 0005.
    host_id: str = ""
    #: Whether it is asked to end, and not to be replaced.
    draining: bool = False
    #: The schedules whose slots it sends.
    schedules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pruned:
    """The numbers of rows that a prune removed."""

    expired: int
    records: int
    history: int
    #: Values of `once` that are not served any more.
    values: int = 0
    #: Items of tables, whose time has passed.
    items: int = 0
    #: Rows that nothing needs any more: counts of idle groups, reports of progress, and what SQS
    #: remembers of deleted queues and of receives.
    others: int = 0


def check_owner(owner_id: int) -> None:
    """Check the owner id of a worker.

    Raises:
        InvalidInput: no store has assigned it.
    """
    if not 0 < owner_id < 1 << 32:
        raise InvalidInput(f"{owner_id} is not the owner id of a worker, as register() returns it.")


def metadata_suffix(queue: str) -> str:
    """Return the suffix of metadata names that are deleted with a queue."""
    return f":{queue}"


def check_metadata(name: str, text: str) -> None:
    """Check the name and the value of a metadata entry.

    Raises:
        InvalidInput: a name that is empty or too long, a text that is too long, a lone surrogate.
    """
    if not 1 <= len(name) <= MAX_METADATA_NAME_CHARS:
        raise InvalidInput(
            f"A metadata name has 1 to {MAX_METADATA_NAME_CHARS} characters, got {shown(name)}."
        )
    if len(text) > MAX_METADATA_CHARS:
        raise InvalidInput(
            f"A metadata value has at most {MAX_METADATA_CHARS} characters, got {len(text)}."
        )
    if storable(name + text) != name + text:
        raise InvalidInput(f"The metadata entry {shown(name)} contains a lone surrogate.")
