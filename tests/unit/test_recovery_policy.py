"""Policies: their decisions within limits; a policy that fails holds the dead letter."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from durableq import DeadLetter, Decision, Discard, Hold, Reason, Requeue, Retry
from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_ERROR_CHARS
from durableq.model.message import Message, State
from durableq.recovery.policies import call_policy


def dead_letter(recovery_count: int = 0, body: str = '{"n":1}') -> DeadLetter:
    message = Message(
        "7", "orders-dlq", body, "k", None, 0, State.READY, 0, recovery_count, 0, 0, 0, 0,
        "orders", None,
    )  # fmt: skip
    return DeadLetter(message, "orders", Reason.HANDLER_ERROR, 0, (), 3)


DECISIONS: list[Decision] = [
    Discard("fraud"),
    Retry({"n": 0}, "easier", delay=5),
    Retry(b"bytes"),
    Requeue("calm now"),
    Hold("look at it"),
]


@pytest.mark.parametrize("decision", DECISIONS, ids=repr)
def test_a_valid_decision_is_the_policys_own(decision: Decision) -> None:
    asked = []

    def policy(about: DeadLetter) -> Decision:
        asked.append(about.body)
        return decision

    assert call_policy(policy, dead_letter()) == decision
    assert asked == [{"n": 1}]


@pytest.mark.parametrize(
    "decision", [Retry({"n": 0}), Requeue(), Discard("at last"), Hold()], ids=repr
)
@pytest.mark.parametrize("recovery_count", [2, 3, 4])
def test_a_message_is_sent_back_at_most_max_recoveries_times(
    decision: Decision, recovery_count: int
) -> None:
    judged = call_policy(lambda _: decision, dead_letter(recovery_count))
    if isinstance(decision, (Retry, Requeue)) and recovery_count >= 3:
        assert judged == Hold(f"recovered {recovery_count} times already, without success")
    else:
        assert judged == decision


def test_a_policy_that_raises_holds() -> None:
    def policy(about: DeadLetter) -> Decision:
        raise LookupError(f"no rule for {about.id}")

    assert call_policy(policy, dead_letter()) == Hold(
        "the policy raised LookupError: no rule for 7"
    )


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


UNFORMATTABLE = SyntaxError("bad", ("f", 1, 1, 42))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Mute(), "Mute: (its message could not be read: RuntimeError)"),
        (ValueError("\ud800"), "ValueError: \\ud800"),
        (asyncio.CancelledError("too slow"), "CancelledError: too slow"),
        (SystemExit(3), "SystemExit: 3"),
        (UNFORMATTABLE, "SyntaxError: bad (f, line 1)"),
    ],
    ids=["mute", "surrogate", "cancelled", "exit", "unformattable"],
)
def test_an_exception_of_a_policy_becomes_text(error: BaseException, reason: str) -> None:
    def policy(_: DeadLetter) -> Decision:
        raise error

    assert call_policy(policy, dead_letter()) == Hold(f"the policy raised {reason}")


def test_ctrl_c_is_for_the_process_and_not_the_policys_failure() -> None:
    def policy(_: DeadLetter) -> Decision:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_policy(policy, dead_letter())


def test_with_a_signal_handler_of_its_own_for_ctrl_c_keyboard_interrupt_is_the_policys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def policy(_: DeadLetter) -> Decision:
        raise KeyboardInterrupt

    monkeypatch.setattr(signal, "getsignal", lambda _: signal.SIG_DFL)
    assert call_policy(policy, dead_letter()) == Hold("the policy raised KeyboardInterrupt: ")


class Pretender:
    """Pretends to be a decision."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return Discard


class Odd(Retry):
    """A decision whose attributes run code."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


class Changing(dict[str, Any]):
    """A body that differs each time it is read."""

    def items(self) -> Any:
        self["asked"] = self.get("asked", 0) + 1
        return super().items()


def test_a_decision_is_read_once() -> None:
    pretended: Any = Pretender()
    assert call_policy(lambda _: pretended, dead_letter()) == Hold(
        "the policy returned Pretender, not a decision"
    )
    assert call_policy(lambda _: Odd({}), dead_letter()) == Hold(
        "the policy raised SystemExit: __post_init__"
    )
    judged = call_policy(lambda _: Retry(Changing(a=1)), dead_letter())
    assert isinstance(judged, Retry)
    assert type(judged.body) is dict


def test_a_long_error_message_of_a_policy_is_cut_to_the_limit_of_a_reason() -> None:
    def policy(_: DeadLetter) -> Decision:
        raise ValueError("x" * 9_000)

    judged = call_policy(policy, dead_letter())
    assert len(judged.reason) == MAX_ERROR_CHARS


def test_a_policy_that_reads_an_unreadable_body_holds() -> None:
    judged = call_policy(lambda about: Retry(about.body["n"]), dead_letter(body="{cut"))
    assert isinstance(judged, Hold)
    assert "the policy raised InvalidBody: The stored body is not JSON" in judged.reason


@pytest.mark.parametrize(
    ("answer", "kind"), [(None, "NoneType"), ("discard", "str"), (Discard, "type"), (True, "bool")]
)
def test_an_answer_that_is_not_a_decision_holds(answer: Any, kind: str) -> None:
    assert call_policy(lambda _: answer, dead_letter()) == Hold(
        f"the policy returned {kind}, not a decision"
    )


@pytest.mark.parametrize(
    "decision",
    [
        Retry({1, 2}),
        Retry(float("nan")),
        Retry("\ud800"),
        Retry({}, delay=-1),
        Requeue(delay=float("inf")),
        Requeue(delay="soon"),  # type: ignore[arg-type]
        Retry({}, delay=400 * 86_400),
        Hold("\ud800"),
    ],
    ids=lambda decision: repr(decision)[:40],
)
def test_a_decision_that_cannot_be_applied_holds(decision: Decision) -> None:
    judged = call_policy(lambda _: decision, dead_letter())
    assert isinstance(judged, Hold)
    assert "cannot be applied" in judged.reason


@pytest.mark.parametrize("reason", [None, 7, b"bytes", ["list"], "x" * 2001])
@pytest.mark.parametrize(
    "make",
    [
        Discard,
        Hold,
        Requeue,
        lambda reason: Retry({}, reason),
    ],
    ids=["discard", "hold", "requeue", "retry"],
)
def test_a_reason_is_a_string_of_bounded_length(make: Any, reason: Any) -> None:
    with pytest.raises(InvalidInput, match="A reason "):
        make(reason)
    judged = call_policy(lambda _: make(reason), dead_letter())
    assert isinstance(judged, Hold)
    assert "the policy raised InvalidInput: A reason " in judged.reason
