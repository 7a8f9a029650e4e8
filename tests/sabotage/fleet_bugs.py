"""Bugs of workers and of their supervisor."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from durableq.recovery import leases
from durableq.runtime import outage, printable, signals
from durableq.supervisor import reclaim, reload, supervisor
from durableq.worker import completer, execution, lease_keeper


def count_nothing() -> None:
    """A supervisor blames no message for its worker's death."""
    module: Any = reclaim
    judge = module._judge
    module._judge = lambda messages, _calls, *rest: judge(messages, [], *rest)


def count_everything() -> None:
    """A supervisor blames all that its worker held, begun or not."""
    module: Any = reclaim

    def judge_all(messages: Any, _calls: Any, _ending: Any, cause: str, _now_ns: int) -> Any:
        failure = module.Failure(module.Reason.WORKER_LOST, cause, "")
        return [(message.receipt, failure) for message in messages], []

    module._judge = judge_all


def let_leases_end() -> None:
    """No lease is extended: not by the worker, nor for one whose beat is late while it computes."""
    beating: Any = lease_keeper.LeaseKeeper
    beating._extend = lambda _self, _due: None
    let_leases_of_the_silent_end()


def let_leases_of_the_silent_end() -> None:
    """A supervisor does not extend for a worker that cannot."""
    cls: Any = supervisor.Supervisor
    cls._extend_leases_of = lambda _self, _member: None


def count_each_signal() -> None:
    """A signal that is delivered twice is two requests."""
    module: Any = signals
    module.REPEAT_SECONDS = 0.0


def start_impatiently() -> None:
    """A worker that meets a busy file while it starts dies of it."""
    module: Any = outage
    module.cause_of = lambda _error: None


def count_deaths_of_the_waiting() -> None:
    """A worker killed while it waits for the file is part of a crash loop."""
    module: Any = supervisor
    module.has_other_cause = lambda _member, _code: False


def drain_before_the_successor_receives() -> None:
    """A reload leaves a place empty until the new code has started."""
    reloading: Any = reload.Reload
    replace = reloading._replace

    def drain_first(self: Any, member: Any) -> None:
        replace(self, member)
        member.drain(self._grace_seconds)

    reloading._replace = drain_first


def give_dead_letters_back_in_two_steps() -> None:
    """`recover --once` takes a queue for empty whose letters are on their way back."""
    cls: Any = leases.RecoveryLeases
    cls.none_returning = lambda _self: nullcontext()


def ignore_the_answers_of_batches() -> None:
    module: Any = execution
    module.failed_of_batch = lambda _answer, _ids: set()


def read_the_outcomes_before_the_commit() -> None:
    """A worker takes deliveries for settled although the commit that should settle them fails."""
    cls: Any = completer.Completer
    cls._put_back = lambda self, batch, _error: self.finish([ended[:2] for ended in batch])


def show_output_raw() -> None:
    """The supervisor shows the output of handlers' programs as it is."""
    lines: Any = printable.LineFilter
    lines._line = lambda _self, line: line + b"\n"


BUGS = (
    count_nothing,
    count_everything,
    let_leases_end,
    let_leases_of_the_silent_end,
    count_each_signal,
    start_impatiently,
    count_deaths_of_the_waiting,
    drain_before_the_successor_receives,
    give_dead_letters_back_in_two_steps,
    ignore_the_answers_of_batches,
    read_the_outcomes_before_the_commit,
    show_output_raw,
)
