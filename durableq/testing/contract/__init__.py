"""The whole contract in one class."""

from __future__ import annotations

from durableq.testing.contract.clock_jumps import ClockJumpsContract
from durableq.testing.contract.dead_letters import DeadLettersContract
from durableq.testing.contract.fleet import FleetContract
from durableq.testing.contract.groups import DeadLetterGroupsContract
from durableq.testing.contract.idempotency import IdempotencyContract
from durableq.testing.contract.inspect import InspectContract
from durableq.testing.contract.leases import LeasesContract
from durableq.testing.contract.maintenance import MaintenanceContract
from durableq.testing.contract.queues import QueuesContract
from durableq.testing.contract.receiving import ReceivingContract
from durableq.testing.contract.redrive import RedriveContract
from durableq.testing.contract.retention import RetentionContract
from durableq.testing.contract.sending import SendingContract
from durableq.testing.contract.settling import SettlingContract
from durableq.testing.contract.together import TogetherContract
from durableq.testing.contract.transactions import TransactionsContract
from durableq.testing.contract.wakeup import WakeupContract


class StoreContract(
    SendingContract,
    ReceivingContract,
    LeasesContract,
    SettlingContract,
    TogetherContract,
    IdempotencyContract,
    DeadLettersContract,
    DeadLetterGroupsContract,
    RedriveContract,
    FleetContract,
    QueuesContract,
    TransactionsContract,
    InspectContract,
    WakeupContract,
    MaintenanceContract,
    ClockJumpsContract,
    RetentionContract,
):
    """The tests of an engine, for the core and the capabilities that it states."""
