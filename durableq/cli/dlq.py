"""`durableq dlq`: list dead letters, and redrive or discard them by hand.

A choice by filters becomes a redrive task: one decision about many dead letters, in slices.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from durableq.cli import output, recover, redrive_tasks, rendering
from durableq.cli.help import argument, option
from durableq.cli.inspect import print_message
from durableq.cli.options import (
    After,
    Limit,
    MessageId,
    QueueArgument,
    Session,
    Yes,
    named_once,
    person,
)
from durableq.cli.screen import YELLOW
from durableq.cli.totals import Total, number_of, say_total
from durableq.model.dead_letters import DeadLetterFilter, DeadLetterGroup
from durableq.model.decisions import Decision, Discard, Requeue
from durableq.model.errors import Conflict, NotFound
from durableq.model.message import DeadLetter, Reason, State
from durableq.model.queues import DEAD_LETTER_SUFFIX
from durableq.model.text import visible
from durableq.model.units import to_ms
from durableq.store.core import Capability, Store

PAGE: Final = 100
FILTERS: Final = "Filters"
_REASONS: Final = f"Only this reason: {', '.join(Reason)}."
_BY_GROUP: Final = "Only this group; `durableq dlq groups` lists them."
_BY_ERROR: Final = "Only this class of the last failure's exception."

Source = Annotated[
    str | None, option("--queue QUEUE", "Only dead letters of this queue.", section=FILTERS)
]
Ids = Annotated[list[str] | None, argument("ID", "Ids of dead letters.", show_default=False)]
All = Annotated[bool, option("--all", "All dead letters.", section=FILTERS)]
Note = Annotated[str, option("--note TEXT", "Reason to record in the history.")]


@dataclass(frozen=True)
class Filters:
    """Options that choose dead letters; each that is None lets all pass."""

    queue: Source = None
    reason: Reason | None = option("--reason REASON", _REASONS, None, FILTERS)
    error_type: str | None = option("--error-type NAME", _BY_ERROR, None, FILTERS)
    group: str | None = option("--group FINGERPRINT", _BY_GROUP, None, FILTERS)
    older_than: float | None = option(
        "--older-than SECONDS", "Only burials longer ago.", None, FILTERS, min=0
    )

    def wanted(self, store: Store) -> DeadLetterFilter:
        """Return the filter for the store.

        Raises:
            UnknownQueue: there is no such queue.
        """
        queue, died_before_ms = _source(store, self.queue), None
        if self.older_than is not None:
            died_before_ms = rendering.now_ms() - to_ms(self.older_than, "--older-than")
        return DeadLetterFilter(queue, self.reason, self.error_type, self.group, died_before_ms)

    def given(self) -> list[str]:
        """Return the options that were given."""
        fields = vars(self).items()
        return [f"--{name.replace('_', '-')}" for name, value in fields if value is not None]


def list_(
    session: Session,
    filters: Filters,
    name: QueueArgument = None,
    limit: Limit = 50,
    after: After = None,
) -> None:
    """List dead letters, the newest first.

    Newest means sent last. --after goes on below a dead letter.

    Example: durableq dlq list orders --error-type ConnectionError
    """
    filters = dataclasses.replace(filters, queue=named_once(name, filters.queue))
    with session.opened() as store:
        wanted = filters.wanted(store)
        found = _matching(store, wanted, after)
        ids = session.table(
            itertools.islice(found, limit),
            rendering.dead_letter_document,
            {
                "ID": lambda dead_letter: dead_letter.id,
                "QUEUE": lambda dead_letter: dead_letter.source_queue,
                "STATE": _state,
                "REASON": lambda dead_letter: dead_letter.reason,
                "DIED": lambda dead_letter: rendering.ago(dead_letter.died_at_ms),
                "RECOVERIES": lambda dead_letter: dead_letter.recovery_count,
                "KEY": lambda dead_letter: dead_letter.key or "",
                "ERROR": _last_error,
                "BODY": lambda dead_letter: rendering.body_cell(dead_letter.message),
            },
            {"STATE": lambda dead_letter: YELLOW if dead_letter.message.held else ""},
        )
        is_whole = after is None and len(ids) < limit
        total = Total(len(ids)) if is_whole or session.as_json else _total(store, wanted)
        say_total(session, ids, "dead letter", limit, total)
        _say_sources(store, wanted.queue)


def groups(session: Session, name: QueueArgument = None, queue: Source = None) -> None:
    """Group dead letters by reason, error and place in the code.

    Example: durableq dlq groups orders
    """
    queue = named_once(name, queue)
    with session.opened() as store:
        source = _source(store, queue)
        found = store.require(Capability.DEAD_LETTERS).dead_letter_groups(source)
        _say_sources(store, source)
    fingerprints = session.table(
        found,
        dataclasses.asdict,
        {
            "FINGERPRINT": lambda group: group.fingerprint,
            "QUEUE": lambda group: group.queue,
            "REASON": lambda group: group.reason,
            "COUNT": lambda group: group.count,
            "FIRST": lambda group: rendering.ago(group.first_died_ms),
            "LAST": lambda group: rendering.ago(group.last_died_ms),
            "ERROR": _group_error,
            "WHERE": lambda group: group.place,
            "EXAMPLE": lambda group: group.example_id,
        },
    )
    if not session.as_json:
        letters = number_of(sum(group.count for group in found), "dead letter")
        output.say(f"{number_of(len(fingerprints), 'group')} of {letters}.")


def show(session: Session, message_id: MessageId) -> None:
    """Show a dead letter with the history of its failures.

    Example: durableq dlq show 17
    """
    with session.opened() as store:
        dead_letter = _as_dead_letter(store, message_id)
    if session.as_json:
        output.document(rendering.dead_letter_document(dead_letter))
    else:
        print_message(dead_letter.id, dead_letter.message, list(dead_letter.history))


def redrive(
    session: Session,
    filters: Filters,
    ids: Ids = None,
    all_: All = False,
    to: str | None = option(
        "--to QUEUE", "Destination.", None, show_default="the queue where each died"
    ),
    delay: float = option("--delay SECONDS", "Wait before the next receive.", 0, min=0),
    rate: float | None = option(
        "--rate N", "Most messages per second.", None, show_default="no limit"
    ),
    note: Note = "redriven by hand",
) -> None:
    """Send dead letters back to their queues, unchanged.

    Choose them by ID, by filters, or with --all. Filters start a redrive task, which `durableq dlq
    resume` continues after an interruption. Its rate is stored with it, holds for all processes
    that continue it together, and can be changed meanwhile (`durableq dlq set`). Dead letters
    leased by a recovery process are skipped, which is a conflict (exit code 5).

    Example: durableq dlq redrive --queue orders --error-type ConnectionError --rate 20
    """
    with session.opened() as store:
        wanted = filters.wanted(store)
        chosen = _chosen(store, ids, filters, all_)
        if chosen is None:
            task = store.require(Capability.REDRIVE).start_redrive(
                wanted, Requeue(note, delay), to_queue=to, actor=person(), rate=rate
            )
            redrive_tasks.carry_out(session, store, task)
        elif to is not None or rate is not None:
            name = "--rate" if to is None else "--to"
            raise output.Misuse(f"{name} goes with a filter or --all, not with ids.")
        else:
            _decide(session, store, chosen, Requeue(note, delay))


def discard(
    session: Session,
    filters: Filters,
    ids: Ids = None,
    all_: All = False,
    note: Note = "discarded by hand",
    yes: Yes = False,
) -> None:
    """Remove dead letters for good; asks first.

    Choose them by ID, by filters, or with --all. Filters start a redrive task, which `durableq dlq
    resume` continues after an interruption. The decision stays in the history. Dead letters leased
    by a recovery process are skipped, which is a conflict (exit code 5).

    Example: durableq dlq discard 17 --note "the customer cancelled"
    """
    with session.opened() as store:
        wanted = filters.wanted(store)
        chosen = _chosen(store, ids, filters, all_)
        if chosen is None:
            most = _at_most(store, wanted)
            question = f"Discard {rendering.dead_letters(most)}, for good?"
            output.confirm(question, yes=yes or most == 0)
            task = store.require(Capability.REDRIVE).start_redrive(
                wanted, Discard(note), actor=person()
            )
            redrive_tasks.carry_out(session, store, task)
        else:
            named = rendering.dead_letters(len(chosen))
            named = f"dead letter {chosen[0].id}" if len(chosen) == 1 else named
            output.confirm(f"Discard {named}, for good?", yes=yes)
            _decide(session, store, chosen, Discard(note))


HIDDEN_ALIASES: Final = redrive_tasks.HIDDEN_ALIASES
COMMANDS: Final = (
    *(list_, groups, show, redrive, discard, recover.explain),
    *redrive_tasks.COMMANDS,
)


# ---- the choice of dead letters


def _source(store: Store, name: str | None) -> str | None:
    """Return the name of a source queue, given it or that of its private dead-letter queue.

    Raises:
        UnknownQueue: there is no such queue.
    """
    if name is None or store.require(Capability.INSPECT).queue(name).dead_letter_queue is not None:
        return name
    return name.removesuffix(DEAD_LETTER_SUFFIX)


def _say_sources(store: Store, name: str | None) -> None:
    """Say whose dead letters come to a queue: a filter by queue means where they failed."""
    infos = [] if name is None else store.require(Capability.INSPECT).queues()
    sources = [info.name for info in infos if info.dead_letter_queue == name]
    if sources:
        output.say(
            f"Dead letters of {', '.join(sources)} come to {name}. "
            f"They are listed by the queue where they failed: --queue {sources[0]}."
        )


def _at_most(store: Store, wanted: DeadLetterFilter) -> int:
    """Return the number of dead letters that match a filter, its age ignored."""
    return sum(
        group.count
        for group in store.require(Capability.DEAD_LETTERS).dead_letter_groups(wanted.queue)
        if wanted.reason in {None, group.reason}
        and wanted.error_type in {None, group.error_type}
        and wanted.fingerprint in {None, group.fingerprint}
    )


def _total(store: Store, wanted: DeadLetterFilter) -> Total:
    """Return the number of dead letters that match a filter, from counters where they have it."""
    if wanted == DeadLetterFilter(wanted.queue):
        infos = {info.name: info for info in store.require(Capability.INSPECT).queues()}
        sources = [infos[wanted.queue]] if wanted.queue in infos else [*infos.values()]
        named = {info.dead_letter_queue for info in sources} - {None}
        dead = [info for info in infos.values() if info.name in named]
        if all(info.dead_letter_queue is None for info in dead):  # they have nothing else
            return Total(sum(info.counts.present for info in dead))
    how = "at most " if wanted.died_before_ms is not None else ""
    return Total(_at_most(store, wanted), how)


def _matching(store: Store, wanted: DeadLetterFilter, after: str | None) -> Iterator[DeadLetter]:
    """Yield the matching dead letters, the newest first, a page at a time."""
    dead_letters = store.require(Capability.DEAD_LETTERS).dead_letters
    while page := dead_letters(wanted, PAGE, after, newest_first=True):
        yield from page
        after = page[-1].id


def _as_dead_letter(store: Store, message_id: str) -> DeadLetter:
    dead_letter = store.require(Capability.DEAD_LETTERS).dead_letter(message_id)
    if dead_letter is None:
        raise NotFound(
            f"There is no dead letter {message_id}. "
            f"`durableq show {message_id}` shows that message."
        )
    return dead_letter


def _chosen(
    store: Store, ids: Sequence[str] | None, filters: Filters, everything: bool
) -> list[DeadLetter] | None:
    """Return the dead letters named by id; None if they are chosen by filters or --all.

    Raises:
        Misuse: the choice is missing, or made in two ways.
        NotFound: an id is not that of a dead letter; nothing was changed.
    """
    named = " and ".join(filters.given())
    if everything and named:
        raise output.Misuse(
            f"--all means every dead letter, {named} only some: leave out --all to choose by "
            f"{named}, or {named} to choose all."
        )
    if ids and (everything or named):
        raise output.Misuse(
            f"Dead letters are named by id already: leave out {named or '--all'}, or the ids."
        )
    if not (ids or everything or named):
        raise output.Misuse(
            "Choose the dead letters: by id, by --queue, --reason or --error-type, --group or "
            "--older-than, or --all."
        )
    return [_as_dead_letter(store, one) for one in dict.fromkeys(ids)] if ids else None


def _decide(
    session: Session, store: Store, dead_letters: list[DeadLetter], decision: Decision
) -> None:
    """Apply one decision to those of the dead letters that are not leased, a page at a time.

    Raises:
        Conflict: some are leased.
    """
    done: list[str] = []
    by_queue = itertools.groupby(dead_letters, lambda dead_letter: dead_letter.message.queue)
    for queue, found in by_queue:
        ids = [dead_letter.id for dead_letter in found]
        for start in range(0, len(ids), PAGE):
            done += store.require(Capability.DEAD_LETTERS).decide_by_id(
                queue, ids[start : start + PAGE], decision, actor=person()
            )
    left = [dead_letter.id for dead_letter in dead_letters if dead_letter.id not in set(done)]
    word = "discarded" if isinstance(decision, Discard) else "redriven"
    text = f"{word.capitalize()} {rendering.dead_letters(len(done))}."
    session.show({word: done, "left": left}, text)
    if left:
        raise Conflict(
            f"Not {word}, because a recovery process or another person has leased them: "
            f"{', '.join(left)}. Try again later."
        )


def _state(dead_letter: DeadLetter) -> str:
    message = dead_letter.message
    if message.held:
        return "held"
    return "in recovery" if message.state is State.IN_FLIGHT else message.state.label


def _last_error(dead_letter: DeadLetter) -> str:
    failure = dead_letter.last_failure
    return visible(rendering.event_words(failure), rendering.ERROR_COLUMNS) if failure else ""


def _group_error(group: DeadLetterGroup) -> str:
    error = ": ".join(part for part in (group.error_type, group.error_message) if part)
    return visible(error, rendering.ERROR_COLUMNS)
