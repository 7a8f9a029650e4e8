"""Bugs to plant in the lease keeper of a worker."""

from __future__ import annotations

from typing import Any, Final

from durableq.worker import in_flight, lease_keeper

_KEEPER: Final = "tests/unit/test_lease_keeper.py::"


def extend_a_check_later() -> None:
    """A lease is extended at the first check after a third of it."""
    module: Any = lease_keeper
    cls = module.LeaseKeeper
    extend = cls._extend

    def extend_overdue(self: Any, due: Any) -> None:
        extend(self, [one for one in due if one.extend_at <= module.time.monotonic()])

    cls._extend = extend_overdue


def count_leases_from_the_answer() -> None:
    """The time that a receive took is taken for a part of the lease that is left."""
    module: Any = in_flight
    cls = module.Work
    make = cls.__init__

    def make_later(self: Any, handler: Any, deliveries: Any, _asked_at: float) -> None:
        make(self, handler, deliveries, module.time.monotonic())

    cls.__init__ = make_later


BUGS = (extend_a_check_later, count_leases_from_the_answer)
SEEN_BY = (
    (
        "extend_a_check_later",
        _KEEPER + "test_a_lease_is_kept_though_each_extension_takes_two_thirds_of_it",
    ),
    (
        "count_leases_from_the_answer",
        _KEEPER + "test_a_lease_counts_from_before_the_receive_that_brought_it",
    ),
)
