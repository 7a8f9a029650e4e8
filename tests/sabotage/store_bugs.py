"""Bugs of the stored messages, and of the file that they are in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from durableq.engines.sql import fleet, open_transaction, receiving
from durableq.engines.sqlite import (
    copy_install,
    copy_marker,
    database,
    location,
    open_files,
    session,
    store,
)
from durableq.model import codec, drafts
from durableq.runtime import clock
from tests.sabotage.texts import change, rewrite

RECEIPT = "durableq_message.receipt = :token"
FENCED = ("COMPLETE", "EXTEND", "LEASED", "PUT_BACK", "REDRIVE", "DISCARD")


def remove_the_fence() -> None:
    for name in FENCED:
        rewrite(name, RECEIPT, f"({RECEIPT} OR true)")
    change("m.receipt = p_tokens[i]", "p_tokens[i] IS NOT NULL")


def begin_deferred() -> None:
    for module in (database, session):
        vars(module)["BEGIN_WRITE"] = "BEGIN"


def reverse_the_lease() -> None:
    for name in ("RECEIVE_FROM", "EXPIRED_LEASES"):
        rewrite(name, "lease_until_ms <= :lease_now", "lease_until_ms >= :lease_now")
    change("m.lease_until_ms <= lease_ms", "m.lease_until_ms >= lease_ms")


def forget_the_record() -> None:
    for name in ("COMPLETE_KEY", "COMPLETE_KEYS"):
        rewrite(name, "status = 0", "status = 0 AND false")
    change("r.owner_receipt = p_tokens[i] AND r.status = 0", "false")


def answer_before_the_commit() -> None:
    cls: Any = database.Database
    engine: Any = store.SQLStore
    send, commit = engine.send, cls._commit

    def send_and_lose(*arguments: Any, **options: Any) -> Any:
        cls._commit = lambda _, raw: raw.execute("ROLLBACK")
        try:
            return send(*arguments, **options)
        finally:
            cls._commit = commit

    engine.send = send_and_lose


def split_effect_and_acknowledgement() -> None:
    opened: Any = open_transaction.OpenTransaction
    execute = opened.execute

    def commit_at_once(self: Any, statement: Any, parameters: Any = None) -> Any:
        result = execute(self, statement, parameters)
        self._tx.raw.execute("COMMIT")
        self._tx.raw.execute("BEGIN IMMEDIATE")
        return result

    opened.execute = commit_at_once


def synchronous_normal() -> None:
    cls: Any = database.Database
    connect = cls.connect

    def weakened(self: Any, *options: Any) -> Any:
        raw = connect(self, *options)
        raw.execute("PRAGMA synchronous = NORMAL")
        return raw

    cls.connect = weakened


def keep_the_notes_of_a_deleted_queue() -> None:
    rewrite("DROP_NOTES", "durableq_meta WHERE", "durableq_meta WHERE false AND")


def trust_the_wall_clock() -> None:
    """The wall clock is the time, and no jump of it is noticed."""
    module: Any = clock
    module.jump = lambda _anchor, _now: 0


def count_retention_from_the_send() -> None:
    """A message that becomes due forgets when that was."""
    rewrite("PROMOTE", '"deferred"=0', '"deferred"=0, retention_from_ms=enqueued_at_ms')


def trust_the_boot_clock_of_a_namespace() -> None:
    """A process does not know that its boot clock is ahead of the others'."""
    module: Any = clock
    module.boot_offset_ns = lambda: 0


def leave_foreign_logs() -> None:
    """A restore leaves the log at the path for SQLite to apply."""
    module: Any = copy_install
    module.LOG_SUFFIXES = ()


def open_during_a_restore() -> None:
    """An opening does not look for the marker of a restore."""
    module: Any = copy_marker
    module.recover = lambda *_, **__: None


def replace_without_a_lock() -> None:
    """A restore replaces a database that another process may be writing."""
    module: Any = copy_install
    module._exclusively_locked = lambda _path: nullcontext()
    module.check_not_open = lambda *_: None


