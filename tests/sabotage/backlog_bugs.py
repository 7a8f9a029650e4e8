"""Bugs to plant in the backlog limits."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import (
    backlog,
    dead_letters,
    redrive_steps,
    sending,
    settling,
    transactions,
)
from durableq.engines.sql.backlog import read_backlog
from durableq.model.flow.sending import Backlog
from durableq.model.message import Outcome


def look_before_the_transaction() -> None:
    """The backlog is read before the send begins, and other processes send meanwhile."""
    module: Any = sending
    store: Any = sending.Sending
    backlog_of, send = module.backlog_of, store.send
    seen: dict[str, Backlog] = {}

    def look_and_send(self: Any, queue: str, drafts: Any, **more: Any) -> Any:
        with self._database.read() as tx:
            row = tx.execute(tx.sql.QUEUE, (queue,)).fetchone()
            seen[queue] = module.read_backlog(tx, row[0])[0]
        return send(self, queue, drafts, **more)

    def as_seen(tx: Any, queue: str, *more: Any) -> Backlog:
        found: Backlog = backlog_of(tx, queue, *more)
        return seen.get(queue, found)

    module.backlog_of, store.send = as_seen, look_and_send


def let_two_more_in() -> None:
    module: Any = Backlog
    has_room = module.has_room
    module.has_room = lambda self, messages, body_bytes: has_room(self, messages - 2, body_bytes)


def fill_the_disk() -> None:
    """`min_free_bytes` is not looked at."""
    module: Any = backlog
    module._FREE_SPACE = 0


def shed_uncounted() -> None:
    module: Any = sending
    plan = module.plan

    def silent(*arguments: Any) -> Any:
        made = plan(*arguments)
        made.shed = 0
        return made

    module.plan = silent


def keep_the_bytes_of_the_dead() -> None:
    """A buried message leaves its bytes in the counter of its source queue."""
    module: Any = settling
    module.left = lambda _, rows, **__: {row[0] for row in rows}


def count_sends_that_were_undone() -> None:
    """The savepoint of a failed send is undone, and what it counted is not."""
    savepoint: Any = transactions.AllOrNothing
    leave = savepoint.__exit__

    def keep_counts(self: Any, *error: Any) -> None:
        counts = self._tx.counts
        leave(self, *error)
        self._tx.counts = counts

    savepoint.__exit__ = keep_counts


def leave_dead_letters_behind_a_full_queue() -> None:
    """A redrive passes over dead letters whose queue has no room, and does not return to them."""
    module: Any = redrive_steps
    send_back = module.send_back

    def send_back_if_there_is_room(tx: Any, row: Any, letter: Any, target: Any, *rest: Any) -> Any:
        stored, _ = read_backlog(tx, target.id)
        if not stored.has_room(1, 0):
            return Outcome.STALE
        return send_back(tx, row, letter, target, *rest)

    module.send_back = send_back_if_there_is_room


def count_no_bytes_of_a_redrive() -> None:
    module: Any = dead_letters
    module.come = lambda *_: None


BUGS = (
    leave_dead_letters_behind_a_full_queue,
    count_no_bytes_of_a_redrive,
    look_before_the_transaction,
    let_two_more_in,
    fill_the_disk,
    shed_uncounted,
    keep_the_bytes_of_the_dead,
    count_sends_that_were_undone,
)
_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
_PAST = _CONTRACT + "test_a_redrive_goes_past_a_full_backlog_and_sends_wait_for_it"
_BESIDE = "tests/process/test_backlog.py::test_a_killed_redrive_into_a_full_queue_loses_nothing"
SEEN_BY = (
    ("leave_dead_letters_behind_a_full_queue", _PAST + "[None]"),
    ("leave_dead_letters_behind_a_full_queue", _BESIDE),
    ("count_no_bytes_of_a_redrive", _PAST + "[mail]"),
    (
        "look_before_the_transaction",
        "tests/process/test_backlog.py::"
        "test_producers_never_exceed_the_backlog_and_make_one_commit_a_batch[raise-16]",
    ),
    # `durableq chaos` sees it too: tests/chaos/test_run.py.
    (
        "let_two_more_in",
        _CONTRACT + "test_a_send_to_a_full_queue_is_refused_with_its_numbers",
    ),
    (
        "fill_the_disk",
        "tests/process/test_backlog.py::"
        "test_sends_are_refused_on_a_full_disk_and_stored_messages_complete",
    ),
    ("shed_uncounted", _CONTRACT + "test_messages_that_do_not_fit_are_shed_and_counted"),
    ("keep_the_bytes_of_the_dead", _CONTRACT + "test_bytes_are_free_however_a_message_ends"),
    (
        "count_sends_that_were_undone",
        "tests/engine/test_counts.py::test_a_send_that_fails_inside_a_transaction_counts_nothing",
    ),
)
