"""Messages of the SQS endpoint, and its receives: envelopes, and batches filled from groups."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model import codec
from durableq.model.decisions import Requeue, Retry
from durableq.model.errors import InvalidBody, InvalidInput
from durableq.model.message import FOREVER_MS, Draft, Message, Reason, Served, draft
from durableq.model.wire_message import (
    BINARY,
    NUMBER,
    STRING,
    TypedAttribute,
    attributes_of,
    body_of,
    system_attributes_of,
    to_draft,
)
from durableq.store.core import Capability, Receive, Send
from durableq.testing.contract.case import (
    DEAD,
    ORDERS,
    VISIBILITY_SECONDS,
    FullStore,
    StoreCase,
    bodies,
    complete,
    decide,
    fail,
    needs,
    receipt,
    receive,
    send,
)
from durableq.testing.contract.queueing.groups import GroupCase, drain, send_group
from durableq.testing.fakes import FakeClock

FILLED = Served(fill_groups=True)


def fetch(store: FullStore, limit: int = 10, queue: str = ORDERS) -> list[Message]:
    """Receive as the endpoint does for a queue without order."""
    return receive(store, limit, queue, served=Served())


def fill(store: FullStore, limit: int = 10) -> list[Message]:
    """Receive as the endpoint does for a queue with order."""
    return receive(store, limit, served=FILLED)


class EnvelopeContract(StoreCase):
    """A message over SQS comes back as it was sent; a Python handler sees it decoded."""

    @pytest.mark.parametrize(
        ("text", "decoded"),
        [
            ('{"a" : 1.0, "b": [ ]}', {"a": 1.0, "b": []}),
            (' "hello"\n', "hello"),
            ("1e2", 100.0),
            ("hello", "hello"),
            ("grün\t\n\"'\\ \U0001f600", "grün\t\n\"'\\ \U0001f600"),
            ("NaN", "NaN"),
            ("{'a': 1}", "{'a': 1}"),
        ],
    )
    def test_a_body_comes_back_character_by_character(
        self, store: FullStore, text: str, decoded: object
    ) -> None:
        store.send(ORDERS, [to_draft(text)])
        [message] = fetch(store)
        assert body_of(message) == text
        assert codec.decode(message.body) == decoded
        assert receipt(message).token

    def test_attributes_come_back_with_their_types(self, store: FullStore) -> None:
        typed = {
            "name": TypedAttribute(STRING, "Anna"),
            "number": TypedAttribute(NUMBER, "7"),
            "price": TypedAttribute("Number.euro", "1.50"),
            "file": TypedAttribute("Binary.png", b"\0\xff"),
            "note": TypedAttribute("String.html", "<b>"),
        }
        store.send(ORDERS, [to_draft("x", typed), to_draft("{}", {"n": typed["number"]})])
        first, second = fetch(store)
        assert attributes_of(first) == typed
        seen = {"name": "Anna", "number": 7, "price": 1.5, "note": "<b>"}
        assert codec.decode_attributes(first.attributes) == seen
        assert attributes_of(second) == {"n": TypedAttribute(NUMBER, "7")}

    def test_attributes_of_a_python_sender_have_types(self, store: FullStore) -> None:
        store.send(ORDERS, [draft(b"\0\1", attributes={"a": "x", "b": 2, "c": 0.5})])
        [message] = fetch(store)
        assert body_of(message) == "AAE="
        assert attributes_of(message) == {
            "a": TypedAttribute(STRING, "x"),
            "b": TypedAttribute(NUMBER, "2"),
            "c": TypedAttribute(NUMBER, "0.5"),
            "durableq.encoding": TypedAttribute(STRING, "base64"),
        }

    def test_system_attributes_and_a_group_without_order_come_back(self, store: FullStore) -> None:
        system = {"AWSTraceHeader": "Root=1-2", "SenderId": "000000000000"}
        store.send(ORDERS, [to_draft("a", None, system, group="g", deduplication_id="d")])
        store.send(ORDERS, [to_draft("b", group="g")])
        first, second = fetch(store)
        assert system_attributes_of(first) == system | {
            "MessageGroupId": "g",
            "MessageDeduplicationId": "d",
        }
        assert system_attributes_of(second) == {"MessageGroupId": "g"}

    def test_messages_of_both_kinds_are_sent_together(self, store: FullStore) -> None:
        made = [
            draft(1),
            to_draft("two", {"b": TypedAttribute(BINARY, b"2")}),
            draft("x", group="g"),
        ]
        store.send(ORDERS, made)
        sent = Send(ORDERS, [to_draft("four"), to_draft("5")])
        _, received = store.together([sent, Receive(ORDERS, 10, served=Served())])
        assert not isinstance(received, Exception | list)
        assert [body_of(message) for message in received.messages] == [
            "1",
            "two",
            '"x"',
            "four",
            "5",
        ]

    def test_other_receives_have_no_envelope(self, store: FullStore) -> None:
        store.send(ORDERS, [to_draft("a"), to_draft("b")])
        assert [message.envelope for message in receive(store)] == [None, None]

    def test_the_first_receive_is_remembered(self, store: FullStore, clock: FakeClock) -> None:
        send(store)
        clock.advance(1)
        at_ms = clock.wall_ms()
        [first] = fetch(store)
        clock.advance(VISIBILITY_SECONDS + 600)
        [again] = fetch(store)
        assert again.receive_count == 2
        for message in (first, again):
            assert message.envelope is not None
            assert message.envelope.first_received_at_ms == at_ms

    @needs(Capability.DEAD_LETTERS)
    def test_the_first_receive_counts_anew_after_a_redrive(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        store.send(ORDERS, [to_draft("a")])
        fail(store, receipt(fetch(store)[0]), reason=Reason.REJECTED)
        clock.advance(60)
        decide(store, Requeue(reason="again"))
        [message] = fetch(store)
        assert message.envelope is not None
        assert message.envelope.first_received_at_ms == clock.wall_ms()
        assert body_of(message) == "a"

    @needs(Capability.DEAD_LETTERS)
    def test_a_dead_letter_keeps_its_envelope(self, store: FullStore) -> None:
        typed, system = {"b": TypedAttribute(BINARY, b"x")}, {"AWSTraceHeader": "t"}
        store.send(ORDERS, [to_draft("a", typed, system)])
        fail(store, receipt(fetch(store)[0]), reason=Reason.REJECTED)
        [message] = fetch(store, queue=DEAD)
        assert body_of(message) == "a"
        assert attributes_of(message) == typed
        assert system_attributes_of(message) == system

    @needs(Capability.DEAD_LETTERS)
    @pytest.mark.parametrize(
        ("sent", "body", "text"),
        [
            (to_draft("a"), "b", "b"),
            (to_draft("a"), {"b": 1}, '{"b":1}'),
            (to_draft("a"), b"b", "Yg=="),
            (to_draft('"a"'), "b", '"b"'),
        ],
    )
    def test_a_changed_text_stays_a_text_and_other_bodies_are_json(
        self, store: FullStore, sent: Draft, body: object, text: str
    ) -> None:
        store.send(ORDERS, [sent])
        fail(store, receipt(fetch(store)[0]), reason=Reason.REJECTED)
        decide(store, Retry(body, reason="changed"))
        [message] = fetch(store)
        assert body_of(message) == text
        assert codec.decode(message.body) == body

    def test_the_size_of_a_text_is_that_which_its_sender_counts(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"max_body_bytes": 4})
        store.send(ORDERS, [to_draft('""""')])
        with pytest.raises(InvalidBody, match="has 5 bytes"):
            store.send(ORDERS, [to_draft('"""""')])
        assert [body_of(message) for message in fetch(store)] == ['""""']

    def test_an_envelope_of_a_message_that_was_never_received_is_not_due(
        self, store: FullStore
    ) -> None:
        store.send(ORDERS, [to_draft("a")])
        [message] = fetch(store)
        assert message.envelope is not None
        assert 0 < message.envelope.first_received_at_ms < FOREVER_MS


