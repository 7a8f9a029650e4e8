"""Producers: many sends, few commits; no accepted message is lost, no future is settled early."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durableq import Conflict, DurableQ, InvalidBody, InvalidInput, StorageFull
from durableq.client.producer import Producer
from durableq.model.message import Draft
from tests.engine import plain
from tests.support import scaled, wait_for

BODY_LIMIT = 100


class Storage:
    """A store that takes batches and can fail."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.failure: BaseException | None = None

    def commit(self, drafts: list[Draft]) -> list[str]:
        if self.failure is not None:
            raise self.failure
        self.batches.append([draft.body for draft in drafts])
        stored = sum(map(len, self.batches))
        return [str(number) for number in range(stored - len(drafts) + 1, stored + 1)]

    def producer(self, **options: Any) -> Producer:
        return Producer(self.commit, BODY_LIMIT, **{"linger": None, **options})


@pytest.fixture
def storage() -> Storage:
    return Storage()


def test_a_batch_is_sent_when_it_is_full_and_the_rest_at_the_end(storage: Storage) -> None:
    with storage.producer(batch_size=3) as producer:
        futures = [producer.send(number) for number in range(7)]
        assert [future.done() for future in futures] == [True] * 6 + [False]
    assert storage.batches == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert [future.result(0) for future in futures] == list("1234567")


def test_a_batch_is_sent_before_it_would_be_too_large(storage: Storage) -> None:
    bodies = [b"x" * size for size in (40, 40, 40, 90, 10, 1)]
    with storage.producer(max_bytes=100) as producer:
        for body in bodies:
            producer.send(body)
    assert [[len(body) for body in batch] for batch in storage.batches] == [
        [40, 40],
        [40],
        [90, 10],
        [1],
    ]


def test_one_body_may_be_larger_than_a_batch(storage: Storage) -> None:
    with storage.producer(max_bytes=5) as producer:
        producer.send("much longer than five")
        producer.send(1)
    assert [len(batch) for batch in storage.batches] == [1, 1]


def test_a_lone_message_is_sent_once_it_has_waited(storage: Storage) -> None:
    with storage.producer(linger=0.02) as producer:
        for expected in ("1", "2"):
            started = time.monotonic()
            assert producer.send("alone").result(scaled(10)) == expected
            assert time.monotonic() - started >= 0.015
        assert len(storage.batches) == 2


def test_without_linger_a_message_waits_for_a_full_batch(storage: Storage) -> None:
    with storage.producer(linger=None) as producer:
        future = producer.send("alone")
        assert threading.active_count() == 1 or not any(
            thread.name == "durableq-producer" for thread in threading.enumerate()
        )
        assert not future.done()
        producer.flush()
        assert future.result(0) == "1"
    assert storage.batches == [['"alone"']]


def test_a_producer_without_messages_commits_nothing(storage: Storage) -> None:
    with storage.producer() as producer:
        producer.flush()
    assert storage.batches == []


@pytest.mark.parametrize("linger", [None, 30])
def test_an_exception_in_the_block_loses_nothing_that_was_accepted(
    storage: Storage, linger: float | None
) -> None:
    futures: list[Future[str]] = []

    def stumble() -> None:
        with storage.producer(linger=linger) as producer:
            futures.append(producer.send("accepted"))
            raise RuntimeError("an accident")

    with pytest.raises(RuntimeError, match="an accident"):
        stumble()
    assert futures[0].result(0) == "1"


def test_a_message_that_cannot_be_sent_does_not_fail_its_batch(storage: Storage) -> None:
    with storage.producer() as producer:
        before = producer.send("before")
        with pytest.raises(InvalidBody, match=r"The body has 202 bytes; this queue takes at most"):
            producer.send("x" * 200)
        with pytest.raises(InvalidBody):
            producer.send({1, 2})
        with pytest.raises(InvalidInput):
            producer.send("ok", key="")
        after = producer.send("after")
    assert storage.batches == [['"before"', '"after"']]
    assert [before.result(0), after.result(0)] == ["1", "2"]


FULL = StorageFull("The disk is full.")


