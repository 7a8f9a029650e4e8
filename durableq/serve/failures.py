"""Errors of the store as errors of a service: SDKs repeat a request that met a passing one."""

from __future__ import annotations

from typing import Final

from durableq.model.errors import (
    PASSING,
    Conflict,
    DurableQError,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    QueueFull,
    StaleReceipt,
    UnknownQueue,
    Unsupported,
)
from durableq.runtime.outage import describe
from durableq.serve.errors import (
    INTERNAL_FAILURE,
    INTERNAL_SERVER_ERROR,
    INVALID_PARAMETER_VALUE,
    QUEUE_DOES_NOT_EXIST,
    RECEIPT_HANDLE_IS_INVALID,
    REQUEST_THROTTLED,
    RESOURCE_NOT_FOUND,
    SERVICE_UNAVAILABLE,
    UNSUPPORTED_OPERATION,
    VALIDATION_ERROR,
    Kind,
    ServiceError,
)
from durableq.serve.wire.requests import Service

#: The first entry that matches counts. An action says better itself why it refuses a request.
_OF_SQS: Final[tuple[tuple[type[DurableQError], Kind], ...]] = (
    (QueueFull, REQUEST_THROTTLED),
    (UnknownQueue, QUEUE_DOES_NOT_EXIST),
    (NotFound, RESOURCE_NOT_FOUND),
    (StaleReceipt, RECEIPT_HANDLE_IS_INVALID),
    (Unsupported, UNSUPPORTED_OPERATION),
    (InvalidInput, INVALID_PARAMETER_VALUE),
    (Conflict, INVALID_PARAMETER_VALUE),
)


def service_error(error: DurableQError, service: Service) -> ServiceError:
    """Return an error of the store as a client of a service knows it.

    Args:
        error: raised by the store.
        service: of the action.
    """
    is_dynamodb = service is Service.DYNAMODB
    if isinstance(error, PASSING):
        kind = INTERNAL_FAILURE if isinstance(error, OutcomeUnknown) else SERVICE_UNAVAILABLE
        why = describe(error)
        return ServiceError(INTERNAL_SERVER_ERROR if is_dynamodb else kind, f"For now, {why}.")
    for raised, kind in _OF_SQS:
        if isinstance(error, raised):
            if kind is QUEUE_DOES_NOT_EXIST and not is_dynamodb:
                return ServiceError(kind)
            return ServiceError(VALIDATION_ERROR if is_dynamodb else kind, str(error))
    return ServiceError(INTERNAL_SERVER_ERROR if is_dynamodb else INTERNAL_FAILURE)


def is_expected(error: DurableQError) -> bool:
    """Return whether an error says something about the request, or about a passing condition."""
    return isinstance(error, (*PASSING, *(kind for kind, _ in _OF_SQS)))
