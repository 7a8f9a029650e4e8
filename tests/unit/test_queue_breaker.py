"""The breaker of a queue: which failures count, and what they change."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model.flow.breaker import Phase
from durableq.model.flow.queue_breaker import (
    COUNTED,
    NEW,
    At,
    FailureRecord,
    Judgement,
    QueueBreaker,
    by_hand,
    judge,
    on_receive,
    settings_of,
)
from durableq.model.limits import MAX_UNCOUNTED
from durableq.model.message import Failure
from durableq.model.settings import QueueSettings
from durableq.model.states import Reason

OPTIONS = QueueSettings(breaker=1, breaker_minimum=4, breaker_open_ms=1_000, breaker_probes=2)
ERROR = Failure(Reason.HANDLER_ERROR, "OSError", "refused")
DOWN = Failure(Reason.UNAVAILABLE, "Unavailable", "the bank is down")


@dataclass
class Model:
    """A breaker with its records, as an engine keeps them."""

    now_ms: int = 1_000_000
    completed: int = 0
    state: QueueBreaker = NEW
    records: dict[str, FailureRecord] = field(default_factory=dict)

    @property
    def at(self) -> At:
        return At(self.now_ms, self.completed)

    def fail(self, message_id: str, failure: Failure = ERROR) -> bool:
        """Let a message fail; return whether the receive counts."""
        known = self.records.get(message_id)
        judged = judge(self.state, known, message_id, failure, self.at, OPTIONS)
        self.state = judged.state
        if judged.record is not None:
            self.records[message_id] = judged.record
        return not judged.is_uncounted

    def receive(self, in_flight: int = 0) -> int | None:
        """Return the number of places after a receive."""
        self.state = on_receive(self.state, self.at, OPTIONS)
        return self.state.places(in_flight, settings_of(OPTIONS))

    def probe(self) -> None:
        """Wait until it is half-open."""
        self.now_ms += self.state.left_ms(self.now_ms)
        self.receive()
        assert self.state.phase is Phase.HALF_OPEN


def test_it_opens_when_enough_distinct_messages_fail() -> None:
    model = Model()
    assert [model.fail(name) for name in "abc"] == [True] * 3
    assert model.state.trips == 0
    assert model.fail("d")
    assert model.state.phase is Phase.OPEN
    assert model.state.reason == "4 of 4 messages failed within 30 s"
    assert model.receive() == 0


def test_a_message_that_fails_again_and_again_counts_once() -> None:
    model = Model()
    for _ in range(50):
        model.fail("poison")
    assert (model.state.phase, model.state.died) == (Phase.CLOSED, 1)


def test_successes_are_the_difference_of_the_counter() -> None:
    model = Model(completed=1_000)
    for name in "abcdefgh":
        model.fail(name)
        model.completed += 3
    assert model.state.phase is Phase.CLOSED


def test_a_window_begins_with_the_first_failure_after_the_last_one() -> None:
    model = Model()
    for name in "abc":
        model.fail(name)
    model.now_ms += OPTIONS.breaker_window_ms
    assert model.fail("d")
    assert (model.state.phase, model.state.died) == (Phase.CLOSED, 1)
    for name in "abc":
        model.fail(name)
    assert model.state.phase is Phase.OPEN


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in COUNTED])
def test_other_failures_say_nothing_about_a_service(reason: Reason) -> None:
    model = Model()
    for number in range(20):
        assert model.fail(str(number), Failure(reason, "", ""))
    assert (model.state, model.records) == (NEW, {})


def test_unavailable_opens_it_at_once_and_is_not_counted() -> None:
    model = Model()
    assert not model.fail("a", DOWN)
    assert model.state.phase is Phase.OPEN
    assert model.state.reason == "message a raised Unavailable: the bank is down"
    assert not model.fail("b", DOWN), "it was in flight"
    assert model.fail("c", ERROR)
    assert (model.state.trips, [*model.records]) == (1, ["a", "b"])


def test_it_stays_open_as_long_as_the_service_asks_within_the_maximum() -> None:
    for asked_ms, open_ms in ((500, 1_000), (60_000, 60_000), (10**9, 300_000)):
        model = Model()
        model.fail("a", Failure(Reason.UNAVAILABLE, "Unavailable", "", retry_in_ms=asked_ms))
        assert model.state.left_ms(model.now_ms) == open_ms


def test_probes_that_succeed_close_it() -> None:
    model = Model(completed=7)
    model.fail("a", DOWN)
    model.completed += 5  # of messages that were in flight
    model.probe()
    assert [model.receive(n) for n in range(4)] == [2, 1, 0, 0]
    model.completed += 1
    assert model.receive(1) == 1
    model.completed += 1
    assert model.receive() is None
    assert model.state.reason == "2 of 2 probes succeeded"
    assert model.state.since_ms == model.now_ms


def test_probes_that_fail_open_it_again_for_twice_as_long() -> None:
    model = Model()
    model.fail("a", DOWN)
    model.probe()
    assert not model.fail("b", DOWN)
    assert model.state.left_ms(model.now_ms) == 2_000
    model.probe()
    assert model.fail("c", ERROR)
    assert model.state.left_ms(model.now_ms) == 4_000
    assert model.state.reason == "1 of 1 probes failed"


def test_one_probe_that_fails_again_and_again_counts_once() -> None:
    options = QueueSettings(breaker_probes=3)
    state, known = QueueBreaker(Phase.HALF_OPEN, 0), None
    for now_ms in range(1, 50):
        judged = judge(state, known, "a", ERROR, At(now_ms, 0), options)
        state, known = judged.state, judged.record
    assert (state.phase, state.died) == (Phase.HALF_OPEN, 1)


def test_where_other_probes_succeed_unavailable_is_the_messages_own_failure() -> None:
    model = Model()
    model.fail("poison", DOWN)
    model.probe()
    model.completed += 1
    assert model.fail("poison", DOWN)
    assert model.state.phase is not Phase.CLOSED
    model = Model()
    model.fail("poison", DOWN)
    model.probe()
    model.completed += 2
    assert model.receive() is None
    for _ in range(2):
        model.completed += 1
        assert model.fail("poison", DOWN), "others have succeeded since"
        assert model.state.phase is Phase.CLOSED


def test_a_second_outage_costs_a_message_at_most_one_receive() -> None:
    model = Model()
    for name in "abcde":
        model.fail(name, DOWN)
    model.probe()
    model.completed += 2
    assert model.receive() is None
    assert [model.fail(name, DOWN) for name in "aabcde"] == [True, *[False] * 5]


def test_a_breaker_closed_by_hand_opens_again_by_the_same_rules() -> None:
    model = Model()
    model.fail("a", DOWN)
    model.state = by_hand(model.state, model.at, OPTIONS, "ada", is_open=False)
    assert (model.receive(), model.state.reason) == (None, "closed by ada")
    assert not model.fail("a", DOWN), "nothing has succeeded since"
    assert (model.state.phase, model.state.trips) == (Phase.OPEN, 1)


def test_a_breaker_opened_by_hand_probes_after_the_time_given() -> None:
    model = Model()
    model.state = by_hand(model.state, model.at, OPTIONS, "ada", 77_000, is_open=True)
    assert (model.state.left_ms(model.now_ms), model.state.reason) == (77_000, "opened by ada")
    model.probe()


def test_uncounted_returns_have_a_limit() -> None:
    model = Model()
    counted = [model.fail("poison", DOWN) for _ in range(MAX_UNCOUNTED + 3)]
    assert counted == [False] * MAX_UNCOUNTED + [True] * 3
    assert model.records["poison"].uncounted == MAX_UNCOUNTED


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["wait", "succeed", "receive", "fail", "down", "lost"]),
        st.sampled_from("abcdef"),
        st.integers(0, 2_000),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_rules_hold_in_any_order_of_events(steps: list[tuple[str, str, int]]) -> None:
    model = Model()
    for step, name, wait_ms in steps:
        before = model.state
        match step:
            case "wait":
                model.now_ms += wait_ms
            case "succeed":
                model.completed += 1
            case "receive":
                check_places(model.receive(wait_ms % 5), wait_ms % 5, model)
            case "lost":
                assert model.fail(name, Failure(Reason.WORKER_LOST, "", ""))
                assert model.state is before
            case "fail":
                assert model.fail(name), "only Unavailable is uncounted"
            case "down":
                counts = model.fail(name, DOWN)
                if not counts:
                    assert model.state.phase is Phase.OPEN
                elif before.phase is not Phase.OPEN:
                    assert model.completed > 0, "another message has succeeded"
        check_step(before, model)


def check_places(places: int | None, taken: int, model: Model) -> None:
    match model.state.phase:
        case Phase.CLOSED:
            assert places is None
        case Phase.OPEN:
            assert places == 0
            assert model.state.left_ms(model.now_ms) > 0
        case Phase.HALF_OPEN:
            assert places == max(0, OPTIONS.breaker_probes - taken)


def check_step(before: QueueBreaker, model: Model) -> None:
    edge = before.phase, model.state.phase
    assert edge not in {(Phase.OPEN, Phase.CLOSED), (Phase.CLOSED, Phase.HALF_OPEN)}
    assert model.state.died <= len(model.records) or model.state.phase is Phase.OPEN
    assert all(record.uncounted <= MAX_UNCOUNTED for record in model.records.values())
    if edge == (Phase.CLOSED, Phase.OPEN):
        assert model.state.trips == 1
    if edge[0] is not edge[1]:
        assert model.state.since_ms == model.now_ms
        assert model.state.reason != before.reason or edge[1] is Phase.HALF_OPEN


def test_a_judgement_that_changes_nothing_leaves_the_record() -> None:
    judged = judge(NEW, None, "a", Failure(Reason.REJECTED, "", ""), At(1, 0), OPTIONS)
    assert judged == Judgement(NEW, None)
