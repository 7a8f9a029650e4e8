"""One request, as pages and actions see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from starlette.requests import Request

from durableq.client.app import DurableQ
from durableq.dashboard.backups import Backups
from durableq.dashboard.errors import Refusal
from durableq.dashboard.look import Look
from durableq.dashboard.redaction import Redaction
from durableq.dashboard.rules import Rules
from durableq.model.drafts import check_key
from durableq.model.text import shown
from durableq.store.core import Store


@dataclass(frozen=True)
class Visit:
    """One request: who asks, for which address, and the application that answers."""

    request: Request
    dq: DurableQ
    look: Look
    backups: Backups
    redaction: Redaction
    rules: Rules
    #: The fields of the form of an action; of several values under one name, the last.
    form: Mapping[str, str] = field(default_factory=dict)
    #: The values of each name in the order of the form.
    ids: tuple[str, ...] = ()

    @property
    def store(self) -> Store:
        """The store, opened at its first use; its reads have no values of hidden fields."""
        return self.redaction.store(self.dq.store)

    @property
    def actor(self) -> str:
        """The person, for the history."""
        return str(self.request.state.actor)

    @property
    def note(self) -> str:
        """The note of the person, for the history; empty if there is none."""
        return self.form.get("note", "").strip()

    def named(self, name: str) -> str:
        """Return a part of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str) -> str:
        """Return a value of the address after the `?`; an empty text if it is not there."""
        return self.request.query_params.get(name, "")

    def one_of(self, name: str, known: Iterable[str]) -> str:
        """Return a value of the address that is one of several; empty if it is not there.

        Raises:
            Refusal: it is another one. To leave it out would show more than was asked for.
        """
        text, words = self.query(name), list(known)
        if text and text not in words:
            what = f"There is no {name} {shown(text)} for this page."
            raise Refusal(400, what, f"Leave it out, or write {' or '.join(words)}.")
        return text

    def is_asked(self, name: str) -> bool:
        """Return whether the address has a name with 1.

        Raises:
            Refusal: it has another value.
        """
        return bool(self.one_of(name, ["1"]))

    def key(self, name: str = "key") -> str:
        """Return a key in the address: a field of a form would change ends of lines in it.

        Raises:
            InvalidInput: no message or value can have it.
        """
        key = self.query(name)
        check_key(key)
        return key

    def number(self, name: str, least: float = 0) -> float | None:
        """Return a field of the form as a number; None if it is empty.

        Raises:
            Refusal: it is no number of at least `least`.
        """
        text = self.form.get(name, "").strip()
        try:
            number = float(text) if text else None
        except ValueError:
            number = least - 1
        if number is not None and not least <= number < float("inf"):
            label = name.replace("_", " ")
            what = f"{label.capitalize()} is a finite number of at least {least:g}"
            raise Refusal(400, f"{what}, got {shown(text)}.")
        return number


class Done(NamedTuple):
    """The result of an action: where to go, and what to say there."""

    path: str
    sentence: str
