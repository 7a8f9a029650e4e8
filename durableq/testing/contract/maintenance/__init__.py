"""Maintenance: the removal of expired rows, and the audit."""

from __future__ import annotations

from durableq.testing.contract.maintenance.aging import RankedAgainContract
from durableq.testing.contract.maintenance.clock_jumps import PrunedClockJumpsContract
from durableq.testing.contract.maintenance.expiry import PrunedExpiryContract
from durableq.testing.contract.maintenance.retention import PrunedRetentionContract
from durableq.testing.contract.maintenance.samples import SamplesContract
from durableq.testing.contract.maintenance.slices import SlicesContract


class MaintenanceContract(
    SlicesContract,
    PrunedRetentionContract,
    PrunedExpiryContract,
    RankedAgainContract,
    SamplesContract,
    PrunedClockJumpsContract,
):
    """The tests of the capability Maintenance."""
