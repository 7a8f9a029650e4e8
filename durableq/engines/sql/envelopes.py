"""Envelopes: the parts of messages that the SQS endpoint alone reads."""

from __future__ import annotations

from durableq.engines.sql.transactions import Transaction
from durableq.model.message import Envelope, Message


def with_envelopes(tx: Transaction, messages: list[Message]) -> list[Message]:
    """Return these messages with their envelopes; those that are gone are left out."""
    found = envelopes(tx, [int(message.id) for message in messages])
    return [one._replace(envelope=found[one.id]) for one in messages if one.id in found]


def envelopes(tx: Transaction, ids: list[int]) -> dict[str, Envelope]:
    """Return the envelopes of messages by id."""
    if not ids:
        return {}
    text, listed = tx.listed(tx.sql.ENVELOPES, tx.sql.ENVELOPES_ONE, ids)
    rows = tx.execute(text, (listed,)).fetchall()
    return {str(id_): tx.shown(Envelope(*values)) for id_, *values in rows}
