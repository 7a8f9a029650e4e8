"""Messages that complete where limits count what is stored."""

from __future__ import annotations

from sqlalchemy import delete

from durableq.engines.sql.definitions.elements import Statement, in_list
from durableq.engines.sql.definitions.messages import leased_under_receipt, left
from durableq.engines.sql.definitions.tables import message

_m = message.c

# In a queue with a limit that counts what is stored, and in a dead-letter queue.
COMPLETE_COUNTED = Statement(
    delete(message).where(in_list(_m.id, "ids"), *leased_under_receipt).returning(*left, _m.key),
    order=("ids", "in_queue", "token"),
    for_one=True,
)
# In a queue with groups, and no other such limit.
COMPLETE_GROUPED = Statement(
    delete(message)
    .where(in_list(_m.id, "ids"), *leased_under_receipt)
    .returning(_m.id, _m.key, _m.group_id),
    order=("ids", "in_queue", "token"),
    for_one=True,
)
