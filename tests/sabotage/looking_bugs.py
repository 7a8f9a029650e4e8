"""Bugs to plant in reads for people: samples, the search, the history, completion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durableq.admin import readers
from durableq.engines.postgres import database
from durableq.engines.sql import events, samples, searching
from durableq.engines.sqlite import statements as of_sqlite
from durableq.store.core import Capability
from tests.sabotage import texts
from tests.sabotage.texts import rewrite


def count_the_dead_as_readers() -> None:
    module: Any = readers
    module.may_be_alive = lambda _: True


def sample_a_queue_that_has_not_changed() -> None:
    class Changed(list[int]):
        """Figures that are like no others."""

        def __eq__(self, _: object) -> bool:
            return False

        __hash__ = None

    module: Any = samples
    figures = module._figures
    module._figures = lambda row: Changed(figures(row))


def sample_at_each_slice() -> None:
    module: Any = samples
    module.SAMPLE_EVERY_MS = 0


def _taking(change: Callable[[Any, int], Any]) -> None:
    """Change the samples that are taken."""
    module: Any = samples
    take = module.take
    module.take = lambda tx, last_ms: change(take(tx, last_ms), last_ms)


def let_a_change_begin_at_the_last_sample() -> None:
    """A queue that was still for an hour seems to have changed through all of it."""

    def without_the_last_look(taken: Any, last_ms: int) -> Any:
        return taken._replace(rows=[row for row in taken.rows if row["at_ms"] != last_ms])

    _taking(without_the_last_look)


def keep_samples_for_ever() -> None:
    _taking(lambda taken, _: taken._replace(old=[]))


def remove_the_last_sample_too() -> None:
    rewrite("PRUNE_SAMPLES", "at_ms < (SELECT", "at_ms <= (SELECT")


def remove_fewer_samples_than_are_taken() -> None:
    module: Any = samples
    module._PRUNED = 1


def leave_the_samples_of_a_deleted_queue() -> None:
    of_queue = "durableq_sample.queue_id = :in_queue"
    rewrite("DROP_SAMPLES", of_queue, f"({of_queue} AND false)")


def search_from_the_last_one_again() -> None:
    rewrite("SEARCH_QUEUE", "durableq_message.id + 0 < :before", "durableq_message.id <= :before")


def search_the_messages_of_all_queues() -> None:
    rewrite("SEARCH_WINDOW", "near.queue_id = :in_queue", "(near.queue_id = :in_queue OR true)")


def search_all_messages_at_once() -> None:
    module: Any = searching
    module.SEARCHED = 1 << 30


def call_a_search_done_that_is_not() -> None:
    rewrite("LOOKED_AT", "count(*)", "0")


def search_bytes_as_text() -> None:
    module: Any = texts
    module._rewrite(of_sqlite, "SEARCH_QUEUE", "typeof(read.body) = 'text'", "true")


def write_events_beside_others() -> None:
    """A send that joins a transaction of user code holds no lock: a later event commits first."""
    cls: Any = database.Database
    look_at = cls._look_at

    def look_at_without_lock(self: Any, link: Any) -> None:
        look_at(self, link)
        text = self.lock_in_transaction
        self.lock_in_transaction = text.replace("pg_advisory_xact_lock", "abs")

    cls._look_at = look_at_without_lock


def trust_the_id_of_a_mark() -> None:
    """The id of an event that was removed is another's by now."""
    module: Any = events
    module._present = lambda _, mark: mark.id


def begin_a_page_with_the_last_event() -> None:
    rewrite("EVENTS_AFTER", "id > :after", "id >= :after")


def open_the_database_to_complete_a_line() -> None:
    """A Tab in the wrong folder leaves an empty database there."""
    from durableq.client import app

    module: Any = app

    def opened(url: str) -> list[str]:
        with app.DurableQ(url) as dq:
            return [info.name for info in dq.store.require(Capability.INSPECT).queues()]

    module.queue_names_in = opened


def complete_with_queues_of_another_database() -> None:
    """The application has one of its own, whose name is not known without importing it."""
    from durableq.cli import options

    cls: Any = options.Session
    cls.names_application = False


BUGS = (
    count_the_dead_as_readers,
    sample_a_queue_that_has_not_changed,
    sample_at_each_slice,
    let_a_change_begin_at_the_last_sample,
    keep_samples_for_ever,
    remove_the_last_sample_too,
    remove_fewer_samples_than_are_taken,
    leave_the_samples_of_a_deleted_queue,
    search_from_the_last_one_again,
    search_the_messages_of_all_queues,
    search_all_messages_at_once,
    call_a_search_done_that_is_not,
    search_bytes_as_text,
    write_events_beside_others,
    trust_the_id_of_a_mark,
    begin_a_page_with_the_last_event,
    open_the_database_to_complete_a_line,
    complete_with_queues_of_another_database,
)
_CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
_PRUNED = _CONTRACT + "test_old_samples_are_removed_but_the_last"
_BOUNDED = _CONTRACT + "test_a_search_looks_at_a_bounded_number_of_messages"
_EVENTS = "tests/engine/test_events.py::"
SEEN_BY = (
    (
        "sample_a_queue_that_has_not_changed",
        _CONTRACT + "test_a_queue_that_has_not_changed_gets_no_sample",
    ),
    ("sample_at_each_slice", _CONTRACT + "test_there_is_at_most_one_sample_a_minute"),
    (
        "let_a_change_begin_at_the_last_sample",
        _CONTRACT + "test_a_change_is_shown_between_the_last_two_looks",
    ),
    ("keep_samples_for_ever", _PRUNED),
    ("remove_the_last_sample_too", _PRUNED),
    (
        "remove_fewer_samples_than_are_taken",
        _CONTRACT + "test_of_many_old_samples_more_are_removed_than_are_taken",
    ),
    (
        "leave_the_samples_of_a_deleted_queue",
        _CONTRACT + "test_the_samples_of_a_queue_go_with_it",
    ),
    (
        "search_from_the_last_one_again",
        _CONTRACT + "test_a_search_without_conditions_goes_from_the_newest_page_by_page",
    ),
    ("search_the_messages_of_all_queues", _BOUNDED),
    ("search_all_messages_at_once", _BOUNDED),
    ("call_a_search_done_that_is_not", _BOUNDED),
    ("search_bytes_as_text", _CONTRACT + "test_bodies_of_bytes_are_not_searched"),
    (
        "write_events_beside_others",
        _EVENTS + "test_a_reader_misses_no_event_of_an_open_transaction[postgres]",
    ),
    ("trust_the_id_of_a_mark", _EVENTS + "test_events_that_reuse_an_id_come_after_their_mark"),
    (
        "trust_the_id_of_a_mark",
        _CONTRACT + "test_after_the_newest_events_are_removed_none_is_missed",
    ),
    (
        "begin_a_page_with_the_last_event",
        _CONTRACT + "test_a_page_begins_at_the_mark_of_the_page_before",
    ),
    (
        "open_the_database_to_complete_a_line",
        "tests/cli/test_completion.py::test_queues_of_the_database_are_offered",
    ),
    (
        "complete_with_queues_of_another_database",
        "tests/cli/test_completion.py::test_an_application_is_not_imported",
    ),
)
