"""The errors of durableq.

DurableQError
├── InvalidInput            an argument cannot be accepted; nothing was stored
│   ├── InvalidBody         not JSON or bytes, too large, too deep
│   └── InvalidResult       a handler returned a value that JSON cannot hold
├── NotFound
│   ├── UnknownQueue
│   ├── UnknownMessage
│   └── NoResult            no message has succeeded under a key so far
├── Conflict                the state of the object forbids the call
│   ├── Refused             some messages could not be cancelled or rescheduled
│   └── QueueFull           a queue has no room for a send
├── StaleReceipt            the message is no longer yours
├── Busy                    another process holds the file; trying again is safe
│   └── DatabaseUnreachable a server does not answer, or went away; trying again is safe
├── OutcomeUnknown          COMMIT itself failed; repeating the call is safe
├── StorageFull             the disk has no room; nothing was lost
├── DatabaseUnusable        this file cannot be, or can no longer be, our database
│   ├── ForeignDatabase
│   ├── OlderDatabase
│   ├── NewerDatabase
│   ├── DatabaseMoved
│   ├── DatabaseReplaced
│   └── UnsupportedSQLite
├── Unsupported             this engine cannot do that
└── AppError                the application with the handlers cannot be used

Reject, RetryLater, Unavailable    raised by handlers
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from durableq.model.limits import MAX_DELAY_MS
from durableq.model.states import Refusal
from durableq.model.text import shown, visible


class DurableQError(Exception):
    """Base class. The message names the problem, the place and the next step."""


class InvalidInput(DurableQError, ValueError):
    """An argument cannot be accepted. Nothing of the call was stored."""


class InvalidBody(InvalidInput):
    """The body is neither bytes nor a JSON value, or it is over a limit."""


class InvalidResult(InvalidInput):
    """A handler, or a computation of `once`, returned a value that JSON cannot hold.

    It cannot be kept for duplicates, or for other callers. Or it is too large.
    """


class NotFound(DurableQError, LookupError):
    """The named object does not exist."""


class UnknownQueue(NotFound):
    """There is no queue of that name in this database."""

    def __init__(self, queue: str) -> None:
        super().__init__(
            f"There is no queue {shown(queue)} in this database. Create it with "
            f"`durableq queue create {visible(str(queue), 80)}`, or declare it: "
            f"dq.queue({shown(queue)})."
        )
        self.queue = queue


class UnknownMessage(NotFound):
    """There is no message of that id in this database."""

    def __init__(self, message_id: str) -> None:
        super().__init__(
            f"There is no message {visible(str(message_id), 80)} in this database. "
            "It has ended and was removed, or it never existed."
        )
        self.message_id = message_id


class NoResult(NotFound):
    """No message has succeeded under a key, or not within the wait for its result.

    Args:
        queue: the queue of the key.
        key: the key.
        fate: the state of its message, for people.
        message_id: its id, if there is one.
        is_dead: whether it is a dead letter.
    """

    def __init__(
        self, queue: str, key: str, fate: str, message_id: str | None = None, *, is_dead: bool
    ) -> None:
        super().__init__(f"No message has succeeded under key {shown(key)} in {queue}: {fate}")
        self.queue = queue
        self.key = key
        self.message_id = message_id
        self.is_dead = is_dead


class Conflict(DurableQError):
    """The state of the object forbids the call. Nothing was changed."""


class Refused(Conflict):
    """Some messages could not be cancelled or rescheduled; the others were."""

    #: Messages that the sentence names.
    _NAMED: Final = 5

    def __init__(self, refusals: Mapping[str, Refusal], of: int) -> None:
        named = [
            f"Message {visible(one, 80)} {why.sentence}."
            for one, why in itertools.islice(refusals.items(), self._NAMED)
        ]
        if more := len(refusals) - len(named):
            named.append(f"{more} others were refused too.")
        if changed := of - len(refusals):
            named.append(f"{changed} of {of} {'was' if changed == 1 else 'were'} changed.")
        super().__init__(" ".join(named))
        #: The reason for each refused message, by id.
        self.refusals = dict(refusals)


class QueueFull(Conflict):
    """A send does not fit into the backlog limits of a queue. Nothing of it was stored.

    Args:
        queue: the name of the queue.
        why: how full it is, and how much was to come.
        needs: the number of messages to come, and the bytes of their bodies.
        block_ms: how long a send waits for room; 0: it does not.
        waited: whether it has waited.
    """

    def __init__(
        self,
        queue: str,
        why: str,
        needs: tuple[int, int] = (0, 0),
        *,
        block_ms: int = 0,
        waited: bool = False,
    ) -> None:
        advice = (
            "Send later, when workers have completed messages, or raise the limit (durableq queue "
            "set)."
        )
        if waited:
            advice = f"The send has waited for {block_ms / 1000:g} s (block_timeout). {advice}"
        elif block_ms:
            advice = (
                "Its setting on_full is block, but this send cannot wait: it is part of a "
                "transaction, which keeps the workers from making room, or it runs on an event "
                "loop. Send outside the transaction, or with `await queue.asend(…)`."
            )
        super().__init__(f"Queue {queue!r} is full: {why}. Nothing was sent. {advice}")
        self.queue = queue
        self.why = why
        self.needs = needs
        self.block_ms = block_ms


class StaleReceipt(DurableQError):
    """The message is no longer yours: its lease was taken over, or it has ended."""

    def __init__(
        self, message_id: str, why: str, *, of: int = 1, others: Sequence[str] = ()
    ) -> None:
        ends = "Nothing was written; drop this message."
        if of > 1:
            stale = 1 + len(others)
            drop = "this" if stale == 1 else f"these {stale}"
            ends = f"The other {of - stale} of {of} messages are completed; drop {drop}."
        super().__init__(f"The receipt for message {message_id} is stale: {why}. {ends}")
        #: The first message whose receipt is stale.
        self.message_id = message_id
        #: All of them; more than one where messages were settled together.
        self.message_ids = (message_id, *others)


class Busy(DurableQError):
    """Another process held the write lock, or computed the value of `once`, for the whole wait.

    Nothing was stored: try again.
    """


class DatabaseUnreachable(Busy):
    """The database server does not answer, refuses connections for now, or went away.

    Nothing of the call was stored: try again. It is Busy for callers that repeat on Busy, and
    workers wait for its end. A server that refuses the user or the database is DatabaseUnusable.
    """


class OutcomeUnknown(DurableQError):
    """COMMIT itself failed, so the write may or may not have happened.

    A full disk at COMMIT raises StorageFull instead, because SQLite has rolled back.

    Repeating the call with the same key or receipt is safe.
    """


class StorageFull(DurableQError):
    """The disk has no room for this write. It was rolled back; stored data is intact."""


class DatabaseUnusable(DurableQError):
    """This path cannot be used as a durableq database; the message says why."""


class ForeignDatabase(DatabaseUnusable):
    """The file belongs to another program. It was not written to."""


class OlderDatabase(DatabaseUnusable):
    """The file was made by an older durableq: run `durableq migrate`."""


class NewerDatabase(DatabaseUnusable):
    """The file was made by a newer durableq: upgrade this installation."""


class DatabaseMoved(DatabaseUnusable):
    """The store was moved to another address, or a transfer of it has not ended."""


class DatabaseReplaced(DatabaseUnusable):
    """The file was deleted or replaced while it was open: the write went nowhere and is undone."""


class UnsupportedSQLite(DatabaseUnusable):
    """This SQLite library is too old for the tables, or for this file."""


class Unsupported(DurableQError):
    """The engine does not support the operation."""


class AppError(DurableQError):
    """The application named by --app cannot be imported, or holds no handler."""


#: The tables are not ours to write any more, in a process that had them open.
GONE_MEANWHILE: Final = (NewerDatabase, OlderDatabase, DatabaseMoved)
#: Transient conditions. Repeating the call, with the same key or receipt, is safe.
PASSING: Final = (Busy, StorageFull, OutcomeUnknown)
#: Errors of the store in a handler: its message has not failed.
NOT_ITS_FAULT: Final = (*PASSING, DatabaseUnusable)


class Reject(Exception):
    """Raise in a handler to move a message that can never succeed to the dead-letter queue."""


class RetryLater(Exception):
    """Raise in a handler to receive the message again in `seconds`. It counts as a failure."""

    def __init__(
        self, seconds: float | timedelta, reason: str = "the handler asked to be retried"
    ) -> None:
        self.seconds = _checked_seconds(seconds, "RetryLater takes")
        super().__init__(reason)


class Unavailable(Exception):
    """Raise in a handler when a service that it needs is down: the message has not failed itself.

    It opens the queue's circuit breaker for all processes, and the message is received again, this
    receive uncounted. In a queue without a breaker it is a failure like any other, retried after
    `retry_after`.

    Args:
        reason: for people: what is unavailable.
        retry_after: seconds to wait, if the service names them (the HTTP header Retry-After).

    Raises:
        InvalidInput: `retry_after` is out of bounds.
    """

    def __init__(
        self,
        reason: str = "a service that the handler needs is unavailable",
        *,
        retry_after: float | timedelta | None = None,
    ) -> None:
        if retry_after is not None:
            retry_after = _checked_seconds(retry_after, "Unavailable has a retry_after of")
        super().__init__(reason)
        self.retry_after = retry_after


def _checked_seconds(seconds: float | timedelta, takes: str) -> float:
    if isinstance(seconds, timedelta):
        seconds = seconds.total_seconds()
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds * 1000 <= MAX_DELAY_MS:
        most = MAX_DELAY_MS // 1000
        raise InvalidInput(f"{takes} 0 to {most} seconds, got {shown(seconds)}.")
    return seconds
