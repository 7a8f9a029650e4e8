"""Bugs to plant in PostgreSQL's connections: transactions of user code, lost ones, forked ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from types import SimpleNamespace
from typing import Any, Final

from durableq.engines.postgres import database, driver, forking, joining, session
from durableq.engines.postgres.open_transaction import UserWrite
from durableq.model.errors import DatabaseUnreachable

TRANSACTION: Final = "tests/engine/test_postgres_transaction.py::"
ERRORS: Final = "tests/engine/test_postgres_errors.py::"
CTRL_C: Final = "tests/engine/test_postgres_ctrl_c.py::"
ON_POSTGRES: Final = "[postgres]"


def keep_the_lock_of_a_savepoint() -> None:
    """The lock is taken once, although ROLLBACK TO a savepoint gives it up."""
    cls: Any = UserWrite
    lock = cls.lock

    def lock_once(self: Any) -> None:
        if not self.session.has_lock:
            lock(self)

    cls.lock = lock_once


def plan_statements_of_user_code_as_ours() -> None:
    module: Any = database
    module.UNPLAN = "SELECT 1"


def settle_in_a_transaction_that_user_code_began() -> None:
    cls: Any = UserWrite
    lock = cls.lock

    def lock_anywhere(self: Any) -> None:
        ended, self.ended = self.ended, _Ignored
        try:
            lock(self)
        except _Ignored:
            self.session.has_lock = True
        finally:
            self.ended = ended

    cls.lock = lock_anywhere


class _Ignored(Exception):
    """Stands for the refusal."""


def change_texts(**changes: str) -> None:
    """Change texts of every database that is opened, by the texts in their place."""
    cls: Any = database.Database
    look_at = cls._look_at

    def look_and_change(self: Any, link: Any) -> None:
        look_at(self, link)
        for name, value in vars(self).items():
            if isinstance(value, str):
                setattr(self, name, reduce(_replaced, changes.items(), value))

    cls._look_at = look_and_change


def _replaced(text: str, change: tuple[str, str]) -> str:
    return text.replace(*change)


def hurry() -> None:
    """Let nobody wait for a lock as long as that takes."""
    change_texts(**{"lock_timeout = 30000": "lock_timeout = 500"})


def change_the_lock_timeout_of_user_code() -> None:
    change_texts(**{"set_config('lock_timeout', ": "set_config('durableq.nothing', "})


def send_to_any_database() -> None:
    module: Any = joining
    module._check_identity = lambda *_: None


def wait_for_the_own_thread() -> None:
    """A join does not look whether its own thread has the lock."""
    hurry()
    module: Any = joining
    check = module._check
    module._check = lambda _, raw, *, begun: check(SimpleNamespace(inside=None), raw, begun=begun)


def take_a_lost_answer_for_nothing() -> None:
    """A statement that commits by itself is repeated when its answer is lost."""
    module: Any = database
    module.outcome_unknown = _unreachable
    cls: Any = database.Database
    call = cls.call

    def call_again(self: Any, statement: Any) -> Any:
        try:
            return call(self, statement)
        except DatabaseUnreachable:
            return call(self, statement)

    cls.call = call_again


def take_a_lost_commit_for_nothing() -> None:
    module: Any = session
    module.outcome_unknown = _unreachable


def _unreachable(place: str, *_: object) -> Exception:
    return DatabaseUnreachable(f"{place} is gone. Nothing was stored; try again.")


def use_a_connection_that_the_server_has_closed() -> None:
    cls: Any = driver.Link
    cls.is_alive = lambda _: True


def keep_the_parents_sessions() -> None:
    module: Any = forking
    module.detach = lambda _: None


def forget_an_unfinished_write() -> None:
    hurry()
    cls: Any = database.Database
    cls.unfinished = None


BUGS: Final[tuple[Callable[[], None], ...]] = (
    keep_the_lock_of_a_savepoint,
    plan_statements_of_user_code_as_ours,
    settle_in_a_transaction_that_user_code_began,
    change_the_lock_timeout_of_user_code,
    send_to_any_database,
    wait_for_the_own_thread,
    take_a_lost_answer_for_nothing,
    take_a_lost_commit_for_nothing,
    use_a_connection_that_the_server_has_closed,
    keep_the_parents_sessions,
    forget_an_unfinished_write,
)
SEEN_BY: Final = [
    (
        "keep_the_lock_of_a_savepoint",
        TRANSACTION + "test_the_lock_is_taken_again_after_a_rollback_to_a_savepoint" + ON_POSTGRES,
    ),
    (
        "plan_statements_of_user_code_as_ours",
        TRANSACTION
        + "test_user_code_has_the_servers_settings_of_plans_and_hot_verbs_have_ours"
        + ON_POSTGRES,
    ),
    (
        "settle_in_a_transaction_that_user_code_began",
        TRANSACTION
        + "test_a_statement_that_ends_the_transaction_and_begins_another_is_noticed"
        + "[COMMIT AND CHAIN-postgres]",
    ),
    (
        "change_the_lock_timeout_of_user_code",
        TRANSACTION + "test_user_code_keeps_its_own_lock_timeout" + ON_POSTGRES,
    ),
    (
        "send_to_any_database",
        TRANSACTION + "test_connections_that_cannot_carry_a_send" + ON_POSTGRES,
    ),
    (
        "wait_for_the_own_thread",
        TRANSACTION + "test_a_join_behind_the_lock_of_its_own_thread_is_refused" + ON_POSTGRES,
    ),
    (
        "take_a_lost_answer_for_nothing",
        ERRORS + "test_a_connection_lost_in_the_one_statement_of_a_send" + ON_POSTGRES,
    ),
    (
        "take_a_lost_commit_for_nothing",
        TRANSACTION + "test_a_connection_lost_at_commit_leaves_the_outcome_unknown" + ON_POSTGRES,
    ),
    (
        "use_a_connection_that_the_server_has_closed",
        ERRORS + "test_connections_that_the_server_closed_meanwhile_are_replaced" + ON_POSTGRES,
    ),
    (
        "keep_the_parents_sessions",
        TRANSACTION + "test_a_child_that_lives_on_does_not_keep_its_parents_sessions" + ON_POSTGRES,
    ),
    (
        "forget_an_unfinished_write",
        CTRL_C + "test_a_kept_traceback_keeps_no_lock" + ON_POSTGRES,
    ),
]
