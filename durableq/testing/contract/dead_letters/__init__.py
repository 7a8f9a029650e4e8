"""Dead letters: their history, decisions about them, and the view of many."""

from __future__ import annotations

from durableq.testing.contract.dead_letters.decisions import DecisionsContract
from durableq.testing.contract.dead_letters.groups import GroupsContract
from durableq.testing.contract.dead_letters.history import HistoryContract
from durableq.testing.contract.dead_letters.queues import DeadLetterQueuesContract


class DeadLettersContract(
    DecisionsContract, HistoryContract, GroupsContract, DeadLetterQueuesContract
):
    """The tests of the capability DeadLetters."""
