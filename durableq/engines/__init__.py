"""The engines by URL scheme: sqlite, postgresql, memory, and those of other distributions."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from durableq.model.errors import InvalidInput, Unsupported
from durableq.model.health import Copied, Finding, Level, UpgradeEstimate
from durableq.model.info import QueueInfo, WorkerInfo
from durableq.model.slots import ScheduleInfo
from durableq.model.text import address, shown, visible
from durableq.runtime.clock import Clock, SystemClock
from durableq.store.core import Capability, Store
from durableq.store.moving import End

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

#: The entry point group of third parties' engines: a URL scheme, and a function that takes the
#: arguments of `open_store` and returns a Store.
ENTRY_POINTS: Final = "durableq.engines"
_MEMORY_NAME: Final = re.compile(r"[\w.-]*")


def open_store(
    url: str,
    *,
    clock: Clock | None = None,
    rng: Callable[[], float] = random.random,
    read_only: bool = False,
) -> Store:
    """Open the store that a URL names, creating its file if there is none.

    Args:
        url: a path or `sqlite:///path` for a file, `postgresql://…` for a database, `memory://`
            for one process's memory, or the URL of an engine that an installed distribution
            registers (see ENTRY_POINTS).
        clock: source of time; None for the clocks of this machine.
        rng: numbers in [0, 1) for the backoff's jitter.
        read_only: let the database refuse every write; it must be there and current.

    Raises:
        InvalidInput: no engine serves this kind of URL.
        Unsupported: `read_only`, and the engine has no such opening.
        DatabaseUnusable: the file cannot be used; it was left untouched.
    """
    entry = None if _is_memory(url) else _registered(url)
    if read_only and (entry is not None or _is_memory(url)):
        raise Unsupported(f"{visible(address(url), 200)} cannot be opened for reading only.")
    if _is_memory(url):
        from durableq.engines.memory import MemoryStore

        return MemoryStore(clock=clock, rng=rng)
    if entry is not None:
        return _open_registered(entry, url, clock, rng)
    from durableq.engines.sql.schema import Purpose

    purpose = Purpose.READ if read_only else Purpose.USE
    if is_postgres(url):
        from durableq.engines.postgres.store import PostgresStore

        return PostgresStore(url, clock=clock, rng=rng, purpose=purpose)
    from durableq.engines.sqlite.store import SQLStore

    return SQLStore(url, clock=clock, rng=rng, purpose=purpose)


def create_store(url: str, *, clock: Clock | None = None, beside_other_tables: bool = False) -> str:
    """Create or upgrade the tables behind a URL; return the state in which they were found.

    Args:
        url: as for open_store.
        clock: as for open_store.
        beside_other_tables: also in a file with another application's tables.

    Returns:
        `empty`, `older`, `current` or `foreign`.

    Raises:
        DatabaseUnusable: the file cannot be used; it was left untouched.
    """
    if _is_memory(url):
        return "empty"
    if (entry := _registered(url)) is not None:
        _open_registered(entry, url, clock).close()
        return "current"
    from durableq.engines.sql.schema import Purpose

    purpose = Purpose.ADOPT if beside_other_tables else Purpose.MIGRATE
    if is_postgres(url):
        from durableq.engines.postgres.store import PostgresStore

        with closing(PostgresStore(url, clock=clock, purpose=purpose)) as made:
            return made.found.value
    from durableq.engines.sqlite.store import SQLStore

    store = SQLStore(url, clock=clock, purpose=purpose)
    store.close()
    return store.found.value


def examine_store(url: str, *, deep: bool = False, clock: Clock | None = None) -> list[Finding]:
    """Check the store that a URL names, in any condition; nothing is changed.

    Args:
        url: as for open_store.
        deep: also compare the indexes with the tables.
        clock: as for open_store.
    """
    if _is_memory(url):
        advice = "Name a file for messages that are to outlive this process."
        return [Finding("memory", Level.WARN, "everything is in this process's memory", advice)]
    if (entry := _registered(url)) is not None:
        _open_registered(entry, url, clock).close()
        return [Finding("engine", Level.OK, f"{entry.value} opens {visible(address(url), 200)}")]
    if is_postgres(url):
        from durableq.engines.postgres import doctor
        from durableq.engines.postgres.location import Location as Address

        return doctor.examine(Address.parse(url), deep=deep)
    from durableq.engines.sqlite.doctor import examine
    from durableq.engines.sqlite.location import Location

    return examine(Location.parse(url), clock or SystemClock(), deep=deep)


def is_there(url: str) -> bool:
    """Return whether the store that a URL names exists; nothing is changed.

    Raises:
        Busy, DatabaseUnusable: the server of a database cannot be asked.
    """
    if is_postgres(url):
        from durableq.engines.postgres.location import Location
        from durableq.engines.postgres.schema import exists

        return exists(Location.parse(url))
    path = file_of(url)
    return path is None or os.path.exists(path)


def registered_workers(url: str) -> list[WorkerInfo]:
    """Return the workers of a store, as Fleet.workers does; nothing is changed.

    There are none if the store does not exist or is another application's.
    """
    found: list[WorkerInfo] = _listed(url, Capability.FLEET, "workers")
    return found


def queues_in(url: str) -> list[QueueInfo]:
    """Return the queues of a store, as Inspect.queues(dead_letters=True); nothing is changed.

    There are none if the store does not exist or is another application's.
    """
    found: list[QueueInfo] = _listed(url, Capability.INSPECT, "queues", dead_letters=True)
    return found


def schedules_in(url: str) -> list[ScheduleInfo]:
    """Return the schedules of a store, as Schedules.schedules does; nothing is changed.

    There are none if the store does not exist or is another application's.
    """
    found: list[ScheduleInfo] = _listed(url, Capability.SCHEDULES, "schedules")
    return found


def queue_names_in(url: str) -> list[str]:
    """Return the names of the queues of a store, quickly; nothing is created or changed.

    There are none if the store does not exist, is another application's, or of a third party's
    engine, whose stores cannot be looked into without opening them.
    """
    if _is_memory(url) or _registered(url) is not None:
        return []
    if is_postgres(url):
        from durableq.engines.postgres import doctor
        from durableq.engines.postgres.location import Location as Address

        return doctor.queue_names(Address.parse(url))
    from durableq.engines.sqlite.doctor import queue_names
    from durableq.engines.sqlite.location import Location

    return queue_names(Location.parse(url))


def estimate_upgrade(url: str) -> UpgradeEstimate | None:
    """Return the expected cost of upgrading a store, without changing it.

    Args:
        url: as for open_store.

    Returns:
        None unless an older durableq made the store.
    """
    if _is_memory(url) or is_postgres(url) or _registered(url) is not None:
        return None
    from durableq.engines.sqlite import doctor
    from durableq.engines.sqlite.location import Location

    return doctor.upgrade_estimate(Location.parse(url))


def back_up_store(
    url: str, to: str | Path, progress: Callable[[int], None] = lambda _: None
) -> Copied:
    """Make a consistent, checked copy of a store while everything runs.

    Args:
        url: as for open_store; an older durableq's file too.
        to: a file that does not exist yet.
        progress: called with the percentage that is copied.

    Raises:
        NotFound: there is no store.
        Conflict: the copy's file exists.
        StorageFull: there is no room for it.
        DatabaseUnusable: the store is damaged or not ours, or the copy cannot be written.
    """
    if _is_memory(url):
        raise Unsupported("A store in memory has no file to copy.")
    if is_postgres(url):
        from durableq.engines.postgres.dumping import backup_advice
        from durableq.engines.postgres.location import Location as Address

        raise Unsupported(backup_advice(Address.parse(url), str(to)))
    _check_copied_here(url)
    from durableq.engines.sqlite.backup import back_up
    from durableq.engines.sqlite.location import Location

    return back_up(Location.parse(url), Path(to).absolute(), progress)


def restore_store(
    backup: Path,
    url: str,
    progress: Callable[[int], None],
    *,
    replace: bool = False,
    clock: Clock | None = None,
) -> Copied:
    """Make a store of a backup: checked, upgraded, without its workers and leases.

    Args:
        backup: a file that back_up_store made; it is not changed.
        url: as for open_store.
        progress: as for back_up_store.
        replace: also if a store exists; that one is set aside.
        clock: as for open_store.

    Raises:
        NotFound: there is no backup.
        Conflict: a store exists and `replace` is False, or a process has it open.
        DatabaseUnusable: the backup is damaged, not ours, or newer than this durableq.
    """
    if _is_memory(url):
        raise Unsupported("Nothing can be restored to memory: name a file.")
    if is_postgres(url):
        from durableq.engines.postgres.dumping import restore_advice
        from durableq.engines.postgres.location import Location as Address

        raise Unsupported(restore_advice(Address.parse(url), str(backup)))
    _check_copied_here(url)
    from durableq.engines.sqlite.backup import restore
    from durableq.engines.sqlite.location import Location

    location = Location.parse(url)
    return restore(
        backup.absolute(), location, clock or SystemClock(), replace=replace, progress=progress
    )


def open_end(url: str, *, clock: Clock | None = None) -> End | None:
    """Open a store as the source or the target of a transfer, whatever its mark is.

    Args:
        url: as for open_store.
        clock: as for open_store.

    Returns:
        None: there is no store yet.

    Raises:
        Unsupported: the engine has no transfers.
        DatabaseUnusable: the store cannot be used, or was made by another durableq.
    """
    if _is_memory(url) or (_registered(url)) is not None:
        raise Unsupported(f"{shown(address(url))} cannot be moved: only files and PostgreSQL can.")
    if is_postgres(url):
        from durableq.engines.postgres import moving as schemas
        from durableq.engines.postgres.location import Location as Address

        return schemas.open_end(Address.parse(url), address(url), clock)
    from durableq.engines.sqlite import moving as files
    from durableq.engines.sqlite.location import Location

    return files.open_end(Location.parse(url), clock)


def file_of(url: str) -> Path | None:
    """Return the file that a URL names; None where it names a store of another kind.

    Raises:
        InvalidInput: it names no store, or not clearly; the message has the right spelling.
    """
    if _is_memory(url) or _registered(url) is not None:
        return None
    if is_postgres(url):
        from durableq.engines.postgres.location import Location

        Location.parse(url)
        return None
    from durableq.engines.sqlite.url import parse_url

    return parse_url(url)[0]


def library_versions() -> dict[str, str | None]:
    """Return the versions of the libraries behind the engines; None for one that is not there."""
    from durableq.engines.sqlite.driver import driver as sqlite

    try:
        from durableq.engines.postgres.driver import driver as postgres
    except Unsupported:
        psycopg = None
    else:
        psycopg = postgres.__version__
    module = sqlite.__name__.partition(".")[0]
    return {"sqlite": sqlite.sqlite_version, "sqlite_module": module, "psycopg": psycopg}


def _check_copied_here(url: str) -> None:
    """Refuse to copy the store of a third party's engine.

    Raises:
        Unsupported: it is one.
    """
    if (entry := _registered(url)) is not None:
        raise Unsupported(f"Use the tools of the engine {entry.name}:// to copy its stores.")


def _is_memory(url: str) -> bool:
    """Return whether a URL names a store in memory.

    Raises:
        InvalidInput: it has more than a name.
    """
    scheme, separator, rest = url.partition("://")
    is_memory = bool(separator) and scheme == "memory"
    if is_memory and not _MEMORY_NAME.fullmatch(rest):
        raise InvalidInput(
            f"{shown(url)} has more than a name. A store in memory has no path and no options: "
            "write memory:// or memory://name."
        )
    return is_memory


def is_postgres(url: str) -> bool:
    """Return whether a URL names a PostgreSQL database."""
    return url.partition("://")[0] in {"postgresql", "postgres"} and "://" in url


def is_served(url: str) -> bool:
    """Return whether a URL names a store that processes of other hosts can use.

    Raises:
        InvalidInput: it names no store, or not clearly.
    """
    return file_of(url) is None and not _is_memory(url)


def _registered(url: str) -> EntryPoint | None:
    """Return the entry point of a third party's engine; None for the engines of this package.

    Raises:
        InvalidInput: no engine serves the URL's scheme, or several do.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme in {"sqlite", "memory", "postgresql", "postgres"}:
        return None
    from importlib.metadata import entry_points

    registered = entry_points(group=ENTRY_POINTS)
    found = sorted({entry for entry in registered if entry.name == scheme})
    if len(found) > 1:
        names = " and ".join(entry.value for entry in found)
        raise InvalidInput(
            f"Several engines serve {scheme}:// URLs: {names}. Uninstall all but one."
        )
    if found:
        return found[0]
    others = "".join(sorted(f", {entry.name}://" for entry in registered))
    raise InvalidInput(
        f"No engine serves {visible(scheme, 60)}:// URLs; there are "
        f"sqlite://, postgresql:// and memory://{others}."
    )