class ScopeContract(StoreCase):
    """Deduplication ids of a group, or of the whole queue."""

    def test_an_id_in_the_scope_of_a_group_is_one_of_that_group(self, store: FullStore) -> None:
        def sent(group: str, *, in_group: bool = True) -> str:
            made = to_draft("x", group=group, deduplication_id="d", deduplicates_in_group=in_group)
            return store.send(ORDERS, [made])[0]

        first, second, whole = sent("a"), sent("b"), sent("a", in_group=False)
        assert len({first, second, whole}) == 3
        assert (sent("a"), sent("b"), sent("b", in_group=False)) == (first, second, whole)

    def test_a_batch_has_each_id_once_in_each_group(self, store: FullStore) -> None:
        made = [
            to_draft(str(number), group=group, deduplication_id="d", deduplicates_in_group=True)
            for number, group in enumerate("abab")
        ]
        a, b, *again = store.send(ORDERS, made)
        assert again == [a, b]
        assert a != b

    def test_a_duplicate_in_a_group_answers_the_first_id_after_that_has_ended(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        made = to_draft("x", group="a", deduplication_id="d", deduplicates_in_group=True)
        [first] = store.send(ORDERS, [made])
        [message] = fetch(store)
        complete(store, receipt(message))
        assert store.send(ORDERS, [made]) == [first]
        assert fetch(store) == []
        clock.advance(301)
        assert store.send(ORDERS, [made]) != [first]

    @needs(Capability.CONTROL)
    def test_ids_of_groups_go_with_their_queue(self, store: FullStore) -> None:
        made = to_draft("x", group="a", deduplication_id="d", deduplicates_in_group=True)
        [first] = store.send(ORDERS, [made])
        store.delete_queue(ORDERS, force=True)
        store.declare_queue(ORDERS, {})
        assert store.send(ORDERS, [made]) != [first]


class FilledGroupsContract(GroupCase):
    """Receives of the endpoint on a queue with order: batches filled from groups."""

    def test_a_batch_is_filled_from_one_group_and_then_from_the_next(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1, 2, 3)
        send_group(fifo, "b", 4, 5, 6)
        send_group(fifo, "c", 7)
        batch = fill(fifo, 5)
        assert bodies(batch) == ["1", "2", "3", "4", "5"]
        assert len({receipt(message).token for message in batch}) == 1
        assert bodies(fill(fifo)) == ["7"]
        assert fill(fifo) == []

    def test_the_rest_of_a_group_waits_until_all_of_a_batch_are_settled(
        self, fifo: FullStore
    ) -> None:
        send_group(fifo, "a", 1, 2, 3, 4)
        first, second, third = map(receipt, fill(fifo, 3))
        complete(fifo, second)
        assert fill(fifo) == []
        complete(fifo, first)
        assert fill(fifo) == []
        fifo.extend([third], 60_000)
        assert fill(fifo) == []
        complete(fifo, third)
        assert bodies(fill(fifo)) == ["4"]

    def test_a_group_waits_until_the_last_lease_of_a_batch_has_ended(
        self, fifo: FullStore, clock: FakeClock
    ) -> None:
        fifo.declare_queue(ORDERS, {"backoff_base_ms": 0, "backoff_max_ms": 0})
        send_group(fifo, "a", 1, 2, 3, 4)
        *_, third = map(receipt, fill(fifo, 3))
        fifo.extend([third], 2 * VISIBILITY_SECONDS * 1_000)
        clock.advance(VISIBILITY_SECONDS)
        assert fill(fifo) == []
        clock.advance(VISIBILITY_SECONDS)
        assert bodies(fill(fifo)) == ["1", "2", "3", "4"]

    def test_a_returned_message_does_not_wait_for_those_behind_it(self, fifo: FullStore) -> None:
        """In a queue of SQS: up to the first of its group that is leased."""
        fifo.declare_queue(ORDERS, {"bury_at": 1})
        send_group(fifo, "a", 1, 2, 3, 4, 5)
        first, second, third, fourth = map(receipt, fill(fifo, 4))
        fifo.extend([second], 0)
        assert fill(fifo) == []
        fifo.extend([fourth], 0)
        fifo.extend([first], 0)
        batch = fill(fifo)
        assert bodies(batch) == ["1", "2"]
        assert fill(fifo) == []
        complete(fifo, *map(receipt, batch))
        assert fill(fifo) == []
        complete(fifo, third)
        assert bodies(fill(fifo)) == ["4", "5"]

    def test_a_returned_message_follows_the_deletion_of_the_one_before(
        self, fifo: FullStore
    ) -> None:
        fifo.declare_queue(ORDERS, {"bury_at": 1})
        send_group(fifo, "a", 1, 2, 3, 4)
        first, second, third = map(receipt, fill(fifo, 3))
        fifo.extend([second], 0)
        complete(fifo, first)
        assert bodies(fill(fifo)) == ["2"]
        complete(fifo, third)
        assert fill(fifo) == []

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_leases_of_a_group_end_up_to_one_that_was_extended(
        self, fifo: FullStore, clock: FakeClock, place: int
    ) -> None:
        fifo.declare_queue(ORDERS, {"bury_at": 1})
        send_group(fifo, "a", 1, 2, 3)
        extended = receipt(fill(fifo)[place])
        fifo.extend([extended], 2 * VISIBILITY_SECONDS * 1_000)
        clock.advance(VISIBILITY_SECONDS)
        assert bodies(fill(fifo)) == ["1", "2", "3"][:place]
        assert fill(fifo) == []

    def test_messages_that_were_received_before_come_in_order_in_one_batch(
        self, fifo: FullStore, clock: FakeClock
    ) -> None:
        fifo.declare_queue(ORDERS, {"backoff_base_ms": 0, "backoff_max_ms": 0})
        send_group(fifo, "a", 1, 2, 3)
        _, second, third = map(receipt, fill(fifo))
        fail(fifo, third, retry_in_ms=0)
        fail(fifo, second, retry_in_ms=0)
        send_group(fifo, "a", 4)
        clock.advance(VISIBILITY_SECONDS)
        batch = fill(fifo)
        assert bodies(batch) == ["1", "2", "3", "4"]
        assert [message.receive_count for message in batch] == [2, 2, 2, 1]

    def test_a_batch_ends_before_a_message_that_has_had_all_its_receives(
        self, fifo: FullStore
    ) -> None:
        fifo.declare_queue(ORDERS, {"max_receives": 3})
        send_group(fifo, "a", 1, 2)
        fifo.release([*map(receipt, fill(fifo))])
        for _ in range(2):
            first, second = map(receipt, fill(fifo))
            fifo.release([first])
            fail(fifo, second, retry_in_ms=0)
        fifo.declare_queue(ORDERS, {"max_receives": 2})
        batch = fill(fifo)
        assert bodies(batch) == ["1"]
        complete(fifo, receipt(batch[0]))

    def test_a_batch_ends_before_a_message_of_its_group_that_waits(
        self, fifo: FullStore, clock: FakeClock
    ) -> None:
        send_group(fifo, "a", 1)
        send(fifo, 2, group="a", delay=5)
        send_group(fifo, "a", 3)
        send_group(fifo, "b", 4)
        batch = fill(fifo)
        assert bodies(batch) == ["1", "4"]
        complete(fifo, *map(receipt, batch))
        assert fill(fifo) == []
        clock.advance(5)
        assert bodies(fill(fifo)) == ["2", "3"]

    @needs(Capability.DEAD_LETTERS)
    def test_sequences_rise_in_the_order_of_delivery_also_of_a_message_that_comes_back(
        self, fifo: FullStore
    ) -> None:
        fifo.send(ORDERS, [draft(0)])
        ids = send_group(fifo, "a", 1, 2)
        loose, first = fill(fifo, 2)
        complete(fifo, receipt(loose))
        fail(fifo, receipt(first), reason=Reason.REJECTED)
        decide(fifo, Requeue("again"))
        last = send_group(fifo, "a", 3)
        found = [loose, *fill(fifo)]
        assert bodies(found) == ["0", "2", "1", "3"]
        sequences = [one.envelope.sequence for one in found if one.envelope is not None]
        assert sequences == sorted({*sequences})
        assert sequences[1::2] == [*map(int, (ids[1], last[0]))]

    def test_a_key_comes_once_in_a_batch_of_several_groups(self, fifo: FullStore) -> None:
        send_group(fifo, "a", 1, 2)
        send_group(fifo, "a", "x", key="k")
        send_group(fifo, "b", "x", key="k")
        send_group(fifo, "c", 5)
        batch = fill(fifo)
        assert bodies(batch) == ["1", "2", '"x"', "5"]
        complete(fifo, *map(receipt, batch))
        assert fifo.receive(ORDERS, 5).duplicates
        assert drain(fifo) == []

    def test_messages_without_a_group_fill_a_batch_too(self, fifo: FullStore) -> None:
        fifo.send(ORDERS, [draft(1), draft(2, group="a"), draft(3, group="a"), draft(4)])
        assert bodies(fill(fifo, 3)) == ["1", "2", "3"]

    def test_a_queue_without_groups_is_received_in_order(self, store: FullStore) -> None:
        store.send(ORDERS, [draft(1, group="a"), draft(2), draft(3, group="a")])
        assert bodies(fill(store)) == ["1", "2", "3"]

    def test_a_batch_where_several_may_be_active_has_each_message_once(
        self, store: FullStore
    ) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 2})
        send_group(store, "a", *range(5))
        send_group(store, "b", 5)
        assert sorted(bodies(fill(store))) == ["0", "1", "2", "3", "4", "5"]
        assert fill(store) == []

    def test_a_filled_batch_takes_no_more_than_the_tokens_of_its_groups(
        self, store: FullStore
    ) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1, "group_rate": 1, "group_burst": 2})
        send_group(store, "a", *range(4))
        send_group(store, "b", *range(10, 14))
        assert bodies(fill(store)) == ["0", "1", "10", "11"]

    def test_a_filled_batch_takes_no_more_than_may_be_in_flight(self, store: FullStore) -> None:
        store.declare_queue(ORDERS, {"group_concurrency": 1, "max_in_flight": 3})
        send_group(store, "a", *range(2))
        send_group(store, "b", *range(10, 14))
        assert bodies(fill(store)) == ["0", "1", "10"]

    def test_a_filled_batch_has_envelopes(self, fifo: FullStore) -> None:
        fifo.send(ORDERS, [to_draft(text, group="a") for text in ("x", "y")])
        _, received = fifo.together(
            [Send(ORDERS, [to_draft("z", group="b")]), Receive(ORDERS, 9, served=FILLED)]
        )
        assert not isinstance(received, Exception | list)
        assert [body_of(message) for message in received.messages] == ["x", "y", "z"]

    def test_a_receive_is_not_both_of_one_group_and_of_several(self, fifo: FullStore) -> None:
        with pytest.raises(InvalidInput, match="give one"):
            fifo.receive(ORDERS, 2, by_group=True, served=FILLED)
