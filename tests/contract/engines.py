"""One of two engines that walk side by side, with its comparable state."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

from durableq.engines import open_store
from durableq.engines.sql.ranking import rank_slice
from durableq.engines.sql.transactions import Operations
from durableq.model.dead_letters import DeadLetterGroup
from durableq.model.flow.sending import SHED
from durableq.model.lifecycle import EDGES, Node, node_of
from durableq.model.message import Duplicate, Envelope, Event, HistoryEvent, Message, Receipt
from durableq.model.queues import dead_letter_name
from durableq.runtime.clock import shift
from durableq.store.core import QueueInfo
from durableq.testing import FakeClock
from durableq.testing.contract.case import FullStore

QUEUES = ("orders", "mail")
DEAD_LETTER_QUEUES = tuple(map(dead_letter_name, QUEUES))
EVERY_QUEUE = QUEUES + DEAD_LETTER_QUEUES
SETTINGS = {
    "visibility_timeout_ms": 2_000,
    "retention_ms": 20_000,
    "max_receives": 2,
    "idempotency_ttl_ms": 8_000,
    "backoff_base_ms": 1_000,
    "backoff_max_ms": 4_000,
    "max_body_bytes": 8,
}
ALL = 1_000

#: A lease ends, and messages that were deferred behind its key become ready.
RECLAIM = ("reclaim", "expire", "due")
RECEIVE = ("due", *RECLAIM, "receive", "expire")

Snapshot = dict[str, tuple[Node, Message]]
#: One delivery's receipts, one for each engine.
Lease = tuple[Receipt, ...]


class Dice:
    """Random numbers in a fixed order; each engine has its own."""

    def __init__(self) -> None:
        self.throws = 0

    def __call__(self) -> float:
        self.throws += 1
        return self.throws * 37 % 100 / 100


class WrongClock:
    """A clock with a wall clock that can be set."""

    def __init__(self, right: FakeClock) -> None:
        self.right = right
        self.ahead_ms = 0

    def wall_ms(self) -> int:
        return self.right.wall_ms() + self.ahead_ms

    def lease_ms(self) -> int:
        return self.right.lease_ms()

    def boot_id(self) -> str:
        return self.right.boot_id()

    def host_id(self) -> str:
        return self.right.host_id()


class Engine:
    """One of the two engines, with a name for each message that both share."""

    def __init__(self, url: str, clock: "FakeClock | WrongClock") -> None:
        self.clock = clock
        self.rng = Dice()
        self.store = cast(FullStore, open_store(url, clock=clock, rng=self.rng))
        self.names: dict[str, str] = {}
        self.since_ms = clock.wall_ms()

    def sent(self, ids: Iterable[str]) -> list[str]:
        """Name new messages and return the names; the id of a shed one names none."""
        for message_id in ids:
            if message_id not in self.names:
                number = f"message {len(self.names):04}"
                self.names[message_id] = number if message_id != SHED else SHED
        return [self.names[message_id] for message_id in ids]

    def plain(self, answer: Any) -> Any:
        """Return an answer in names that both engines share, with right dates and no tokens."""
        if isinstance(self.clock, WrongClock):
            answer = shift(answer, -self.clock.ahead_ms)
        return self.named(answer)

    def named(self, answer: Any) -> Any:
        """Return an answer in names that both engines share, and without tokens."""
        if isinstance(answer, Receipt):
            return answer.queue, self.names[answer.message_id]
        if isinstance(answer, Message):
            answer = answer._replace(id=self.names[answer.id])
        if isinstance(answer, Envelope):  # of numbers as of ids, each engine leaves out others
            answer = answer._replace(sequence=0)
        if isinstance(answer, Duplicate | HistoryEvent):
            answer = answer._replace(message_id=self.names[answer.message_id])
        if isinstance(answer, HistoryEvent) and answer.event is Event.REPLACED:
            answer = answer._replace(detail={"by": self.names[answer.detail["by"]]})
        if isinstance(answer, DeadLetterGroup):
            answer = replace(answer, example_id=self.names[answer.example_id])
        if isinstance(answer, tuple | list):
            return [self.named(part) for part in answer]
        if hasattr(answer, "message_id"):
            fields = {name: getattr(answer, name) for name in answer.__dataclass_fields__}
            return fields | {"message_id": self.names[answer.message_id]}
        return answer

    def all_there_is(self) -> list[Any]:
        """Return the whole visible state, in shared names."""
        store = self.store
        since_ms = self.since_ms + self.clock.wall_ms() - self.right_ms()
        return [
            self.plain(store.queues(dead_letters=True)),
            self.plain(store.queues(recount=True)),
            *(self.plain(store.peek(name, ALL)) for name in EVERY_QUEUE),
            *(self.plain(store.records(name, ALL)) for name in EVERY_QUEUE),
            *(self.plain(store.history(message_id)) for message_id in self.names),
            self.plain(store.dead_letter_groups()),
            *(self.plain(store.recoveries(name, since_ms, ALL)) for name in QUEUES),
            self.plain(store.workers()),
            *(self.plain(store.leases_of(worker.owner_id)) for worker in store.workers()),
            *(store.ready_in_ms([name]) for name in EVERY_QUEUE),
            store.ready_in_ms(EVERY_QUEUE),
            self.rng.throws,
        ]

    def rank_again(self) -> None:
        """Rank messages after a change of priority aging: one engine does so in maintenance."""
        if isinstance(self.store, Operations):
            with self.store._database.write() as tx:
                while rank_slice(tx, 2):
                    pass

    def right_ms(self) -> int:
        """Return the right time."""
        ahead_ms = self.clock.ahead_ms if isinstance(self.clock, WrongClock) else 0
        return self.clock.wall_ms() - ahead_ms

    def places(self) -> Snapshot:
        """Return where each message is, by name."""
        queues = [info.name for info in self.store.queues()]
        found = [message for name in queues for message in self.store.peek(name, ALL)]
        return {self.names[message.id]: (node_of(message), message) for message in found}


def declare(engine: Engine, _: int, *, name: str) -> QueueInfo:
    return engine.store.declare_queue(name, SETTINGS)


def reachable(source: Node, verbs: Sequence[str]) -> set[Node]:
    """Return the states that these operations, each at most once, in this order, can lead to."""
    places = {source}
    for verb in verbs:
        places |= {e.target for e in EDGES if e.operation == verb and e.source in places}
    return places


def without_rivals(leases: list[Lease]) -> list[Lease]:
    """Keep one delivery of each message.

    Whether an older receipt is STALE or GONE beside the one that completes is left open.
    """
    first: dict[str, Lease] = {}
    for lease in leases:
        first.setdefault(lease[0].message_id, lease)
    return [lease for lease in leases if first[lease[0].message_id] == lease]
