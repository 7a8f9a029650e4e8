"""Redrive tasks on the command line: carried out at their rate, listed, changed and cancelled."""

from __future__ import annotations

from typing import Annotated, Final

from durableq.admin.redriving import steps
from durableq.cli import output, rendering
from durableq.cli.help import argument, option
from durableq.cli.options import Session
from durableq.cli.screen import YELLOW
from durableq.cli.totals import say_total
from durableq.model.dead_letters import RedriveState, RedriveTask, WholeQueue
from durableq.model.errors import Conflict
from durableq.model.text import shown
from durableq.model.units import span
from durableq.store.core import Capability, Store

_DONE: Final = {"requeue": "Redriven", "discard": "Discarded"}

TaskId = Annotated[
    str | None, argument("TASK", "Id of the redrive task; optional if only one runs.")
]


def redrives(session: Session) -> None:
    """List redrive tasks: all that run, and the newest that have ended.

    Example: durableq dlq redrives
    """
    with session.opened() as store:
        tasks = store.require(Capability.REDRIVE).redrive_tasks()
    ids = session.table(
        tasks,
        rendering.redrive_document,
        {
            "TASK": lambda task: task.id,
            "DECISION": lambda task: task.word,
            "FROM": _origin,
            "TO": _destination,
            "STATE": lambda task: task.state,
            "DONE": lambda task: task.moved,
            "OF": lambda task: task.total,
            "SKIPPED": lambda task: task.skipped,
            "RATE": lambda task: rendering.rate_words(task.rate),
            "BY": lambda task: task.actor,
            "STARTED": lambda task: rendering.moment_and_age(task.started_at_ms),
        },
        {"SKIPPED": lambda task: YELLOW if task.skipped else ""},
    )
    say_total(session, ids, "redrive task")


def moves(session: Session) -> None:
    """List redrive tasks; the name of `durableq dlq redrives` in release 0.1.

    Example: durableq dlq redrives
    """
    redrives(session)


def resume(session: Session, task_id: TaskId = None) -> None:
    """Continue an interrupted redrive task.

    Dead letters that it has moved already are not moved again.

    Example: durableq dlq resume
    """
    with session.opened() as store:
        carry_out(session, store, _chosen_redrive(store, task_id))


def set_(
    session: Session,
    task_id: TaskId = None,
    rate: str = option("--rate N", "Most messages per second, or off.", ...),
) -> None:
    """Change the rate of a running redrive task.

    The process that carries it out goes on at the new rate within a second.

    Example: durableq dlq set --rate 50
    """
    with session.opened() as store:
        chosen = _chosen_redrive(store, task_id)
        task = store.require(Capability.REDRIVE).set_redrive_rate(chosen.id, _rate(rate))
    text = f"Redrive task {task.id}: rate {rendering.rate_words(task.rate)}."
    session.show(rendering.redrive_result(task), text)


def cancel(session: Session, task_id: TaskId = None) -> None:
    """Cancel a redrive task; messages that it moved stay moved.

    Example: durableq dlq cancel
    """
    with session.opened() as store:
        chosen = _chosen_redrive(store, task_id)
        task = store.require(Capability.REDRIVE).cancel_redrive(chosen.id)
    text = f"Redrive task {task.id}: {task.state}, {task.moved} of {task.total} done."
    session.show(rendering.redrive_result(task), text)


HIDDEN_ALIASES: Final = (moves,)
COMMANDS: Final = (redrives, moves, resume, set_, cancel)


def _chosen_redrive(store: Store, task_id: str | None) -> RedriveTask:
    """Return the redrive task of this id, or the only one that runs.

    Raises:
        NotFound: there is no redrive task of this id.
        Misuse: no id is given, and not exactly one redrive task runs.
    """
    redrive = store.require(Capability.REDRIVE)
    if task_id is not None:
        return redrive.redrive_task(task_id)
    running = [task for task in redrive.redrive_tasks() if task.state is RedriveState.RUNNING]
    if len(running) != 1:
        there = ", ".join(task.id for task in running) or "none"
        raise output.Misuse(f"Name the redrive task; running: {there}.")
    return running[0]


def _rate(text: str) -> float | None:
    """Return the rate of an option; None for off.

    Raises:
        Misuse: it is neither a number nor off.
    """
    if text == "off":
        return None
    try:
        return float(text)
    except ValueError:
        says = f"--rate takes a number of messages a second, or off, got {shown(text)}."
        raise output.Misuse(says) from None


def carry_out(session: Session, store: Store, task: RedriveTask) -> None:
    """Carry out a redrive task to its end, at its rate, with a progress bar; print the result.

    Raises:
        Conflict: the task has failed, or some messages were leased, and skipped.
    """
    if task.rate is not None and task.state is RedriveState.RUNNING:
        left_ms = round((task.total - task.moved) / task.rate * 1000)
        output.say(
            f"Redrive task {task.id}: {rendering.dead_letters(task.total - task.moved)}, at most "
            f"{rendering.rate_words(task.rate)}, so about {span(left_ms)}. To change the rate: "
            f"durableq dlq set {task.id} --rate N."
        )
    try:
        with output.progress(_label(task), task.total) as advance:
            for after in steps(store, task):
                task = after
                advance(task.moved + task.skipped, _label(task))
    except KeyboardInterrupt:
        output.say(
            f"Interrupted: {task.moved} of {task.total} done. To continue: durableq dlq resume "
            f"{task.id}; to end it: durableq dlq cancel {task.id}."
        )
        raise
    session.show(
        rendering.redrive_result(task),
        f"{_DONE[task.word]} {rendering.dead_letters(task.moved)}.",
    )
    if task.failure is not None:
        raise Conflict(
            f"Redrive task {task.id} has failed: {task.failure.sentence}. {task.moved} of "
            f"{task.total} were moved."
        )
    if task.skipped:
        raise Conflict(
            f"{task.skipped} were left, because a recovery process or another person had leased "
            "them. Try again later."
        )


def _label(task: RedriveTask) -> str:
    rate = "" if task.rate is None else f", at most {rendering.rate_words(task.rate)}"
    return f"redrive task {task.id}{rate}"


def _origin(task: RedriveTask) -> str:
    if isinstance(task.wanted, WholeQueue):
        return f"all of {task.wanted.name}"
    return task.wanted.queue or "any queue"


def _destination(task: RedriveTask) -> str:
    return "-" if task.word == "discard" else task.to_queue or "where they died"
