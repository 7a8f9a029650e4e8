"""A model of FIFO queues as SQS has them, in plain Python: what a receive may answer, and must."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile

from durableq.model.message import Receipt

#: For how long a deduplication id, and that of a receive, stand for the first request.
KEPT_MS = 300_000


@dataclass(eq=False)
class Letter:
    """A message.

    Args:
        body: names it.
        group: of it.
        message_id: empty: a move has changed it, and no receive has told it yet.
        sequence: its number; empty as that.
        due_ms: it is not delivered before.
        receives: in its queue.
        lease: the number of the receive that has it; 0: none.
        until_ms: the end of its lease.
        may_wait: whether it need not be delivered at once: after a failure it may be delayed, and
            after a release behind others of its batch.
    """

    body: str
    group: str
    message_id: str = ""
    sequence: str = ""
    due_ms: int = 0
    receives: int = 0
    lease: int = 0
    until_ms: int = 0
    may_wait: bool = False

    def is_held(self, now_ms: int) -> bool:
        return self.until_ms > now_ms

    def is_hidden(self, now_ms: int) -> bool:
        return self.is_held(now_ms) or self.due_ms > now_ms

    def let_go(self) -> None:
        self.lease = self.until_ms = 0

    def arrive(self) -> None:
        """Come from another queue."""
        self.let_go()
        self.sequence, self.due_ms, self.receives, self.may_wait = "", 0, 0, False


@dataclass
class Queue:
    """A FIFO queue: its messages in order.

    Args:
        most: the receives after which a message is buried; 0: never.
        letters: the messages.
        highest: the number of the last message of each group that was received first.
    """

    most: int = 0
    letters: list[Letter] = field(default_factory=list)
    highest: dict[str, str] = field(default_factory=dict)

    def of_group(self, group: str) -> list[Letter]:
        return [one for one in self.letters if one.group == group]

    @property
    def groups(self) -> list[str]:
        return [*dict.fromkeys(one.group for one in self.letters)]

    def by_body(self, body: str) -> Letter:
        (found,) = [one for one in self.letters if one.body == body]
        return found

    def is_spent(self, one: Letter) -> bool:
        return bool(self.most) and one.receives >= self.most

    def available(self, group: str, now_ms: int) -> Iterator[Letter]:
        """Yield the messages of a group that may be delivered, in order."""
        for one in self.of_group(group):
            if one.is_hidden(now_ms):
                return
            yield one

    # ---- a receive

    def bury(self, bodies: Iterable[str], now_ms: int) -> list[Letter]:
        """Remove messages, each of which must be the next of its group, with all its receives."""
        found, left = [], {*bodies}
        while left:
            heads = [next(self.available(group, now_ms), None) for group in self.groups]
            dead = [one for one in heads if one and one.body in left and self.is_spent(one)]
            assert dead, f"{sorted(left)} were buried out of turn: {self.letters}"
            for one in dead:
                self.letters.remove(one)
                left.remove(one.body)
            found += dead
        return found

    def deliver(self, bodies: Sequence[str], now_ms: int, lease: int, until_ms: int) -> None:
        """Lease messages, which must be the next ones of their groups, in order."""
        taken = [self.by_body(body) for body in bodies]
        for group in {one.group for one in taken}:
            of_group = [one for one in taken if one.group == group]
            due = [*self.available(group, now_ms)][: len(of_group)]
            assert of_group == due, f"{of_group} came before {due} of {self.of_group(group)}"
        for one in taken:
            assert not self.is_spent(one), f"{one} came once too often"
            one.receives += 1
            one.lease, one.until_ms, one.may_wait = lease, until_ms, False

    def check_rest(self, passed: Iterable[str], lease: int, now_ms: int) -> None:
        """Check that a receive with room for more has left nothing that it could have delivered.

        Args:
            passed: groups of which anything may be left.
            lease: the number of the receive.
            now_ms: the time.
        """
        for group in {*self.groups} - {*passed}:
            letters = self.of_group(group)
            rest = [*dropwhile(lambda one: one.lease == lease, letters)]
            if not rest or rest[0].is_hidden(now_ms) or rest[0].may_wait:
                continue
            ends_batch = len(rest) < len(letters) and self.is_spent(rest[0])
            assert ends_batch, f"{rest[0]} was left: {letters}"

    def number(self, one: Letter, sequence: str) -> None:
        """Check the number of a received message; after a move this is the first to tell it."""
        assert one.sequence in {"", sequence}, (one, sequence)
        one.sequence = sequence
        group = self.of_group(one.group)
        assert all(each.sequence < sequence for each in group[: group.index(one)]), (group, one)
        if one.receives == 1:
            assert self.highest.get(one.group, "") < sequence, (self.highest, one)
            self.highest[one.group] = sequence


@dataclass(frozen=True, eq=False)
class Held:
    """A received message in the hands of an actor: by a handle, or by a receipt of the store."""

    queue: str
    letter: Letter
    lease: int
    handle: str = ""
    receipt: Receipt | None = None


@dataclass(frozen=True)
class Attempt:
    """A receive that may be repeated."""

    at_ms: int
    letters: Sequence[Letter]
    lease: int
    until_ms: int
