"""The core: the life of a message, in batches."""

from __future__ import annotations

from durableq.testing.contract.queueing.aging import AgingContract
from durableq.testing.contract.queueing.backlog import BacklogContract
from durableq.testing.contract.queueing.burying import (
    BuryAtReceiveContract,
    CountedReturnContract,
    UnlimitedReceivesContract,
)
from durableq.testing.contract.queueing.clock_jumps import ClockJumpsContract
from durableq.testing.contract.queueing.coalescing import (
    CoalescingContract,
    DeduplicationContract,
)
from durableq.testing.contract.queueing.expiry import ExpiryContract
from durableq.testing.contract.queueing.gathering import GatheringContract
from durableq.testing.contract.queueing.group_receiving import GroupBatchContract, GroupRateContract
from durableq.testing.contract.queueing.groups import (
    GroupConcurrencyContract,
    GroupDeadLettersContract,
    GroupOrderContract,
)
from durableq.testing.contract.queueing.keys import KeysContract
from durableq.testing.contract.queueing.leases import LeasesContract
from durableq.testing.contract.queueing.limits import (
    InFlightContract,
    RateContract,
    RetryShareContract,
    SlowStartContract,
)
from durableq.testing.contract.queueing.queues import QueuesContract
from durableq.testing.contract.queueing.receiving import ReceivingContract
from durableq.testing.contract.queueing.retention import RetentionContract
from durableq.testing.contract.queueing.sending import SendingContract
from durableq.testing.contract.queueing.served import (
    EnvelopeContract,
    FilledGroupsContract,
    ScopeContract,
)
from durableq.testing.contract.queueing.settling import SettlingContract
from durableq.testing.contract.queueing.together import TogetherContract
from durableq.testing.contract.queueing.waiting import WaitingContract


class QueueingContract(
    QueuesContract,
    SendingContract,
    BacklogContract,
    DeduplicationContract,
    CoalescingContract,
    ReceivingContract,
    LeasesContract,
    SettlingContract,
    UnlimitedReceivesContract,
    BuryAtReceiveContract,
    CountedReturnContract,
    KeysContract,
    TogetherContract,
    WaitingContract,
    RetentionContract,
    ExpiryContract,
    AgingContract,
    GatheringContract,
    ClockJumpsContract,
    RateContract,
    InFlightContract,
    RetryShareContract,
    SlowStartContract,
    GroupOrderContract,
    GroupConcurrencyContract,
    GroupDeadLettersContract,
    EnvelopeContract,
    ScopeContract,
    FilledGroupsContract,
    GroupBatchContract,
    GroupRateContract,
):
    """The tests of the core, which every engine has."""
