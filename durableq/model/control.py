"""Control of single messages: checks of the arguments, and the error for those refused."""

from __future__ import annotations

from collections.abc import Sequence

from durableq.model.arguments import check_text
from durableq.model.errors import InvalidInput, Refused, UnknownMessage
from durableq.model.limits import MAX_ERROR_CHARS, MAX_RECEIVE_BATCH
from durableq.model.message import Refusal
from durableq.model.text import is_storable, shown


def check_ids(ids: Sequence[str]) -> None:
    """Check the ids of messages.

    Raises:
        InvalidInput: one is not a string, or there are more than MAX_RECEIVE_BATCH.
    """
    if isinstance(ids, str):
        raise InvalidInput(f"Ids of messages are a list of strings, got {shown(ids)}.")
    for message_id in ids:
        check_text(message_id, "The id of a message")
    if len(ids) > MAX_RECEIVE_BATCH:
        raise InvalidInput(
            f"One call changes at most {MAX_RECEIVE_BATCH} messages, got {len(ids)}."
        )


def check_note(note: str) -> None:
    """Check the note of a person about a change, for the history.

    Raises:
        InvalidInput: it is no string, longer than MAX_ERROR_CHARS, or has U+0000 or a lone
            surrogate.
    """
    check_text(note, "A note")
    if len(note) > MAX_ERROR_CHARS:
        raise InvalidInput(f"A note has at most {MAX_ERROR_CHARS} characters, got {len(note)}.")
    if "\0" in note or not is_storable(note):
        raise InvalidInput(f"A note has neither U+0000 nor lone surrogates: got {shown(note)}.")


def check_refusals(ids: Sequence[str], refusals: Sequence[Refusal | None]) -> None:
    """Raise an error if messages were refused.

    Raises:
        UnknownMessage: one id was given, and there is no such message.
        Refused: some were refused.
    """
    refused = {one: why for one, why in zip(ids, refusals, strict=True) if why is not None}
    if len(ids) == 1 and Refusal.UNKNOWN in refused.values():
        raise UnknownMessage(ids[0])
    if refused:
        raise Refused(refused, of=len(ids))
