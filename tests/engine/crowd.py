"""Threads that wait for the turn of their process to write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from durableq import DurableQ
from durableq.engines.sqlite.database import Database
from durableq.engines.sqlite.group_commit import Turn
from durableq.engines.sqlite.store import SQLStore
from tests.engine import plain
from tests.support import scaled, wait_for


class Crowd:
    """Threads that make one call each, in the order in which they were started."""

    def __init__(self, dq: DurableQ) -> None:
        store = dq.store
        assert isinstance(store, SQLStore)
        self.database: Database = store._database
        self.turn: Turn = self.database.turn
        self.outcomes: dict[int, Any] = {}
        self.threads: list[threading.Thread] = []

    def start(self, call: Callable[[], object]) -> None:
        """Start a thread, and wait until it waits for the turn."""
        number, before = len(self.threads), len(self.turn._waiting)

        def run() -> None:
            try:
                self.outcomes[number] = call()
            except BaseException as error:  # noqa: BLE001 - the outcome of the thread
                self.outcomes[number] = error

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()
        wait_for(lambda: len(self.turn._waiting) > before, what="a thread to wait")

    def join(self) -> list[Any]:
        """Wait for all threads, and return their outcomes in order."""
        for thread in self.threads:
            thread.join(scaled(30))
            assert not thread.is_alive(), "it waits for ever"
        return [self.outcomes[number] for number in range(len(self.threads))]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write in another thread, for the length of the block."""
        begun, ended = threading.Event(), threading.Event()

        def write() -> None:
            with self.database.write():
                begun.set()
                ended.wait(scaled(60))

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        assert begun.wait(scaled(10))
        try:
            yield
        finally:
            ended.set()
            thread.join()


def bodies(db: Path) -> dict[str, str]:
    """Return the stored bodies by id."""
    rows = plain.rows(db, "SELECT id, body FROM durableq_message ORDER BY id")
    return {str(number): body for number, body in rows}
