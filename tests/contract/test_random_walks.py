"""Two engines walk side by side: the same operations, clocks and random numbers, the same results.

After each step everything a person may ask is compared, every message's move is held against the
table of edges, and the counters must reconcile. Ids are each engine's own, so they are spoken of by
the order in which messages were sent; tokens are random, and never compared.
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from durableq.model.decisions import Decision
from durableq.model.errors import DurableQError
from durableq.model.lifecycle import Node
from durableq.model.message import (
    Completion,
    Draft,
    Failure,
    Outcome,
    Reason,
    Received,
    Refusal,
    State,
    draft,
)
from durableq.model.queues import dead_letter_name
from durableq.store.core import QueueInfo, Send, Settle, WorkerInfo, WorkerStats
from durableq.testing import FakeClock
from tests.contract.engines import (
    DEAD_LETTER_QUEUES,
    EVERY_QUEUE,
    RECEIVE,
    RECLAIM,
    SETTINGS,
    Engine,
    Lease,
    Snapshot,
    WrongClock,
    declare,
    reachable,
    without_rivals,
)
from tests.contract.strategies import booleans, decisions, drafts, failures, limits, queues, some
from tests.contract.walking import take_walks
from tests.support import new_file

ACTOR = "recovery:1"
YEAR_SECONDS = 366 * 86_400


class SideBySide(RuleBasedStateMachine):
    """The walk. Each step ends in a comparison of the engines."""

    #: Number of comparisons in this process.
    compared: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.counts_change = False
        self.directory = tempfile.TemporaryDirectory()
        urls = ("memory://", self.other_url())
        self.engines = [Engine(url, clock) for url, clock in zip(urls, self.clocks(), strict=True)]
        self.before: Snapshot = {}
        self.leases: list[Lease] = []

    def other_url(self) -> str:
        """Return the URL of an empty store of the other engine."""
        # Full durability costs an fsync a step; the walk looks at answers, not at the disk.
        path = new_file(Path(self.directory.name) / "q.db", FakeClock)
        return f"sqlite:///{path}?synchronous=normal"

    def clocks(self) -> list[FakeClock | WrongClock]:
        return [self.clock, self.clock]

    def teardown(self) -> None:
        for engine in self.engines:
            engine.store.close()
        self.directory.cleanup()

    def both(
        self,
        call: Callable[[Engine, int], Any],
        *verbs: str,
        others: Sequence[str] = (),
        touched: Iterable[str] | None = None,
    ) -> list[Any]:
        """Make a call on both engines, compare the answers, and judge the moves.

        `touched` messages (None: every one) may move along `verbs`, and any along `others`.
        """
        answers, told = [], []
        for number, engine in enumerate(self.engines):
            try:
                answer = call(engine, number)
                told.append(engine.plain(answer))
            except DurableQError as error:
                answer = type(error)
                told.append(answer)
            answers.append(answer)
        model, other = told
        assert other == model
        self.judge(verbs, others, touched)
        return answers

    def judge(
        self, verbs: Sequence[str], others: Sequence[str], touched: Iterable[str] | None
    ) -> None:
        chosen = None if touched is None else set(touched)
        after = self.engines[0].places()
        for name in self.before.keys() | after.keys():
            source = self.before[name][0] if name in self.before else Node.NEW
            target = after[name][0] if name in after else Node.ENDED
            may_reach = reachable(source, others)
            if chosen is None or name in chosen or source is Node.NEW:
                may_reach |= reachable(source, verbs)
            assert target in may_reach, f"{name} went from {source} to {target} by {verbs}"
        self.before = after

    def named(self, leases: Sequence[Lease]) -> list[str]:
        return [self.engines[0].names[lease[0].message_id] for lease in leases]

    def pick(self, which: Sequence[int], queues: Sequence[str] = EVERY_QUEUE) -> list[Lease]:
        """Return leases counted from the good and the newest ones; behind them come the stale."""
        leases = [lease for lease in self.leases if lease[0].queue in queues]
        newest = {lease[0].message_id: lease for lease in leases}
        leases.sort(key=lambda lease: newest[lease[0].message_id] == lease and self.is_out(lease))
        return [leases[-1 - number % len(leases)] for number in which]

    def is_out(self, lease: Lease) -> bool:
        _, message = self.before.get(self.engines[0].names[lease[0].message_id], (None, None))
        return message is not None and message.state is State.IN_FLIGHT

    # ---- sending and receiving

    @initialize(batch=st.lists(drafts, min_size=4, max_size=8))
    def begin(self, batch: list[Draft]) -> None:
        """Walks start where something can happen at once."""
        for name in EVERY_QUEUE:
            self.both(partial(declare, name=name))
        self.send("orders", batch)
        self.receive("orders", 4, 3_000, whose=0)
        if self.leases:  # all of them may be delayed
            self.fail([0, 1, 2], Failure(Reason.REJECTED, "ValueError", "no"))

    @rule(queue=queues, batch=st.lists(drafts, min_size=1, max_size=4))
    def send(self, queue: str, batch: list[Draft]) -> None:
        self.both(lambda engine, _: engine.sent(engine.store.send(queue, batch)), "send")

    @rule(
        queue=st.sampled_from(["orders", "orders", "orders", "orders-dlq", "mail", "mail-dlq"]),
        limit=st.integers(1, 4),
        visibility_ms=st.sampled_from([None, 500, 5_000]),
        whose=st.integers(0, 2),
    )
    def receive(self, queue: str, limit: int, visibility_ms: int | None, whose: int) -> None:
        owner_ids = [0, *(worker.owner_id for worker in self.engines[0].store.workers())]
        owner_id = owner_ids[whose % len(owner_ids)]
        self.take(
            lambda engine: engine.store.receive(
                queue, limit, visibility_ms=visibility_ms, owner_id=owner_id
            )
        )

    @precondition(lambda self: any(where is Node.DEAD for where, _ in self.before.values()))
    @rule(queue=queues, limit=st.integers(1, 2), data=st.data())
    def choose(self, queue: str, limit: int, data: st.DataObject) -> None:
        """A person picks dead letters by id, as `durableq dlq` does; other messages are refused."""
        dead = [name for name, (where, _) in self.before.items() if where is Node.DEAD]
        chosen = {*data.draw(st.lists(st.sampled_from(dead), max_size=3)), "message 0000"}

        def lease(engine: Engine) -> Received:
            ids = [message_id for message_id, name in engine.names.items() if name in chosen]
            dead_letters = engine.store.lease_dead_letters(dead_letter_name(queue), ids[:limit])
            return Received(dead_letters, [], 0)

        self.take(lease)

    def take(self, call: Callable[[Engine], Received]) -> None:
        received = self.both(lambda engine, _: call(engine), *RECEIVE)
        for message in received[0].messages:
            expires_at_ms = message.expires_at_ms
            assert expires_at_ms is None or expires_at_ms > self.engines[0].clock.wall_ms()
        for pair in zip(*(answer.messages for answer in received), strict=True):
            self.leases.append(tuple(message.receipt for message in pair))

    @rule(limit=st.integers(1, 3), key=st.sampled_from([None, "k"]), failure=st.none() | failures)
    def work(self, limit: int, key: str | None, failure: Failure | None) -> None:
        """Steps of a worker."""
        before = len(self.leases)
        self.receive("orders", limit, None, whose=1)
        which = list(range(len(self.leases) - before))
        if which and failure is not None:
            self.fail(which, failure)
        elif which:
            self.complete(which, key)

    @rule(limit=st.integers(1, 2), decision=decisions)
    def recover(self, limit: int, decision: Decision) -> None:
        before = len(self.leases)
        self.receive("orders-dlq", limit, None, whose=0)
        if which := list(range(len(self.leases) - before)):
            self.decide(which, decision, really=1)

    # ---- settling

    @precondition(lambda self: self.leases)
    @rule(which=some, key=st.sampled_from([None, "k", "j"]))
    def complete(self, which: list[int], key: str | None) -> None:
        chosen = without_rivals(self.pick(which))
        self.both(
            lambda engine, n: engine.store.complete([Completion(c[n], '"r"', key) for c in chosen]),
            "complete",
            others=["due"],
            touched=self.named(chosen),
        )

    @precondition(lambda self: self.leases)
    @rule(which=some, failure=failures)
    def fail(self, which: list[int], failure: Failure) -> None:
        chosen = self.pick(which)
        self.both(
            lambda engine, n: engine.store.fail([(c[n], failure) for c in chosen], actor="w"),
            "fail",
            "expire",
            others=["due"],
            touched=self.named(chosen),
        )

    @precondition(lambda self: self.leases)
    @rule(which=some, ms=st.sampled_from([None, None, 0, 100, 3_000]))
    def release_or_extend(self, which: list[int], ms: int | None) -> None:
        chosen = self.pick(which)

        def settle(engine: Engine, n: int) -> list[Outcome]:
            receipts = [c[n] for c in chosen]
            if ms is None:
                return engine.store.release(receipts)
            return engine.store.extend(receipts, ms)

        verbs = ["extend"] if ms else ["release" if ms is None else "extend", "expire"]
        self.both(settle, *verbs, others=[] if ms else ["due"], touched=self.named(chosen))

    @precondition(lambda self: any(lease[0].queue in DEAD_LETTER_QUEUES for lease in self.leases))
    @rule(which=some, decision=decisions, really=st.integers(0, 9))
    def decide(self, which: list[int], decision: Decision, really: int) -> None:
        """One in ten decisions includes messages that are not dead."""
        chosen = self.pick(which, DEAD_LETTER_QUEUES)
        chosen += [] if really else self.pick(which)
        self.both(
            lambda engine, n: engine.store.decide([(c[n], decision) for c in chosen], actor=ACTOR),
            "decide",
            touched=self.named(chosen),
        )

    @precondition(lambda self: any(where is Node.DEAD for where, _ in self.before.values()))
    @rule(queue=queues, decision=decisions, data=st.data())
    def decide_by_id(self, queue: str, decision: Decision, data: st.DataObject) -> None:
        """Decide about dead letters by id, as `durableq dlq` does."""
        dead = [name for name, (where, _) in self.before.items() if where is Node.DEAD]
        chosen = {*data.draw(st.lists(st.sampled_from(dead), max_size=3)), "message 0000"}

        def decide(engine: Engine, _: int) -> list[str]:
            ids = [message_id for message_id, name in engine.names.items() if name in chosen]
            decided = engine.store.decide_by_id(dead_letter_name(queue), ids, decision, actor=ACTOR)
            return sorted(engine.names[message_id] for message_id in decided)

        self.both(decide, "reclaim", "due", "decide", touched=dead)

    @precondition(lambda self: self.leases)
    @rule(which=some, key=st.sampled_from(["k", "j"]))
    def attach_result(self, which: list[int], key: str) -> None:
        [lease, *_] = self.pick(which)
        self.both(lambda engine, n: engine.store.attach_result(lease[n], key, '"late"'))

    @precondition(lambda self: self.leases)
    @rule(number=st.integers(0, 2), failed=st.lists(st.integers(0, 5), max_size=1))
    def transact(self, number: int, failed: list[int]) -> None:
        held, lost = self.pick([number]), self.pick(failed)
        failure = Failure(Reason.HANDLER_ERROR, "E", "", retry_in_ms=0)

        def run(engine: Engine, n: int) -> list[str]:
            with engine.store.transaction([held[0][n]], actor="t") as tx:
                ids = tx.send("mail", [draft(1)])
                tx.settle([Completion(c[n]) for c in held], [(c[n], failure) for c in lost])
            return engine.sent(ids)

        touched = self.named([*held, *lost])
        verbs = ("send", "complete", "fail", "expire")
        self.both(run, *verbs, others=["due"], touched=touched)

    @precondition(lambda self: self.leases)
    @rule(which=some, failed=some, failure=failures)
    def settle_together(self, which: list[int], failed: list[int], failure: Failure) -> None:
        """Several operations in one transaction; one is refused, and undone alone."""
        chosen = without_rivals(self.pick(which + failed))
        done, lost = chosen[::2], chosen[1::2]

        def run(engine: Engine, n: int) -> list[Any]:
            failures = [(c[n], failure) for c in lost]
            settle = Settle([Completion(c[n]) for c in done], failures, actor="w")
            sent, refused, outcomes = engine.store.together(
                [Send("mail", [draft(1)]), Send("mail", [draft("too long")]), settle]
            )
            assert isinstance(sent, list)
            return [engine.sent(map(str, sent)), type(refused), outcomes]

        touched = self.named(chosen)
        verbs = ("send", "complete", "fail", "expire")
        self.both(run, *verbs, others=["due"], touched=touched)

    # ---- single messages

    @precondition(lambda self: self.before)
    @rule(
        what=st.sampled_from(["cancel", "reschedule", "run now", "run now"]),
        queue=st.sampled_from([None, None, "orders"]),
        seconds=st.sampled_from([-2, 0, 1, 3]),
        by_date=booleans,
        data=st.data(),
    )
    def control(
        self, what: str, queue: str | None, seconds: int, by_date: bool, data: st.DataObject
    ) -> None:
        """Cancel or reschedule messages in any state, and one that does not exist."""
        there = sorted(self.before)
        chosen = data.draw(st.lists(st.sampled_from(there), min_size=1, max_size=3))

        def change(engine: Engine, _: int) -> list[Refusal | None]:
            by_name = {name: message_id for message_id, name in engine.names.items()}
            ids = ["0", *(by_name[name] for name in chosen)]
            if what == "cancel":
                return engine.store.cancel(ids, queue=queue, actor="ann")
            delay_ms = 0 if what == "run now" else max(0, seconds) * 1_000
            at_ms = engine.clock.wall_ms() + seconds * 1_000 if by_date else None
            return engine.store.reschedule(
                ids, delay_ms=delay_ms, at_ms=at_ms, queue=queue, actor="ann"
            )

        verb = "cancel" if what == "cancel" else "reschedule"
        self.both(change, *RECLAIM, verb, others=RECLAIM, touched=chosen)

    # ---- time, workers, maintenance

    @rule(seconds=st.sampled_from([0.1, 0.5, 1, 2, 5]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-30, -3, 3, 9, 21, 90, -90, YEAR_SECONDS, -YEAR_SECONDS]))
    def set_the_wall_clock(self, seconds: int) -> None:
        self.clock.set_wall(self.clock.wall_ms() + seconds * 1_000)

    @rule(queue=st.sampled_from(EVERY_QUEUE), paused=st.sampled_from([0, 0, 1]))
    def pause(self, queue: str, paused: int) -> None:
        self.both(lambda engine, _: engine.store.declare_queue(queue, {"paused": paused}))

    @rule(queue=queues, changes=limits)
    def set_limits(self, queue: str, changes: dict[str, Any]) -> None:
        self.counts_change |= bool({"bury_at", "max_receives"} & {*changes})

        def change(engine: Engine, _: int) -> QueueInfo:
            info = engine.store.declare_queue(queue, changes)
            engine.rank_again()
            return info

        self.both(change)

    @rule(
        name=st.sampled_from(["ann", "bob"]),
        queues=st.sampled_from([None, (), tuple(EVERY_QUEUE)]),
        lost=st.sampled_from([None, "reclaim", "leave", "beat"]),
    )
    def come_and_go(self, name: str, queues: tuple[str, ...] | None, lost: str | None) -> None:
        there = [worker.owner_id for worker in self.engines[0].store.workers()]
        if lost is None or not there:
            worker = WorkerInfo(name, 1, 2, queues=queues)
            self.both(lambda engine, _: engine.store.register(worker))
        elif lost == "beat":
            stats = WorkerStats("working", len(self.leases))
            self.both(lambda engine, _: engine.store.beat(there[0], stats, queues=queues))
        elif lost == "leave":
            self.both(lambda engine, _: engine.store.unregister(there[0]), *RECLAIM)
        else:
            self.both(lambda engine, _: engine.store.reclaim(owner_id=there[-1]), *RECLAIM)
        self.a_worker_was_noted()

    def a_worker_was_noted(self) -> None:
        """Do what makes the engines equal after the registration or the beat of a worker."""

    @rule(what=st.sampled_from(["reclaim", "forget", "purge"]), queue=queues, dead=booleans)
    def keep_up(self, what: str, queue: str, dead: bool) -> None:
        if what == "reclaim":
            self.both(lambda engine, _: engine.store.reclaim(), *RECLAIM)
        elif what == "forget":
            self.both(lambda engine, _: engine.store.forget(queue, "k"))
        else:
            name = dead_letter_name(queue) if dead else "mail"  # most steps use "orders"
            there = [n for n, (_, message) in self.before.items() if message.queue == name]
            self.both(lambda engine, _: engine.store.purge(name), "purge", touched=there)

    # ---- invariants after each step

    @invariant()
    def both_show_the_same(self) -> None:
        model, other = (engine.all_there_is() for engine in self.engines)
        assert other == model
        SideBySide.compared += 1

    @invariant()
    def the_counters_reconcile(self) -> None:
        for info in self.engines[1].store.queues():
            assert info.counters.expected == info.counts.present, info

    @invariant()
    def a_receive_count_stays_within_its_limit(self) -> None:
        if self.counts_change:  # a message may have had more before
            return
        for where, message in self.before.values():
            assert where is Node.DEAD or message.receive_count <= SETTINGS["max_receives"]


#: A part of the profile's examples for each test: a walk costs 0.2 s of processor time. Shrinking
#: one takes minutes, longer than a test may, so a failure shows the walk as it was.
WALKS = settings(
    max_examples=settings().max_examples // 10,
    stateful_step_count=40,
    derandomize=False,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


@pytest.mark.parametrize("part", range(4))
def test_two_engines_that_walk_side_by_side_agree(part: int) -> None:
    before = SideBySide.compared
    take_walks(SideBySide, WALKS, part=part)
    assert SideBySide.compared - before >= WALKS.max_examples
