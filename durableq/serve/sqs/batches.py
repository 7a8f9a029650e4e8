"""The entries of a batch: the rules for all of them, and the answer of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from durableq.serve.errors import (
    BATCH_ENTRY_IDS_NOT_DISTINCT,
    BATCH_REQUEST_TOO_LONG,
    EMPTY_BATCH_REQUEST,
    INVALID_BATCH_ENTRY_ID,
    TOO_MANY_ENTRIES_IN_BATCH_REQUEST,
    ServiceError,
)
from durableq.serve.sqs.contents import MAX_MESSAGE_BYTES, size_of
from durableq.serve.sqs.reading import Parameters, entries, required_text

MAX_ENTRIES: Final = 10
_ID: Final = re.compile("[A-Za-z0-9_-]{1,80}")


def batch_of(parameters: Parameters, kind: str) -> list[dict[str, Any]]:
    """Return the entries of a batch, whose ids are distinct.

    Args:
        parameters: of the request.
        kind: the name of an entry, such as SendMessageBatchRequestEntry.

    Raises:
        ServiceError: none, too many, or an id that is not valid.
    """
    found = entries(parameters)
    if not found:
        raise ServiceError(
            EMPTY_BATCH_REQUEST, f"There should be at least one {kind} in the request."
        )
    if len(found) > MAX_ENTRIES:
        raise ServiceError(
            TOO_MANY_ENTRIES_IN_BATCH_REQUEST,
            f"Maximum number of entries per request are {MAX_ENTRIES}. You have sent {len(found)}.",
        )
    _check_ids([entry.get("Id") for entry in found])
    return found


def _check_ids(ids: Sequence[object]) -> None:
    seen = set()
    for id_ in ids:
        if not isinstance(id_, str) or not _ID.fullmatch(id_):
            raise ServiceError(INVALID_BATCH_ENTRY_ID)
        if id_ in seen:
            raise ServiceError(BATCH_ENTRY_IDS_NOT_DISTINCT, f"Id {id_} repeated.")
        seen.add(id_)


def check_batch_size(found: Sequence[dict[str, Any]]) -> None:
    """Check the size of all messages of a batch.

    Raises:
        ServiceError: they are too large together.
    """
    size = sum(size_of(one.get("MessageBody"), one.get("MessageAttributes")) for one in found)
    if size > MAX_MESSAGE_BYTES:
        raise ServiceError(
            BATCH_REQUEST_TOO_LONG,
            f"Batch requests cannot be longer than {MAX_MESSAGE_BYTES} bytes. You have sent "
            f"{size} bytes.",
        )


def handle_text(entry: Parameters) -> str:
    """Return the receipt handle of a request or of an entry.

    Raises:
        ServiceError: there is none.
    """
    return required_text(entry, "ReceiptHandle")


def failed(entry: dict[str, Any], error: ServiceError) -> dict[str, Any]:
    """Return the answer of an entry that was refused."""
    kind = error.kind
    return {
        "Id": entry["Id"],
        "SenderFault": kind.fault == "Sender",
        "Code": kind.code,
        "Message": error.message,
    }


def answer(successful: list[dict[str, Any]], refused: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the answer of a batch: a list that is empty is left out."""
    answered: dict[str, Any] = {}
    if successful:
        answered["Successful"] = successful
    if refused:
        answered["Failed"] = refused
    return answered
