"""Redrive tasks: one decision about many dead letters, or all of a queue, at a rate."""

from __future__ import annotations

from durableq.testing.contract.redrive.progress import RedriveProgressContract
from durableq.testing.contract.redrive.rate import RedriveRateContract
from durableq.testing.contract.redrive.whole_queue import WholeQueueContract


class RedriveContract(RedriveProgressContract, RedriveRateContract, WholeQueueContract):
    """The tests of the capability Redrive."""
