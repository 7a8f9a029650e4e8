"""Bugs to plant in how a SQLAlchemy Session carries a send, and works in a transaction."""

from __future__ import annotations

from typing import Any, Final

from durableq.engines.sql import joining

_SESSIONS: Final = "tests/engine/test_outbox_sessions.py::"


def send_beside_the_transaction_of_a_session() -> None:
    """The send has a transaction of its own, which commits by itself."""
    module: Any = joining
    of_session = module.of_session

    def of_another(given: Any) -> Any:
        bind = getattr(given, "bind", None)
        if bind is None:
            return of_session(given)
        connection = bind.connect()
        connection.begin()
        return connection

    module.of_session = of_another


def flush_a_session_before_a_send() -> None:
    module: Any = joining
    of_session = module.of_session

    def flushed(given: Any) -> Any:
        getattr(given, "flush", lambda: None)()
        return of_session(given)

    module.of_session = flushed


BUGS = (send_beside_the_transaction_of_a_session, flush_a_session_before_a_send)
SEEN_BY = [
    (
        "send_beside_the_transaction_of_a_session",
        _SESSIONS + "test_the_commit_of_a_session_keeps_the_row_and_the_message[engine-sqlite]",
    ),
    (
        "flush_a_session_before_a_send",
        _SESSIONS + "test_a_send_flushes_no_object_of_the_session[sqlite]",
    ),
]
