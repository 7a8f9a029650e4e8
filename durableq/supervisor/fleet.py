"""The supervisor: it keeps a number of workers running, and never lets one take others along."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NamedTuple

from durableq.board import Stage
from durableq.errors import DurableQError
from durableq.latch import Latch
from durableq.processes import SECOND_LOOK_SECONDS, Survivor, signal_name
from durableq.store import Store
from durableq.supervisor.giving_back import Ending, give_back
from durableq.supervisor.member import Member
from durableq.worker.guard import CLOSED_DESCRIPTORS
from durableq.worker.options import WorkerOptions

LOOK_SECONDS: Final = 1.0
"""How often memory, and workers of other fleets that have died, are looked at."""
CLOSE_LOOK_SECONDS: Final = 0.1
"""How often while a worker starts."""
STEADY_SECONDS: Final = 10.0
"""A worker that lived this long dies a first time again."""
FALSE_STARTS: Final = 5
"""So many workers in a row that died before they could receive are a crash loop."""
DESPAIR_SECONDS: Final = 60.0
"""Pause between two starts then, as long as other workers go on; without any, the fleet ends."""


class FleetEvent(NamedTuple):
    """Something that happened to the fleet; prints as its sentence."""

    event: str
    """One word: started, ready, died, stopping …"""
    text: str
    worker: str = ""
    pid: int = 0

    def __str__(self) -> str:
        return self.text


class Fleet:
    """Runs N workers until they have drained or somebody says stop.

    Args:
        options: what each worker is told.
        procs: how many.
        store: where a dead worker's messages are given back.
        on_event: told of each start, death and stop.
        max_rss_bytes: a worker that receives and uses more is replaced; 0: any amount.
    """

    def __init__(
        self,
        options: WorkerOptions,
        procs: int,
        store: Store,
        *,
        on_event: Callable[[FleetEvent], None],
        max_rss_bytes: int = 0,
    ) -> None:
        self._options = options
        self._store = store
        self._on_event = on_event
        self._max_rss_bytes = max_rss_bytes
        self._members = [
            Member(options.changed(name=f"worker-{number}")) for number in range(1, procs + 1)
        ]
        self._woken = Latch()
        self._signals: list[signal.Signals] = []
        self._obeyed = 0
        self._hung_up = False
        self._terminal = _has_terminal()
        self._outlives_terminal = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # nohup
        self._to_renew: deque[Member] = deque()
        self._renewing: tuple[Member, int] | None = None
        self._false_starts = 0
        self._look_at = 0.0
        self._survivor = Survivor()
        self._code = 0

    def run(self) -> int:
        """Run the fleet; return the exit code.

        SIGTERM and SIGINT let workers finish what is in hand, within the grace period; a second
        one stops them at once. SIGHUP replaces them one by one.

        Returns:
            0: all workers finished. 128 + the signal's number: some were cut short, and what they
            had in hand was given back. 1: they cannot be started.
        """
        # What each worker has the other end of: it ends with this process, however that ends.
        lifeline, ours = os.pipe()
        try:
            with self._listening():
                return self._watch(lifeline)
        finally:
            for member in self._members:
                member.kill(Ending.CUT_SHORT)
                self._look_after(member, lifeline)
            os.close(ours)
            os.close(lifeline)
            self._woken.close()

    def _watch(self, lifeline: int) -> int:
        while True:
            self._woken.clear()
            for member in self._members:
                self._look_after(member, lifeline)
            self._obey()
            self._renew()
            self._look_around()
            if all(member.has_ended for member in self._members):
                return self._code
            self._woken.wait(self._until_next_look())

    @property
    def _is_stopping(self) -> bool:
        return bool(self._signals)

    # ---- one worker

    def _look_after(self, member: Member, lifeline: int) -> None:
        code = member.exit_code()
        if code is not None:
            self._bid_farewell(member, code)
        elif member.is_running:
            self._hold_to_its_limits(member)
        elif member.start_at is not None and member.start_at <= time.monotonic():
            self._start(member, lifeline)

    def _start(self, member: Member, lifeline: int) -> None:
        try:
            member.start(lifeline)
        except OSError as error:  # no memory, no process, no descriptor to be had
            member.wait_longer()
            self._say("not_started", f"{member.name} cannot be started: {error}", member)
            self._count_false_start(str(error))
            return
        self._say("started", f"{member.name} (pid {member.pid}) started", member)

    def _bid_farewell(self, member: Member, code: int) -> None:
        """Give back what an ended worker held, and decide whether it is replaced."""
        now = time.monotonic()
        stage = member.board.stage
        told = code == -signal.SIGTERM and member.kill_at is not None
        obeyed = told and stage is Stage.STARTING  # it could not listen yet, and held nothing
        if told and not obeyed:  # a handler had made SIGTERM deadly: no message is to blame
            member.ending = Ending.CUT_SHORT
            self._code = 128 + self._signals[-1] if self._signals else self._code
        if obeyed or (stage.ended and (code == 0 or member.ending is Ending.CUT_SHORT)):
            again = member.returning or stage is not Stage.DRAINED
            member.start_at = now if again and not self._is_stopping else None
            how = "stopped" if obeyed else stage.name.lower().replace("_", " ")
            self._say("ended", f"{member.name} (pid {member.pid}) ended: {how}", member)
            return
        cause = _cause(code)
        had_begun = any(member.board.begun())
        self._give_back(member, cause)
        if self._is_stopping:
            self._say("died", f"{member.name} (pid {member.pid}) died: {cause}", member)
            return
        steady = now - member.started_at > STEADY_SECONDS
        if member.ending is not Ending.DEATH or had_begun or steady:
            member.pause = (
                0.0  # its message is to blame, and that is counted; or it is a first time
            )
        member.wait_longer()
        self._say("died", f"{member.name} (pid {member.pid}) died: {cause}; restarting", member)
        if stage is Stage.STARTING and member.ending is Ending.DEATH:
            self._count_false_start(cause)

    def _count_false_start(self, cause: str) -> None:
        self._false_starts += 1
        if self._false_starts < FALSE_STARTS:
            return
        running = sum(member.is_running for member in self._members)
        again = time.monotonic() + DESPAIR_SECONDS if running else None
        for member in self._members:
            if not member.is_running and not member.has_ended:
                member.start_at = again
        self._code = self._code if running else 1
        what_now = (
            f"{running} go on, the next start is in {DESPAIR_SECONDS:g} s"
            if running
            else "no more are started, the fleet ends"
        )
        self._say(
            "crash_loop",
            f"crash loop: {self._false_starts} workers in a row died before they could receive "
            f"(the last: {cause}); {what_now}. What they said is above; mend it, then send SIGHUP "
            "or start again",
        )

    def _give_back(self, member: Member, cause: str) -> None:
        actor = f"{member.name}:{member.pid}"
        try:
            give_back(self._store, member.board, actor, member.ending, cause)
        except DurableQError as error:
            self._say(
                "unreturned",
                f"what {member.name} (pid {member.pid}) held comes back later: {error}",
                member,
            )

    def _hold_to_its_limits(self, member: Member) -> None:
        who = f"{member.name} (pid {member.pid})"
        if member.note_ready():
            self._false_starts = 0
            self._say("ready", f"{who} receives", member)
        if member.board.stage.ended and member.kill_at is None:  # but its threads may go on
            member.kill_at = time.monotonic() + self._options.grace_ms / 1000
            member.returning = member.board.stage is not Stage.DRAINED
        if member.kill_at is not None and member.kill_at <= time.monotonic():
            seconds = self._options.grace_ms / 1000
            self._say("overdue", f"{who} did not finish within {seconds:g} s: stopped", member)
            self._cut_short(member)
        elif self._options.timeout_ms and (overdue := list(member.overdue())):
            busy = ", ".join(
                f"message {one.message_id}" if one.message_id else "a batch" for one in overdue
            )
            seconds = self._options.timeout_ms / 1000
            text = f"{who} was busy with {busy} for more than {seconds:g} s: stopped"
            self._say("timeout", text, member)
            member.kill(Ending.TIMEOUT)
        elif member.is_silent:
            self._extend_leases_of(member)

    def _cut_short(self, member: Member) -> None:
        member.kill(Ending.CUT_SHORT)
        if self._signals:
            self._code = 128 + self._signals[-1]

    def _extend_leases_of(self, member: Member) -> None:
        """Do what its heartbeat cannot: a handler keeps every other line of Python from running."""
        try:
            for message in self._store.held(member.board.holder):
                lease_ms = self._store.settings(message.queue).visibility_timeout_ms
                if message.receipt is not None and message.lease_left_ms < lease_ms * 2 / 3:
                    self._store.extend([message.receipt], lease_ms)
        except DurableQError as error:
            text = f"leases of {member.name} could not be extended: {error}"
            self._say("unextended", text, member)

    # ---- all of them

    def _obey(self) -> None:
        """Do what signals have asked for since the last look."""
        if self._hung_up and self._terminal and not _has_terminal():
            self._lose_terminal()
        told, self._obeyed = self._signals[self._obeyed :], len(self._signals)
        if told and self._obeyed == len(told) == 1:
            self._stop()
        elif told:
            self._stop_at_once()
        elif self._hung_up and not self._is_stopping:
            self._say("renewing", "restarting workers one by one")
            self._false_starts = 0
            self._to_renew = deque(self._members)
        self._hung_up = False

    def _lose_terminal(self) -> None:
        """Stop, but under nohup: nobody asks for new code."""
        self._terminal = self._hung_up = False
        if self._outlives_terminal:
            self._say("terminal_gone", "the terminal has gone; under nohup, the fleet goes on")
        elif not self._is_stopping:
            self._signals.append(signal.SIGHUP)

    def _stop(self) -> None:
        self._say("stopping", "stopping: workers finish what they have in hand")
        self._renewing = None
        self._to_renew.clear()
        for member in self._members:
            member.start_at = None
            member.drain(self._options.grace_ms / 1000)

    def _stop_at_once(self) -> None:
        self._say("stopping_at_once", "stopping at once")
        for member in self._members:
            member.start_at = None
            if member.is_running:
                self._cut_short(member)

    def _renew(self) -> None:
        """Replace workers one by one: the next when the last one's successor receives."""
        if self._renewing is not None:
            member, old_pid = self._renewing
            if member.pid == old_pid or (member.is_running and not member.is_ready):
                return
            self._renewing = None
            if not member.is_running and member.board.stage is Stage.STARTING:
                self._to_renew.clear()
                text = f"{member.name} does not start; the others go on with what they have loaded"
                self._say("not_renewed", text, member)
        if self._to_renew:
            member = self._to_renew.popleft()
            self._renewing = (member, member.pid)
            if member.is_running:
                member.drain(self._options.grace_ms / 1000, returning=True)
            else:
                member.start_at = time.monotonic()

    def _look_around(self) -> None:
        """From time to time: memory, and the dead of fleets that have no supervisor any more."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_SECONDS
        try:
            if self._survivor.look(self._store):
                self._look_at = time.monotonic() + SECOND_LOOK_SECONDS
        except DurableQError as error:
            self._say("unreturned", f"what the dead held comes back later: {error}")
        for member in self._members if self._max_rss_bytes else ():
            # What a start takes is given back often; stopped in it, a worker would never receive.
            rss = member.rss_bytes() if member.is_running and member.is_ready else 0
            if rss > self._max_rss_bytes and member.kill_at is None:
                text = f"{member.name} (pid {member.pid}) uses {rss >> 20} MiB: it is replaced"
                self._say("too_large", text, member)
                member.drain(self._options.grace_ms / 1000, returning=True)

    def _until_next_look(self) -> float:
        """Return how long nothing has to be looked at, unless a signal comes."""
        now = time.monotonic()
        times = [self._look_at - now]
        for member in self._members:
            at = member.kill_at if member.is_running else member.start_at
            if at is not None:
                times.append(at - now)
            if member.is_running and member.is_ready:
                times.append(member.board.rhythm_ms / 2000)
            elif member.is_running:
                times.append(CLOSE_LOOK_SECONDS)
        if self._options.timeout_ms:
            times.append(max(self._options.timeout_ms / 20_000, CLOSE_LOOK_SECONDS / 5))
        return max(0.0, min(times))

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Take the signals that mean something to a fleet."""
        handlers = {
            signal.SIGTERM: self._on_stop,
            signal.SIGINT: self._on_stop,
            signal.SIGHUP: self._on_hang_up,
            signal.SIGCHLD: self._on_child,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        self._signals.append(signal.Signals(number))
        self._woken.set()

    def _on_hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._hung_up = True
        self._woken.set()

    def _on_child(self, _number: int, _frame: FrameType | None) -> None:
        self._woken.set()

    def _say(self, event: str, text: str, member: Member | None = None) -> None:
        worker, pid = ("", 0) if member is None else (member.name, member.pid)
        self._on_event(FleetEvent(event, text, worker, pid))


def _has_terminal() -> bool:
    """Whether somebody's terminal is still there for this process."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _cause(code: int) -> str:
    if code < 0:
        return signal_name(-code)
    if code == CLOSED_DESCRIPTORS:
        return f"exit code {code}, a handler closed file descriptors that are not its own"
    return f"exit code {code}"
