"""`durableq dlq`: list dead letters, and redrive or discard them by hand."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from durableq.cli import decisions, output, redrives, tables
from durableq.cli.help import option
from durableq.cli.inspect import After, MessageId, print_message
from durableq.cli.options import Db, Json, Limit, Yes, given, opened, source_of
from durableq.cli.redrives import person
from durableq.cli.rendering import (
    BODY_COLUMNS,
    ERROR_COLUMNS,
    body_text,
    dead_letter_document,
    dead_letters_counted,
    event_words,
    now_ms,
)
from durableq.model.dead_letters import DeadLetterFilter, DeadLetterGroup
from durableq.model.decisions import Decision, Discard, Requeue
from durableq.model.errors import Conflict, NotFound
from durableq.model.message import DeadLetter, Reason, State
from durableq.model.queues import dead_letter_name
from durableq.model.text import visible
from durableq.model.units import span, to_ms
from durableq.store.core import Capability, Store

PAGE: Final = 100

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="ID", help="Ids of dead letters.", show_default=False)
]
CHOICE: Final = "Filters"
Source = Annotated[
    str | None,
    option(
        "--queue",
        placeholder="QUEUE",
        section=CHOICE,
        callback=given,
        help="Only dead letters of this queue.",
    ),
]
OfReason = Annotated[
    Reason | None,
    option(
        "--reason",
        placeholder="REASON",
        section=CHOICE,
        help=f"Only this reason: {', '.join(Reason)}.",
    ),
]
ErrorType = Annotated[
    str | None,
    option(
        placeholder="NAME",
        section=CHOICE,
        callback=given,
        help="Only this class of the last failure's exception.",
    ),
]
Group = Annotated[
    str | None,
    option(
        placeholder="FINGERPRINT",
        section=CHOICE,
        callback=given,
        help="Only this group; `durableq dlq groups` lists them.",
    ),
]
OlderThan = Annotated[
    float | None,
    option(placeholder="SECONDS", section=CHOICE, min=0, help="Only burials longer ago."),
]
All = Annotated[bool, option("--all", section=CHOICE, help="All dead letters.")]
To = Annotated[
    str | None,
    option(
        placeholder="QUEUE",
        callback=given,
        show_default="the queue where each died",
        help="Destination.",
    ),
]
Note = Annotated[
    str, option(placeholder="TEXT", callback=given, help="Reason to record in the history.")
]
Delay = Annotated[float, option(placeholder="SECONDS", min=0, help="Wait before the next receive.")]


def list_(
    queue: Source = None,
    reason: OfReason = None,
    error_type: ErrorType = None,
    group: Group = None,
    older_than: OlderThan = None,
    limit: Limit = 50,
    after: After = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """List dead letters.

    Example: durableq dlq list --queue orders --error-type ConnectionError
    """
    with opened(db) as store:
        wanted = _wanted(store, queue, reason, error_type, group, older_than)
        dead_letters = list(itertools.islice(_dead_letters(store, wanted, after), limit))
    if as_json:
        output.document([dead_letter_document(dead_letter) for dead_letter in dead_letters])
        return
    tables.table(
        ("ID", "QUEUE", "STATE", "REASON", "DIED", "RECOVERIES", "KEY", "ERROR", "BODY"),
        [_row(dead_letter) for dead_letter in dead_letters],
    )


def groups(queue: Source = None, db: Db = None, as_json: Json = False) -> None:
    """Group dead letters by reason, error and place in the code.

    Example: durableq dlq groups --queue orders
    """
    with opened(db) as store:
        found = store.require(Capability.DEAD_LETTERS).dead_letter_groups(
            None if queue is None else source_of(queue)
        )
    if as_json:
        output.document([dataclasses.asdict(group) for group in found])
        return
    tables.table(
        ("FINGERPRINT", "QUEUE", "REASON", "COUNT", "FIRST", "LAST", "ERROR", "WHERE", "EXAMPLE"),
        [_group_row(group) for group in found],
    )


def show(message_id: MessageId, db: Db = None, as_json: Json = False) -> None:
    """Show a dead letter with the history of its failures.

    Example: durableq dlq show 17
    """
    with opened(db) as store:
        dead_letter = _as_dead_letter(store, message_id)
    if as_json:
        output.document(dead_letter_document(dead_letter))
    else:
        print_message(dead_letter.id, dead_letter.message, list(dead_letter.history))


def redrive(
    ids: Ids = None,
    queue: Source = None,
    reason: OfReason = None,
    error_type: ErrorType = None,
    group: Group = None,
    older_than: OlderThan = None,
    all_: All = False,
    to: To = None,
    delay: Delay = 0,
    note: Note = "redriven by hand",
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Send dead letters back to their queues, unchanged.

    Choose them by ID, by filters, or with --all. Filters start a redrive task, which `durableq dlq
    resume` continues after an interruption. Dead letters leased by a recovery process are skipped,
    which is a conflict (exit code 5).

    Example: durableq dlq redrive --queue orders --error-type ConnectionError --delay 60
    """
    with opened(db) as store:
        wanted = _wanted(store, queue, reason, error_type, group, older_than)
        chosen = _chosen(store, ids, wanted, all_)
        if chosen is None:
            task = store.require(Capability.REDRIVE).start_redrive(
                wanted, Requeue(note, delay), to_queue=to, actor=person()
            )
            redrives.finish(store, task, as_json)
        elif to is not None:
            raise output.Misuse("--to goes with a filter or --all, not with ids.")
        else:
            _decide(store, chosen, Requeue(note, delay), ("redriven", as_json))


