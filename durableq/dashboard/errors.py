"""Errors as pages: a status of HTTP, and sentences for a person."""

from __future__ import annotations

import logging
from typing import Final

from starlette.exceptions import HTTPException

from durableq.model.errors import (
    Busy,
    Conflict,
    DatabaseUnusable,
    DurableQError,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    StorageFull,
    Unsupported,
)

log = logging.getLogger("durableq.dashboard")
_STATUS: Final[tuple[tuple[type[DurableQError], int], ...]] = (
    (NotFound, 404),
    (InvalidInput, 400),
    (Conflict, 409),
    (Busy, 503),
    (DatabaseUnusable, 503),
    (StorageFull, 507),
    (Unsupported, 501),
    (OutcomeUnknown, 500),
)
_HTTP: Final = {
    404: ("There is no such page.", "Go back to the overview."),
    405: ("This address takes another method: a page is read, an action is sent by its form.", ""),
}


class Refusal(Exception):
    """A request that is refused.

    Args:
        status: of HTTP.
        what: the reason, as a sentence.
        advice: the remedy, as a sentence.
    """

    def __init__(self, status: int, what: str, advice: str = "") -> None:
        super().__init__(what)
        self.status = status
        self.what = what
        self.advice = advice
        #: The fields of a form that the page of the refusal shows again, to be mended.
        self.form: dict[str, str] = {}


def refusal_of(error: Exception) -> Refusal:
    """Return an error as a refusal; one that is a defect is logged."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, HTTPException):
        what, advice = _HTTP.get(error.status_code, (str(error.detail), ""))
        return Refusal(error.status_code, what, advice)
    if isinstance(error, DurableQError):
        status = next((number for kind, number in _STATUS if isinstance(error, kind)), 500)
        return Refusal(status, str(error))
    log.error("A page failed: %s: %s", type(error).__name__, error, exc_info=_wants_traceback())
    return Refusal(
        500,
        f"This page failed, which is a defect: {type(error).__name__}.",
        "The log of the dashboard says more.",
    )


def _wants_traceback() -> bool:
    return log.isEnabledFor(logging.DEBUG)
