"""Control: single messages are cancelled and rescheduled; queues are purged and deleted."""

from __future__ import annotations

from durableq.testing.contract.control.messages import SingleMessagesContract
from durableq.testing.contract.control.queues import WholeQueuesContract


class ControlContract(SingleMessagesContract, WholeQueuesContract):
    """The tests of the capability Control."""
