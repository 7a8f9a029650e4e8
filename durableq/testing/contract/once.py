"""Values that one caller computes for all: leased, stored, served, refreshed, forgotten."""
# ruff: noqa: D102, S101 - test names are sentences, and tests assert
# ruff: noqa: PT012 - an error at the end of a transaction needs the transaction in the block

from __future__ import annotations

from dataclasses import replace

import pytest

from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_KEY_CHARS
from durableq.model.once import OnceAnswer, OnceEntry, OnceRequest, OnceStep
from durableq.store.core import Capability
from durableq.testing.contract.case import (
    ORDERS,
    FullStore,
    StoreCase,
    bodies,
    drafts,
    needs,
    receive,
)
from durableq.testing.fakes import FakeClock

KEY = "rates"
FIRST = OnceRequest(b"1" * 16, 30_000, "first")
SECOND = OnceRequest(b"2" * 16, 30_000, "second")
THIRD = OnceRequest(b"3" * 16, 30_000, "third")


def ask(store: FullStore, request: OnceRequest = FIRST, key: str = KEY) -> OnceAnswer:
    """Ask for a value, or for the lease to compute it."""
    return store.once_get_or_lease(key, request)


def step(store: FullStore, request: OnceRequest) -> OnceStep:
    """Ask, and return the step alone."""
    return ask(store, request).step


def keep(
    store: FullStore,
    request: OnceRequest = FIRST,
    value: str = "1",
    ttl: float = 60,
    stale: float = 0,
    compute: float = 0,
) -> bool:
    """Store a value under a request's lease; lifetimes are in seconds."""
    ttl_ms, stale_ms, compute_ms = (round(seconds * 1000) for seconds in (ttl, stale, compute))
    return store.once_store(
        KEY, request.token, value, ttl_ms=ttl_ms, stale_ms=stale_ms, compute_ms=compute_ms
    )


def entry_of(store: FullStore) -> OnceEntry:
    """Return the state of the key, which is known."""
    entry = store.once_entry(KEY)
    assert entry is not None
    return entry


