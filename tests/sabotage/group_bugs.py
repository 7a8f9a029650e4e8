"""Bugs to plant in group commit: the turn of a process to write, and its groups."""

from __future__ import annotations

from typing import Any

from durableq.engines.sqlite import group_commit


def answer_a_group_before_the_commit() -> None:
    operation: Any = group_commit.WaitingOperation
    run, run_with = operation.run, operation.run_with

    def run_and_finish(self: Any, tx: Any) -> None:
        run(self, tx)
        self.finish()

    def run_all_and_finish(self: Any, others: Any, tx: Any) -> None:
        run_with(self, others, tx)
        for each in (self, *others):
            each.finish()

    operation.run, operation.run_with = run_and_finish, run_all_and_finish


def let_an_error_undo_its_group() -> None:
    """Without the savepoint of each operation."""

    def attempt(tx: Any, operation: Any, *arguments: Any) -> Any:
        return operation(tx, *arguments)

    module: Any = group_commit
    module.attempt = attempt


def answer_sends_that_are_one_in_another_order() -> None:
    operation: Any = group_commit.WaitingOperation
    run_with = operation.run_with

    def run_and_mix(self: Any, others: Any, tx: Any) -> None:
        run_with(self, others, tx)
        for each, answer in zip(others, [each.answer for each in reversed(others)], strict=True):
            each.answer = answer

    operation.run_with = run_and_mix


def forget_the_group_of_an_interrupted_thread() -> None:
    turn: Any = group_commit.Turn
    turn._put_back = lambda *_: None


def run_an_interrupted_commit_again() -> None:
    operation: Any = group_commit.WaitingOperation
    operation.may_be_stored = property(lambda _: False, lambda *_: None)


def inherit_the_turn() -> None:
    """A forked child waits for threads of its parent."""
    turn: Any = group_commit.Turn
    reset = turn._reset

    def reset_once(self: Any) -> None:
        if not hasattr(self, "holder"):
            reset(self)

    turn._reset = reset_once


BUGS = (
    answer_a_group_before_the_commit,
    let_an_error_undo_its_group,
    answer_sends_that_are_one_in_another_order,
    forget_the_group_of_an_interrupted_thread,
    run_an_interrupted_commit_again,
    inherit_the_turn,
)
