"""Redrive tasks: one decision about many dead letters, at a rate."""

from __future__ import annotations

from durableq.testing.contract.redrive.progress import RedriveProgressContract
from durableq.testing.contract.redrive.rate import RedriveRateContract


class RedriveContract(RedriveProgressContract, RedriveRateContract):
    """The tests of the capability Redrive."""
