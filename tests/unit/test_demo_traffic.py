"""The demo's traffic, gateway, policy and accounts: pure, and judged on hundreds of seeds."""

import functools
import json
from bisect import bisect
from collections import Counter
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from hypothesis import settings

from durableq.demo import gateway
from durableq.demo.accounts import Plan, Report, judge
from durableq.demo.app import recover
from durableq.demo.order import Difficulty, Order
from durableq.demo.reading import Charge, File, Left, QueueCounters, Record
from durableq.demo.reading import Event as HistoryLine
from durableq.demo.show import is_over
from durableq.demo.traffic import COUNT, DUPLICATES, KINDS, apportion, orders
from durableq.model import codec
from durableq.model.decisions import Discard, Hold, Requeue, Retry
from durableq.model.errors import InvalidInput, Reject
from durableq.model.message import DeadLetter, Event, HistoryEvent, Message, Reason, State
from durableq.model.queues import Counters, Counts
from durableq.model.settings import QueueSettings
from durableq.store.core import QueueInfo

SEEDS = range(settings().max_examples)
MAX_RECEIVES = 3


@dataclass
class Sent:
    """Return a message of the model."""

    id: str
    order: Order
    receives: int = 0
    recoveries: int = 0
    events: list[HistoryEvent] = field(default_factory=list)

    def add(self, event: Event, reason: str = "", error: str = "") -> None:
        self.events.append(
            HistoryEvent(self.id, "orders", event, 0, "", reason=reason, error_type=error)
        )

    def dead_letter(self, reason: Reason = Reason.HANDLER_ERROR) -> DeadLetter:
        body = codec.encode(self.order.to_body())
        counts = (State.READY, self.receives, self.recoveries, 0, 0, 0, 0)
        message = Message(
            self.id, "orders-dlq", body, self.order.key, None, 0, *counts, "orders", None
        )
        return DeadLetter(message, "orders", reason, 0, tuple(self.events), 3)


class Shop:
    """A model of the queue: the steps of any fleet and recovery, in a random order.

    `eagerness` is the share of steps in which recovery comes before the next delivery: with 0 it
    comes only when no message is ready, with 1 always.
    """

    def __init__(self, seed: int, eagerness: float) -> None:
        self.rng, self.eagerness = Random(seed), eagerness
        self.ready = [Sent(str(number), order) for number, order in enumerate(traffic_of(seed), 1)]
        self.dead: list[Sent] = []
        self.all = list(self.ready)
        self.charges: dict[str, Charge] = {}
        self.records: list[Record] = []
        self.ends: Counter[str] = Counter()

    def run(self) -> File:
        while self.ready or self.dead:
            if self.dead and (not self.ready or self.rng.random() < self.eagerness):
                self.recover(self.dead.pop(0))
            else:
                near = min(len(self.ready), 5)  # a fleet receives in about this order
                self.deliver(self.ready.pop(self.rng.randrange(near)))
        buried, back = self.count(Event.BURIED), self.count(Event.RETRIED, Event.REQUEUED)
        discarded = self.count(Event.DISCARDED)
        counters = [
            totals("orders", sent=COUNT, moved_in=back, moved_out=buried, **self.ends),
            totals("orders-dlq", moved_in=buried, moved_out=back, discarded=discarded),
        ]
        events = [
            HistoryLine(e.message_id, e.event.value, e.reason) for m in self.all for e in m.events
        ]
        return File([], counters, [], [*self.charges.values()], self.records, events)

    def count(self, *events: Event) -> int:
        return sum(event.event in events for message in self.all for event in message.events)

    def deliver(self, message: Sent) -> None:
        order = message.order
        if order.key in self.charges:
            self.ends["duplicates"] += 1
            return
        message.receives += 1
        try:
            gateway.check(message.order, message.receives, message.recoveries)
        except (Reject, gateway.GatewayTimeout, gateway.FraudCheckTooSlow) as error:
            message.add(Event.FAILED, error=type(error).__qualname__)
            if isinstance(error, Reject) or message.receives == MAX_RECEIVES:
                message.add(Event.BURIED)
                self.dead.append(message)
            else:
                self.put_back(message, self.rng.randrange(40))
            return
        self.charges[order.key] = Charge(order.key, order.amount_cents, message.id)
        result = json.dumps(order.payment)
        self.records.append(Record(order.key, True, message.id, "receipt", result))
        self.ends["completed"] += 1

    def recover(self, message: Sent) -> None:
        decision = recover(message.dead_letter())
        assert not isinstance(decision, Hold)
        if isinstance(decision, Discard):
            message.add(Event.DISCARDED, decision.reason)
            return
        if isinstance(decision, Retry):
            message.order = Order.from_body(decision.body)
        message.add(Event.RETRIED if isinstance(decision, Retry) else Event.REQUEUED)
        message.receives, message.recoveries = 0, message.recoveries + 1
        self.put_back(message)

    def put_back(self, message: Sent, later: int = 0) -> None:
        """Among the ready the oldest is first, wherever it comes from."""
        at = bisect(self.ready, int(message.id) + later, key=lambda other: int(other.id))
        self.ready.insert(at, message)