def test_a_batch_that_could_not_be_stored_is_known_to_its_futures_and_to_the_sender(
    storage: Storage,
) -> None:
    storage.failure = FULL
    with storage.producer(batch_size=2) as producer:
        first = producer.send(1)
        with pytest.raises(StorageFull):
            producer.send(2)
        storage.failure = None
        third = producer.send(3)
    assert isinstance(first.exception(0), StorageFull)
    assert third.result(0) == "1", "one bad batch is not the next one's fault"


def send_one(storage: Storage, futures: list[Future[str]], error: Exception | None) -> None:
    with storage.producer(linger=None) as producer:
        futures.append(producer.send(1))
        storage.failure = FULL
        if error is not None:
            raise error


def test_a_last_batch_that_could_not_be_stored_is_raised_at_the_end(storage: Storage) -> None:
    futures: list[Future[str]] = []
    with pytest.raises(StorageFull):
        send_one(storage, futures, None)
    assert isinstance(futures[0].exception(0), StorageFull)


def test_an_exception_in_the_block_is_not_hidden_by_one_at_its_end(storage: Storage) -> None:
    futures: list[Future[str]] = []
    with pytest.raises(RuntimeError, match="an accident") as caught:
        send_one(storage, futures, RuntimeError("an accident"))
    assert caught.value.__notes__ == [
        "And the producer could not store its last batch: The disk is full."
    ]
    assert isinstance(futures[0].exception(0), StorageFull)


def test_a_failure_in_the_background_is_raised_at_the_next_send(storage: Storage) -> None:
    storage.failure = FULL
    with storage.producer(linger=0.001) as producer:
        lost = producer.send(1)
        assert isinstance(lost.exception(10), StorageFull)
        with pytest.raises(StorageFull):
            wait_for(lambda: producer.send(2), what="the failure to be told")
        storage.failure = None
    assert storage.batches == []


def test_an_accepted_message_cannot_be_cancelled(storage: Storage) -> None:
    with storage.producer() as producer:
        futures = [producer.send(number) for number in range(3)]
        assert not futures[1].cancel()
    assert [future.result(0) for future in futures] == ["1", "2", "3"]


