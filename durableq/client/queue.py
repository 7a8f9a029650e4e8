"""Queue: one queue of an application, to send to and to receive from."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from durableq.client import tracing
from durableq.client.completing import Completing
from durableq.client.delivery import Deliveries, Delivery
from durableq.client.gathering import gather, gathering
from durableq.client.producer import Producer
from durableq.client.queue_async import AsyncQueue
from durableq.client.results import result_of
from durableq.model.arguments import check_text
from durableq.model.control import check_refusals
from durableq.model.errors import InvalidInput
from durableq.model.info import BreakerInfo
from durableq.model.limits import (
    MAX_BODY_BYTES,
    MAX_DELAY_MS,
    MAX_SEND_BATCH,
    MAX_STORE_RECEIVES,
)
from durableq.model.message import (
    Draft,
    IdempotencyRecord,
    SendOptions,
    check_key,
    draft,
    drafts,
)
from durableq.model.progress import Progress
from durableq.model.text import shown
from durableq.model.units import Seconds, to_ms, wall_ms
from durableq.store.core import Capability, QueueInfo

if TYPE_CHECKING:
    from durableq.client.app import DurableQ


class Queue(AsyncQueue):
    """One queue of an application. Made by `dq.queue(name)`."""

    def __init__(self, app: DurableQ, name: str) -> None:
        self._app = app
        self.name = name

    def __repr__(self) -> str:
        return f"<Queue {self.name!r} in {self._app.address}>"

    def send(self, body: Any, *, connection: Any = None, **options: Unpack[SendOptions]) -> str:
        """Store a message and return its id. When this returns, the message is durable.

        The id is empty for a message that was shed: the queue was full, and its `on_full` is shed.
        It is that of an earlier message if that was sent with the same `deduplication_id`.

        Args:
            body: a JSON value, or bytes.
            connection: a SQLAlchemy Session, or a connection with an open transaction, on the same
                file, used by one thread at a time: the message then exists only if that commits
                (transactional outbox). Nothing is flushed. None: a commit of its own.
            options: key, attributes, delay or at, priority, group, deduplication_id, replace_key,
                debounce, max_wait and expires_in; see SendOptions. Times are in seconds, or
                timedelta; `at` is a datetime with a time zone.

        Raises:
            InvalidInput: the message cannot be sent; nothing was stored.
            Conflict, Unsupported: the connection cannot carry a send: closed, in autocommit mode,
                without a transaction, in two phases, another thread's or driver's, on another file.
            Busy: other processes held the file for the whole wait; nothing was stored.
            QueueFull: the queue has no room (`max_backlog`, `max_backlog_bytes`), or had none for
                its `block_timeout`; nothing was stored.
            StorageFull: the disk has no room, or less than the queue's `min_free_bytes`.
            OutcomeUnknown: COMMIT failed; with a key, sending again is safe.
        """
        made = [draft(body, **options)]
        if connection is None:
            store = self._app.opened or self._app.store
            if tracing.active is None:
                return store.send(self.name, made)[0]
            return tracing.active.send(self.name, made, partial(store.send, self.name))[0]
        return self._send_joining(made, connection)[0]

    def send_many(
        self, bodies: Iterable[Any], *, connection: Any = None, **options: Unpack[SendOptions]
    ) -> list[str]:
        """Store messages in one commit, all or none, and return their ids in order.

        In a full queue whose `on_full` is shed, those that do not fit are dropped, and their ids
        are empty.

        Args:
            bodies: at most MAX_SEND_BATCH. For a key each, use producer() or send().
            connection: as for send.
            options: as for send, the same for all; without a key, a deduplication_id or a
                replace_key, which would leave one of them.

        Raises:
            InvalidInput: one cannot be sent, there are too many, or they can never fit into the
                queue; nothing was stored.
            QueueFull, StorageFull: as for send.
        """
        made = drafts_of(bodies, options)
        if connection is not None:
            return self._send_joining(made, connection)
        store = self._app.opened or self._app.store
        if tracing.active is None:  # as _send, without a call
            return store.send(self.name, made)
        return tracing.active.send(self.name, made, partial(store.send, self.name))

    def _send(self, made: list[Draft]) -> list[str]:
        store = self._app.opened or self._app.store
        if tracing.active is None:
            return store.send(self.name, made)
        return tracing.active.send(self.name, made, partial(store.send, self.name))

    def _send_joining(self, made: list[Draft], connection: Any) -> list[str]:
        joining = self._app.store.require(Capability.TRANSACTIONS)
        send = partial(joining.send, self.name, connection=connection)
        return send(made) if tracing.active is None else tracing.active.send(self.name, made, send)

    def producer(
        self,
        *,
        batch_size: int = 10,
        linger: Seconds | None = 0.05,
        max_bytes: int = MAX_BODY_BYTES,
        rate: float | None = None,
    ) -> Producer:
        """Return a Producer, which groups sends into batches: `with queue.producer() as p`.

        Args:
            batch_size: messages in a commit.
            linger: seconds a message may wait for company; None: until the batch is full.
            max_bytes: bytes of bodies in a commit.
            rate: messages a second, evenly spaced; None for no limit.

        Raises:
            InvalidInput: a number out of bounds.
        """
        limit = self._app.store.settings(self.name).max_body_bytes
        options: Any = {"linger": linger, "max_bytes": max_bytes, "rate": rate}
        return Producer(self._send, limit, batch_size=batch_size, **options)

    def receive(
        self,
        limit: int = 1,
        *,
        visibility_timeout: Seconds | None = None,
        min: int | None = None,
        window: Seconds | None = None,
    ) -> Deliveries:
        """Lease up to `limit` messages, without a worker: settle each yourself.

        Duplicates, expired messages and those whose key is in progress or had another payload are
        dealt with on the way; they are not returned. The receive goes on until it has a message
        or none is ready, in at most MAX_STORE_RECEIVES transactions of MAX_SET_ASIDE such
        messages each (100,000 in all): `while messages := queue.receive(10)` leaves nothing ready.

        Args:
            limit: 1 to MAX_RECEIVE.
            visibility_timeout: seconds; None means the queue's.
            min: with a window, the number of messages to wait for; None means the limit.
            window: seconds, at most a third of the lease: wait, before leasing, until `min`
                messages are ready or the first of them has been ready for so long. Without any the
                wait ends after this time too.

        Returns:
            A list, with `more`: whether others may be ready already.

        Raises:
            InvalidInput: an argument out of bounds, or one that contradicts another, or a setting.
            Busy: other processes held the file for the whole wait; nothing is leased.
        """
        visibility_ms = (
            None if visibility_timeout is None else to_ms(visibility_timeout, "visibility_timeout")
        )
        store = self._app.opened or self._app.store
        wanted = None
        if min is not None or window is not None:
            wanted = gathering(limit, min, window, visibility_ms)
        began_at = time.monotonic()
        if wanted is None:
            received = store.receive(self.name, limit, visibility_ms=visibility_ms)
        else:
            wanted.check(self.name, store.settings(self.name))
            received = gather(store, self.name, limit, wanted)
        receives = 1
        while received.more and not received.messages and receives < MAX_STORE_RECEIVES:
            # In another transaction: other processes can write in between.
            received = store.receive(self.name, limit, visibility_ms=visibility_ms)
            receives += 1
        if tracing.active is not None and received.messages:
            tracing.active.received(self.name, received.messages, time.monotonic() - began_at)
        actor = f"pid {os.getpid()}"  # a call of _actor would count in each receive
        deliveries = [Delivery(message, store, actor) for message in received.messages]
        return Deliveries(deliveries, more=received.more)

    def complete_many(
        self, deliveries: Iterable[Delivery], *, results: Mapping[str, Any] | None = None
    ) -> None:
        """End received messages in success, in one commit: `queue.complete_many(messages)`.

        Args:
            deliveries: received from this queue; at most MAX_SEND_BATCH.
            results: results to keep for duplicates, by the ids of their messages.

        Raises:
            StaleReceipt: some are no longer yours: its `message_ids`, and those whose `settled` is
                False. All others are completed.
            InvalidInput: too many, no delivery, one of another queue, or a result for none of them.
            InvalidResult: JSON cannot hold a result, or its message has no key to keep it under.
                After this and InvalidInput nothing was completed.
        """
        settled = Completing(self.name, deliveries, results)
        if settled.completions:
            store = self._app.opened or self._app.store
            settled.judge(store.complete(settled.completions))

    def cancel(self, *ids: str, note: str = "") -> None:
        """Remove messages that are not in flight: `queue.cancel(message_id)`.

        They are counted as `cancelled`, and their histories say so. Their keys are free: a later
        message with such a key is delivered.

        Args:
            ids: of messages in this queue, at most MAX_RECEIVE_BATCH.
            note: why, for the history; at most MAX_ERROR_CHARS characters.

        Raises:
            UnknownMessage: there is no such message, where one id is given.
            Refused: some are in flight, dead letters, in another queue, or not there. Its
                `refusals` has the reason for each; the others were removed.
            InvalidInput: too many ids, one is not a string, or the note is too long.
        """
        control = self._app.store.require(Capability.CONTROL)
        refusals = control.cancel(ids, queue=self.name, actor=_actor(), note=note)
        check_refusals(ids, refusals)

    def reschedule(
        self,
        *ids: str,
        delay: Seconds | None = None,
        at: datetime | None = None,
        note: str = "",
    ) -> None:
        """Delay messages that are ready or delayed until another time.

        A message that waits for its retry is received at that time instead. One that waits behind
        its key, for a message that is in flight, stays behind it, also if the time comes sooner.

        Args:
            ids: as for cancel.
            delay: seconds from now; 0 makes them ready, as run_now does.
            at: the time instead, a datetime with a time zone; one in the past makes them ready.
            note: as for cancel.

        Raises:
            UnknownMessage, Refused: as for cancel; the others were rescheduled.
            InvalidInput: as for cancel; not exactly one of delay and at; or a time that is out of
                bounds, or without a time zone.
        """
        if (delay is None) == (at is None):
            raise InvalidInput(
                "reschedule takes either delay (seconds from now) or at (a datetime), got "
                f"{'neither' if delay is None else 'both'}."
            )
        delay_ms = 0 if delay is None else to_ms(delay, "delay", MAX_DELAY_MS)
        self._reschedule(ids, delay_ms, None if at is None else wall_ms(at), note)

    def run_now(self, *ids: str, note: str = "") -> None:
        """Make delayed messages ready at once, also those that wait for their retry.

        Nothing is counted, and a message that is ready already does not change.

        Args:
            ids: as for cancel.
            note: as for cancel.

        Raises:
            UnknownMessage, Refused, InvalidInput: as for cancel; the others are ready. A message
                behind its key, in progress with another message, is refused too.
        """
        self._reschedule(ids, 0, None, note)

    def breaker(self) -> BreakerInfo:
        """Return the queue's circuit breaker: its phase, the reason and the last changes."""
        return self._app.store.require(Capability.CONTROL).breaker(self.name)

    def open_breaker(self, *, seconds: Seconds | None = None) -> BreakerInfo:
        """Open the queue's circuit breaker for all processes: nothing is received.

        Args:
            seconds: how long it stays open before it probes; None: the queue's `breaker_open`,
                twice as long each time in a row.

        Raises:
            Conflict: the queue's setting `breaker` is off.
            InvalidInput: the time is out of bounds.
        """
        open_ms = None if seconds is None else max(1, to_ms(seconds, "seconds", MAX_DELAY_MS))
        control = self._app.store.require(Capability.CONTROL)
        return control.set_breaker(self.name, is_open=True, open_ms=open_ms, actor=_actor())

    def close_breaker(self) -> BreakerInfo:
        """Close the queue's circuit breaker without waiting for probes.

        If what it protects is still down, it opens again by the same rules.

        Raises:
            Conflict: the queue's setting `breaker` is off.
        """
        control = self._app.store.require(Capability.CONTROL)
        return control.set_breaker(self.name, is_open=False, actor=_actor())

    def _reschedule(self, ids: Sequence[str], delay_ms: int, at_ms: int | None, note: str) -> None:
        control = self._app.store.require(Capability.CONTROL)
        refusals = control.reschedule(
            ids, delay_ms=delay_ms, at_ms=at_ms, queue=self.name, actor=_actor(), note=note
        )
        check_refusals(ids, refusals)

    def purge(self) -> int:
        """Remove every message, leased ones too; return how many."""
        return self._app.store.require(Capability.CONTROL).purge(self.name)

    def info(self) -> QueueInfo:
        """Return settings, totals and counts as they stand."""
        return self._app.store.require(Capability.INSPECT).queue(self.name)

    def result(self, key: str, *, wait: Seconds = 0) -> Any:
        """Return the result of the success under a key: `orders.result("order-7", wait=30)`.

        It is kept for the queue's `idempotency_ttl`, and None where the handler returned nothing.

        Args:
            key: the key of the message.
            wait: seconds to wait for it, woken by the completion.

        Raises:
            NoResult: no message has succeeded under the key, or not in time; at once if its message
                is dead (`is_dead`), although recovery may send that back.
            InvalidInput: no message can have such a key, or the wait is no time.
        """
        check_key(key)
        seconds = to_ms(wait, "wait", MAX_DELAY_MS) / 1000
        return result_of(self._app.store, self.name, key, seconds)

    def progress(self, message_id: str) -> Progress | None:
        """Return the last report of the handler of a message; None if there is none.

        There is none before the first report, nor once the message is settled or retried.
        """
        check_text(message_id, "The id of a message")
        found = self._app.store.require(Capability.PROGRESS).progress_of([message_id])
        return next((one for one in found if one.queue == self.name), None)

    def record(self, key: str) -> IdempotencyRecord | None:
        """Return the idempotency record of a key, or None.

        Raises:
            InvalidInput: no message can have such a key.
        """
        check_key(key)
        return self._app.store.require(Capability.IDEMPOTENCY).record(self.name, key)


def _actor() -> str:
    """Return the name of this process, for the history."""
    return f"pid {os.getpid()}"


def drafts_of(bodies: Iterable[Any], options: SendOptions) -> list[Draft]:
    """Return a draft of each body.

    Raises:
        InvalidInput: no iterable of bodies, an option that cannot be for all, too many.
    """
    if isinstance(bodies, (str, bytes, bytearray, memoryview, Mapping)) or not isinstance(
        bodies, Iterable
    ):
        raise InvalidInput(f"send_many takes a list of bodies, got {shown(bodies)}: use send.")
    made = drafts(itertools.islice(bodies, MAX_SEND_BATCH + 1), **options)
    if len(made) > MAX_SEND_BATCH:
        raise InvalidInput(
            f"A batch has at most {MAX_SEND_BATCH} messages, and there are more. Send several "
            "batches, or use queue.producer()."
        )
    return made
