"""Engines walk side by side over queues with groups, whose settings change on the way.

After each step no group has more active messages than its limit, except for those that were active
already when the limit was lowered, and no group has blocked messages and room for them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from durableq.model.health import Level
from durableq.model.message import (
    Completion,
    Draft,
    Failure,
    Outcome,
    Reason,
    Served,
    State,
    draft,
)
from tests.contract.engines import EVERY_QUEUE, Engine, declare
from tests.contract.strategies import booleans
from tests.contract.test_random_walks import WALKS, YEAR_SECONDS, SideBySide
from tests.contract.walking import take_walks

grouped = st.builds(
    draft,
    st.sampled_from([1, 2, "four"]),
    key=st.sampled_from([None, None, "k"]),
    delay=st.sampled_from([None, None, 0, 1]),
    priority=st.sampled_from([0, 0, 0, 1]),
    group=st.sampled_from(["a", "a", "b", "c", None]),
    expires_in=st.sampled_from([None, None, None, 2]),
    replace_key=st.sampled_from([None, None, None, None, "r"]),
)


def with_fills(verbs: Sequence[str]) -> list[str]:
    """Return operations with one around each that makes messages of a group active."""
    return [*(step for verb in verbs for step in ("fill", verb)), "fill"]


class GroupsSideBySide(SideBySide):
    """The walk, with groups in `orders` from the start and in `mail` now and then."""

    compared_groups: ClassVar[int] = 0

    # Not back by less than a jump: time in the store goes back as well, and the order of heads
    # that become ready then is not promised. SQL counts a turn at each completion in a queue with
    # groups, the memory engine only where a head becomes ready.
    @rule(seconds=st.sampled_from([3, 9, 21, 90, -90, YEAR_SECONDS, -YEAR_SECONDS]))
    def set_the_wall_clock(self, seconds: int) -> None:
        super().set_the_wall_clock(seconds)

    @initialize(
        batch=st.lists(grouped, min_size=4, max_size=8), concurrency=st.sampled_from([1, 1, 2])
    )
    def begin(self, batch: list[Draft], concurrency: int = 1) -> None:
        for name in EVERY_QUEUE:
            self.both(partial(declare, name=name))
        self.regroup("orders", concurrency, hold=False)
        self.send("orders", batch)
        self.receive("orders", 4, 3_000, whose=0)
        if self.leases:
            self.fail([0, 1, 2], Failure(Reason.REJECTED, "ValueError", "no"))

    def judge(
        self, verbs: Sequence[str], others: Sequence[str], touched: Iterable[str] | None
    ) -> None:
        super().judge(with_fills(verbs), with_fills(others), touched)

    @rule(
        queue=st.sampled_from(["orders", "orders", "mail"]),
        batch=st.lists(grouped, min_size=1, max_size=4),
    )
    def send_grouped(self, queue: str, batch: list[Draft]) -> None:
        self.send(queue, batch)

    @rule(
        queue=st.sampled_from(["orders", "orders", "mail"]),
        concurrency=st.sampled_from([0, 1, 1, 2, 3]),
        hold=booleans,
        rate=st.sampled_from([0, 0, 0.5, 3]),
    )
    def regroup(self, queue: str, concurrency: int, rate: float = 0, *, hold: bool) -> None:
        changes: dict[str, float] = {"group_concurrency": concurrency, "group_on_dead": 0}
        if concurrency and hold:
            changes["group_on_dead"] = 1
        changes["group_rate"] = rate if concurrency else 0
        self.both(lambda engine, _: engine.store.declare_queue(queue, changes), "change")

    @rule(
        queue=st.sampled_from(["orders", "orders", "mail"]),
        limit=st.integers(1, 4),
        how=st.sampled_from(["complete", "cut", "fail", "leave"]),
        terms=st.sampled_from([{"by_group": True}, {"served": Served(fill_groups=True)}]),
    )
    def work_by_group(self, queue: str, limit: int, how: str, terms: dict[str, Any]) -> None:
        """A batch of one group: done, cut at its second message, failed, or left to its lease.

        Or one that is filled from several.
        """
        before = len(self.leases)
        self.take(lambda engine: engine.store.receive(queue, limit, **terms))
        batch, failure = self.leases[before:], Failure(Reason.HANDLER_ERROR, "E", "no")
        done, failed = {"complete": (batch, []), "fail": ([], batch)}.get(
            how, (batch[:1], batch[1:2])
        )
        if not batch or how == "leave":
            return

        def settle(engine: Engine, n: int) -> list[Outcome]:
            completions = [Completion(lease[n]) for lease in done]
            return engine.store.settle(completions, [(lease[n], failure) for lease in failed])

        verbs = ["complete", "fail", "release"]
        self.both(settle, *verbs, others=["due"], touched=self.named(batch))
        if how == "cut":
            behind = batch[2:]
            self.both(
                lambda engine, n: engine.store.release([lease[n] for lease in behind]),
                *verbs,
                others=["due"],
                touched=self.named(behind),
            )

    @invariant()
    def no_group_is_stranded(self) -> None:
        for name in ("orders", "mail"):
            store = self.engines[1].store
            settings = store.settings(name)
            messages = store.peek(name, 1_000)
            # Not of its present dead-letter queue alone: the walk changes that setting.
            every = (m for queue in EVERY_QUEUE for m in store.peek(queue, 1_000))
            dead = {m.group for m in every if m.source_queue == name}
            groups = {m.group for m in messages if m.state is State.BLOCKED}
            active = Counter(m.group for m in messages if m.state is not State.BLOCKED)
            assert settings.group_concurrency or not groups
            for group in groups:
                is_held = settings.group_on_dead and group in dead
                assert is_held or active[group] >= settings.group_concurrency, (name, group)
            GroupsSideBySide.compared_groups += len(groups)

    @invariant()
    def the_audit_finds_nothing(self) -> None:
        findings = {finding.name: finding for finding in self.engines[1].store.orphans()}
        for name in ("groups_with_other_counts", "groups_stranded", "messages_out_of_turn"):
            assert findings[name].level is Level.OK, findings[name]


def test_two_engines_with_groups_that_walk_side_by_side_agree() -> None:
    before = GroupsSideBySide.compared_groups
    take_walks(GroupsSideBySide, WALKS)
    assert GroupsSideBySide.compared_groups > before
