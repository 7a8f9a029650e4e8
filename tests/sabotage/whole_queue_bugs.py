"""Bugs to plant in redrive tasks of a whole queue."""

from __future__ import annotations

from typing import Any

from durableq.engines.sql import redrive_steps
from durableq.engines.sql.definitions.tables import message
from durableq.engines.sqlite import statements
from tests.sabotage.texts import rewrite


def leave_messages_behind_that_did_not_die() -> None:
    """A task of a whole queue moves its dead letters alone."""
    rewrite("READY_MEANT", "m.state = 0", "m.state = 0 AND m.source_queue_id IS NOT NULL")


def leave_a_copy_behind() -> None:
    """A message is moved, and is there twice."""
    module: Any = redrive_steps
    send_back = module.send_back
    names = ", ".join(column.name for column in message.c if column.name != "id")

    def copied(tx: Any, row: Any, leased: Any, *rest: Any) -> Any:
        outcome = send_back(tx, row, leased, *rest)
        tx.raw.execute(
            f"INSERT INTO durableq_message ({names}) SELECT {names} FROM durableq_message "
            f"WHERE id = {leased.id}"
        )
        return outcome

    module.send_back = copied


def move_what_comes_later() -> None:
    """A task of a whole queue has no mark: it moves what it has moved once, and died again."""
    module: Any = redrive_steps
    meant = module._meant

    def all_of_it(tx: Any, text: str, row: Any, at: Any, *rest: Any, **after: int) -> Any:
        unmarked = at._replace(last_event=1 << 60, last_message=1 << 60)
        return meant(tx, text, row, unmarked, *rest, **after)

    module._meant = all_of_it


def start_a_second_move() -> None:
    """The database lets two tasks of a queue run."""
    module: Any = statements
    module.CREATE = tuple(
        text.replace("CREATE UNIQUE INDEX durableq_redrive_task_running", "CREATE INDEX once")
        for text in module.CREATE
    )


def move_a_group_past_its_head() -> None:
    """Messages behind one that is in flight are moved before it."""
    rewrite("DELAYED_MEANT", "m.state = 2", "m.state IN (2, 3)")


def go_on_when_the_time_of_a_step_is_over() -> None:
    """A step holds the write lock for as long as its messages take."""
    module: Any = redrive_steps
    enter = module.Room.__init__
    module.Room.__init__ = lambda self, limit, _: enter(self, limit, None)


def go_on_behind_the_next_page() -> None:
    """A step of several pages stores the position of one that it has not decided about."""
    module: Any = redrive_steps
    step = module.Step
    module.Step = lambda state, moved, skipped, cursor, *rest: step(
        state, moved, skipped, cursor + moved // 10, *rest
    )


_ON = "tests/contract/test_sqlite.py::TestSQLite::"
SEEN_BY = [
    (
        "leave_messages_behind_that_did_not_die",
        _ON + "test_all_messages_of_a_queue_are_moved_once[3]",
    ),
    ("leave_a_copy_behind", _ON + "test_all_messages_of_a_queue_are_moved_once[3]"),
    ("move_what_comes_later", _ON + "test_messages_that_come_after_the_start_stay"),
    ("start_a_second_move", _ON + "test_one_redrive_of_a_queue_runs_at_a_time"),
    ("move_a_group_past_its_head", _ON + "test_a_group_stays_behind_a_message_in_flight"),
    (
        "go_on_when_the_time_of_a_step_is_over",
        _ON + "test_a_step_whose_time_is_over_moves_a_few_and_the_next_ones_the_rest[None]",
    ),
    (
        "go_on_behind_the_next_page",
        _ON + "test_a_step_whose_time_is_over_decides_about_a_few_and_the_next_ones_about_the_rest",
    ),
]
BUGS = (
    leave_messages_behind_that_did_not_die,
    leave_a_copy_behind,
    move_what_comes_later,
    start_a_second_move,
    move_a_group_past_its_head,
    go_on_when_the_time_of_a_step_is_over,
    go_on_behind_the_next_page,
)
