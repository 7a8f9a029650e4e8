"""Requests to the actions of SQS in tests."""

from collections.abc import Callable

import pytest

from durableq import DurableQ
from durableq.serve.context import Context
from durableq.serve.errors import ServiceError


def context_without_store() -> Context:
    """Return the circumstances of a request that no action uses a store in."""
    return Context(DurableQ("memory://"))


def refusal(action: Callable[[], object]) -> str:
    """Return the code and the sentence of the error that an action raises."""
    with pytest.raises(ServiceError) as raised:
        action()
    return str(raised.value)
