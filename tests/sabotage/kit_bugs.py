"""Bugs to plant in what the testing kit's crashes show, and in the kit itself.

Modules of the kit import pytest, which processes with other bugs need not.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

_CRASHES: Final = "tests/contrib/test_crashes.py::"
_ONCE: Final = _CRASHES + "test_the_effect_of_a_message_is_applied_once"
_SENDS: Final = _CRASHES + "test_a_send_crashes_before_or_after_its_commit"


def complete_outside_of_the_transaction() -> None:
    """The completion has a commit of its own, after that of the handler's rows."""
    from durableq.client.transaction import MessageTransaction

    cls: Any = MessageTransaction
    cls._settle = cls._mark_settled = lambda self: None


def commit_the_rows_of_a_failed_transaction() -> None:
    from durableq.engines.memory.rows import OpenRows

    cls: Any = OpenRows
    end = cls.end
    cls.end = lambda self, *, commit: end(self, commit=True)


def leave_leases_in_memory() -> None:
    """Leases that have ended are not taken back."""
    from durableq.engines.memory.base import MemoryBase

    cls: Any = MemoryBase
    cls._reclaim_expired = lambda self, queue: 0


def complete_before_the_handler() -> None:
    """At most once: the message is completed before its handler is called."""
    from durableq.model.message import Completion
    from durableq.worker.execution import Execution

    cls: Any = Execution
    begin = cls.begin

    def begin_and_complete(self: Any, work: Any, delivery: Any, now_ns: int) -> bool:
        begun: bool = begin(self, work, delivery, now_ns)
        self._store.complete([Completion(delivery.receipt, None, delivery.key)])
        return begun

    cls.begin = begin_and_complete


def send_without_keys() -> None:
    from durableq.client import queue

    module: Any = queue
    draft = module.draft
    module.draft = lambda body, **options: draft(body, **options | {"key": None})


def crash_behind_the_send() -> None:
    """The point before a send is reached behind it."""
    from durableq.contrib.pytest.recording import RecordingStore

    cls: Any = RecordingStore
    send = cls.send

    def send_first(self: Any, queue: str, drafts: Any, **options: Any) -> Any:
        self.inner.send(queue, drafts)
        return send(self, queue, drafts, **options)

    cls.send = send_first


def let_a_dead_process_write() -> None:
    from durableq.contrib.pytest import crashes

    module: Any = crashes
    module.check_alive = lambda: None


def share_a_store_between_tests() -> None:
    from durableq.contrib.pytest import isolation

    module: Any = isolation
    open_store = module.open_store
    shared = cache(lambda: open_store("memory://"))
    module.open_store = lambda url, **_: shared()


BUGS = (
    complete_outside_of_the_transaction,
    commit_the_rows_of_a_failed_transaction,
    leave_leases_in_memory,
    complete_before_the_handler,
    send_without_keys,
    crash_behind_the_send,
    let_a_dead_process_write,
    share_a_store_between_tests,
)
SEEN_BY = [
    ("complete_outside_of_the_transaction", _ONCE + "[memory-lease ends-after commit-1]"),
    ("complete_outside_of_the_transaction", _ONCE + "[file-reclaimed-after handler-1]"),
    ("commit_the_rows_of_a_failed_transaction", _ONCE + "[memory-lease ends-before commit-0]"),
    ("leave_leases_in_memory", _ONCE + "[memory-lease ends-before handler-0]"),
    (
        "complete_before_the_handler",
        _CRASHES + "test_a_handler_without_a_transaction_is_called_again[memory]",
    ),
    ("send_without_keys", _SENDS + "[memory-after send-1]"),
    ("crash_behind_the_send", _SENDS + "[memory-before send-0]"),
    (
        "let_a_dead_process_write",
        _CRASHES + "test_nothing_that_a_handler_does_after_the_crash_reaches_the_store[memory]",
    ),
    (
        "share_a_store_between_tests",
        "tests/contrib/test_isolation.py::test_nothing_of_a_test_is_left_in_the_next",
    ),
]
