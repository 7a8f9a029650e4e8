"""Bugs to plant in how durableq is at home in Django."""

from __future__ import annotations

from typing import Any, Final

_TESTS: Final = "tests/contrib/test_django.py::"


def send_beside_the_transaction_of_django() -> None:
    from durableq.contrib.django.project import Project

    cls: Any = Project
    cls.joined = lambda self, given: given


def settle_beside_the_transaction_of_django() -> None:
    from durableq.contrib.django.project import AtomicBlock

    cls: Any = AtomicBlock

    def settle(self: Any, completions: Any, failures: Any) -> None:
        self._transactions.settle(completions, failures)

    cls.settle = settle


def close_the_connection_of_a_test() -> None:
    from django.db import close_old_connections

    from durableq.contrib.django import project

    module: Any = project
    module._close_old_connections = close_old_connections


def let_statements_of_django_fail_behind_another_process() -> None:
    from durableq.engines.sqlite.application_connection import ApplicationConnection

    cls: Any = ApplicationConnection
    cls.run = lambda self, statement: statement()


BUGS = (
    send_beside_the_transaction_of_django,
    settle_beside_the_transaction_of_django,
    close_the_connection_of_a_test,
    let_statements_of_django_fail_behind_another_process,
)
SEEN_BY = [
    (
        "send_beside_the_transaction_of_django",
        _TESTS + "test_a_send_joins_the_transaction_that_is_open[postgres]",
    ),
    (
        "settle_beside_the_transaction_of_django",
        _TESTS + "test_the_tests_of_the_page_pass[sqlite-one process]",
    ),
    (
        "close_the_connection_of_a_test",
        _TESTS + "test_the_tests_of_the_page_pass[sqlite-one process]",
    ),
    (
        "let_statements_of_django_fail_behind_another_process",
        _TESTS + "test_a_statement_waits_for_another_writer",
    ),
]
