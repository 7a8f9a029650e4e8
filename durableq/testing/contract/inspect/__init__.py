"""Inspection: reads for people, the search for messages, and the history of all of them."""

from __future__ import annotations

from durableq.testing.contract.inspect.events import EventsContract
from durableq.testing.contract.inspect.looking import LookingContract
from durableq.testing.contract.inspect.search import SearchContract


class InspectContract(LookingContract, SearchContract, EventsContract):
    """The tests of the capability Inspect."""
