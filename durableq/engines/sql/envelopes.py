"""Envelopes: the parts of messages that the SQS endpoint alone reads."""

from __future__ import annotations

from durableq.engines.sql.transactions import Transaction
from durableq.model.message import Envelope, Message


def with_envelopes(tx: Transaction, messages: list[Message]) -> list[Message]:
    """Return these messages with their envelopes; those that are gone are left out."""
    if not messages:
        return []
    ids = [int(message.id) for message in messages]
    text, listed = tx.listed(tx.sql.ENVELOPES, tx.sql.ENVELOPES_ONE, ids)
    rows = tx.execute(text, (listed,)).fetchall()
    found = {str(id_): tx.shown(Envelope(*values)) for id_, *values in rows}
    return [one._replace(envelope=found[one.id]) for one in messages if one.id in found]
