"""The checker of limits: an honest case passes, and each invariant fails when it is broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from durableq.demo.reading import Event, Left
from durableq.testing.chaos.checker import violations
from durableq.testing.chaos.ledger import Step
from durableq.testing.chaos.limited import CALLS, PARCELS, STEPS
from durableq.testing.chaos.limits_checker import INVARIANTS, fullest
from durableq.testing.chaos.recording import HALF_OPEN, OPEN, Stand, Stored
from tests.chaos import case
from tests.chaos.limits_case import Limited, honest

Plant = Callable[[Limited], object]


def receives_beyond_the_rate(limited: Limited) -> None:
    for at_ms in (1610, 1620, 1630):
        limited.receive(CALLS, "99", at_ms, at_ms)


def handlers_beyond_the_rate(limited: Limited) -> None:
    for number in range(30, 36):
        of = str(number)
        limited.note(CALLS, of, Step.INVOKE, 1700)
        limited.commit(CALLS, of, f"0:{of}", 1700)


def group_beyond_its_rate(limited: Limited) -> None:
    limited.receive(STEPS, "22", 1650, 2)


def receive_beyond_the_places(limited: Limited) -> None:
    limited.receives[0] = limited.receives[0]._replace(in_flight=3)


def more_seen_in_flight(limited: Limited) -> None:
    limited.stands.append(Stand(CALLS, 3, 0, 3))


def handlers_overlap(limited: Limited) -> None:
    for of, begin in (("30", 1001), ("31", 1005)):
        limited.note(CALLS, of, Step.INVOKE, begin)
        limited.commit(CALLS, of, "0:30", 1050)


def the_counter_leaks(limited: Limited) -> None:
    limited.stands.append(Stand(CALLS, 2, 0, 1))


def two_of_a_group_in_flight(limited: Limited) -> None:
    limited.receive(STEPS, "22", 1190, 9, in_group=2)


def received_out_of_order(limited: Limited) -> None:
    limited.receive(STEPS, "20", 1300, 3)


def committed_out_of_order(limited: Limited) -> None:
    limited.effects.reverse()


def begun_before_the_end_of_the_one_before(limited: Limited) -> None:
    limited.note(STEPS, "22", Step.INVOKE, 1155, 0)


def received_while_open(limited: Limited) -> None:
    limited.receives[1] = limited.receives[1]._replace(breaker=OPEN)


def two_probes_at_once(limited: Limited) -> None:
    limited.receives[1] = limited.receives[1]._replace(breaker=HALF_OPEN)


def closed_without_a_probe(limited: Limited) -> None:
    del limited.phases[1]


def the_breaker_stays_half_open(limited: Limited) -> None:
    limited.at_the_end[0] = Stand(CALLS, 0, HALF_OPEN, 0)


def the_breaker_does_not_open(limited: Limited) -> None:
    limited.phases.clear()


def the_outage_counts(limited: Limited) -> None:
    limited.events.append(Event("10", "failed", "unavailable"))


def the_outage_kills(limited: Limited) -> None:
    limited.events.append(Event("10", "buried", "unavailable"))


def a_call_is_lost(limited: Limited) -> None:
    limited.effects = [effect for effect in limited.effects if effect.message_id != "13"]


def a_call_has_two_effects(limited: Limited) -> None:
    limited.effects.append(limited.effects[0])


def a_stale_receipt_completes(limited: Limited) -> None:
    limited.receive(STEPS, "22", 1661, 2)


def a_step_is_stranded(limited: Limited) -> None:
    limited.left.append(Left(STEPS, "22", 3, 0, False))


def a_completion_is_not_counted(limited: Limited) -> None:
    limited.completed[CALLS] = 3


def a_place_is_not_given_back(limited: Limited) -> None:
    limited.at_the_end[0] = Stand(CALLS, 1, 0, 0)


def the_audit_finds_something(limited: Limited) -> None:
    limited.audited.append("calls: in_flight is 1, 0 messages are")


def more_than_the_backlog(limited: Limited) -> None:
    limited.stored.append(Stored(PARCELS, "33", 5))


def no_send_is_refused(limited: Limited) -> None:
    accepted = [line for line in limited.lines if line[2:4] == (f"send_{PARCELS}", Step.OK)]
    limited.lines = [line for line in limited.lines if line.step is not Step.FULL] + 5 * accepted


def a_refused_send_is_stored(limited: Limited) -> None:
    limited.stored.append(Stored(PARCELS, "77", 1))


def an_accepted_send_is_not_stored(limited: Limited) -> None:
    limited.stored = [one for one in limited.stored if one.message_id != "30"]


def retries_without_credit(limited: Limited) -> None:
    for at_ms in (2301, 2302, 2303):
        limited.receive(PARCELS, "31", at_ms, 2)


def retries_beyond_those_saved(limited: Limited) -> None:
    for number in range(60):
        limited.receive(PARCELS, "33", 2301 + number)
    for number in range(12):
        limited.receive(PARCELS, "33", 2370 + number, 2)


PLANTS: list[tuple[Plant, str]] = [
    (receives_beyond_the_rate, "14 rate: A window had 4.85 receives of calls beyond its rate; 3"),
    (handlers_beyond_the_rate, "14 rate: A window had 7.505 calls of calls beyond its rate; 5.005"),
    (group_beyond_its_rate, "14 rate: A window had 1.9 receives of group-0 beyond its rate; 1 may"),
    (receive_beyond_the_places, "15 in flight: 3 messages of calls were in flight; 2 are allowed"),
    (more_seen_in_flight, "15 in flight: 3 messages of calls were in flight; 2 are allowed"),
    (handlers_overlap, "15 in flight: 3 handlers of calls ran at once; 2 are allowed"),
    (the_counter_leaks, "15 in flight: calls counted 2 in flight, but had 1"),
    (two_of_a_group_in_flight, "16 groups in order: 2 of the group of message 22 were in flight"),
    (received_out_of_order, "16 groups in order: Step 0:0 was received after step 0:1"),
    (committed_out_of_order, "16 groups in order: Step 0:0 was committed after step 0:1"),
    (
        begun_before_the_end_of_the_one_before,
        "16 groups in order: Step 0:1 began before step 0:0 had ended",
    ),
    (received_while_open, "17 breaker: Message 11 was received while the breaker was open"),
    (two_probes_at_once, "17 breaker: 2 messages were in flight while the breaker was half-open"),
    (closed_without_a_probe, "17 breaker: The breaker was closed after it was open"),
    (the_breaker_stays_half_open, "17 breaker: The breaker is not closed at the end"),
    (the_breaker_does_not_open, "17 breaker: In an outage the breaker was only closed"),
    (the_outage_counts, "17 breaker: 1 of 1 outage failures counted, and 1 opened the breaker"),
    (the_outage_kills, "17 breaker: Message 10 died of the outage"),
    (a_call_is_lost, "18 limited messages end: Message 13 was accepted, and has no effect"),
    (a_call_has_two_effects, "18 limited messages end: Message 11 has more than one effect"),
    (
        a_stale_receipt_completes,
        "18 limited messages end: Message 22 was completed with a stale receipt",
    ),
    (a_step_is_stranded, "18 limited messages end: Message 22 is left in steps, in state 3"),
    (a_completion_is_not_counted, "18 limited messages end: calls counts 3 completed and 1 there"),
    (a_place_is_not_given_back, "18 limited messages end: calls counts 1 in flight at the end"),
    (more_than_the_backlog, "19 backlog: 5 messages were in parcels; 4 are allowed"),
    (no_send_is_refused, "19 backlog: No send to parcels met a full queue"),
    (a_refused_send_is_stored, "19 backlog: Message 77 was stored, and its send was refused"),
    (an_accepted_send_is_not_stored, "19 backlog: Message 30 was accepted, and never stored"),
    (retries_without_credit, "20 retries: parcels had 1 retries beyond their share"),
    (retries_beyond_those_saved, "20 retries: A window had 12 retries of parcels beyond"),
    (the_audit_finds_something, "18 limited messages end: Audit: calls: in_flight is 1"),
]


def found(limited: Limited) -> list[str]:
    evidence = case.honest()
    evidence.limits = limited.case()
    return violations(evidence.case())


def test_an_honest_case_has_no_violation() -> None:
    assert found(honest()) == []


@pytest.mark.parametrize(
    ("plant", "sentence"), PLANTS, ids=[f"{n}-{p.__name__}" for n, (p, _) in enumerate(PLANTS)]
)
def test_a_broken_limit_is_named(plant: Plant, sentence: str) -> None:
    limited = honest()
    plant(limited)
    assert any(each.startswith(sentence) for each in found(limited)), found(limited)


def test_every_invariant_of_limits_has_been_seen_to_fail() -> None:
    assert {sentence.partition(":")[0] for _, sentence in PLANTS} == {n for n, _ in INVARIANTS}


def test_the_begin_of_a_stale_attempt_is_not_held_against_the_limits() -> None:
    """A worker that was stopped between its receive and its handler begins with a lost lease."""
    limited = honest()
    limited.note(STEPS, "20", Step.INVOKE, 1900)
    limited.note(CALLS, "10", Step.INVOKE, 1601)
    assert found(limited) == []


def test_the_fullest_window_is_found() -> None:
    assert fullest([], 10) == 0
    assert fullest([0, 100, 200], 10) == 1
    assert fullest([900, 0, 950, 1000, 1000], 10) == 3
    assert fullest([5, 5, 5], 10) == 3


def test_a_window_of_calls_that_waited_in_flight_is_within_the_tolerance() -> None:
    limited = honest()
    for of in ("30", "31"):
        limited.note(CALLS, of, Step.INVOKE, 1700)
        limited.commit(CALLS, of, f"0:{of}", 1700)
    assert not any("14 rate" in each for each in found(limited))
