"""The limits of Amazon SQS that durableq's queues may be beyond, each with its source.

Read in November 2026. The size of a message was 256 KiB until 2025.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_GUIDE: Final = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide"
MESSAGES: Final = f"{_GUIDE}/quotas-messages.html"
QUEUES: Final = f"{_GUIDE}/quotas-queues.html"
FIFO: Final = f"{_GUIDE}/quotas-fifo.html"


class Quota(NamedTuple):
    """A limit, and the page that has it."""

    most: int
    source: str


#: Of a body with its attributes, and of a batch.
MESSAGE_BYTES: Final = Quota(1 << 20, MESSAGES)
DELAY_MS: Final = Quota(15 * 60 * 1000, MESSAGES)
RETENTION_MS: Final = Quota(14 * 24 * 3600 * 1000, MESSAGES)
#: The shortest retention.
LEAST_RETENTION_MS: Final = Quota(60 * 1000, MESSAGES)
VISIBILITY_MS: Final = Quota(12 * 3600 * 1000, MESSAGES)
BATCH: Final = Quota(10, MESSAGES)
#: Fixed, for FIFO queues.
DEDUPLICATION_MS: Final = Quota(5 * 60 * 1000, FIFO)
#: With the end .fifo.
NAME_CHARS: Final = Quota(80, QUEUES)
NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
#: Of a message group, and of a deduplication id.
ID: Final = re.compile(r"[!-~]{1,128}")
FIFO_END: Final = ".fifo"
