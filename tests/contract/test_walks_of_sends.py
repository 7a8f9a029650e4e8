"""Two engines walk side by side, and their queues have limits for senders."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from durableq.model.flow.sending import OnFull
from durableq.model.message import Draft, draft
from tests.contract.engines import QUEUES
from tests.contract.strategies import queues
from tests.contract.test_group_walks import GroupsSideBySide
from tests.contract.test_random_walks import WALKS, SideBySide
from tests.contract.walking import take_walks

_names = st.sampled_from([None, "a", "b"])
_waits = st.sampled_from([(None, None), (None, None), (1, None), (1, 2)])


@st.composite
def options(draw: st.DrawFn) -> Draft:
    """Draw a message with options that concern others."""
    replace_key = draw(_names)
    debounce, max_wait = draw(_waits) if replace_key else (None, None)
    return draft(
        draw(st.sampled_from([1, "four"])),
        key=draw(st.sampled_from([None, None, "k"])),
        deduplication_id=draw(_names),
        replace_key=replace_key,
        debounce=debounce,
        max_wait=max_wait,
        group=draw(_names),
    )


class Senders(SideBySide):
    """The walk."""

    @rule(
        messages=st.sampled_from([0, 2, 4, 6]),
        body_bytes=st.sampled_from([0, 6, 12]),
        on_full=st.sampled_from([OnFull.RAISE, OnFull.SHED]),
    )
    def limit_the_backlog(self, messages: int, body_bytes: int, on_full: OnFull) -> None:
        """Limit `orders`: other steps send to `mail`, and are sure of its room."""
        settings = {"max_backlog": messages, "max_backlog_bytes": body_bytes, "on_full": on_full}
        self.both(lambda engine, _: engine.store.declare_queue("orders", settings))

    @rule(queue=queues, batch=st.lists(options(), min_size=1, max_size=4))
    def send_for_others(self, queue: str, batch: list[Draft]) -> None:
        """Send messages that others stand for, or that replace others."""
        self.both(lambda engine, _: engine.sent(engine.store.send(queue, batch)), "send")

    @rule(window_ms=st.sampled_from([1_000, 5_000]))
    def remember_ids_for(self, window_ms: int) -> None:
        settings = {"deduplication_window_ms": window_ms}
        self.both(lambda engine, _: engine.store.declare_queue("orders", settings))

    @invariant()
    def the_bytes_are_counted(self) -> None:
        findings = {one.name: one.what for one in self.engines[1].store.orphans()}
        assert findings["queues_with_other_bytes"].startswith("no queues")
        assert {info.name for info in self.engines[0].store.queues()} >= {*QUEUES}


class SendersToGroups(Senders, GroupsSideBySide):
    """The walk, in queues with groups."""


@pytest.mark.parametrize("walk", [Senders, SendersToGroups])
def test_engines_whose_queues_limit_senders_agree(walk: type[Senders]) -> None:
    before = walk.compared
    take_walks(walk, WALKS)
    assert walk.compared - before >= WALKS.max_examples
