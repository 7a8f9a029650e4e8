"""Hot verbs of PostgreSQL side by side: no message and no key twice, and none waits for ever."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import psycopg
import pytest

from durableq.engines.postgres.arrays import whole
from durableq.engines.postgres.store import PostgresStore
from durableq.model.message import Completion, Message, Outcome, Receipt, draft
from durableq.testing.contract.case import ORDERS
from tests.engine import postgres_sides as sides
from tests.engine.test_postgres_hot import opened, plain
from tests.support import scaled, wait_for

THREADS = 8
#: A receive rests between its leases and its commit, and others choose messages meanwhile: also
#: where the processes would run one after another, on a busy machine.
RESTING = """
CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql
AS 'BEGIN PERFORM pg_sleep(0.01); RETURN NULL; END';
CREATE TRIGGER resting AFTER UPDATE ON durableq_message
FOR EACH STATEMENT EXECUTE FUNCTION rest()"""


@pytest.fixture
def store(postgres_tables_url: str) -> Iterator[PostgresStore]:
    with closing(opened(postgres_tables_url)) as store:
        yield store


def receipt_of(message: Message) -> Receipt:
    assert message.receipt is not None
    return message.receipt


def completion(message: Message) -> Completion:
    return Completion(receipt_of(message), None, message.key)


def at_once(work: Callable[[int], object]) -> None:
    """Run a function in threads that begin together, and raise what it raises."""
    barrier = Barrier(THREADS)

    def run(number: int) -> None:
        barrier.wait(scaled(30))
        work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        for running in [pool.submit(run, number) for number in range(THREADS)]:
            running.result(scaled(100))


def deadlocks(url: str) -> int:
    with plain(url) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        (number,) = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone() or (0,)
    return int(number)


@pytest.fixture
def resting_receives(store: PostgresStore, postgres_tables_url: str) -> Iterator[None]:
    with plain(postgres_tables_url) as connection:
        connection.execute(RESTING)
    yield
    with plain(postgres_tables_url) as connection:
        connection.execute("DROP FUNCTION rest CASCADE")


@pytest.mark.usefixtures("resting_receives")
@pytest.mark.parametrize("way", ["apart", "together"])
def test_receivers_share_the_messages_of_senders(
    store: PostgresStore, postgres_tables_url: str, way: str
) -> None:
    sides.in_processes(sides.send, postgres_tables_url)
    answers = sides.in_processes(sides.share, postgres_tables_url, way)
    taken = [message_id for answer in answers for message_id in answer]
    sent = sides.PROCESSES * sides.SENT_EACH
    assert Counter(taken).most_common(1)[0][1] == 1
    assert len(taken) == sent
    counters, counts = store.queue(ORDERS).counters, store.queues(recount=True)[0].counts
    assert (counters.sent, counters.completed, counts.present) == (sent, sent, 0)


def test_equal_keys_in_any_order_are_taken_once_and_no_receivers_wait_for_each_other(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    before = deadlocks(postgres_tables_url)
    sides.in_processes(sides.send_equal_keys, postgres_tables_url)
    answers = sides.in_processes(sides.take_keys, postgres_tables_url)
    assert Counter(key for answer in answers for key in answer) == Counter(sides.KEYS)
    counters = store.queue(ORDERS).counters
    sent = sides.PROCESSES * sides.TIMES * len(sides.KEYS)
    assert (counters.completed, counters.duplicates) == (60, sent - 60)
    assert deadlocks(postgres_tables_url) == before


def test_keys_are_taken_in_their_order(store: PostgresStore, postgres_tables_url: str) -> None:
    """Behind a key that another is taking, a receive has the lower keys, and no higher one."""
    store.send(ORDERS, [draft(1, key=key) for key in ("c", "b", "a")])
    take = (
        "INSERT INTO durableq_idempotency "
        "(queue_id, key, status, owner_message_id, owner_receipt, payload_hash, created_at_ms) "
        "SELECT id, %s, 0, 0, '', '', 0 FROM durableq_queue WHERE name = 'orders'"
    )
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ %s"
    with (
        ThreadPoolExecutor(1) as pool,
        plain(postgres_tables_url) as third,
        plain(postgres_tables_url) as other,
        other.transaction(force_rollback=True),
    ):
        other.execute(take, ["b"])
        receiving = pool.submit(store.receive, ORDERS, 3)
        wait_for(lambda: third.execute(waiting, ["durableq_receive"]).fetchone() == (1,))
        third.execute("SET lock_timeout = 300")
        with pytest.raises(psycopg.errors.LockNotAvailable), third.transaction():
            third.execute(take, ["a"])
        with third.transaction(force_rollback=True):
            third.execute(take, ["c"])
    assert len(receiving.result().messages) == 3


def test_one_completion_of_many_is_done_and_the_others_are_refused(store: PostgresStore) -> None:
    store.send(ORDERS, [draft(n) for n in range(50)])
    completions = [completion(message) for message in store.receive(ORDERS, 50).messages]
    outcomes: list[Outcome] = []
    at_once(lambda _: outcomes.extend(store.complete(random.sample(completions, 50))))
    assert Counter(outcomes) == {Outcome.DONE: 50, Outcome.GONE: 50 * (THREADS - 1)}
    assert store.queue(ORDERS).counters.completed == 50


def test_a_receive_passes_over_messages_that_another_is_taking(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    ids = store.send(ORDERS, [draft(n) for n in range(3)])
    with (
        ThreadPoolExecutor(1) as pool,
        plain(postgres_tables_url) as other,
        other.transaction(),
    ):
        other.execute("SELECT 1 FROM durableq_message WHERE id = %s FOR UPDATE", [int(ids[0])])
        other.execute("SELECT pg_advisory_xact_lock_shared(%s)", [store._database.key])
        store._database.wait_ms = whole(2000)
        receiving = pool.submit(store.receive, ORDERS, 2)
        wait_for(receiving.done, what="a receive beside a message that is being taken")
        assert [message.id for message in receiving.result().messages] == ids[1:]
        assert store.receive(ORDERS, 2).messages == []
    assert [message.id for message in store.receive(ORDERS, 2).messages] == ids[:1]


def test_a_limit_in_flight_that_is_set_beside_receives_is_kept(store: PostgresStore) -> None:
    """A receive reads the queue after it has the lock, not before."""
    store.send(ORDERS, [draft(n) for n in range(200)])

    def work(number: int) -> None:
        if number == 0:
            store.declare_queue(ORDERS, {"max_in_flight": 5})
            return
        for _ in range(10):
            store.receive(ORDERS, 1)

    at_once(work)
    taken = store.queue(ORDERS).counts.in_flight
    assert store.receive(ORDERS, 10).messages == [] or taken < 5
    assert store.queue(ORDERS).counts.in_flight == max(taken, 5)


def test_an_operation_alone_and_hot_ones_exclude_each_other(
    store: PostgresStore, postgres_tables_url: str
) -> None:
    """Purges between sends and receives: each message is counted at exactly one end."""

    def work(number: int) -> None:
        for n in range(30):
            if number == 0:
                store.purge(ORDERS)
            elif number % 2:
                store.send(ORDERS, [draft(n, key=f"{number} {n}")])
            else:
                store.complete([*map(completion, store.receive(ORDERS, 5).messages)])

    at_once(work)
    store.maintain()
    counters, counts = store.queue(ORDERS).counters, store.queues(recount=True)[0].counts
    assert counters.sent == counters.completed + counters.purged + counts.present
    with plain(postgres_tables_url) as connection:
        assert owners_missing(connection) == 0


def owners_missing(connection: psycopg.Connection) -> int:
    """Return the number of records in progress whose message is not leased under them."""
    (number,) = connection.execute(
        "SELECT count(*) FROM durableq_idempotency AS r WHERE status = 0 AND NOT EXISTS "
        "(SELECT 1 FROM durableq_message AS m WHERE m.id = r.owner_message_id "
        "AND m.receipt = r.owner_receipt AND m.state = 1)"
    ).fetchone() or (0,)
    return int(number)
