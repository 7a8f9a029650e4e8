"""Redrive tasks: one decision about many dead letters, carried out in slices."""

from __future__ import annotations

import dataclasses
import getpass
import os
from typing import Annotated, Any, Final

import typer

from durableq.cli import output, tables
from durableq.cli.options import Db, Json, opened
from durableq.cli.rendering import dead_letters_counted, moment_and_age
from durableq.model.dead_letters import RedriveState, RedriveTask
from durableq.model.errors import Conflict
from durableq.store.core import Capability, Store

#: Dead letters in one transaction, so that other writers wait only for a moment.
SLICE: Final = 200
_DONE: Final = {"requeue": "Redriven", "discard": "Discarded"}

TaskId = Annotated[
    str | None,
    typer.Argument(metavar="TASK", help="Id of the redrive task; optional if only one runs."),
]


def redrives(db: Db = None, as_json: Json = False) -> None:
    """List redrive tasks: all that run, and the newest that have ended.

    Example: durableq dlq redrives
    """
    with opened(db) as store:
        tasks = store.require(Capability.REDRIVE).redrive_tasks()
    if as_json:
        output.document([redrive_document(task) for task in tasks])
        return
    tables.table(
        ("TASK", "DECISION", "TO", "STATE", "DONE", "OF", "SKIPPED", "BY", "STARTED"),
        [
            (
                *(task.id, task.word, _destination(task), task.state),
                *(task.moved, task.total, task.skipped, task.actor),
                moment_and_age(task.started_at_ms),
            )
            for task in tasks
        ],
    )


def moves(db: Db = None, as_json: Json = False) -> None:
    """List redrive tasks; the name of `durableq dlq redrives` in release 0.1.

    Example: durableq dlq redrives
    """
    redrives(db, as_json)


def resume(task_id: TaskId = None, db: Db = None, as_json: Json = False) -> None:
    """Continue an interrupted redrive task.

    Dead letters that it has moved already are not moved again.

    Example: durableq dlq resume
    """
    with opened(db) as store:
        finish(store, _chosen(store, task_id), as_json)


def cancel(task_id: TaskId = None, db: Db = None, as_json: Json = False) -> None:
    """Cancel a redrive task; messages that it moved stay moved.

    Example: durableq dlq cancel
    """
    with opened(db) as store:
        task = store.require(Capability.REDRIVE).cancel_redrive(_chosen(store, task_id).id)
    if as_json:
        output.document(_result(task))
    else:
        output.line(f"Redrive task {task.id}: {task.state}, {task.moved} of {task.total} done.")


COMMANDS: Final = (redrives, moves, resume, cancel)


def finish(store: Store, task: RedriveTask, as_json: bool) -> None:
    """Carry out a redrive task to its end, with a progress bar; print the result.

    Raises:
        Conflict: some dead letters were leased, and skipped.
    """
    try:
        with output.progress(f"redrive task {task.id}", task.total) as advance:
            while task.state is RedriveState.RUNNING:
                task = store.require(Capability.REDRIVE).continue_redrive(task.id, SLICE)
                advance(task.moved + task.skipped)
    except KeyboardInterrupt:
        output.say(
            f"Interrupted: {task.moved} of {task.total} done. To continue: durableq dlq resume "
            f"{task.id}; to end it: durableq dlq cancel {task.id}."
        )
        raise
    if as_json:
        output.document(_result(task))
    else:
        output.line(f"{_DONE[task.word]} {dead_letters_counted(task.moved)}.")
    if task.skipped:
        raise Conflict(
            f"{task.skipped} were left, because a recovery process or another person had leased "
            "them. Try again later."
        )


def _result(task: RedriveTask) -> dict[str, Any]:
    described = redrive_document(task)
    return {"redrive_task": described, "move": described}  # move: deprecated name, until 0.3


def redrive_document(task: RedriveTask) -> dict[str, Any]:
    """Return a redrive task as JSON."""
    return dataclasses.asdict(task) | {
        "decision": {"name": task.word, **dataclasses.asdict(task.decision)},
        "verdict": task.word,  # deprecated name of decision.name, until 0.3
        "note": task.decision.reason,  # deprecated name of decision.reason, until 0.3
    }


def person() -> str:
    """Return the actor for the history: the user who runs the command."""
    try:
        return f"person ({getpass.getuser()})"
    except (KeyError, OSError):  # no such user in this container
        return f"person (uid {os.getuid()})"


def _destination(task: RedriveTask) -> str:
    """Return the destination of a redrive task in words."""
    if task.word == "discard":
        return "-"
    return task.to_queue or "where they died"


def _chosen(store: Store, task_id: str | None) -> RedriveTask:
    """Return the redrive task of this id, or the only one that runs.

    Raises:
        NotFound: there is no redrive task of this id.
        Misuse: no id is given, and not exactly one redrive task runs.
    """
    if task_id is not None:
        return store.require(Capability.REDRIVE).redrive_task(task_id)
    running = [
        task
        for task in store.require(Capability.REDRIVE).redrive_tasks()
        if task.state is RedriveState.RUNNING
    ]
    if len(running) != 1:
        there = ", ".join(task.id for task in running) or "none"
        raise output.Misuse(f"Name the redrive task; running: {there}.")
    return running[0]
