"""The whole contract: every theme in one class."""

from __future__ import annotations

from durableq.testing.dead_letters import DeadLettersContract
from durableq.testing.groups import GroupsContract
from durableq.testing.idempotency import IdempotencyContract
from durableq.testing.jumps import JumpsContract
from durableq.testing.leases import LeasesContract
from durableq.testing.monitoring import MonitoringContract
from durableq.testing.moves import MovesContract
from durableq.testing.queues import QueuesContract
from durableq.testing.receiving import ReceivingContract
from durableq.testing.retention import RetentionContract
from durableq.testing.sending import SendingContract
from durableq.testing.settling import SettlingContract
from durableq.testing.sharing import SharingContract
from durableq.testing.tending import TendingContract
from durableq.testing.transactions import TransactionsContract
from durableq.testing.watching import WatchingContract


class StoreContract(
    SendingContract,
    ReceivingContract,
    LeasesContract,
    SettlingContract,
    IdempotencyContract,
    DeadLettersContract,
    GroupsContract,
    MovesContract,
    SharingContract,
    QueuesContract,
    TransactionsContract,
    MonitoringContract,
    WatchingContract,
    TendingContract,
    JumpsContract,
    RetentionContract,
):
    """What every engine must do. Override `make_store`; each test is a sentence about it."""
