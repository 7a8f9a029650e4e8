"""Control: single messages, the circuit breakers of queues, and whole queues."""

from __future__ import annotations

from durableq.testing.contract.control.breaker import BreakerContract
from durableq.testing.contract.control.messages import SingleMessagesContract
from durableq.testing.contract.control.queues import WholeQueuesContract


class ControlContract(SingleMessagesContract, BreakerContract, WholeQueuesContract):
    """The tests of the capability Control."""
