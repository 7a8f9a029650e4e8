"""The one table of edges, and the decisions taken on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model.lifecycle import (
    EDGES,
    Admission,
    Bury,
    Drop,
    KnownKey,
    Node,
    Redeliver,
    admit,
    after_failure,
    allowed,
    at_expiry,
    backoff_ceiling_ms,
    diagram,
    node_of,
)
from durableq.model.message import Failure, Message, Reason, RecordStatus, State
from durableq.model.settings import QueueSettings

NOW_MS = 1_000_000
RETENTION_MS = 60_000
ONE, OTHER = b"1" * 32, b"2" * 32
SETTINGS = QueueSettings(max_receives=3)

rng = st.floats(0, 1, exclude_max=True)


def failed(reason: Reason, retry_in_ms: int | None = None) -> Failure:
    return Failure(reason, "E", "", retry_in_ms=retry_in_ms)


def decide(
    reason: Reason, receive_count: int, retry_in_ms: int | None = None, dead: bool = False
) -> Redeliver | Bury | Drop:
    return after_failure(
        failed(reason, retry_in_ms), receive_count, SETTINGS, 0.5, has_dead_letter_queue=not dead
    )


# ---- edges


def test_every_state_can_be_reached_and_can_end() -> None:
    def closure(start: Node, *, backwards: bool = False) -> set[Node]:
        places = {start}
        for _ in Node:
            for source, target, *_ in EDGES:
                before, after = (target, source) if backwards else (source, target)
                places |= {after} if before in places else set()
        return places

    assert closure(Node.NEW) == set(Node)
    assert closure(Node.ENDED, backwards=True) == set(Node)


def test_ended_messages_stay_ended_and_no_edge_leads_to_new() -> None:
    assert not any(allowed(Node.ENDED, target) for target in Node)
    assert not any(allowed(source, Node.NEW) for source in Node)


def test_the_dead_never_go_straight_to_a_worker() -> None:
    assert not allowed(Node.DEAD, Node.IN_FLIGHT)
    assert not allowed(Node.DELAYED, Node.IN_FLIGHT)


def test_no_edge_is_in_the_table_twice() -> None:
    assert len(set(EDGES)) == len(EDGES)


def test_the_diagram_draws_every_edge() -> None:
    first, *lines = diagram().splitlines()
    assert first == "stateDiagram-v2"
    for edge in EDGES:
        end = "[*]" if edge.target is Node.ENDED else edge.target
        [line] = [drawn for drawn in lines if drawn.startswith(f"    {edge.source} --> {end}: ")]
        assert edge.operation in line
        assert edge.when in line


@pytest.mark.parametrize("state", State)
def test_a_message_with_a_source_is_dead_in_any_state(state: State) -> None:
    message = Message("1", "q", "1", None, None, 0, state, 0, 0, 0, 0, 0, 0, None, None)
    assert node_of(message).value == state.label
    assert node_of(message._replace(source_queue="q")) is Node.DEAD


# ---- after a failure


@pytest.mark.parametrize("reason", [reason for reason in Reason if not reason.permanent])
def test_a_failure_is_retried_until_the_last_receive(reason: Reason) -> None:
    assert isinstance(decide(reason, 2), Redeliver)
    assert decide(reason, 3) == Bury(reason)
    assert decide(reason, 4) == Bury(reason)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.permanent])
def test_messages_that_can_never_succeed_are_buried_at_once(reason: Reason) -> None:
    assert decide(reason, 1, retry_in_ms=5) == Bury(reason)


@pytest.mark.parametrize("reason", Reason)
def test_a_dead_letter_queue_buries_nothing(reason: Reason) -> None:
    assert isinstance(decide(reason, 1_000, dead=True), Redeliver)


def test_a_handler_may_choose_the_wait() -> None:
    assert decide(Reason.HANDLER_ERROR, 1, retry_in_ms=0) == Redeliver(0)
    assert decide(Reason.HANDLER_ERROR, 1, retry_in_ms=7) == Redeliver(7)


@pytest.mark.parametrize("reason", [Reason.LEASE_EXPIRED, Reason.WORKER_LOST])
def test_a_lost_lease_does_not_wait(reason: Reason) -> None:
    assert decide(reason, 2) == Redeliver(0)


@given(st.sampled_from([Reason.HANDLER_ERROR, Reason.TIMEOUT]), st.integers(1, 2), rng)
def test_other_failures_back_off(reason: Reason, receive_count: int, thrown: float) -> None:
    decision = after_failure(
        failed(reason), receive_count, SETTINGS, thrown, has_dead_letter_queue=True
    )
    ceiling = backoff_ceiling_ms(receive_count, SETTINGS.backoff_base_ms, SETTINGS.backoff_max_ms)
    assert isinstance(decision, Redeliver)
    assert 0 <= decision.wait_ms < ceiling


@given(st.sampled_from(list(Reason)), st.integers(1, 4), st.integers(-9, 9_000), rng)
def test_a_failed_message_is_tried_again_only_before_it_expires(
    reason: Reason, receive_count: int, left_ms: int, thrown: float
) -> None:
    dead = QueueSettings(max_receives=3, on_expiry=1)
    for settings, at_end in ((SETTINGS, Drop()), (dead, Bury(Reason.MESSAGE_EXPIRED))):
        decision = after_failure(
            failed(reason),
            receive_count,
            settings,
            thrown,
            has_dead_letter_queue=True,
            expires_in_ms=left_ms,
        )
        if reason.permanent or receive_count >= 3:
            assert decision == Bury(reason), "the last failure says more than the expiry"
        elif left_ms <= 0:
            assert decision == at_end
        else:
            assert isinstance(decision, Redeliver)
            assert 0 <= decision.wait_ms <= left_ms, "the next receive meets it when it expires"


def test_an_expired_message_without_a_dead_letter_queue_is_dropped() -> None:
    settings = QueueSettings(on_expiry=1)
    assert at_expiry(settings, has_dead_letter_queue=False) == Drop()


# ---- admission


def known(
    status: RecordStatus = RecordStatus.COMPLETED,
    payload_hash: bytes = ONE,
    expires_at_ms: int = NOW_MS + 1,
    holds: bool = False,
) -> KnownKey:
    return KnownKey(status, payload_hash, expires_at_ms, holds)


@pytest.mark.parametrize(
    ("record", "admission"),
    [
        (None, Admission.DELIVER),
        (known(), Admission.DUPLICATE),
        (known(payload_hash=OTHER), Admission.CONFLICT),
        (known(expires_at_ms=NOW_MS), Admission.DELIVER),
        (known(payload_hash=OTHER, expires_at_ms=NOW_MS), Admission.DELIVER),
        (known(RecordStatus.IN_PROGRESS, expires_at_ms=0, holds=True), Admission.DEFER),
        (known(RecordStatus.IN_PROGRESS, OTHER, 0, holds=True), Admission.DEFER),
        (known(RecordStatus.IN_PROGRESS, expires_at_ms=0), Admission.DELIVER),
    ],
    ids=[
        "a key never seen",
        "succeeded",
        "succeeded with another payload",
        "succeeded, but its record has expired",
        "another payload, but its record has expired",
        "in progress",
        "in progress with another payload",
        "in progress, but its owner is gone",
    ],
)
def test_the_record_of_the_key_decides(record: KnownKey | None, admission: Admission) -> None:
    assert admit(NOW_MS - 1, ONE, record, RETENTION_MS, NOW_MS) is admission


@given(
    st.sampled_from([None, ONE, OTHER]),
    st.none() | st.builds(known, st.sampled_from(RecordStatus), holds=st.booleans()),
    st.integers(0, RETENTION_MS),
)
def test_retention_comes_before_the_key(
    payload_hash: bytes | None, record: KnownKey | None, late_ms: int
) -> None:
    came_ms = NOW_MS - RETENTION_MS - late_ms
    assert admit(came_ms, payload_hash, record, RETENTION_MS, NOW_MS) is Admission.PAST_RETENTION
    just = admit(NOW_MS - RETENTION_MS + 1, payload_hash, record, RETENTION_MS, NOW_MS)
    assert just is not Admission.PAST_RETENTION


@given(
    st.none() | st.builds(known, st.sampled_from(RecordStatus), holds=st.booleans()),
    st.integers(0, 2 * RETENTION_MS),
    st.integers(0, RETENTION_MS),
)
def test_expiry_comes_before_retention_and_key(
    record: KnownKey | None, age_ms: int, late_ms: int
) -> None:
    since_ms, expires_ms = NOW_MS - age_ms, NOW_MS - late_ms
    assert admit(since_ms, ONE, record, RETENTION_MS, NOW_MS, expires_ms) is Admission.EXPIRE
    just = admit(since_ms, ONE, record, RETENTION_MS, NOW_MS, NOW_MS + 1)
    assert just is not Admission.EXPIRE
