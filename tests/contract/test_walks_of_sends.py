"""Two engines walk side by side, and their queues have limits for senders."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from durableq.model.flow.sending import OnFull
from tests.contract.engines import QUEUES
from tests.contract.strategies import queues
from tests.contract.test_random_walks import WALKS, SideBySide


class Senders(SideBySide):
    """The walk."""

    @rule(
        queue=queues,
        messages=st.sampled_from([0, 2, 4, 6]),
        body_bytes=st.sampled_from([0, 6, 12]),
        on_full=st.sampled_from([OnFull.RAISE, OnFull.SHED]),
    )
    def limit_the_backlog(
        self, queue: str, messages: int, body_bytes: int, on_full: OnFull
    ) -> None:
        settings = {"max_backlog": messages, "max_backlog_bytes": body_bytes, "on_full": on_full}
        self.both(lambda engine, _: engine.store.declare_queue(queue, settings))

    @invariant()
    def the_bytes_are_counted(self) -> None:
        findings = {one.name: one.what for one in self.engines[1].store.orphans()}
        assert findings["queues_with_other_bytes"].startswith("no queues")
        assert {info.name for info in self.engines[0].store.queues()} >= {*QUEUES}


@pytest.mark.parametrize("part", range(2))
def test_engines_whose_queues_limit_senders_agree(part: int) -> None:
    before = Senders.compared
    run_state_machine_as_test(Senders, settings=WALKS)
    assert Senders.compared - before >= WALKS.max_examples
