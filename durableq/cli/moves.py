"""Moves: one decision about many dead letters, carried out a slice at a time."""

from __future__ import annotations

import dataclasses
import getpass
import os
from typing import Annotated, Any, Final

import typer

from durableq.cli import output
from durableq.cli.options import Db, Json, opened
from durableq.cli.rendering import letters_counted, moment_and_age
from durableq.errors import Conflict
from durableq.letters import Move, MoveState
from durableq.store import Monitor, Store

SLICE: Final = 200
"""Letters in a transaction of a move: the file is not kept from others for long."""
_DONE: Final = {"requeue": "Redriven", "discard": "Discarded"}

MoveId = Annotated[
    str | None, typer.Argument(metavar="MOVE", help="Which; not needed where one runs.")
]


def moves(db: Db = None, as_json: Json = False) -> None:
    """List the moves of dead letters: those that run, and the newest that have ended.

    Example: durableq dlq moves
    """
    with opened(db) as store:
        found = store.moves()
    if as_json:
        output.document([move_document(move) for move in found])
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


def resume(move_id: MoveId = None, db: Db = None, as_json: Json = False) -> None:
    """Go on with a move that was interrupted. What it has moved is not moved again.

    Example: durableq dlq resume
    """
    with opened(db) as store:
        finish(store, _meant(store, move_id), as_json)


def cancel(move_id: MoveId = None, db: Db = None, as_json: Json = False) -> None:
    """End a move where it is. What it has moved stays moved.

    Example: durableq dlq cancel
    """
    with opened(db) as store:
        move = store.cancel_move(_meant(store, move_id).id)
    if as_json:
        output.document({"move": move_document(move)})
    else:
        output.line(f"Move {move.id}: {move.state}, {move.moved} of {move.total} moved.")


COMMANDS: Final = (moves, resume, cancel)


def finish(store: Store, move: Move, as_json: bool) -> None:
    """Carry out a move to its end, showing how far it is; tell what became of it.

    Raises:
        Conflict: some letters were with a recovery process.
    """
    try:
        with output.progress(f"move {move.id}", move.total) as show:
            while move.state is MoveState.RUNNING:
                move = store.continue_move(move.id, SLICE)
                show(move.moved + move.skipped)
    except KeyboardInterrupt:
        output.say(
            f"Interrupted: {move.moved} of {move.total} moved. To go on: durableq dlq resume "
            f"{move.id}; to end it: durableq dlq cancel {move.id}."
        )
        raise
    if as_json:
        output.document({"move": move_document(move)})
    else:
        output.line(f"{_DONE[move.word]} {letters_counted(move.moved)}.")
    if move.skipped:
        raise Conflict(
            f"{move.skipped} were left, because a recovery process or another person had them "
            "just then. Try again when they are settled."
        )


def move_document(move: Move) -> dict[str, Any]:
    """Return a move as JSON."""
    return dataclasses.asdict(move) | {"verdict": move.word, "note": move.verdict.reason}


def person() -> str:
    """Return who decides, for the history."""
    try:
        return f"person ({getpass.getuser()})"
    except (KeyError, OSError):  # no such user in this container
        return f"person (uid {os.getuid()})"


def _whither(move: Move) -> str:
    """Return where a move sends its letters, in words."""
    if move.word == "discard":
        return "-"
    return move.to_queue or "where they died"


def _meant(store: Monitor, move_id: str | None) -> Move:
    """Return the move that is meant: the named one, or the only one that runs.

    Raises:
        NotFound: there is none of that id.
        Misuse: none was named, and there is not exactly one that runs.
    """
    if move_id is not None:
        return store.move(move_id)
    running = [move for move in store.moves() if move.state is MoveState.RUNNING]
    if len(running) != 1:
        there = ", ".join(move.id for move in running) or "none"
        raise output.Misuse(f"Name the move; there runs: {there}.")
    return running[0]
