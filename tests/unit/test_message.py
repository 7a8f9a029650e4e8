"""The values of a message's life."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model import codec
from durableq.model.errors import InvalidBody, InvalidInput
from durableq.model.limits import (
    MAX_DELAY_MS,
    MAX_ERROR_CHARS,
    MAX_ERROR_TYPE_CHARS,
    MAX_KEY_CHARS,
    MAX_PRIORITY,
    MAX_TRACEBACK_CHARS,
)
from durableq.model.message import (
    FOREVER_MS,
    DeadLetter,
    Event,
    Failure,
    HistoryEvent,
    Message,
    Outcome,
    Reason,
    Receipt,
    Received,
    RecordStatus,
    State,
    draft,
)

DEAD_LETTER = Message(
    id="7",
    queue="orders-dlq",
    body='{"n":1}',
    key="k",
    attributes='{"a":1}',
    priority=0,
    state=State.DELAYED,
    receive_count=0,
    recovery_count=2,
    sent_at_ms=1,
    enqueued_at_ms=2,
    delayed_until_ms=FOREVER_MS,
    lease_left_ms=0,
    source_queue="orders",
    receipt=None,
)


queue_names = st.from_regex(r"[A-Za-z0-9_.-]{1,80}", fullmatch=True)


@given(queue_names, st.integers(1), st.binary(min_size=16, max_size=16))
def test_a_receipt_is_read_back_from_its_text(queue: str, number: int, token: bytes) -> None:
    receipt = Receipt(queue, str(number), token.hex())
    assert Receipt.parse(str(receipt)) == receipt


@pytest.mark.parametrize("text", ["", "orders", "orders:1", "orders:1:", ":1:ab", "orders::ab"])
def test_a_text_that_is_not_a_receipt_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="queue:message:token"):
        Receipt.parse(text)


def test_a_draft_is_checked_and_encoded() -> None:
    made = draft({"n": 1}, key="k", attributes={"a": 1}, delay=1.5, priority=-3)
    assert (made.body, made.key, made.attributes) == ('{"n":1}', "k", '{"a":1}')
    assert (made.delay_ms, made.priority) == (1_500, -3)
    assert made.payload_hash == codec.payload_hash('{"n":1}')


def test_a_draft_leaves_unset_options_unset() -> None:
    assert draft(b"x")[1:] == (None, None, None, None, 0, None)


def test_only_a_keyed_draft_has_a_payload_hash() -> None:
    assert draft(1).payload_hash is None
    assert draft(1, key="k").payload_hash is not None


@pytest.mark.parametrize(
    "options",
    [
        {"key": ""},
        {"key": 7},
        {"key": "x" * (MAX_KEY_CHARS + 1)},
        {"key": "\ud800"},
        {"delay": -0.1},
        {"delay": float("nan")},
        {"delay": float("inf")},
        {"delay": "1"},
        {"delay": MAX_DELAY_MS / 1000 + 1},
        {"priority": MAX_PRIORITY + 1},
        {"priority": -MAX_PRIORITY - 1},
        {"priority": 1.0},
        {"priority": True},
        {"priority": None},
        {"priority": 0.0},
        {"delay": 10**400},
        {"attributes": {"a": None}},
    ],
    ids=str,
)
def test_a_draft_out_of_bounds_is_refused(options: Any) -> None:
    with pytest.raises(InvalidInput):
        draft(1, **options)


def test_a_draft_may_be_at_every_bound() -> None:
    most = draft(1, key="ü" * MAX_KEY_CHARS, delay=MAX_DELAY_MS / 1000, priority=MAX_PRIORITY)
    assert (most.delay_ms, most.priority) == (MAX_DELAY_MS, MAX_PRIORITY)
    least = draft(1, key="k", delay=0, priority=-MAX_PRIORITY)
    assert (least.delay_ms, least.priority) == (0, -MAX_PRIORITY)


def test_a_draft_without_a_body_is_refused() -> None:
    with pytest.raises(InvalidBody):
        draft(object())


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_failure_can_always_be_stored(message: str, traceback: str) -> None:
    failure = Failure(Reason.HANDLER_ERROR, message, message, traceback)
    for text in (failure.error_type, failure.error_message, failure.traceback):
        assert text.encode().decode() == text


def test_long_errors_keep_their_start_and_long_tracebacks_their_end() -> None:
    long = "a" + "x" * MAX_ERROR_CHARS
    failure = Failure(Reason.TIMEOUT, long, long, "x" * 20_000 + "z")
    assert (len(failure.error_type), failure.error_type[0]) == (MAX_ERROR_TYPE_CHARS, "a")
    assert (len(failure.error_message), failure.error_message[0]) == (MAX_ERROR_CHARS, "a")
    assert (len(failure.traceback), failure.traceback[-1]) == (MAX_TRACEBACK_CHARS, "z")


def test_a_message_is_held_only_when_it_waits_forever() -> None:
    assert DEAD_LETTER.held
    assert not DEAD_LETTER._replace(delayed_until_ms=FOREVER_MS - 1).held
    assert not DEAD_LETTER._replace(state=State.READY).held


def test_a_dead_letter_speaks_in_the_senders_terms() -> None:
    events = tuple(
        HistoryEvent("7", "orders", event, at, "w")
        for at, event in enumerate([Event.FAILED, Event.LEASE_EXPIRED, Event.BURIED, Event.HELD])
    )
    dead_letter = DeadLetter(DEAD_LETTER, "orders", Reason.TIMEOUT, 2, events, max_recoveries=3)
    assert (dead_letter.id, dead_letter.key, dead_letter.recovery_count) == ("7", "k", 2)
    assert (dead_letter.body, dead_letter.attributes) == ({"n": 1}, {"a": 1})
    assert dead_letter.failures == events[:2]
    assert dead_letter.last_failure == events[1]


def test_a_dead_letter_without_a_failure_says_so() -> None:
    plain = DEAD_LETTER._replace(attributes=None, body=b"\x00")
    dead_letter = DeadLetter(plain, "orders", Reason.IDEMPOTENCY_CONFLICT, 2, (), max_recoveries=3)
    assert (dead_letter.failures, dead_letter.last_failure) == ((), None)
    assert (dead_letter.attributes, dead_letter.body) == ({}, b"\x00")


@pytest.mark.parametrize("words", [Reason, Event])
def test_every_state_has_its_description(words: type[Reason] | type[Event]) -> None:
    for word in words:
        assert word == word.value == str(word) == word.name.lower()
        assert " " in word.sentence
        assert words(word.value) is word


def test_only_refused_outcomes_are_refused_and_say_why() -> None:
    refused = [outcome for outcome in Outcome if outcome.refused]
    assert refused == [Outcome.STALE, Outcome.GONE]
    assert Outcome.STALE.why != Outcome.GONE.why


def test_states_and_statuses_have_a_word_for_people() -> None:
    assert [state.label for state in State] == ["ready", "in_flight", "delayed", "blocked"]
    assert [status.label for status in RecordStatus] == ["in_progress", "completed"]


def test_a_receive_that_only_set_messages_aside_was_not_idle() -> None:
    assert Received([], [], 0).idle
    assert not Received([], [], 1).idle
    assert not Received([], [], 0, more=True).idle
    assert not Received([DEAD_LETTER], [], 0).idle
