"""The contract on dictionaries: nothing durable, nothing fast, everything plain to see.

This is the model: the random walks run every other engine beside it and compare each answer. So
each rule stands here once, in the words of the contract. Every verb works on a copy of the tables,
which is dropped if it raises: all of it happens, or none.
"""

from durableq.engines.memory.store import MemoryStore

__all__ = ["MemoryStore"]