def totals(queue: str, **counted: int) -> QueueCounters:
    zero = dict.fromkeys(QueueCounters._fields[2:], 0)
    return QueueCounters(queue, MAX_RECEIVES, **zero | counted)


def info(name: str, counters: Counters, **counts: int) -> QueueInfo:
    return QueueInfo(name, QueueSettings(), None, counters, Counts(**counts), None)


def an_order(difficulty: str, number: int = 1, seed: int = 0) -> Order:
    return Order(number, 500, Difficulty(difficulty), seed)


def measured(report: Report, account: str) -> str:
    return next(row[2] for row in report.rows if row[0].strip() == account)


# ---- traffic


@pytest.mark.parametrize("seed", [0, 1, 7, -3, 2**70])
def test_the_same_arguments_give_the_same_traffic(seed: int) -> None:
    assert list(orders(COUNT, DUPLICATES, seed)) == list(orders(COUNT, DUPLICATES, seed))


def test_another_seed_gives_other_traffic() -> None:
    traffic = [tuple(e["key"] for e in orders(COUNT, DUPLICATES, seed)) for seed in SEEDS]
    assert len(set(traffic)) == len(traffic)


def test_every_seed_has_the_same_proportions() -> None:
    for seed in SEEDS:
        sent = traffic_of(seed)
        kinds = Counter((order.difficulty, gateway.trouble(seed, order.key)) for order in set(sent))
        assert kinds == {(k.difficulty, k.trouble): k.of_orders for k in KINDS}
        assert len(sent) - len(set(sent)) == COUNT * DUPLICATES


def test_a_duplicate_repeats_an_earlier_order_near_or_far() -> None:
    envelopes = list(orders(COUNT, DUPLICATES, 7))
    first: dict[str, int] = {}
    distances = []
    for at, envelope in enumerate(envelopes):
        if envelope["key"] in first:
            assert envelope == envelopes[first[envelope["key"]]]
            distances.append(at - first[envelope["key"]])
        else:
            first[envelope["key"]] = at
    assert min(distances) == 1
    assert sum(distance == 1 for distance in distances) >= 10
    assert max(distances) > 50


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 199, 1000])
@pytest.mark.parametrize("duplicates", [0.0, 0.25, 0.5, 0.99])
def test_any_count_and_any_part_of_duplicates_is_produced(count: int, duplicates: float) -> None:
    envelopes = list(orders(count, duplicates, 1))
    assert len(envelopes) == count
    repeated = count - len({envelope["key"] for envelope in envelopes})
    assert repeated == min(round(count * duplicates), max(0, count - 1))


@pytest.mark.parametrize(("count", "duplicates"), [(-1, 0.25), (10, 1.0), (10, -0.1)])
def test_numbers_out_of_bounds_are_refused(count: int, duplicates: float) -> None:
    with pytest.raises(InvalidInput):
        orders(count, duplicates, 1)


