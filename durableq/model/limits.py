"""All limits. A limit that SQS has too has the same value."""

from __future__ import annotations

from typing import Final

SECOND_MS: Final = 1_000
HOUR_MS: Final = 3_600 * SECOND_MS
DAY_MS: Final = 24 * HOUR_MS

#: Default of a queue's `max_body_bytes` (SQS: 1 MiB since August 2025).
MAX_BODY_BYTES: Final = 1 << 20
#: The maximum of `max_body_bytes`; the table checks it too.
BODY_CEILING_BYTES: Final = 64 << 20
#: Nesting of arrays and objects, far below the recursion limit of any JSON reader.
MAX_BODY_DEPTH: Final = 200
MAX_RESULT_BYTES: Final = 256 << 10
MAX_KEY_CHARS: Final = 512
MAX_QUEUE_NAME_CHARS: Final = 80
MAX_ATTRIBUTES: Final = 10
MAX_ATTRIBUTES_BYTES: Final = 16 << 10
#: Priorities are -100 to 100; a higher one is received first.
MAX_PRIORITY: Final = 100
MAX_SEND_BATCH: Final = 10_000
#: Messages of the sends of coroutines that wait for their commit, in one event loop; a batch that
#: begins below this may exceed it.
MAX_PENDING: Final = 1_000
#: Bytes of their bodies.
MAX_PENDING_BYTES: Final = 16 << 20
#: Messages of one receive, as in the largest batch that AWS Lambda is given.
MAX_RECEIVE: Final = 10_000
#: Messages of one call that names them, or decides about them.
MAX_RECEIVE_BATCH: Final = 1_000
MAX_VISIBILITY_MS: Final = 12 * HOUR_MS
MAX_DELAY_MS: Final = 366 * DAY_MS
#: A time that never comes: the year 6429.
FOREVER_MS: Final = (1 << 47) - 1
MAX_EXPIRES_IN_MS: Final = 10 * 366 * DAY_MS
MAX_RECEIVES: Final = 1_000
#: Messages a second, in a rate limit: from one in 12 days.
MIN_RATE: Final = 1e-6
MAX_RATE: Final = 1e6
MAX_BURST: Final = 1_000_000
MAX_GROUP_CHARS: Final = 128
MAX_GROUP_CONCURRENCY: Final = 1_000
#: As in SQS; a group is a key of the same kind.
MAX_DEDUPLICATION_CHARS: Final = 128
MAX_ATTEMPT_CHARS: Final = 128
MAX_REPLACE_KEY_CHARS: Final = 512
MAX_ERROR_CHARS: Final = 2_000
MAX_ERROR_TYPE_CHARS: Final = 200
#: The end of a traceback is kept, because it has the line that raised.
MAX_TRACEBACK_CHARS: Final = 16_000
#: The maximum for a fingerprint that the caller gives; computed ones have 12 characters.
MAX_FINGERPRINT_CHARS: Final = 64
MAX_PLACE_CHARS: Final = 200
MAX_METADATA_NAME_CHARS: Final = 200
MAX_METADATA_CHARS: Final = 16 << 10
#: The number of ended redrive tasks that are kept.
MAX_REDRIVE_TASKS: Final = 100
#: A step of a redrive task decides about this many messages at most, and begins no further page
#: after this time, so that other writers wait only briefly.
REDRIVE_STEP: Final = 200
REDRIVE_STEP_MS: Final = 10
#: A pause after a step, or a slice of `durableq prune`: SQLite has no queue of writers, and those
#: that wait ask for the lock every few milliseconds.
PAUSE_MS: Final = 5
#: Events kept for one message; older ones are removed.
MAX_HISTORY: Final = 200
#: The interval of maintenance slices, for all processes together.
MAINTENANCE_EVERY_MS: Final = 30_000
#: The interval while a slice leaves work.
MAINTENANCE_AGAIN_MS: Final = 250
#: The time between samples of a queue at least, and how long they are kept.
SAMPLE_EVERY_MS: Final = 60_000
SAMPLES_KEPT_MS: Final = 25 * 3_600_000
#: Messages that one search looks at.
SEARCHED: Final = 10_000
#: Events of the history among which the last ones that match are found.
LOOKED_BACK: Final = 100_000
#: Receives of one message that an unavailable service may leave uncounted; later ones count.
MAX_UNCOUNTED: Final = 100
#: Expired leases that one receive reclaims, so that no receive is long.
RECLAIM_BATCH: Final = 100
#: Due messages that one receive makes ready, for the same reason.
PROMOTE_BATCH: Final = 1_000
#: Duplicate, deferred, expired and conflicting messages that one receive of a store works through,
#: for the same reason: 30 to 165 ms with the write lock held, measured on 2 busy cores.
MAX_SET_ASIDE: Final = 1_000
#: Receives of the store in one `queue.receive()` that has found no message yet.
MAX_STORE_RECEIVES: Final = 100

#: The maximum of a value that `once` stores, as JSON text.
MAX_ONCE_BYTES: Final = 1 << 20
#: The maximum of its `ttl`, and of its `stale`.
MAX_ONCE_TTL_MS: Final = 366 * DAY_MS
#: The bounds of the lease to compute it.
MIN_ONCE_LEASE_MS: Final = SECOND_MS
MAX_ONCE_LEASE_MS: Final = 12 * HOUR_MS

#: The part of a progress report's text that is kept.
MAX_PROGRESS_CHARS: Final = 200

#: How long a receive may wait inside the store (SQS: 20 seconds).
MAX_WAIT_MS: Final = 20 * SECOND_MS

#: Late slots of a schedule that are sent at once with catch_up="all": the default, and the maximum.
CATCH_UP: Final = 100
MAX_CATCH_UP: Final = 1_000
#: The bounds of the interval of a schedule.
MIN_INTERVAL_MS: Final = SECOND_MS
MAX_INTERVAL_MS: Final = 366 * DAY_MS