def _listed(url: str, capability: Capability, name: str, **options: bool) -> Any:
    """Return a list that a store reads, without changing it.

    Args:
        url: of the store.
        capability: the capability of the list; it is empty where the engine lacks it.
        name: the method of the capability, and the function of the engine's doctor.
        options: of the method; the function has them.
    """
    if _is_memory(url):
        return []
    if is_postgres(url):
        from durableq.engines.postgres import doctor as of_server
        from durableq.engines.postgres.location import Location as Address

        return getattr(of_server, name)(Address.parse(url))
    if (entry := _registered(url)) is not None:
        with closing(_open_registered(entry, url, None)) as store:
            return getattr(store, name)(**options) if capability in store.capabilities else []
    from durableq.engines.sqlite import doctor
    from durableq.engines.sqlite.location import Location

    return getattr(doctor, name)(Location.parse(url), SystemClock())


def _open_registered(
    entry: EntryPoint, url: str, clock: Clock | None, rng: Callable[[], float] = random.random
) -> Store:
    """Open the store of a third party's engine.

    Raises:
        Unsupported: the engine cannot be imported.
    """
    try:
        opener = entry.load()
    except (ImportError, AttributeError) as error:
        raise Unsupported(
            f"The engine {entry.value}, which serves {entry.name}:// URLs, cannot be imported: "
            f"{error}."
        ) from error
    store: Store = opener(url, clock=clock, rng=rng)
    return store
