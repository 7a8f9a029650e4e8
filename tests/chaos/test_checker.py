"""The checker: an honest case passes, and each invariant fails when its promise is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from durableq.demo.checker import SHOWN
from durableq.demo.reading import Charge, Event, Left, Record
from durableq.testing.chaos.checker import INVARIANTS, MANY_KILLS, MAX_REPORTED, violations
from durableq.testing.chaos.ledger import NONE, Line, Step
from tests.chaos.case import DEAD, QUEUE, Evidence, honest

Plant = Callable[[Evidence], object]


def message_vanishes(evidence: Evidence) -> None:
    evidence.events = [event for event in evidence.events if event.message_id != "4"]
    evidence.counters[DEAD]["discarded"] = 0


def send_is_lost(evidence: Evidence) -> None:
    answered = Line(99, 7, "send", Step.OK, "order-2", "5")
    evidence.lines += [answered._replace(step=Step.INVOKE, message_id=NONE), answered]


def a_duplicate_is_not_counted(evidence: Evidence) -> None:
    evidence.counters[QUEUE]["duplicates"] = 0


def message_expires(evidence: Evidence) -> None:
    evidence.counters[QUEUE]["expired"] = 1


def too_many_sent(evidence: Evidence) -> None:
    evidence.counters[QUEUE]["sent"] = 5


def stranger_is_charged(evidence: Evidence) -> None:
    evidence.charges.append(Charge("order-9", 1, "1"))


def another_amount_is_charged(evidence: Evidence) -> None:
    evidence.charges[0] = evidence.charges[0]._replace(amount_cents=101)


def unsent_message_has_a_history(evidence: Evidence) -> None:
    evidence.events.append(Event("77", "failed", ""))


def charged_message_is_still_there(evidence: Evidence) -> None:
    evidence.left.append(Left(QUEUE, "1", 0, 0, False))


def ok_without_a_charge(evidence: Evidence) -> None:
    del evidence.charges[0]


def ok_twice(evidence: Evidence) -> None:
    evidence.handle("1", "0.2", Step.OK)


def completions_without_charges(evidence: Evidence) -> None:
    evidence.counters[QUEUE]["completed"] = 3


def charged_twice(evidence: Evidence) -> None:
    evidence.charges.append(evidence.charges[0]._replace(message_id="2"))


def charged_and_discarded(evidence: Evidence) -> None:
    evidence.events.append(Event("2", "discarded", "because"))


def stale_ok(evidence: Evidence) -> None:
    evidence.handle("1", "0.3", Step.REFUSED)


def stale_record(evidence: Evidence) -> None:
    evidence.handle("3", "1.2")


def unknown_receipt(evidence: Evidence) -> None:
    evidence.records["order-2"] = evidence.records["order-2"]._replace(receipt="forged")


def receive_without_an_end(evidence: Evidence) -> None:
    evidence.forget("failed", "1")


def receive_beyond_the_limit(evidence: Evidence) -> None:
    evidence.record("1", "failed", "failed", "failed")


def left_beyond_the_limit(evidence: Evidence) -> None:
    evidence.left.append(Left(QUEUE, "2", 0, 4, False))


def buried_without_a_failure(evidence: Evidence) -> None:
    evidence.events.insert(0, Event("4", "buried", ""))


def buried_twice(evidence: Evidence) -> None:
    evidence.events.insert(4, Event("3", "buried", ""))


def dead_but_not_there(evidence: Evidence) -> None:
    evidence.record("1", "failed", "buried")


def there_but_not_dead(evidence: Evidence) -> None:
    evidence.left.append(Left(DEAD, "2", 0, 0, True))


def decided_without_the_policy(evidence: Evidence) -> None:
    evidence.lines = [line for line in evidence.lines if line.operation != "requeue"]


def decided_twice(evidence: Evidence) -> None:
    evidence.record("3", "requeued")


def discarded_without_a_reason(evidence: Evidence) -> None:
    evidence.events[-1] = evidence.events[-1]._replace(reason="")


def key_forgotten(evidence: Evidence) -> None:
    del evidence.records["order-1"]


def key_in_progress(evidence: Evidence) -> None:
    evidence.records["order-1"] = evidence.records["order-1"]._replace(completed=False)


def another_owner(evidence: Evidence) -> None:
    evidence.records["order-1"] = evidence.records["order-1"]._replace(message_id="2")


def another_result(evidence: Evidence) -> None:
    evidence.records["order-1"] = evidence.records["order-1"]._replace(result="{")


def remembered_without_a_charge(evidence: Evidence) -> None:
    evidence.records["order-3"] = Record("order-3", True, "4", "receipt-4-0.1", None)


def not_drained(evidence: Evidence) -> None:
    evidence.interruptions.append("It did not drain.")


def message_left(evidence: Evidence) -> None:
    evidence.left.append(Left(QUEUE, "2", 2, 0, False))


def order_that_can_be_charged_is_discarded(evidence: Evidence) -> None:
    evidence.events.append(Event("3", "discarded", "because"))


def file_damaged(evidence: Evidence) -> None:
    evidence.faults_found.append("row 7 missing from index x")


def counters_off(evidence: Evidence) -> None:
    evidence.counters[DEAD]["discarded"] = 0


def moves_do_not_cancel(evidence: Evidence) -> None:
    evidence.counters[QUEUE]["moved_in"] = 0


def no_kill_happened(evidence: Evidence) -> None:
    evidence.happened["kill"] = 0


def every_kill_hit_an_idle_worker(evidence: Evidence) -> None:
    evidence.happened["kill"] = MANY_KILLS
    evidence.lines += [Line(99, 9, "kill", "7")] * MANY_KILLS


def no_receipt_was_refused(evidence: Evidence) -> None:
    evidence.lines = [line for line in evidence.lines if line.step != Step.REFUSED]


def nothing_worked(evidence: Evidence) -> None:
    evidence.lines = [line for line in evidence.lines if line.operation == "send"]


PLANTS: list[tuple[Plant, str]] = [
    (message_vanishes, "1 nothing lost: 4 (order-3) was accepted"),
    (message_vanishes, "1 nothing lost: Order-3 was neither charged nor discarded"),
    (send_is_lost, "1 nothing lost: 1 duplicates were recognised, not 2: 1 missed"),
    (a_duplicate_is_not_counted, "1 nothing lost: 0 duplicates were recognised, not 1: 1 missed"),
    (message_expires, "1 nothing lost: 1 messages are counted as expired"),
    (too_many_sent, "2 nothing invented: 5 messages were sent, not 4"),
    (stranger_is_charged, "2 nothing invented: Order-9 is in the file, but was never"),
    (another_amount_is_charged, "2 nothing invented: Order-1 was charged 101 cents"),
    (unsent_message_has_a_history, "2 nothing invented: Message 77 was never sent"),
    (charged_message_is_still_there, "3, 5 every end final: Message 1 has ended, and is there"),
    (ok_without_a_charge, "3, 5 every end final: Message 1 was answered ok, but charged nothing"),
    (ok_twice, "3, 5 every end final: Message 1 was answered ok more than once"),
    (completions_without_charges, "3, 5 every end final: 3 messages were completed, but the"),
    (charged_twice, "4 effects once: Order-1 was charged more than once"),
    (charged_twice, "4 effects once: The ledger holds 450 cents for orders of 350 cents"),
    (charged_and_discarded, "4 effects once: Order-1 was charged, and discarded too"),
    (stale_ok, "6 fencing: A stale receipt was accepted: message 1, attempt 0.2"),
    (stale_ok, "6 fencing: The record of order-1 was completed with a stale receipt"),
    (stale_record, "6 fencing: The record of order-2 was completed with a stale receipt"),
    (unknown_receipt, "6 fencing: The record of order-2 was completed with an unknown receipt"),
    (
        receive_without_an_end,
        "8 receive counts: Message 1 was received 2 times, and 1 are recorded",
    ),
    (receive_beyond_the_limit, "8 receive counts: Message 1 was received more than 3 times"),
    (left_beyond_the_limit, "8 receive counts: Message 2 is there with more receives"),
    (buried_without_a_failure, "9 dead-letter queue: Message 4 was buried without a failure"),
    (buried_twice, "9 dead-letter queue: Message 3 was buried twice"),
    (dead_but_not_there, "9 dead-letter queue: Message 1 is in no dead-letter queue"),
    (there_but_not_dead, "9 dead-letter queue: Message 2 is in a dead-letter queue"),
    (decided_without_the_policy, "9 dead-letter queue: Message 3 was requeued without a decision"),
    (decided_twice, "9 dead-letter queue: Message 3 was requeued, but was not dead"),
    (discarded_without_a_reason, "9 dead-letter queue: Message 4 was discarded without a recorded"),
    (key_forgotten, "10 idempotency: order-1 was charged, but its key is not remembered"),
    (key_in_progress, "10 idempotency: order-1 was charged, but its key is not remembered"),
    (another_owner, "10 idempotency: order-1 was charged by message 1, its record says otherwise"),
    (another_result, "10 idempotency: The stored result of order-1 is {."),
    (remembered_without_a_charge, "10 idempotency: Order-3 is remembered as completed, but was"),
    (not_drained, "11 liveness: It did not drain."),
    (message_left, "11 liveness: 1 messages have not ended: 1 in orders, state 2."),
    (
        order_that_can_be_charged_is_discarded,
        "11 liveness: Order-2 can be charged, but was discarded",
    ),
    (file_damaged, "12 soundness: The integrity check: row 7 missing"),
    (counters_off, "12 soundness: By its counters orders-dlq holds 1 messages, but 0 are there"),
    (moves_do_not_cancel, "12 soundness: The messages moved out of queues are not as many"),
    (no_kill_happened, "13 not vacuous: 3 faults of kind 'kill' were asked for, and none"),
    (every_kill_hit_an_idle_worker, "13 not vacuous: None of that many kills fell inside"),
    (no_receipt_was_refused, "13 not vacuous: Workers were to be stopped past their lease, but no"),
    (nothing_worked, "13 not vacuous: No attempt was answered ok"),
]


def test_an_honest_case_has_no_violation() -> None:
    assert violations(honest().case()) == []


@pytest.mark.parametrize(
    ("plant", "sentence"), PLANTS, ids=[f"{n}-{p.__name__}" for n, (p, _) in enumerate(PLANTS)]
)
def test_a_broken_promise_is_named(plant: Plant, sentence: str) -> None:
    evidence = honest()
    plant(evidence)
    found = violations(evidence.case())
    assert any(violation.startswith(sentence) for violation in found), found


def test_every_invariant_has_been_seen_to_fail() -> None:
    assert {sentence.partition(":")[0] for _, sentence in PLANTS} == {n for n, _ in INVARIANTS}


def test_a_send_without_an_answer_may_have_happened_or_not() -> None:
    for happened in (False, True):
        evidence = honest()
        evidence.lines.append(Line(99, 8, "send", Step.INVOKE, "order-1"))
        if happened:
            evidence.counters[QUEUE]["sent"] += 1
            evidence.counters[QUEUE]["duplicates"] += 1
        assert violations(evidence.case()) == []


def test_a_message_that_was_given_back_is_not_counted_as_received() -> None:
    evidence = honest()
    evidence.handle("2", "0.1", Step.UNSETTLED)
    assert violations(evidence.case()) == []


def test_without_faults_asked_for_none_need_happen() -> None:
    evidence = honest()
    evidence.asked, evidence.happened = {}, {}
    no_receipt_was_refused(evidence)
    assert violations(evidence.case()) == []


def test_a_kill_inside_a_handler_is_enough_of_many() -> None:
    evidence = honest()
    every_kill_hit_an_idle_worker(evidence)
    evidence.lines.append(Line(99, 9, "kill", "7", "order-1", "1"))
    assert violations(evidence.case()) == []


def test_a_flood_of_violations_is_summed_up() -> None:
    evidence = honest()
    evidence.charges += [Charge(f"order-{number}", 1, "1") for number in range(100, 200)]
    found = violations(evidence.case())
    lost = [violation for violation in found if violation.startswith("2 nothing invented")]
    assert len(lost) == SHOWN + 1
    assert lost[-1].endswith("The same of 95 more.")
    remembered = [violation for violation in found if violation.startswith("10 idempotency")]
    assert len(remembered) == MAX_REPORTED + 1
