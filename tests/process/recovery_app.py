"""An application whose handler refuses large amounts; its policy does the act of the body."""

from __future__ import annotations

import os
from typing import Any

from durableq import DeadLetter, Decision, Delivery, Discard, DurableQ, Requeue
from tests.process.app import Ledger

APP = "tests.process.recovery_app:dq"
MOST = 10

dq = DurableQ()


class Own(BaseException):
    def __getattribute__(self, _: str) -> Any:
        raise Own


@dq.handler("orders")
def charge(message: Delivery) -> Any:
    if message.body["amount"] > MOST:
        raise ValueError(f"{message.body['amount']} is too much")


@dq.recovery("orders")
def recover(dead_letter: DeadLetter) -> Decision:
    """Do the act that the body names, then decide."""
    ledger = Ledger(dq.url)
    ledger.note("judged", dead_letter.id)
    do = dead_letter.body.get("do")
    if do == "wait" and ledger.first(f"waits-{dead_letter.id}"):
        ledger.wait_at_gate()
    if do == "raise":
        raise LookupError("no idea")
    if do == "print":
        print("a policy's \x1b[31mwords")
    if do == "exit":
        raise SystemExit(7)
    if do == "interrupt":
        raise KeyboardInterrupt
    if do == "unformattable":
        raise SyntaxError("bad", ("f", 1, 1, 42))  # type: ignore[arg-type]
    if do == "own":
        raise Own
    if do == "die" and ledger.first(f"dies-{dead_letter.id}"):
        os.kill(os.getpid(), 9)
    return Requeue("again") if do == "requeue" else Discard("no use")
