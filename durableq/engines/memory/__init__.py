"""The reference engine: the contract on dictionaries, in the memory of one process.

Read tables.py and base.py, then queueing.py, the core; the other modules are a capability each.

The random walks run every other engine beside it and compare each answer. An operation works on a
copy of the tables, which is dropped if it raises. Redrive and Maintenance are left out: they bound
the work of one transaction, which a dictionary does not need.
"""

from durableq.engines.memory.store import MemoryStore

__all__ = ["MemoryStore"]