def test_a_closed_producer_refuses_messages(storage: Storage) -> None:
    with storage.producer() as producer:
        producer.send(1)
    with pytest.raises(InvalidInput, match="This producer is closed"):
        producer.send(2)
    assert storage.batches == [["1"]]


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"batch_size": 10_001}, {"max_bytes": 0}, {"linger": -1}]
)
def test_numbers_out_of_bounds_are_refused(storage: Storage, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        storage.producer(**options)


@pytest.mark.parametrize("linger", [None, 0.001])
def test_several_threads_may_send(storage: Storage, linger: float | None) -> None:
    threads, each = 8, 50
    with ThreadPoolExecutor(threads) as pool, storage.producer(linger=linger) as producer:

        def send(thread: int) -> list[tuple[str, Future[str]]]:
            return [(f"{thread}-{n}", producer.send(f"{thread}-{n}")) for n in range(each)]

        sent = [pair for pairs in pool.map(send, range(threads)) for pair in pairs]
    stored = [body for batch in storage.batches for body in batch]
    assert len(stored) == threads * each
    for body, future in sent:
        assert stored[int(future.result(0)) - 1] == f'"{body}"'
    for thread in range(threads):
        mine = [body for body in stored if body.startswith(f'"{thread}-')]
        assert mine == [f'"{thread}-{n}"' for n in range(each)], "a thread's order was lost"


@pytest.mark.parametrize("url", ["memory://", "sqlite", "postgres"])
def test_a_message_that_the_store_refuses_does_not_fail_its_batch(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if url == "sqlite":
        url = str(tmp_path / "queue.db")
    elif url == "postgres":
        url = request.getfixturevalue("postgres_url")
    now = datetime.now(UTC)
    with DurableQ(url) as dq:
        queue = dq.queue("orders", expires_in=86_400)
        producer = queue.producer(batch_size=8, linger=None)
        accepted = [
            producer.send(0),
            producer.send(1, at=now + timedelta(days=500)),
            producer.send(2),
            producer.send(3, at=now + timedelta(hours=1), expires_in=60),
            producer.send(4, delay=90_000),
            producer.send(5),
        ]
        with pytest.raises(Conflict, match="A message could not be stored: A message "):
            producer.flush()
        producer.close()
        errors = [type(future.exception(0)) for future in accepted]
        none, refused = type(None), InvalidInput
        assert errors == [none, refused, none, refused, refused, none]
        assert [message.body for message in queue.receive(10)] == [0, 2, 5]


def test_a_failure_after_a_refusal_settles_all_futures(storage: Storage) -> None:
    def commit(drafts: list[Draft]) -> list[str]:
        if any(draft.body == "1" for draft in drafts):
            raise InvalidInput("not this one")
        if any(draft.body == "2" for draft in drafts):
            raise StorageFull("full")
        return storage.commit(drafts)

    producer = Producer(commit, BODY_LIMIT, linger=None)
    futures = [producer.send(number) for number in range(6)]
    with pytest.raises(StorageFull):
        producer.close()
    errors = [type(future.exception(0)) for future in futures]
    assert errors == [type(None), InvalidInput, *[StorageFull] * 4]
    assert storage.batches == [["0"]]


def test_no_batch_is_larger_than_it_may_be_however_many_threads_send(storage: Storage) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def commit(drafts: list[Draft]) -> list[str]:
        begun.set()
        go_on.wait(scaled(10))
        return storage.commit(drafts)

    producer = Producer(commit, BODY_LIMIT, batch_size=3, linger=None)
    with ThreadPoolExecutor(9) as pool:
        sending = [pool.submit(producer.send, 1) for _ in range(3)]
        assert begun.wait(scaled(10))
        sending += [pool.submit(producer.send, 1) for _ in range(6)]  # while one is stored
        wait_for(lambda: len(producer._pending) >= 3, what="a full batch")
        go_on.set()
        for one in sending:
            one.result(scaled(10))
    producer.close()
    assert sum(map(len, storage.batches)) == 9
    assert max(map(len, storage.batches)) == 3


COUNT = "SELECT count(*) FROM durableq_message"


def test_a_future_is_settled_only_after_the_commit(tmp_path: Path) -> None:
    db = tmp_path / "queue.db"
    with DurableQ(db) as dq, dq.queue("orders").producer(batch_size=4, linger=None) as producer:
        futures = [producer.send(number) for number in range(3)]
        seen: list[int] = []
        for future in futures:
            future.add_done_callback(lambda _: seen.append(plain.one(db, COUNT)))
        assert plain.one(db, COUNT) == 0
        futures.append(producer.send(3))
        assert seen == [4, 4, 4]
        ids = [future.result(0) for future in futures]
    bodies = [plain.one(db, "SELECT body FROM durableq_message WHERE id = ?", i) for i in ids]
    assert bodies == ["0", "1", "2", "3"]


def test_messages_that_wait_at_a_fork_are_sent_by_the_parent_alone(tmp_path: Path) -> None:
    db = tmp_path / "queue.db"
    with DurableQ(db) as dq, dq.queue("orders").producer(linger=None) as producer:
        producer.send("once")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with pytest.raises(InvalidInput, match="parent"):
                    producer.send("from the child")
                producer.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert plain.one(db, COUNT) == 0
    assert plain.one(db, COUNT) == 1


def test_a_message_over_a_limit_that_was_lowered_is_refused_alone(tmp_path: Path) -> None:
    db = tmp_path / "queue.db"
    with DurableQ(db) as dq:
        orders = dq.queue("orders", max_body_bytes=50)
        producer = orders.producer(linger=None)
        producer.send("small")
        producer.send("x" * 40)
        dq.queue("orders", max_body_bytes=20)  # lowered meanwhile
        with pytest.raises(Conflict, match="The body has 42 bytes"):
            producer.close()
        assert plain.one(db, COUNT) == 1
        assert orders.info().counters.sent == 1


def test_a_rate_spaces_messages_evenly_and_does_not_catch_up(storage: Storage) -> None:
    with storage.producer(rate=50, batch_size=2) as producer:
        for _ in range(2):
            began = time.monotonic()
            for number in range(4):
                producer.send(number)
                assert time.monotonic() >= began + number / 50
            threading.Event().wait(0.1)  # longer than a turn
    assert storage.batches == [["0", "1"], ["2", "3"]] * 2


@pytest.mark.parametrize("rate", [0, -1, float("nan"), True, "5"])
def test_a_rate_that_is_none_is_refused(storage: Storage, rate: Any) -> None:
    with pytest.raises(InvalidInput, match="rate is a number of messages a second"):
        storage.producer(rate=rate)
