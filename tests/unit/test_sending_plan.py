"""The plan of a send: a batch is planned as its messages would be one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model.drafts import DraftFlow
from durableq.model.errors import InvalidInput, QueueFull
from durableq.model.flow.sending import (
    UNLIMITED,
    Backlog,
    Facts,
    Incoming,
    OnFull,
    Plan,
    Waiting,
    plan,
)

NOW_MS = 1_000
FIRST_ID = 100
names = st.sampled_from([None, "a", "b"])
waits = st.sampled_from([(None, None), (2_000, None), (2_000, 3_000)])


@st.composite
def flows(draw: st.DrawFn) -> DraftFlow:
    replace_key = draw(names)
    debounce = draw(waits) if replace_key else (None, None)
    group, of_group = draw(st.sampled_from([(None, False), ("g", False), ("g", True)]))
    made = DraftFlow(group, draw(names), replace_key, *debounce)
    return made._replace(deduplicates_in_group=of_group)


batches = st.lists(st.tuples(st.integers(0, 9), flows()), max_size=8).map(
    lambda drawn: [Incoming(FIRST_ID + n, size, flow) for n, (size, flow) in enumerate(drawn)]
)
older = st.lists(st.builds(Waiting, st.integers(1, 9), st.integers(0, 9), st.just(0)), max_size=2)
facts = st.builds(
    Facts,
    st.builds(
        Backlog,
        st.integers(5, 9),
        st.integers(40, 60),
        st.sampled_from([0, 6, 9]),
        st.sampled_from([0, 50, 70]),
        st.just(OnFull.SHED),
        st.just(0),
    ),
    st.just(NOW_MS),
    st.dictionaries(
        st.tuples(st.sampled_from(["", "g"]), st.sampled_from("ab")), st.integers(1, 9), max_size=3
    ),
    st.fixed_dictionaries({}, optional={"a": older}),
)


def after(before: Facts, one: Incoming, made: Plan) -> Facts:
    """Return the state of the queue after one message."""
    waiting = dict(before.waiting)
    if made.stored and one.flow.replace_key is not None:
        _, until_ms = made.debounced.get(one.id, (0, 0))
        waiting[one.flow.replace_key] = [Waiting(one.id, one.body_bytes, until_ms)]
    return Facts(
        before.backlog.plus(made.messages, made.body_bytes),
        NOW_MS,
        {**before.sent, **made.remembered},
        waiting,
    )


@given(batches, facts)
def test_a_batch_is_planned_as_its_messages_are_one_by_one(
    batch: list[Incoming], before: Facts
) -> None:
    whole, now = plan("orders", batch, before), before
    ids: list[int | None] = []
    replaced: dict[int, int] = {}
    debounced: dict[int, tuple[int, int]] = {}
    for one in batch:
        made = plan("orders", [one], now)
        ids += made.ids
        replaced |= made.replaced
        debounced |= made.debounced
        now = after(now, one, made)
    assert (whole.ids, whole.replaced, whole.debounced) == (ids, replaced, debounced)
    assert before.backlog.plus(whole.messages, whole.body_bytes) == now.backlog


@given(batches, facts)
def test_no_plan_exceeds_a_limit_or_sheds_without_need(
    batch: list[Incoming], before: Facts
) -> None:
    made, was = plan("orders", batch, before), before.backlog
    now = was.plus(made.messages, made.body_bytes)
    if was.max_messages:
        assert now.messages <= max(was.messages, was.max_messages)
    if was.max_bytes:
        assert now.body_bytes <= max(was.body_bytes, was.max_bytes)
    assert made.shed + made.deduplicated + len(made.stored) == len(batch)
    assert plan("orders", batch, before._replace(backlog=UNLIMITED)).shed == 0
    newest = {one.flow.replace_key: one.id for one in batch if one.id in made.stored}
    waiting = {*made.stored} - made.replaced.keys()
    keyed = [one for one in batch if one.id in waiting and one.flow.replace_key is not None]
    assert {one.flow.replace_key: one.id for one in keyed} == {
        key: one for key, one in newest.items() if key is not None
    }


@given(batches, facts, st.sampled_from([OnFull.RAISE, OnFull.BLOCK]))
def test_a_batch_is_refused_exactly_if_some_would_be_shed(
    batch: list[Incoming], before: Facts, on_full: OnFull
) -> None:
    shed = plan("orders", batch, before).shed
    strict = before._replace(backlog=before.backlog._replace(on_full=on_full, block_ms=9))
    if not shed:
        assert plan("orders", batch, strict) == plan("orders", batch, before)
        return
    with pytest.raises((QueueFull, InvalidInput)) as refused:
        plan("orders", batch, strict)
    if isinstance(refused.value, QueueFull):
        assert bool(refused.value.block_ms) == (on_full is OnFull.BLOCK)