def test_parts_are_whole_and_add_up() -> None:
    assert apportion(150, [kind.of_orders for kind in KINDS]) == [k.of_orders for k in KINDS]
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]
    assert apportion(1, [1, 5]) == [0, 1]
    assert apportion(0, [1, 5]) == apportion(5, [0, 0]) == [0, 0]


# ---- gateway and policy


@pytest.mark.parametrize(
    ("difficulty", "decision"),
    [
        ("error", Discard("order-1: no later attempt can charge it")),
        ("hard", Retry(an_order("medium").to_body(), "order-1: medium instead of hard")),
        ("medium", Retry(an_order("easy").to_body(), "order-1: easy instead of medium")),
    ],
)
def test_the_policy_by_difficulty(difficulty: str, decision: Discard | Retry) -> None:
    assert recover(Sent("1", an_order(difficulty)).dead_letter(Reason.REJECTED)) == decision


def test_a_transient_failure_comes_back_unchanged() -> None:
    message = Sent("1", an_order("hard"))
    assert isinstance(recover(message.dead_letter(Reason.WORKER_LOST)), Requeue)
    message.add(Event.FAILED, error="GatewayTimeout")
    assert isinstance(recover(message.dead_letter()), Requeue)


def test_a_failure_that_the_policy_does_not_know_is_held() -> None:
    assert isinstance(recover(Sent("1", an_order("easy")).dead_letter()), Hold)
    stranger = Sent("1", an_order("easy")).dead_letter()
    stranger = replace(stranger, message=stranger.message._replace(body=codec.encode({"x": 1})))
    assert isinstance(recover(stranger), Hold)


@pytest.mark.parametrize(
    "body", [[], "x", {}, {"order": "1"}, an_order("hard").to_body() | {"difficulty": "?"}]
)
def test_a_body_that_is_not_an_order_is_rejected(body: Any) -> None:
    with pytest.raises(Reject, match="not an order of the demo"):
        Order.from_body(body)


def test_an_outage_ends_with_the_recovery() -> None:
    number = next(n for n in range(1000) if gateway.trouble(0, f"order-{n}").value == "outage")
    order = an_order("easy", number)
    for receive in (1, 2, 3):
        with pytest.raises(gateway.GatewayTimeout):
            gateway.check(order, receive, 0)
    gateway.check(order, 1, 1)


# ---- accounts


@functools.cache
def plan_of(seed: int) -> Plan:
    return Plan.of(COUNT, DUPLICATES, seed)


@functools.cache
def traffic_of(seed: int) -> list[Order]:
    return [Order.from_body(envelope["body"]) for envelope in orders(COUNT, DUPLICATES, seed)]


@pytest.mark.parametrize("eagerness", [0.0, 0.5, 1.0])
def test_the_figures_hold_for_any_seed_and_however_recovery_interleaves(eagerness: float) -> None:
    for seed in SEEDS:
        report = judge(Shop(seed, eagerness).run(), plan_of(seed))
        assert report.problems == [], f"seed {seed}"
        assert measured(report, "orders charged exactly once") == "138"
        assert measured(report, "orders discarded") == "12"


@pytest.fixture(scope="module")
def file() -> File:
    return Shop(7, 0.5).run()


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(7)


def problems_of(file: File, plan: Plan) -> str:
    report = judge(file, plan)
    assert report.as_dict()["ok"] is not bool(report.problems)
    return "\n".join(report.problems)


def with_totals(file: File, **changes: Any) -> File:
    orders, dead = file.counters
    return file._replace(counters=[orders._replace(**changes), dead])


def first_to_upper(key: str) -> str:
    return f"{key[0].upper()}{key[1:]}"


def test_a_charge_that_is_missing_is_noticed(file: File, plan: Plan) -> None:
    lost = file._replace(charges=file.charges[1:])
    key = first_to_upper(file.charges[0].key)
    assert f"{key} was neither charged nor discarded." in problems_of(lost, plan)