def discard(
    ids: Ids = None,
    queue: Source = None,
    reason: OfReason = None,
    error_type: ErrorType = None,
    group: Group = None,
    older_than: OlderThan = None,
    all_: All = False,
    note: Note = "discarded by hand",
    yes: Yes = False,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Remove dead letters for good; asks first.

    Choose them by ID, by filters, or with --all. Filters start a redrive task, which `durableq dlq
    resume` continues after an interruption. The decision stays in the history. Dead letters leased
    by a recovery process are skipped, which is a conflict (exit code 5).

    Example: durableq dlq discard 17 --note "the customer cancelled"
    """
    with opened(db) as store:
        wanted = _wanted(store, queue, reason, error_type, group, older_than)
        chosen = _chosen(store, ids, wanted, all_)
        if chosen is None:
            most = _at_most(store, wanted)
            output.confirm(f"Discard {dead_letters_counted(most)}, for good?", yes=yes or most == 0)
            task = store.require(Capability.REDRIVE).start_redrive(
                wanted, Discard(note), actor=person()
            )
            redrives.finish(store, task, as_json)
            return
        named = (
            f"dead letter {chosen[0].id}" if len(chosen) == 1 else dead_letters_counted(len(chosen))
        )
        output.confirm(f"Discard {named}, for good?", yes=yes)
        _decide(store, chosen, Discard(note), ("discarded", as_json))


HIDDEN_ALIASES: Final = (redrives.moves,)
COMMANDS: Final = (
    list_,
    groups,
    show,
    redrive,
    discard,
    *decisions.COMMANDS,
    *redrives.COMMANDS,
)


def _wanted(
    store: Store,
    queue: str | None,
    reason: Reason | None,
    error_type: str | None,
    group: str | None,
    older_than: float | None,
) -> DeadLetterFilter:
    """Return the filter of the given options.

    Raises:
        UnknownQueue: there is no such queue.
    """
    if queue is not None:
        queue = store.require(Capability.INSPECT).queue(source_of(queue)).name
    died_before_ms = None if older_than is None else now_ms() - to_ms(older_than, "--older-than")
    return DeadLetterFilter(queue, reason, error_type, group, died_before_ms)


def _at_most(store: Store, wanted: DeadLetterFilter) -> int:
    """Return the number of dead letters that match a filter, its age ignored."""
    return sum(
        group.count
        for group in store.require(Capability.DEAD_LETTERS).dead_letter_groups(wanted.queue)
        if wanted.reason in {None, group.reason}
        and wanted.error_type in {None, group.error_type}
        and wanted.fingerprint in {None, group.fingerprint}
    )


def _dead_letters(
    store: Store, wanted: DeadLetterFilter, after: str | None = None
) -> Iterator[DeadLetter]:
    """Return the matching dead letters in order of id."""
    if wanted.queue is not None:
        queues = [store.require(Capability.INSPECT).queue(dead_letter_name(wanted.queue)).name]
    else:
        queues = [
            info.name
            for info in store.require(Capability.INSPECT).queues()
            if info.dead_letter_queue is None
        ]
    pages = (_dead_letters_in(store, queue, after) for queue in queues)
    found = heapq.merge(*pages, key=lambda dead_letter: (len(dead_letter.id), dead_letter.id))
    return filter(wanted.fits, found)


def _dead_letters_in(store: Store, queue: str, after: str | None) -> Iterator[DeadLetter]:
    while page := store.require(Capability.INSPECT).peek(queue, PAGE, after):
        after = page[-1].id
        for message in page:
            dead_letter = store.require(Capability.DEAD_LETTERS).dead_letter(message.id)
            if dead_letter is not None:
                yield dead_letter


def _as_dead_letter(store: Store, message_id: str) -> DeadLetter:
    dead_letter = store.require(Capability.DEAD_LETTERS).dead_letter(message_id)
    if dead_letter is None:
        raise NotFound(
            f"There is no dead letter {message_id}. "
            f"`durableq show {message_id}` shows that message."
        )
    return dead_letter


def _chosen(
    store: Store, ids: list[str] | None, wanted: DeadLetterFilter, everything: bool
) -> list[DeadLetter] | None:
    """Return the dead letters named by id; None if they are chosen by filters or --all.

    Raises:
        Misuse: the choice is missing, or made in two ways.
        NotFound: an id is not that of a dead letter; nothing was changed.
    """
    _check_one_way(bool(ids), wanted, everything)
    if not ids:
        return None
    return [_as_dead_letter(store, message_id) for message_id in dict.fromkeys(ids)]


def _check_one_way(by_id: bool, wanted: DeadLetterFilter, everything: bool) -> None:
    """Refuse a missing choice of dead letters, and one made in two ways.

    Raises:
        Misuse: it names the options that conflict, and those to leave out.
    """
    filters = [
        option
        for option, value in (
            ("--queue", wanted.queue),
            ("--reason", wanted.reason),
            ("--error-type", wanted.error_type),
            ("--group", wanted.fingerprint),
            ("--older-than", wanted.died_before_ms),
        )
        if value is not None
    ]
    named = " and ".join(filters)
    if everything and filters:
        raise output.Misuse(
            f"--all means every dead letter, {named} only some: leave out --all to choose by "
            f"{named}, or {named} to choose all."
        )
    if by_id and (everything or filters):
        raise output.Misuse(
            f"Dead letters are named by id already: leave out {named or '--all'}, or the ids."
        )
    if not (by_id or everything or filters):
        raise output.Misuse(
            "Choose the dead letters: by id, by --queue, --reason or --error-type, --group or "
            "--older-than, or --all."
        )


def _decide(
    store: Store, dead_letters: list[DeadLetter], decision: Decision, told: tuple[str, bool]
) -> None:
    """Apply one decision to those of the dead letters that are not leased; print which.

    Raises:
        Conflict: some are leased.
    """
    done = [
        message_id
        for queue, group in itertools.groupby(
            dead_letters, lambda dead_letter: dead_letter.message.queue
        )
        for message_id in _decide_in(
            store, queue, [dead_letter.id for dead_letter in group], decision
        )
    ]
    left = [dead_letter.id for dead_letter in dead_letters if dead_letter.id not in set(done)]
    word, as_json = told
    if as_json:
        output.document({word: done, "left": left})
    else:
        output.line(f"{word.capitalize()} {dead_letters_counted(len(done))}.")
    if left:
        raise Conflict(
            f"Not {word}, because a recovery process or another person has leased them: "
            f"{', '.join(left)}. Try again later."
        )


def _decide_in(store: Store, queue: str, ids: list[str], decision: Decision) -> Iterator[str]:
    """Apply a decision in one queue, a page at a time; yield the ids of the rows it moved."""
    for start in range(0, len(ids), PAGE):
        page = ids[start : start + PAGE]
        yield from store.require(Capability.DEAD_LETTERS).decide_by_id(
            queue, page, decision, actor=person()
        )


def _group_row(group: DeadLetterGroup) -> tuple[Any, ...]:
    error = ": ".join(part for part in (group.error_type, group.error_message) if part)
    now = now_ms()
    return (
        *(group.fingerprint, group.queue, group.reason, group.count),
        *(f"{span(now - at)} ago" for at in (group.first_died_ms, group.last_died_ms)),
        *(visible(error, ERROR_COLUMNS), group.place, group.example_id),
    )


def _row(dead_letter: DeadLetter) -> tuple[Any, ...]:
    message, failure = dead_letter.message, dead_letter.last_failure
    if message.held:
        state = "held"
    else:
        state = "in recovery" if message.state is State.IN_FLIGHT else message.state.label
    return (
        dead_letter.id,
        dead_letter.source_queue,
        state,
        dead_letter.reason,
        f"{span(now_ms() - dead_letter.died_at_ms)} ago",
        dead_letter.recovery_count,
        dead_letter.key or "",
        visible(event_words(failure), ERROR_COLUMNS) if failure else "",
        visible(body_text(message), BODY_COLUMNS),
    )