def bring_no_names_to_the_disk() -> None:
    """A restore does not sync the directory."""
    _sync_only(lambda path: not path.is_dir())


def bring_no_copy_to_the_disk() -> None:
    """A restore does not sync the copy: its content (SQLite does, too) and permissions."""
    _sync_only(lambda path: path.is_dir())


def _sync_only(wanted: Callable[[Path], bool]) -> None:
    fsync = copy_marker.fsync
    for module in (copy_marker, copy_install):
        changed: Any = module
        changed.fsync = lambda path: fsync(path) if wanted(path) else None


def ignore_unknown_options() -> None:
    """A misspelt option of a message is dropped."""
    module: Any = drafts
    module.check_known = lambda *_: None


def hash_numbers_by_spelling() -> None:
    """12 and 12.0 are two payloads."""
    module: Any = codec
    module._by_value = float


def look_away_from_the_log() -> None:
    """Only the database file itself is compared before a COMMIT."""
    opened: Any = open_files.OpenFile

    def check(self: Any) -> None:
        if self.database is not None and self._location.identity() != self.database:
            raise open_files.replaced(self.path)

    opened.check = check


def write_to_migrated_tables() -> None:
    """A process goes on writing a file that was migrated under it."""
    cls: Any = database.Database
    cls.remember_identity = lambda self, _=None: self.file.remember()


def let_another_library_open_the_file() -> None:
    """The audit hook refuses nothing."""
    module: Any = open_files
    module._check_connecting = lambda *_: None


def give_up_behind_a_few_duplicates() -> None:
    module: Any = receiving
    module.MAX_SET_ASIDE = 10


def tell_no_queues() -> None:
    """A worker registers without the queues that it receives from."""
    module: Any = fleet
    module._as_stored = lambda _: ""


def tell_no_later_queues() -> None:
    """A process that begins to receive from another queue does not say so."""
    rewrite("TELL_QUEUES", "durableq_worker.id = :of", "false AND durableq_worker.id = :of")


def look_beside_the_link() -> None:
    """The log is expected beside the link, not beside the file that it leads to."""
    cls: Any = location.Location

    def keep_as_given(self: Any) -> None:
        if self.named == Path():
            object.__setattr__(self, "named", self.path)

    cls.__post_init__ = keep_as_given


def ignore_where_the_link_leads() -> None:
    """A link that leads to another file by now is not looked at again."""
    opened: Any = open_files.OpenFile
    create = opened.__init__
    opened.__init__ = lambda self, where: create(self, location.Location(where.path))


def create_for_all_to_read() -> None:
    """A new file is everyone's to read until its mode is set."""
    module: Any = open_files
    real = module.os

    class Wide:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def open(self, path: Any, flags: int, _mode: int) -> Any:
            return real.open(path, flags, 0o644)

    module.os = Wide()


def let_sqlite_create_the_file() -> None:
    """A new file has the mode that the umask leaves."""
    module: Any = database
    module.create = lambda _: None


BUGS = (
    remove_the_fence,
    begin_deferred,
    reverse_the_lease,
    forget_the_record,
    answer_before_the_commit,
    split_effect_and_acknowledgement,
    synchronous_normal,
    keep_the_notes_of_a_deleted_queue,
    trust_the_wall_clock,
    count_retention_from_the_send,
    trust_the_boot_clock_of_a_namespace,
    leave_foreign_logs,
    open_during_a_restore,
    replace_without_a_lock,
    bring_no_names_to_the_disk,
    bring_no_copy_to_the_disk,
    ignore_unknown_options,
    hash_numbers_by_spelling,
    look_away_from_the_log,
    write_to_migrated_tables,
    let_another_library_open_the_file,
    give_up_behind_a_few_duplicates,
    tell_no_queues,
    tell_no_later_queues,
    look_beside_the_link,
    ignore_where_the_link_leads,
    create_for_all_to_read,
    let_sqlite_create_the_file,
)
