"""`durableq dlq`: dead letters, looked at and decided about by a person."""

from __future__ import annotations

import getpass
import heapq
import itertools
import os
from collections.abc import Iterator
from typing import Annotated, Any, Final, NamedTuple

import typer

from durableq.cli import output
from durableq.cli.inspect import After, MessageId, print_message
from durableq.cli.options import Db, Json, Limit, Yes, opened, source_of
from durableq.cli.rendering import (
    BODY_COLUMNS,
    ERROR_COLUMNS,
    body_text,
    event_words,
    letter_document,
    now_ms,
)
from durableq.errors import Conflict, NotFound
from durableq.message import DeadLetter, Outcome, Reason, State
from durableq.settings import dead_letter_name
from durableq.store import Monitor, Store
from durableq.text import visible
from durableq.units import span
from durableq.verdict import Discard, Requeue, Verdict

PAGE: Final = 100

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="These dead letters.")]
Source = Annotated[
    str | None, typer.Option("--queue", help="Only letters that died in this queue.")
]
OfReason = Annotated[
    Reason | None, typer.Option("--reason", help="Only letters that died for this reason.")
]
ErrorType = Annotated[str | None, typer.Option(help="Only letters whose last failure raised this.")]
All = Annotated[bool, typer.Option("--all", help="All dead letters there are.")]
Note = Annotated[str, typer.Option(help="Kept in the history as the reason of this decision.")]
Delay = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Ready only after this.")]


class Filter(NamedTuple):
    """Which dead letters are meant."""

    queue: str | None = None
    reason: Reason | None = None
    error_type: str | None = None

    def __bool__(self) -> bool:
        return any(part is not None for part in self)

    def fits(self, letter: DeadLetter) -> bool:
        """Return whether a letter is one of them."""
        failure = letter.last_failure
        return (self.reason is None or letter.reason is self.reason) and (
            self.error_type is None
            or (failure is not None and failure.error_type == self.error_type)
        )


