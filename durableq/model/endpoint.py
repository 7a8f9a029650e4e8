"""Documents of queues, and bounds of the capability of the SQS endpoint."""

from __future__ import annotations

from typing import Final, NamedTuple

from durableq.model.errors import Conflict, InvalidInput
from durableq.model.queues import DEAD_LETTER_SUFFIX

#: Of each text of a document: a policy of SQS has up to 64 KiB.
MAX_DOCUMENT_CHARS: Final = 256 << 10
#: The name of the metadata with the identity of the database.
IDENTITY: Final = "endpoint-database"
#: How long a noted deletion is kept; AWS refuses the name for 60 seconds.
DELETIONS_KEPT_MS: Final = 3_600_000
#: How long the receive of an attempt id can be repeated.
ATTEMPT_MS: Final = 300_000


class QueueDocument(NamedTuple):
    """The attributes of a queue that are no settings, its tags, and times on the wall clock."""

    queue: str
    created_at_ms: int
    #: JSON objects.
    attributes: str = "{}"
    tags: str = "{}"
    #: The last change of the attributes; of a queue without a document, its creation.
    modified_at_ms: int = 0
    #: 0: it was not purged over SQS.
    purged_at_ms: int = 0
    #: Rises with each change; 0: it was never stored.
    version: int = 0

    def changed(
        self, attributes: str, tags: str, now_ms: int, *, has_changes: bool
    ) -> QueueDocument:
        """Return the next version: modified now if the attributes are others, or settings are."""
        is_modified = has_changes or attributes != self.attributes
        return self._replace(
            attributes=attributes,
            tags=tags,
            modified_at_ms=now_ms if is_modified else self.modified_at_ms,
            version=self.version + 1,
        )

    def was_purged(self, now_ms: int, within_ms: int) -> bool:
        """Return whether it was purged within a time; a time ahead is from another clock."""
        return bool(self.purged_at_ms) and 0 <= now_ms - self.purged_at_ms < within_ms


class Readiness(NamedTuple):
    """When a receive may return messages of a queue, and how many it may find ready."""

    #: As of `ready_in_ms`: 0 is now; None: there is no such message.
    due_ms: int | None
    #: 0 unless it is due now.
    number: int


def needs_a_receive(id_: str, queue: str) -> Conflict:
    """Return the error of a message that cannot be leased under an older receipt."""
    return Conflict(
        f"Message {id_} of queue {queue!r} was given back. It has a key, a group or a time of its "
        "next try, so only a receive can lease it again."
    )


def check_document(attributes: str, tags: str) -> None:
    """Check the texts of a document.

    Raises:
        InvalidInput: one is too long.
    """
    for name, text in (("attributes", attributes), ("tags", tags)):
        if len(text) > MAX_DOCUMENT_CHARS:
            raise InvalidInput(
                f"The {name} of a queue have at most {MAX_DOCUMENT_CHARS:,} characters, got "
                f"{len(text):,}."
            )


def name_at(name: str, place: str) -> str | None:
    """Return the name that a queue has in an account and region; None: it is not there.

    Args:
        name: the queue's in the store, where the place is before the `-dlq` of a dead-letter queue.
        place: as `@123456789012.eu-west-1`; empty for names without such a part.
    """
    plain = name.removesuffix(DEAD_LETTER_SUFFIX)
    if not place:
        return None if "@" in plain else name
    if not plain.endswith(place):
        return None
    return plain.removesuffix(place) + name[len(plain) :]


def start_of_keys(prefix: str) -> str:
    """Return the start that the names in the store have of queues whose `name_at` has a prefix.

    In a name with a place, that is before the `-dlq`: of that the start has nothing.
    """
    for number in range(len(DEAD_LETTER_SUFFIX), 0, -1):
        if prefix.endswith(DEAD_LETTER_SUFFIX[:number]):
            return prefix[:-number]
    return prefix
