"""Inspection: reads for people, and the search for messages."""

from __future__ import annotations

from durableq.testing.contract.inspect.looking import LookingContract
from durableq.testing.contract.inspect.search import SearchContract


class InspectContract(LookingContract, SearchContract):
    """The tests of the capability Inspect."""