def list_(
    queue: Source = None,
    reason: OfReason = None,
    error_type: ErrorType = None,
    limit: Limit = 50,
    after: After = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """List dead letters: what died, where, why and when.

    Example: durableq dlq list --queue orders --error-type ConnectionError
    """
    with opened(db) as store:
        found = _letters(store, Filter(queue, reason, error_type), after)
        letters = list(itertools.islice(found, limit))
    if as_json:
        output.document([letter_document(letter) for letter in letters])
        return
    output.table(
        ("ID", "QUEUE", "STATE", "REASON", "DIED", "RECOVERIES", "KEY", "ERROR", "BODY"),
        [_row(letter) for letter in letters],
    )


def show(message_id: MessageId, db: Db = None, as_json: Json = False) -> None:
    """Show a dead letter with the whole story of its failures.

    Example: durableq dlq show 17
    """
    with opened(db) as store:
        letter = _letter(store, message_id)
    if as_json:
        output.document(letter_document(letter))
    else:
        print_message(letter.id, letter.message, list(letter.history))


def redrive(
    ids: Ids = None,
    queue: Source = None,
    reason: OfReason = None,
    error_type: ErrorType = None,
    all_: All = False,
    delay: Delay = 0,
    note: Note = "redriven by hand",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Send dead letters back to the queues where they died, unchanged: by id, by filter, or all.

    Letters that a recovery process holds are left, and that is a conflict (exit code 5).

    Example: durableq dlq redrive --queue orders --error-type ConnectionError --delay 60
    """
    with opened(db) as store:
        chosen = _chosen(store, ids, Filter(queue, reason, error_type), all_)
        _decide(store, chosen, Requeue(note, delay), ("redriven", as_json))


def discard(
    ids: Ids = None,
    queue: Source = None,
    reason: OfReason = None,
    error_type: ErrorType = None,
    all_: All = False,
    note: Note = "discarded by hand",
    yes: Yes = False,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Remove dead letters for good, and keep the decision in their history. Asks first.

    Letters that a recovery process holds are left, and that is a conflict (exit code 5).

    Example: durableq dlq discard 17 --note "the customer cancelled"
    """
    with opened(db) as store:
        chosen = _chosen(store, ids, Filter(queue, reason, error_type), all_)
        if chosen:
            what = (
                f"dead letter {chosen[0].id}" if len(chosen) == 1 else f"{len(chosen)} dead letters"
            )
            output.confirm(f"Discard {what}, for good?", yes=yes)
        _decide(store, chosen, Discard(note), ("discarded", as_json))


COMMANDS: Final = (list_, show, redrive, discard)


def _letters(store: Monitor, wanted: Filter, after: str | None = None) -> Iterator[DeadLetter]:
    """Return the letters that a filter means, in order of id."""
    if wanted.queue is not None:
        queues = [store.queue(dead_letter_name(source_of(wanted.queue))).name]
    else:
        queues = [info.name for info in store.queues() if info.dead_letter_queue is None]
    pages = (_letters_in(store, queue, after) for queue in queues)
    found = heapq.merge(*pages, key=lambda letter: (len(letter.id), letter.id))
    return filter(wanted.fits, found)


def _letters_in(store: Monitor, queue: str, after: str | None) -> Iterator[DeadLetter]:
    while page := store.peek(queue, PAGE, after):
        after = page[-1].id
        for message in page:
            letter = store.dead_letter(message.id)
            if letter is not None:
                yield letter


def _letter(store: Monitor, message_id: str) -> DeadLetter:
    letter = store.dead_letter(message_id)
    if letter is None:
        raise NotFound(
            f"There is no dead letter {message_id}. "
            f"`durableq show {message_id}` tells what is known of that message."
        )
    return letter


def _chosen(
    store: Monitor, ids: list[str] | None, wanted: Filter, everything: bool
) -> list[DeadLetter]:
    """Return the letters to decide about.

    Raises:
        Misuse: not exactly one way to choose was used.
        NotFound: an id is of no dead letter; nothing was changed.
    """
    if sum((bool(ids), bool(wanted), everything)) != 1:
        raise output.Misuse(
            "Choose the dead letters: by id, by --queue, --reason or --error-type, or --all."
        )
    if ids:
        return [_letter(store, message_id) for message_id in dict.fromkeys(ids)]
    return list(_letters(store, wanted))


def _decide(
    store: Store, letters: list[DeadLetter], verdict: Verdict, told: tuple[str, bool]
) -> None:
    """Apply one verdict to letters, as many as are free, and tell which.

    Raises:
        Conflict: some are with a recovery process.
    """
    done = [
        message_id
        for queue, group in itertools.groupby(letters, lambda letter: letter.message.queue)
        for message_id in _decide_in(store, queue, [letter.id for letter in group], verdict)
    ]
    left = [letter.id for letter in letters if letter.id not in set(done)]
    word, as_json = told
    if as_json:
        output.document({word: done, "left": left})
    else:
        output.line(f"{word.capitalize()} {len(done)} dead letters.")
    if left:
        raise Conflict(
            f"Not {word}, because a recovery process or another person has them just now: "
            f"{', '.join(left)}. Try again when they are settled."
        )


def _decide_in(store: Store, queue: str, ids: list[str], verdict: Verdict) -> Iterator[str]:
    """Lease letters of one queue, a page at a time, decide, and yield those decided."""
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        messages = store.receive(queue, len(page), ids=page).messages
        receipts = [message.receipt for message in messages if message.receipt is not None]
        outcomes = store.decide([(receipt, verdict) for receipt in receipts], actor=_person())
        for receipt, outcome in zip(receipts, outcomes, strict=True):
            if outcome is Outcome.DONE:
                yield receipt.message_id


def _person() -> str:
    """Return who decides, for the history."""
    try:
        return f"person ({getpass.getuser()})"
    except (KeyError, OSError):  # no such user in this container
        return f"person (uid {os.getuid()})"


def _row(letter: DeadLetter) -> tuple[Any, ...]:
    message, failure = letter.message, letter.last_failure
    if message.held:
        state = "held"
    else:
        state = "in recovery" if message.state is State.IN_FLIGHT else message.state.label
    return (
        letter.id,
        letter.source_queue,
        state,
        letter.reason,
        f"{span(now_ms() - letter.died_at_ms)} ago",
        letter.recovery_count,
        letter.key or "",
        visible(event_words(failure), ERROR_COLUMNS) if failure else "",
        visible(body_text(message), BODY_COLUMNS),
    )
