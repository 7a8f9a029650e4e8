"""Documents of queues, and bounds of the capability of the SQS endpoint."""

from __future__ import annotations

from typing import Final, NamedTuple

from durableq.model.errors import InvalidInput
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


def is_at(name: str, place: str) -> bool:
    """Return whether a queue is of an account and region.

    Args:
        name: the queue's.
        place: as `@123456789012.eu-west-1`; empty for names without such an end.
    """
    plain = name.removesuffix(DEAD_LETTER_SUFFIX)
    return plain.endswith(place) if place else "@" not in plain
