"""The queues of a run against an SQS endpoint."""

from __future__ import annotations

from typing import Final

STANDARD: Final = "parcels"
FIFO: Final = "steps.fifo"
SOURCE: Final = "calls"
DEAD: Final = "calls-dead"
MOVED: Final = "calls-moved"
TRIALS: Final = "trials.fifo"
TRIALS_DEAD: Final = "trials-dead.fifo"
ARN: Final = "arn:aws:sqs:us-east-1:000000000000:"
#: Leases outlive the restart of a server, except where a lost answer must not hold a group.
VISIBILITY: Final = {
    STANDARD: 12,
    FIFO: 3,
    SOURCE: 30,
    DEAD: 5,
    MOVED: 30,
    TRIALS: 3,
    TRIALS_DEAD: 5,
}
