"""Metadata: small texts that processes share."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert

from __future__ import annotations

import pytest

from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_METADATA_CHARS, MAX_METADATA_NAME_CHARS
from durableq.store.core import Capability
from durableq.testing.contract.case import DEAD, ORDERS, FullStore, StoreCase, needs


@needs(Capability.METADATA)
class MetadataContract(StoreCase):
    """Texts that are compared and set."""

    def test_metadata_is_stored_if_it_is_as_expected(self, store: FullStore) -> None:
        assert store.get_metadata("breaker") is None
        assert store.compare_and_set("breaker", "closed", expected=None)
        assert not store.compare_and_set("breaker", "mine", expected=None)
        assert not store.compare_and_set("breaker", "open", expected="half")
        assert store.get_metadata("breaker") == "closed"
        assert store.compare_and_set("breaker", "open", expected="closed")
        assert store.get_metadata("breaker") == "open"

    def test_metadata_of_different_names_is_independent(self, store: FullStore) -> None:
        store.compare_and_set("a", "1", expected=None)
        assert not store.compare_and_set("b", "2", expected="1")
        assert store.get_metadata("b") is None
        assert store.get_metadata("") is None
        assert store.get_metadata("boot_id") is None

    @needs(Capability.CONTROL)
    def test_the_metadata_of_a_queue_is_deleted_with_it(self, store: FullStore) -> None:
        for name in (f"breaker:{ORDERS}", f"x:{DEAD}", "breaker:my-orders", "ordersx", "breaker:_"):
            store.compare_and_set(name, "open", expected=None)
        store.delete_queue(ORDERS)
        left = [f"breaker:{ORDERS}", f"x:{DEAD}", "breaker:my-orders", "ordersx", "breaker:_"]
        assert [store.get_metadata(name) for name in left] == [None, None, "open", "open", "open"]
        store.declare_queue(ORDERS, {})
        assert store.compare_and_set(f"breaker:{ORDERS}", "closed", expected=None)

    def test_metadata_has_bounds(self, store: FullStore) -> None:
        name, text = "n" * MAX_METADATA_NAME_CHARS, "ü" * MAX_METADATA_CHARS
        assert store.compare_and_set(name, text, expected=None)
        assert store.get_metadata(name) == text
        for bad in (("", "x"), (name + "n", "x"), ("m", text + "x"), ("m", "\ud800")):
            with pytest.raises(InvalidInput):
                store.compare_and_set(*bad, expected=None)
        assert store.get_metadata("m") is None
