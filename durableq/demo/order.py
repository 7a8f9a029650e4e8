"""An order of the demo, as it travels in a message's body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from durableq.model.errors import Reject


class Difficulty(StrEnum):
    """The difficulty of charging an order."""

    #: One card, one currency.
    EASY = "easy"
    #: A fraud check first, which can be slow.
    MEDIUM = "medium"
    #: Several cards in one charge, which the gateway refuses until it is made easier.
    HARD = "hard"
    #: A card that does not exist: it can never be charged.
    ERROR = "error"

    @property
    def easier(self) -> Difficulty:
        """One step easier. An easy order stays easy, and an error has no easier form."""
        steps = {Difficulty.HARD: Difficulty.MEDIUM, Difficulty.MEDIUM: Difficulty.EASY}
        return steps.get(self, self)


_DIFFICULTIES: Final = frozenset(difficulty.value for difficulty in Difficulty)


def key_of(number: int) -> str:
    """Return the idempotency key of the order of this number."""
    return f"order-{number}"


@dataclass(frozen=True, slots=True)
class Order:
    """A customer's payment."""

    number: int
    amount_cents: int
    difficulty: Difficulty
    #: The seed of its traffic, which also determines the gateway's troubles.
    seed: int

    @property
    def key(self) -> str:
        """Its idempotency key: the same in each of its messages."""
        return key_of(self.number)

    @property
    def payment(self) -> dict[str, int]:
        """The result of its handler."""
        return {"order": self.number, "paid_cents": self.amount_cents}

    def made_easier(self) -> Order:
        """Return the same order in a form one step easier to charge."""
        return replace(self, difficulty=self.difficulty.easier)

    def to_body(self) -> dict[str, Any]:
        """Return the order as a message's body."""
        return {
            "order": self.number,
            "amount_cents": self.amount_cents,
            "difficulty": self.difficulty.value,
            "seed": self.seed,
        }

    @classmethod
    def from_body(cls, body: Any) -> Order:
        """Read an order back.

        Raises:
            Reject: the body is not an order of the demo.
        """
        if not isinstance(body, Mapping):
            raise Reject(f"not an order of the demo: a {type(body).__name__}, not an object")
        if not all(type(body.get(name)) is int for name in ("order", "amount_cents", "seed")):
            raise Reject("not an order of the demo: order, amount_cents and seed must be numbers")
        if body.get("difficulty") not in _DIFFICULTIES:
            known = ", ".join(Difficulty)
            raise Reject(f"not an order of the demo: its difficulty is none of {known}")
        difficulty = Difficulty(body["difficulty"])
        return cls(body["order"], body["amount_cents"], difficulty, body["seed"])
