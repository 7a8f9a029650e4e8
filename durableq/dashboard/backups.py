"""Backups that a person asks for: into one folder, under a name that the dashboard chooses."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path
from typing import Final

from durableq.admin import operations
from durableq.client.app import DurableQ, file_named
from durableq.model.errors import Conflict, DurableQError, InvalidInput, Unsupported
from durableq.model.health import Copied

#: A name of a backup for an engine that only says how to make one.
EXAMPLE: Final = "backup.dump"


class Backups:
    """Makes backups of a store, one at a time.

    No part of a path comes from a request: whoever reaches the dashboard would write anywhere.

    Args:
        dq: the application with the store.
        folder: the folder for them; None: that of the database.

    Raises:
        InvalidInput: it is no folder, or the store is no file.
    """

    def __init__(self, dq: DurableQ, folder: Path | None = None) -> None:
        self._dq = dq
        self._given = folder
        #: Held while a backup is made.
        self.turn = threading.Lock()
        if folder is not None and file_named(dq.url) is None:
            raise InvalidInput(
                f"{dq.address} is no file, so the dashboard makes no backups of it: leave out the "
                "folder for backups (--backup-dir)."
            )
        if folder is not None and not folder.is_dir():
            raise InvalidInput(f"{folder} is no folder for backups (--backup-dir): make it first.")

    @property
    def folder(self) -> Path | None:
        """The folder for backups; None where the store is no file."""
        database = file_named(self._dq.url)
        if database is None:
            return None
        return (self._given or database.parent).absolute()

    @property
    def advice(self) -> str:
        """The way to back up a store that is no file, or why it is not known; empty for a file."""
        if self.folder is not None:
            return ""
        try:
            operations.back_up(self._dq.url, EXAMPLE)
        except DurableQError as told:
            return str(told)
        return ""

    def make(self) -> Copied:
        """Make a backup, and return it.

        Raises:
            Conflict: one is being made.
            Unsupported: the store is no file.
            StorageFull: there is no room for it.
        """
        folder, database = self.folder, file_named(self._dq.url)
        if folder is None or database is None:
            raise Unsupported(self.advice)
        if not self.turn.acquire(blocking=False):
            raise Conflict("A backup is being made. Wait until it has ended.")
        try:
            at = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
            name = f"{database.stem}-backup-{at}{database.suffix or '.db'}"
            return operations.back_up(self._dq.url, folder / name)
        finally:
            self.turn.release()
