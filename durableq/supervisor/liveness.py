"""Telling one process from another: a pid alone does not, for pids are used again."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from durableq.runtime.clock import SystemClock, boot_offset_ns
from durableq.store.core import Capability, Store, WorkerInfo

#: So much later a worker that was found dead is looked at again, before anything is given back.
CONFIRM_SECONDS: Final = 0.5
#: Time after its last beat for which a worker that cannot be seen from here is taken to live.
FRESH_BEAT_MS: Final = 60_000
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
#: Two time namespaces may round one start to neighbouring ticks; no pid is used again so soon.
_START_TOLERANCE_MS: Final = 2 * 1000 // _TICKS_PER_SECOND
#: The states of a process that has ended; a zombie's parent has not been told yet.
_ENDED: Final = frozenset("ZXx")


def signal_name(number: int) -> str:
    """Return a signal's name; real-time signals have none but their number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Liveness(Enum):
    """What has become of a worker."""

    ALIVE = "alive"
    DEAD = "dead"
    #: It cannot be seen from here: its leases decide.
    UNKNOWN = "unknown"


class _Seen(NamedTuple):
    """A process as the system shows it."""

    created_ms: int
    ended: bool


def this_process(name: str) -> WorkerInfo:
    """Return what a store is told of the process that is running."""
    return describe(name, os.getpid())


def describe(name: str, pid: int) -> WorkerInfo:
    """Return what a store is told of a process of this namespace.

    Raises:
        OSError: it is not there, or cannot be seen.
    """
    return WorkerInfo(name, pid, _see(pid).created_ms, SystemClock().boot_id(), _pid_namespace())


def liveness(worker: WorkerInfo) -> Liveness:
    """Return whether this very process runs, not a later one with its pid."""
    boot_id = SystemClock().boot_id()
    if worker.boot_id and boot_id and worker.boot_id != boot_id:
        return Liveness.DEAD
    if worker.pid_namespace != _pid_namespace():
        return Liveness.UNKNOWN
    try:
        seen = _see(worker.pid)
    except ProcessLookupError:
        return Liveness.DEAD
    except PermissionError:
        return Liveness.UNKNOWN
    is_another = abs(seen.created_ms - worker.created_ms) > _START_TOLERANCE_MS
    return Liveness.DEAD if seen.ended or is_another else Liveness.ALIVE


def may_be_alive(worker: WorkerInfo) -> bool:
    """Return whether a worker runs, or may run where it cannot be seen from here."""
    seen = liveness(worker)
    silent_ms = SystemClock().wall_ms() - worker.beat_at_ms
    return seen is Liveness.ALIVE or (seen is Liveness.UNKNOWN and silent_ms < FRESH_BEAT_MS)


def dead_owner_ids(store: Store) -> set[int]:
    """Return the marks of the registered workers that are dead."""
    return {
        worker.owner_id
        for worker in store.require(Capability.FLEET).workers()
        if liveness(worker) is Liveness.DEAD
    }


def reclaim_dead_workers(store: Store) -> int:
    """Take every dead worker out, and its leases back; return how many were dead.

    Several processes may do so at once: what one has taken back is no longer there for another.
    """
    dead = dead_owner_ids(store)
    for owner_id in dead:
        store.require(Capability.FLEET).unregister(owner_id)
    return len(dead)


class DeadWorkers:
    """Gives back for workers that were found dead twice.

    One that died just now may have a supervisor that knows what it had begun, and judges better.
    """

    def __init__(self) -> None:
        self._suspects: set[int] = set()

    @property
    def has_suspects(self) -> bool:
        """Whether some were found dead at the last look for the first time."""
        return bool(self._suspects)

    def reclaim(self, store: Store) -> bool:
        """Give back for the suspects that are dead still; return whether there are new ones."""
        dead = dead_owner_ids(store)
        for owner_id in dead & self._suspects:
            store.require(Capability.FLEET).unregister(owner_id)
        self._suspects = dead - self._suspects
        return self.has_suspects


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used of the machine."""

    rss_bytes: int
    cpu_seconds: float
    #: Since it was started.
    age_seconds: float


def sees_others() -> bool:
    """Return whether this process can look at others by their pid.

    A container may be given the /proc of another pid namespace: there the same numbers are other
    processes.
    """
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return sys.platform != "linux"


def usage(pid: int) -> Usage | None:
    """Return what a process uses; None if it cannot be seen."""
    if not sees_others():
        return None
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            age = time.time() - process.create_time()
            return Usage(process.memory_info().rss, times.user + times.system, max(age, 0.0))
    except psutil.Error:
        return None


def _see(pid: int) -> _Seen:
    """Look at a process.

    Its start is counted from the machine's, in the kernel's ticks: a number that never changes.
    As a date, which psutil gives, it moves whenever the wall clock is adjusted, by a few
    milliseconds too, and a living worker would be taken for another one.

    Raises:
        ProcessLookupError: there is none.
        PermissionError: there is one, but it may not be looked at.
    """
    own = pid == os.getpid()
    try:
        if not (own or sees_others()):
            raise FileNotFoundError
        stat = Path(f"/proc/{'self' if own else pid}/stat").read_text(errors="replace")
    except FileNotFoundError:
        return _see_without_proc(pid)
    state, *numbers = stat.rpartition(")")[2].split()  # the name before may hold anything
    # The kernel counts it from the boot as the reader's time namespace has it.
    since_boot_ms = int(numbers[18]) * 1000 // _TICKS_PER_SECOND
    return _Seen(since_boot_ms - boot_offset_ns() // 1_000_000, state in _ENDED)


def _see_without_proc(pid: int) -> _Seen:
    """Look at a process outside Linux; on it, find out whether it is gone or only hidden."""
    if Path("/proc/self/stat").exists():
        os.kill(pid, 0)
        raise PermissionError(f"Process {pid} is hidden.")
    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE
        return _Seen(int(process.create_time() * 1000), ended)
    except psutil.NoSuchProcess:
        raise ProcessLookupError from None


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
