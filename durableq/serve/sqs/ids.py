"""Ids of messages and sequence numbers, which are made of the id in the store."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

from durableq.model.wire_message import message_uuid
from durableq.store.core import Capability, Store

#: The sequence number before the first: they have 20 digits, as those of AWS.
_BEFORE_FIRST: Final = 10**19


def message_id(store: Store, id_: str, redrives: int = 0) -> str:
    """Return the id of a message over SQS.

    Args:
        store: the engine.
        id_: the id in the store.
        redrives: how often the message was moved back: each time it gets another id.
    """
    return str(message_uuid(database_of(store), int(id_), redrives))


def sequence_number(place: int) -> str:
    """Return the sequence number of a message of a FIFO queue.

    Args:
        place: the sequence of its envelope; for a message that is sent, its id.
    """
    return str(_BEFORE_FIRST + place)


_databases: WeakKeyDictionary[Store, int] = WeakKeyDictionary()


def database_of(store: Store) -> int:
    """Return the identity of a database.

    It is read once by each process, in the thread that looks up a queue: see `catalog.load`.
    """
    found = _databases.get(store)
    if found is None:
        found = _databases[store] = store.require(Capability.ENDPOINT).database_id()
    return found
