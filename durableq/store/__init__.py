"""The storage contract: the operations that every engine implements. Read core.py first."""
