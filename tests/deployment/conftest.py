"""The fixtures of process tests."""

from tests.process.conftest import nursery

__all__ = ["nursery"]
