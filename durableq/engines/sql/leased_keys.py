"""Keys that have a record already, taken over by messages that a receive leases."""

from __future__ import annotations

from operator import itemgetter

from durableq.engines.sql.admission import ID, KEY, Facts, Row, Terms
from durableq.engines.sql.transactions import WriteTransaction


def take_over_keys(
    tx: WriteTransaction, terms: Terms, keyed: list[Row], known: dict[int, Facts]
) -> int:
    """Take the keys that have a record, each as it was seen and in order; return their number."""
    rows = [
        {
            "queue_id": terms.queue_id,
            "key": row[KEY],
            "id": row[ID],
            "token": terms.token,
            "payload_hash": known[row[ID]].payload_hash,
            "now_ms": tx.now_ms,
            "seen_status": known[row[ID]].status,
            "seen_owner_id": known[row[ID]].owner_message_id,
            "seen_receipt": known[row[ID]].owner_receipt,
        }
        for row in sorted(keyed, key=itemgetter(KEY))
        if row[ID] in known
    ]
    number: int = tx.run_many(tx.sql.TAKE_KEY_ROWS, rows).rowcount
    return number
