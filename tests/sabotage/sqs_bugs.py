"""Bugs to plant in the actions of SQS."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from durableq.client import committing
from durableq.engines.sql import endpoint
from durableq.model.message import Received
from durableq.serve.sqs import changing, polling, receiving, sending, settling
from durableq.store.core import Capability, Release
from tests.sabotage.texts import rewrite


def answer_a_send_before_its_commit() -> None:
    """A send is answered while the transaction that stores it is on its way."""
    module: Any = sending
    send = module.coroutines.send
    kept = set()

    async def early(store: Any, queue: str, make: Any) -> list[str]:
        kept.add(asyncio.ensure_future(send(store, queue, make)))
        return [str(number) for number, _ in enumerate(make(), 1)]

    module.coroutines = type("Early", (), {"send": staticmethod(early)})


def delete_by_an_old_handle() -> None:
    """A message is deleted by any handle that it ever had."""
    module: Any = settling
    delete = module._delete

    async def by_id(context: Any, queue: Any, handles: Any) -> Any:
        control = context.store.require(Capability.CONTROL)
        await asyncio.to_thread(control.purge, queue.key)
        return await delete(context, queue, handles)

    module._delete = by_id


def take_up_the_lease_of_an_older_receive() -> None:
    """A handle of a standard queue deletes its message although it was received since."""
    rewrite("NOT_RECEIVED_SINCE", "receive_count = :receives", "receive_count >= :receives")


def keep_the_lease_of_a_client_that_is_gone() -> None:
    """The messages of an answer that nobody gets stay leased."""
    module: Any = receiving

    async def nothing(*_: Any) -> None: ...

    module.partial = lambda *_: partial(nothing)


def take_back_what_is_repeated() -> None:
    """The messages of a receive with an attempt id are released when its client is gone."""
    module: Any = receiving
    receive = module._received

    async def received(context: Any, queue: Any, call: Any, seconds: float) -> Any:
        messages = await receive(context, queue, call, seconds)
        receipts = [message.receipt for message in messages]
        context.undo.append(partial(module.commit, context.store, module.Release(receipts)))
        return messages

    module._received = received


def release_what_is_repeated() -> None:
    """So are those of a receive that was cancelled while it was committed."""
    module: Any = committing

    def release(operation: Any) -> Any:
        receipts = [one.receipt for one in getattr(operation.answer, "messages", ())]
        return committing.Operation(Release(receipts)) if receipts else None

    module._release = release


def delete_from_a_fifo_queue_after_the_lease() -> None:
    """A handle of a FIFO queue outlives its lease."""
    module: Any = settling

    async def none(*_: Any) -> set[Any]:
        return set()

    module._expired = none


def miss_the_writes_of_others() -> None:
    """Receives that wait look when they begin, and never again."""
    cls: Any = polling.Polls

    async def sleep(_self: Any, _writes: Any) -> None:
        await asyncio.Event().wait()

    cls._follow = sleep


def keep_the_turn_of_a_poll_that_failed() -> None:
    """A message that a woken receive did not get wakes no other receive."""
    cls: Any = polling.Polls

    async def keep(self: Any, call: Any, seconds: float) -> Any:
        while await self._turn(call, seconds):
            received = await polling.receive(self._store, call)
            if received.messages:
                return received
        return Received([], [], 0)

    cls.receive = keep


def store_over_the_changes_of_others() -> None:
    """A document is stored whatever has become of the one that it was made of."""
    module: Any = endpoint
    store = module._store

    def over(tx: Any, queue: str, attributes: str, tags: str, _: Any, *others: Any) -> bool:
        there = tx.find_queue(queue) is not None
        expected = module._document(tx, queue).version if there else None
        return bool(store(tx, queue, attributes, tags, expected, *others))

    module._store = over


def forget_purges() -> None:
    """A purge is not noted with the attributes of a queue that has some."""
    rewrite("STORE_QUEUE_DOCUMENT", "ms = excluded.purged_at_ms", "ms = 0 * excluded.purged_at_ms")


def forget_deletions() -> None:
    """A queue is deleted, and nobody knows when."""
    cls: Any = endpoint.SQLEndpoint
    cls.remove_queue = lambda self, name: self.delete_queue(name, force=True)


def forget_who_waits_for_a_dead_letter_queue() -> None:
    """A dead-letter queue that is made anew does not get the letters of those that name it."""
    module: Any = changing
    module._sources = lambda *_: {}


def take_sources_that_have_changed() -> None:
    """A new queue gets the letters of one that has named it, whatever that names now."""
    module: Any = endpoint
    module._has_versions = lambda *_: True


BUGS = (
    forget_who_waits_for_a_dead_letter_queue,
    take_sources_that_have_changed,
    forget_deletions,
    keep_the_turn_of_a_poll_that_failed,
    store_over_the_changes_of_others,
    forget_purges,
    answer_a_send_before_its_commit,
    delete_by_an_old_handle,
    take_up_the_lease_of_an_older_receive,
    keep_the_lease_of_a_client_that_is_gone,
    take_back_what_is_repeated,
    release_what_is_repeated,
    delete_from_a_fifo_queue_after_the_lease,
    miss_the_writes_of_others,
)
_DEAD = "tests/serve/test_sqs_dead_letters.py::"
_FIFO = "tests/serve/test_sqs_fifo.py::"
_LEASES = "tests/serve/test_sqs_leases.py::"
_POLLING = "tests/serve/test_sqs_polling.py::"
_RACES = "tests/serve/test_sqs_races.py::"
SEEN_BY = [
    (
        "forget_who_waits_for_a_dead_letter_queue",
        _DEAD + "test_a_policy_still_names_a_dead_letter_queue_that_was_deleted[sqlite]",
    ),
    (
        "take_sources_that_have_changed",
        _DEAD + "test_a_queue_that_names_a_new_one_changes_while_that_is_created[sqlite]",
    ),
    (
        "keep_the_turn_of_a_poll_that_failed",
        _POLLING + "test_a_message_that_a_woken_poll_does_not_get_wakes_another[hung up]",
    ),
    (
        "store_over_the_changes_of_others",
        _RACES + "test_of_several_that_create_a_queue_one_set_of_attributes_wins[sqlite]",
    ),
    (
        "store_over_the_changes_of_others",
        _RACES + "test_no_change_of_several_at_once_is_lost[sqlite]",
    ),
    *(
        (
            bug,
            "tests/serve/test_sqs_queues.py::"
            "test_the_rules_of_a_minute_hold_for_all_servers_of_a_database[sqlite]",
        )
        for bug in ("forget_purges", "forget_deletions")
    ),
    (
        "answer_a_send_before_its_commit",
        "tests/serve/test_sqs_commits.py::test_a_send_is_answered_after_its_commit",
    ),
    (
        "delete_by_an_old_handle",
        _LEASES + "test_an_old_handle_of_a_standard_queue_deletes_nothing",
    ),
    (
        "take_up_the_lease_of_an_older_receive",
        _LEASES + "test_a_handle_deletes_its_message_after_a_visibility_of_0",
    ),
    (
        "keep_the_lease_of_a_client_that_is_gone",
        _POLLING + "test_the_messages_of_a_client_that_is_gone_are_given_back",
    ),
    (
        "take_back_what_is_repeated",
        _FIFO + "test_a_repeated_receive_keeps_its_lease_when_the_first_one_is_given_up",
    ),
    (
        "release_what_is_repeated",
        _FIFO + "test_a_cancelled_receive_with_an_attempt_id_is_repeated",
    ),
    (
        "delete_from_a_fifo_queue_after_the_lease",
        _FIFO + "test_a_handle_of_a_fifo_queue_ends_with_its_lease",
    ),
    ("miss_the_writes_of_others", _POLLING + "test_a_poll_wakes_with_a_send_of_python"),
]
