"""Errors of the store as a client of SQS knows them."""

from __future__ import annotations

import functools
from typing import Any

from durableq.model.errors import PASSING, DurableQError
from durableq.serve.context import Action, Context
from durableq.serve.errors import ServiceError
from durableq.serve.failures import is_expected, service_error
from durableq.serve.wire.requests import Service


def translated(error: DurableQError) -> ServiceError:
    """Return an error of the store as an error of SQS."""
    return service_error(error, Service.SQS)


def translating(action: Action) -> Action:
    """Return an action that raises refusals of the store as errors of SQS.

    A condition of the store that passes is raised as it is: the server reports it, and answers.
    """

    @functools.wraps(action)
    async def act(context: Context, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            return await action(context, parameters)
        except DurableQError as error:
            if isinstance(error, PASSING) or not is_expected(error):
                raise
            raise translated(error) from error

    return act
