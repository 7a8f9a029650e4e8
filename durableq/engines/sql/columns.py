"""Values of columns that the definitions of tables and the operations share."""

from __future__ import annotations

import dataclasses
from typing import Final

from durableq.model.flow.capacity import FlowState
from durableq.model.queues import Counters, Counts
from durableq.model.settings import SETTINGS

#: Added to a lease's deadline before it is stored, for its width alone.
LEASE_EPOCH_MS: Final = 1 << 41
#: Added to the id of a worker where a message names its owner, for its width alone.
OWNER_BASE: Final = 1 << 40
#: Owners from here on are receives outside a registered worker, by host and boot.
OUTSIDE_BASE: Final = 1 << 46
NO_RECEIPT: Final = bytes(16)
#: The columns of a ready message, in the order in which READY and DEAD_LETTERS return them.
READY_COLUMNS: Final = (
    "id",
    "body",
    "key",
    "attributes",
    "priority",
    "receive_count",
    "recovery_count",
    "sent_at_ms",
    "enqueued_at_ms",
    "source_queue_id",
    "group_id",
    "expires_at_ms",
)
#: The columns of a queue that the operations need; the settings of limits are read where they are.
STORED_QUEUE: Final = (
    "id",
    "name",
    "dead_letter_queue_id",
    "limits",
    "visibility_timeout_ms",
    "delay_ms",
    "retention_ms",
    "max_receives",
    "max_recoveries",
    "backoff_base_ms",
    "backoff_max_ms",
    "idempotency_ttl_ms",
    "max_body_bytes",
    "paused",
)
#: The lowest bit of RECEIVE_FROM's flags; above it are those of the queue's limits.
NEEDS_UPKEEP: Final = 1
#: A `max_in_flight` up to this is compared with the leases themselves, which takes 0.1 µs for each.
#: To move a counter takes 11 µs: a receive writes its page for nothing else.
FEW_IN_FLIGHT: Final = 100
#: The running counters of a queue.
COUNTERS: Final = tuple(field.name for field in dataclasses.fields(Counters))
#: The numbers of a queue's messages, by state.
COUNTS: Final = tuple(field.name for field in dataclasses.fields(Counts))
#: The limits of a queue and their state, as a receive reads them.
FLOW_COLUMNS: Final = FlowState._fields
#: Those of them that a rate and a limit of messages in flight need.
PACE_COLUMNS: Final = ("rate", "burst", "max_in_flight", "tat_ns", "in_flight")
#: Those that a receive needs whose tokens are paid for.
PREPAID_COLUMNS: Final = ("rate", "burst")
#: Those of them that are no settings.
FLOW_STATE: Final = tuple(name for name in FLOW_COLUMNS if name not in SETTINGS)
