"""Liveness of processes, judged by more than the pid, which the system reuses."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

from durableq.runtime.clock import SystemClock, boot_offset_ns
from durableq.store.core import WorkerInfo

#: Time after its last heartbeat for which a worker that cannot be seen counts as alive.
FRESH_BEAT_MS: Final = 60_000
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
#: Two time namespaces may round one start to neighbouring ticks; no pid is reused so soon.
_START_TOLERANCE_MS: Final = 2 * 1000 // _TICKS_PER_SECOND
#: The states of an ended process; a zombie waits for its parent.
_ENDED: Final = frozenset("ZXx")


def signal_name(number: int) -> str:
    """Return a signal's name, or its number for a real-time signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Liveness(Enum):
    """The state of a worker's process."""

    ALIVE = "alive"
    DEAD = "dead"
    #: The process cannot be seen from here: the ends of its leases decide.
    UNKNOWN = "unknown"


class _Seen(NamedTuple):
    """Start time and state of a process."""

    created_ms: int
    ended: bool


def this_process(name: str) -> WorkerInfo:
    """Return the WorkerInfo of this process, to be registered."""
    return describe(name, os.getpid())


def describe(name: str, pid: int) -> WorkerInfo:
    """Return the WorkerInfo of a process of this pid namespace, to be registered.

    Raises:
        OSError: there is no such process, or it cannot be seen.
    """
    clock, namespace = SystemClock(), _pid_namespace()
    created_ms, host_id = _see(pid).created_ms, clock.host_id()
    return WorkerInfo(name, pid, created_ms, clock.boot_id(), namespace, host_id=host_id)


def liveness(worker: WorkerInfo) -> Liveness:
    """Return the state of a worker's process; a later process with its pid does not count.

    Another boot of this host has ended. One of another host may be running.
    """
    clock = SystemClock()
    boot_id = clock.boot_id()
    if worker.boot_id and boot_id and worker.boot_id != boot_id:
        is_here = worker.host_id in {"", clock.host_id()}
        return Liveness.DEAD if is_here else Liveness.UNKNOWN
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


class ProcessEnd:
    """A descriptor that is readable once a process has ended.

    Args:
        pid: of a process of this pid namespace.

    Raises:
        OSError: there is no such process, or the kernel has no such descriptors.
    """

    def __init__(self, pid: int) -> None:
        self._descriptor = os.pidfd_open(pid)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


@contextmanager
def end_of(worker: WorkerInfo) -> Iterator[ProcessEnd | None]:
    """Watch for the end of a living process; None where that is not possible."""
    end = None
    with suppress(OSError, AttributeError):  # outside Linux there is no pidfd_open
        end = ProcessEnd(worker.pid)
    try:
        # After the opening: a process that has the pid now would be another one otherwise.
        yield end if liveness(worker) is Liveness.ALIVE else None
    finally:
        if end is not None:
            end.close()


def may_be_alive(worker: WorkerInfo) -> bool:
    """Return whether a worker is alive, or may be alive where it cannot be seen."""
    seen = liveness(worker)
    silent_ms = SystemClock().wall_ms() - worker.beat_at_ms
    return seen is Liveness.ALIVE or (seen is Liveness.UNKNOWN and silent_ms < FRESH_BEAT_MS)


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources that a process uses."""

    rss_bytes: int
    cpu_seconds: float
    #: Since it was started.
    age_seconds: float


def sees_others() -> bool:
    """Return whether /proc belongs to this process's pid namespace.

    A container may have the /proc of another one, in which the same numbers are other processes.
    """
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return sys.platform != "linux"


def usage(pid: int) -> Usage | None:
    """Return the resources that a process uses; None if it cannot be seen."""
    import psutil

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
    """Return start time and state of a process.

    The start is the kernel's number of ticks since boot, which never changes. The date that psutil
    returns moves with each adjustment of the wall clock, and a living worker would be taken for
    another process.

    Raises:
        ProcessLookupError: there is no such process.
        PermissionError: the process may not be inspected.
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
    """Return start time and state outside Linux; on Linux, raise for a gone or hidden process."""
    if Path("/proc/self/stat").exists():
        os.kill(pid, 0)
        raise PermissionError(f"Process {pid} is hidden.")
    import psutil

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
