"""Moves: one decision about many dead letters, carried out a slice at a time."""

from __future__ import annotations

import dataclasses
import getpass
import os
from typing import Annotated, Any, Final

import typer

from durableq.cli import output
from durableq.cli.options import Db, Json, opened
from durableq.cli.rendering import dead_letters_counted, moment_and_age
from durableq.model.dead_letters import RedriveState, RedriveTask
from durableq.model.errors import Conflict
from durableq.store.core import Capability, Store

#: Letters in a transaction of a move: the file is not kept from others for long.
SLICE: Final = 200
_DONE: Final = {"requeue": "Redriven", "discard": "Discarded"}

MoveId = Annotated[
    str | None, typer.Argument(metavar="MOVE", help="Which; not needed where one runs.")
]


def moves(db: Db = None, as_json: Json = False) -> None:
    """List the moves of dead letters: those that run, and the newest that have ended.

    Example: durableq dlq moves
    """
    with opened(db) as store:
        found = store.require(Capability.REDRIVE).redrive_tasks()
    if as_json:
        output.document([redrive_document(move) for move in found])
        return
    output.table(
        ("MOVE", "DOES", "TO", "STATE", "MOVED", "OF", "SKIPPED", "BY", "STARTED"),
        [
            (
                *(move.id, move.word, _whither(move), move.state),
                *(move.moved, move.total, move.skipped, move.actor),
                moment_and_age(move.started_at_ms),
            )
            for move in found
        ],
    )


def resume(task_id: MoveId = None, db: Db = None, as_json: Json = False) -> None:
    """Go on with a move that was interrupted. What it has moved is not moved again.

    Example: durableq dlq resume
    """
    with opened(db) as store:
        finish(store, _meant(store, task_id), as_json)


def cancel(task_id: MoveId = None, db: Db = None, as_json: Json = False) -> None:
    """End a move where it is. What it has moved stays moved.

    Example: durableq dlq cancel
    """
    with opened(db) as store:
        move = store.require(Capability.REDRIVE).cancel_redrive(_meant(store, task_id).id)
    if as_json:
        output.document({"move": redrive_document(move)})
    else:
        output.line(f"Move {move.id}: {move.state}, {move.moved} of {move.total} moved.")


COMMANDS: Final = (moves, resume, cancel)


def finish(store: Store, move: RedriveTask, as_json: bool) -> None:
    """Carry out a move to its end, showing how far it is; tell what became of it.

    Raises:
        Conflict: some letters were with a recovery process.
    """
    try:
        with output.progress(f"move {move.id}", move.total) as show:
            while move.state is RedriveState.RUNNING:
                move = store.require(Capability.REDRIVE).continue_redrive(move.id, SLICE)
                show(move.moved + move.skipped)
    except KeyboardInterrupt:
        output.say(
            f"Interrupted: {move.moved} of {move.total} moved. To go on: durableq dlq resume "
            f"{move.id}; to end it: durableq dlq cancel {move.id}."
        )
        raise
    if as_json:
        output.document({"move": redrive_document(move)})
    else:
        output.line(f"{_DONE[move.word]} {dead_letters_counted(move.moved)}.")
    if move.skipped:
        raise Conflict(
            f"{move.skipped} were left, because a recovery process or another person had them "
            "just then. Try again when they are settled."
        )


def redrive_document(move: RedriveTask) -> dict[str, Any]:
    """Return a move as JSON."""
    return dataclasses.asdict(move) | {"verdict": move.word, "note": move.decision.reason}


def person() -> str:
    """Return who decides, for the history."""
    try:
        return f"person ({getpass.getuser()})"
    except (KeyError, OSError):  # no such user in this container
        return f"person (uid {os.getuid()})"


def _whither(move: RedriveTask) -> str:
    """Return where a move sends its letters, in words."""
    if move.word == "discard":
        return "-"
    return move.to_queue or "where they died"


def _meant(store: Store, task_id: str | None) -> RedriveTask:
    """Return the move that is meant: the named one, or the only one that runs.

    Raises:
        NotFound: there is none of that id.
        Misuse: none was named, and there is not exactly one that runs.
    """
    if task_id is not None:
        return store.require(Capability.REDRIVE).redrive_task(task_id)
    running = [
        move
        for move in store.require(Capability.REDRIVE).redrive_tasks()
        if move.state is RedriveState.RUNNING
    ]
    if len(running) != 1:
        there = ", ".join(move.id for move in running) or "none"
        raise output.Misuse(f"Name the move; there runs: {there}.")
    return running[0]