@needs(Capability.ONCE)
class OnceContract(StoreCase):
    """Values by key: one caller computes each, under a lease."""

    def test_of_many_callers_one_computes_an_unknown_key(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        assert ask(store, FIRST) == (OnceStep.COMPUTE, None, False)
        answer = ask(store, SECOND)
        assert (answer.step, step(store, THIRD)) == (OnceStep.WAIT, OnceStep.WAIT)
        now_ms = clock.wall_ms()
        assert answer.entry == OnceEntry(
            KEY, None, now_ms, now_ms, now_ms, token=FIRST.token, lease_left_ms=30_000,
            owner="first",
        )  # fmt: skip
        assert store.once_entry(KEY) == answer.entry

    def test_a_stored_value_is_served_until_it_expires(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        ask(store)
        clock.advance(2)
        assert keep(store, value='{"eur": 1}', ttl=60, compute=2)
        now_ms = clock.wall_ms()
        kept = OnceEntry(KEY, '{"eur": 1}', now_ms, now_ms + 60_000, now_ms + 60_000, 2_000)
        clock.advance(59.999)
        assert ask(store, SECOND) == (OnceStep.SERVE, kept, True)
        clock.advance(0.001)
        assert step(store, SECOND) is OnceStep.COMPUTE

    def test_a_stale_value_is_served_while_another_caller_computes(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        ask(store)
        keep(store, ttl=60, stale=10)
        clock.advance(60)
        refreshing = ask(store, SECOND)
        assert (refreshing.step, refreshing.is_fresh) == (OnceStep.COMPUTE, False)
        stale = ask(store, THIRD)
        assert (stale.step, stale.is_fresh) == (OnceStep.SERVE, False)
        assert stale.entry is not None
        assert (stale.entry.value, stale.entry.token) == ("1", SECOND.token)
        clock.advance(10)
        assert step(store, THIRD) is OnceStep.WAIT
        assert keep(store, SECOND, "2")
        assert ask(store, THIRD).entry == entry_of(store)
        assert entry_of(store).value == "2"

    @needs(Capability.TRANSACTIONS)
    def test_a_transaction_stores_a_value_with_its_other_writes(self, store: FullStore) -> None:
        ask(store)
        with store.transaction([]) as tx:
            tx.send(ORDERS, drafts(1))
            assert tx.once_store(KEY, FIRST.token, "7", ttl_ms=60_000)
        assert (entry_of(store).value, entry_of(store).is_leased) == ("7", False)
        assert bodies(receive(store)) == ["1"]

    @needs(Capability.TRANSACTIONS)
    def test_a_transaction_that_is_undone_stores_no_value(self, store: FullStore) -> None:
        ask(store)
        with pytest.raises(InvalidInput), store.transaction([]) as tx:
            tx.once_store(KEY, FIRST.token, "7", ttl_ms=60_000)
            raise InvalidInput
        assert (entry_of(store).value, entry_of(store).is_leased) == (None, True)

    @needs(Capability.TRANSACTIONS)
    def test_a_transaction_stores_nothing_under_a_lease_that_another_has(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        ask(store)
        clock.advance(30)
        ask(store, SECOND)
        with store.transaction([]) as tx:
            assert not tx.once_store(KEY, FIRST.token, "7", ttl_ms=60_000)
        assert step(store, THIRD) is OnceStep.WAIT

    def test_asking_again_with_a_token_returns_its_lease(self, store: FullStore) -> None:
        ask(store)
        assert step(store, FIRST) is OnceStep.COMPUTE
        assert step(store, SECOND) is OnceStep.WAIT

    def test_a_lease_that_ends_is_given_to_the_next_caller(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        ask(store)
        clock.advance(29.999)
        assert step(store, SECOND) is OnceStep.WAIT
        clock.advance(0.001)
        assert store.once_entry(KEY) is None
        assert step(store, SECOND) is OnceStep.COMPUTE
        assert step(store, FIRST) is OnceStep.WAIT

    def test_a_lease_that_was_given_to_another_stores_nothing(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        ask(store)
        clock.advance(30)
        ask(store, SECOND)
        assert keep(store, FIRST, "late") is False
        assert store.once_extend(KEY, FIRST.token, 30_000) is False
        assert store.once_fail(KEY, FIRST.token) is False
        assert entry_of(store).value is None
        assert keep(store, SECOND, "2") is True
        assert keep(store, SECOND, "twice") is False
        assert entry_of(store).value == "2"

    def test_a_lease_that_has_ended_stores_if_no_other_caller_came(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        ask(store)
        clock.advance(31)
        assert keep(store) is True
        assert step(store, SECOND) is OnceStep.SERVE

    def test_an_extended_lease_goes_on(self, store: FullStore, clock: FakeClock) -> None:
        ask(store)
        clock.advance(20)
        assert store.once_extend(KEY, FIRST.token, 30_000) is True
        assert entry_of(store).lease_left_ms == 30_000
        clock.advance(29)
        assert step(store, SECOND) is OnceStep.WAIT

    def test_a_lease_that_fails_is_free_at_once(self, store: FullStore) -> None:
        ask(store)
        assert store.once_fail(KEY, FIRST.token) is True
        assert store.once_entry(KEY) is None
        assert step(store, SECOND) is OnceStep.COMPUTE

    def test_a_lease_that_fails_leaves_the_older_value(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        ask(store)
        keep(store, stale=60)
        clock.advance(60)
        ask(store, SECOND)
        assert store.once_fail(KEY, SECOND.token) is True
        entry = entry_of(store)
        assert (entry.value, entry.token, entry.owner) == ("1", None, "")
        assert step(store, THIRD) is OnceStep.COMPUTE

    def test_the_lease_of_a_dead_process_is_taken_over_once(self, store: FullStore) -> None:
        ask(store)
        assert step(store, replace(SECOND, dead=FIRST.token)) is OnceStep.COMPUTE
        assert step(store, replace(THIRD, dead=FIRST.token)) is OnceStep.WAIT
        assert keep(store, FIRST) is False

    def test_a_value_is_refreshed_early_by_one_caller(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        ask(store)
        keep(store, ttl=60, compute=5)
        early = replace(SECOND, draw=0.1)  # 5 seconds times -ln(0.1): 11.5 seconds before the end
        clock.advance(48)
        assert step(store, early) is OnceStep.SERVE
        clock.advance(1)
        assert step(store, replace(early, beta=0)) is OnceStep.SERVE
        assert step(store, replace(early, draw=1.0)) is OnceStep.SERVE
        refreshing = ask(store, early)
        assert (refreshing.step, refreshing.is_fresh) == (OnceStep.COMPUTE, True)
        assert step(store, replace(early, token=THIRD.token)) is OnceStep.SERVE

    def test_a_forgotten_key_is_computed_again(self, store: FullStore) -> None:
        assert store.once_forget(KEY) is False
        ask(store)
        keep(store)
        assert store.once_forget(KEY) is True
        assert store.once_entry(KEY) is None
        assert step(store, SECOND) is OnceStep.COMPUTE

    def test_a_value_that_was_forgotten_while_it_was_computed_is_not_stored(
        self, store: FullStore
    ) -> None:
        ask(store)
        assert store.once_forget(KEY) is True
        assert keep(store) is False
        assert step(store, SECOND) is OnceStep.COMPUTE

    def test_keys_are_independent(self, store: FullStore) -> None:
        ask(store)
        assert ask(store, SECOND, "other").step is OnceStep.COMPUTE
        assert store.once_forget("other") is True
        assert keep(store) is True

    def test_states_come_in_order_of_key_and_page_by_page(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        for key in ("b", "ü", "a", "B", "𝄞", "\uffff"):
            ask(store, key=key)
        assert [one.key for one in store.once_entries(10)] == ["B", "a", "b", "ü", "\uffff", "𝄞"]
        assert [one.key for one in store.once_entries(2, after_key="a")] == ["b", "ü"]
        assert [store.count_once(limit) for limit in (2, 6, 9)] == [2, 6, 6]
        clock.advance(30)
        assert store.once_entries(10) == []
        assert store.count_once(9) == 0

    def test_a_jump_of_the_wall_clock_expires_no_value(
        self, store: FullStore, clock: FakeClock
    ) -> None:
        ask(store)
        keep(store, ttl=60, stale=60)
        clock.set_wall(clock.wall_ms() + 86_400_000)
        answer = ask(store, SECOND)
        assert (answer.step, answer.is_fresh) == (OnceStep.SERVE, True)
        assert answer.entry is not None
        left_ms = [
            date - clock.wall_ms()
            for date in (answer.entry.expires_at_ms, answer.entry.stale_until_ms)
        ]
        assert left_ms == [60_000, 120_000]

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"token": b"short"}, "A token has 16 bytes"),
            ({"lease_ms": 0}, "The lease of a computation in ms"),
            ({"draw": 0.0}, "The draw is a number"),
            ({"beta": float("nan")}, "beta is a number from 0 to 1000"),
            ({"beta": -1}, "beta is a number from 0 to 1000"),
        ],
    )
    def test_a_request_out_of_bounds_is_refused(
        self, store: FullStore, changes: dict[str, object], says: str
    ) -> None:
        with pytest.raises(InvalidInput, match=says):
            ask(store, replace(FIRST, **changes))  # type: ignore[arg-type]
        assert store.once_entry(KEY) is None

    def test_a_key_out_of_bounds_is_refused(self, store: FullStore) -> None:
        for key in ("", "k" * (MAX_KEY_CHARS + 1), "\ud800"):
            with pytest.raises(InvalidInput):
                ask(store, key=key)
        assert ask(store, key="k" * MAX_KEY_CHARS).step is OnceStep.COMPUTE

    @needs(Capability.MAINTENANCE)
    def test_expired_values_are_pruned_in_slices(self, store: FullStore, clock: FakeClock) -> None:
        for number in range(3):
            ask(store, key=f"old-{number}")
            store.once_store(
                f"old-{number}", FIRST.token, "1", ttl_ms=1_000, stale_ms=1_000, compute_ms=0
            )
        ask(store, key="leased")
        clock.advance(1.999)
        assert store.prune().values == 0
        clock.advance(0.001)
        assert store.prune(limit=2).values == 2
        assert store.prune(limit=2).values == 1
        assert [one.key for one in store.once_entries(10)] == ["leased"]
        clock.advance(30)
        assert store.prune().values == 1

    @needs(Capability.MAINTENANCE)
    def test_maintenance_prunes_expired_values(self, store: FullStore, clock: FakeClock) -> None:
        store.maintain()
        ask(store)
        keep(store, ttl=1)
        clock.advance(60)
        assert store.maintain().values == 1
