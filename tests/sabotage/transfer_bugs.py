"""Bugs to plant in transfers between stores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from durableq.admin import transfer, transfer_plan
from durableq.engines.sql import moving, queries, steady_time
from durableq.engines.sql.moving import SQLEnd
from durableq.model.moving import Digest, Note


def forget_the_cursor() -> None:
    """A transfer that goes on takes the last table for finished."""
    cls: Any = Note
    read = cls.from_json
    cls.from_json = lambda text: (note := read(text)) and replace(note, after=None)


def forget_the_mark() -> None:
    """The source is left in use once it was moved."""
    cls: Any = SQLEnd
    cls.mark_moved = cls.use_again


def compare_no_hashes() -> None:
    """Only the numbers of rows are compared."""
    cls: Any = Digest
    cls.with_rows = lambda self, rows: Digest(self.rows + len([*rows]))


def skip_the_comparison() -> None:
    cls: Any = transfer._Run
    cls._verify = lambda _self, _note: None


def let_two_transfers_write() -> None:
    module: Any = moving
    read = module.own_value
    module.own_value = lambda tx, name: _Equal(read(tx, name))


class _Equal(str):
    """A text that is equal to any other."""

    __slots__ = ()

    def __ne__(self, _: object) -> bool:
        return False

    __hash__ = str.__hash__


def leave_the_clock_of_leases() -> None:
    module: Any = moving
    module._shifted = lambda _table, row, _shift_ms: tuple(row)


def count_time_anew() -> None:
    module: Any = steady_time
    module.take_over = lambda _tx, _clock, _other: None


def give_ids_again() -> None:
    cls: Any = SQLEnd
    cls.raise_ids = lambda _self, _last_ids: None


def move_under_a_living_worker() -> None:
    module: Any = transfer_plan
    module.may_be_alive = lambda _worker: False


def look_at_workers_only_before() -> None:
    """A worker that registers after the first look is not seen."""
    cls: Any = SQLEnd
    pause = cls.pause
    cls.pause = lambda self, note, _check: pause(self, note, lambda _workers: None)


def let_an_idle_worker_wait() -> None:
    module: Any = queries
    module.MARKS = {}


def free_no_source() -> None:
    cls: Any = SQLEnd
    cls.use_again = lambda _self, _note: None


BUGS = (
    forget_the_cursor,
    forget_the_mark,
    compare_no_hashes,
    skip_the_comparison,
    let_two_transfers_write,
    leave_the_clock_of_leases,
    count_time_anew,
    give_ids_again,
    move_under_a_living_worker,
    look_at_workers_only_before,
    let_an_idle_worker_wait,
    free_no_source,
)
_HERE = "tests/transfer/"
_DIFFERENT = _HERE + "test_interrupted.py::test_rows_that_are_not_the_same_in_the_end_are_found"
SEEN_BY = [
    (
        "forget_the_cursor",
        _HERE + "test_interrupted.py::test_a_transfer_that_stopped_at_a_step_goes_on"
        "[after-put-0-file to schema]",
    ),
    (
        "forget_the_mark",
        _HERE + "test_transfer.py::test_a_process_that_has_the_source_open_writes_nothing_and_gets_"
        "a_sentence[file to file]",
    ),
    (
        "compare_no_hashes",
        _DIFFERENT + "[file to file-UPDATE durableq_history SET actor = 'another']",
    ),
    (
        "skip_the_comparison",
        _DIFFERENT + "[file to file-UPDATE durableq_history SET actor = 'another']",
    ),
    (
        "let_two_transfers_write",
        _HERE + "test_interrupted.py::test_of_two_transfers_that_write_in_turn_one_stops"
        "[file to file]",
    ),
    (
        "leave_the_clock_of_leases",
        _HERE + "test_transfer.py::test_waits_on_the_lease_clock_go_on[file to file-5000]",
    ),
    (
        "count_time_anew",
        _HERE + "test_transfer.py::test_dates_keep_their_distance_where_the_wall_clocks_differ"
        "[file to file]",
    ),
    ("give_ids_again", _HERE + "test_transfer.py::test_later_ids_are_higher[file to file]"),
    (
        "move_under_a_living_worker",
        _HERE + "test_refused.py::test_a_source_with_a_living_worker[file to file]",
    ),
    (
        "look_at_workers_only_before",
        _HERE + "test_refused.py::test_a_worker_that_registers_at_the_last_moment[file to file]",
    ),
    (
        "let_an_idle_worker_wait",
        _HERE + "test_killed.py::test_a_receive_that_waits_is_told[file to schema]",
    ),
    (
        "free_no_source",
        _HERE + "test_interrupted.py::test_a_source_works_again_though_its_target_is_gone"
        "[file to file]",
    ),
]