def test_a_second_charge_is_noticed(file: File, plan: Plan) -> None:
    twice = file._replace(charges=[*file.charges, file.charges[0]])
    found = problems_of(twice, plan)
    assert f"{first_to_upper(file.charges[0].key)} was charged more than once." in found
    assert "The ledger holds" in found


def test_a_wrong_amount_is_noticed(file: File, plan: Plan) -> None:
    first, *others = file.charges
    wrong = first._replace(amount_cents=first.amount_cents + 1)
    found = problems_of(file._replace(charges=[wrong, *others]), plan)
    assert "The ledger holds" in found
    assert "which is not the amount that was sent" in found


def test_an_order_that_was_never_sent_is_noticed(file: File, plan: Plan) -> None:
    strange = file._replace(charges=[*file.charges, Charge("order-1", 5, "1")])
    assert "Order-1 is in the file, but was never in the traffic." in problems_of(strange, plan)


@pytest.mark.parametrize(("more", "word"), [(-1, "missed"), (1, "invented")])
def test_a_duplicate_too_few_or_too_many_is_noticed(
    file: File, plan: Plan, more: int, word: str
) -> None:
    found = problems_of(with_totals(file, duplicates=50 + more), plan)
    assert f"1 {word}." in found
    assert "By its counters orders holds" in found


def test_swapped_orders_do_not_cancel_out(file: File, plan: Plan) -> None:
    """One order's duplicate discarded, another's order taken for a duplicate: equal in number."""
    key = next(key for key, number in plan.sends.items() if number == 2)
    events = [
        event._replace(reason=f"{key}: oops") if event.event == Event.DISCARDED else event
        for event in file.events
    ]
    found = problems_of(file._replace(events=events), plan)
    assert f"{first_to_upper(key)} was charged, and discarded too." in found
    assert "was neither charged nor discarded." in found


def test_a_discard_without_a_reason_or_without_a_trace_is_noticed(file: File, plan: Plan) -> None:
    silent = [e._replace(reason="") if e.event == Event.DISCARDED else e for e in file.events]
    assert "without a recorded reason" in problems_of(file._replace(events=silent), plan)
    gone = [event for event in file.events if event.event != Event.DISCARDED]
    assert "but the history has 0" in problems_of(file._replace(events=gone), plan)


def test_a_forgotten_key_is_noticed(file: File, plan: Plan) -> None:
    found = problems_of(file._replace(records=file.records[1:]), plan)
    assert "its key is not remembered as completed" in found


def test_a_message_left_over_is_noticed(file: File, plan: Plan) -> None:
    left = file._replace(left=[Left("orders", file.events[0].message_id, 0, 1, False)])
    assert "1 messages have not ended: 1 in orders, state 0." in problems_of(left, plan)


def test_messages_not_sent_and_figures_out_of_range_are_noticed(file: File, plan: Plan) -> None:
    short = with_totals(file, sent=150, completed=88)
    assert "150 messages were sent, not 200." in problems_of(short, plan)
    assert "88 messages were completed, but the ledger has" in problems_of(short, plan)
    few = file._replace(charges=file.charges[:100])
    assert "orders processed: 100 is not 120-140." in problems_of(few, plan)


def test_references_are_for_the_default_traffic_only(file: File) -> None:
    rows = judge(file, Plan.of(20, DUPLICATES, 7)).rows
    assert {row[0]: row[1] for row in rows}["orders processed"] == "-"


# ---- the end


def test_the_demo_is_over_when_nothing_moved_between_two_checks() -> None:
    still = [
        info("orders", Counters(sent=3, moved_out=1)),
        info("orders-dlq", Counters(moved_in=1), held=1),
    ]
    moved = [info("orders", Counters(sent=3, moved_out=2)), still[1]]
    busy = [info("orders", Counters(sent=3), delayed=1), still[1]]
    assert is_over(still, still)
    assert not is_over([], still)
    assert not is_over(moved, still)
    assert not is_over(busy, busy)
