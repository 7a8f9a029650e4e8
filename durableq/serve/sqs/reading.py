"""Parameters of a request, of the types that an action needs.

The dictionary of a request has any JSON in it. A value of another type is refused as AWS does,
and so is text that no UTF-8 can hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from durableq.serve.errors import (
    INVALID_PARAMETER_VALUE,
    MISSING_PARAMETER,
    SERIALIZATION,
    ServiceError,
)

Parameters = Mapping[str, Any]


def missing(name: str) -> ServiceError:
    """Return the error of a parameter that the request must have."""
    return ServiceError(MISSING_PARAMETER, f"The request must contain the parameter {name}.")


def invalid(message: str) -> ServiceError:
    """Return the error of a value that the service refuses."""
    return ServiceError(INVALID_PARAMETER_VALUE, message)


def invalid_value(value: object, name: str, reason: str) -> ServiceError:
    """Return the error of a value of a parameter, in the words that AWS uses."""
    return invalid(f"Value {value} for parameter {name} is invalid. Reason: {reason}")


def text(parameters: Parameters, name: str) -> str | None:
    """Return a text; None if it is not given.

    Raises:
        ServiceError: it is no text that can be stored.
    """
    value = parameters.get(name)
    if value is None:
        return None
    return checked_text(value, name)


def required_text(parameters: Parameters, name: str) -> str:
    """Return a text that is there, and not empty.

    Raises:
        ServiceError: it is not.
    """
    value = text(parameters, name)
    if not value:
        raise missing(name)
    return value


def checked_text(value: object, name: str) -> str:
    """Return a value that must be a text which a database can store.

    Raises:
        ServiceError: it is not.
    """
    if not isinstance(value, str):
        raise ServiceError(SERIALIZATION, f"{_kind(value)} can not be converted to a String")
    if "\0" in value or not _is_unicode(value):
        raise invalid(f"Parameter {name} has characters that are not valid.")
    return value


def whole(parameters: Parameters, name: str) -> int | None:
    """Return a whole number; None if it is not given.

    Raises:
        ServiceError: it is something else.
    """
    value = parameters.get(name)
    if value is None:
        return None
    if type(value) is not int:
        raise ServiceError(SERIALIZATION, f"{_kind(value)} can not be converted to an Integer")
    return value


def bounded(parameters: Parameters, name: str, least: int, most: int, reason: str) -> int | None:
    """Return a whole number within bounds; None if it is not given.

    Raises:
        ServiceError: it is out of them; the error gives the reason.
    """
    value = whole(parameters, name)
    if value is not None and not least <= value <= most:
        raise invalid_value(value, name, reason)
    return value


def listed(parameters: Parameters, name: str) -> list[Any]:
    """Return a list, an empty one if it is not given.

    Raises:
        ServiceError: it is something else.
    """
    value = parameters.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ServiceError(SERIALIZATION, f"{_kind(value)} can not be converted to a List")
    return value


def texts(parameters: Parameters, name: str) -> list[str]:
    """Return a list of texts, an empty one if it is not given.

    Raises:
        ServiceError: it is something else.
    """
    return [checked_text(value, name) for value in listed(parameters, name)]


def mapped(parameters: Parameters, name: str) -> dict[str, Any]:
    """Return a dictionary whose keys can be stored, an empty one if it is not given.

    Raises:
        ServiceError: it is something else.
    """
    value = parameters.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ServiceError(SERIALIZATION, f"{_kind(value)} can not be converted to a Map")
    return {checked_text(key, name): each for key, each in value.items()}


def texts_by_name(parameters: Parameters, name: str) -> dict[str, str]:
    """Return a dictionary of texts, an empty one if it is not given.

    Raises:
        ServiceError: it is something else.
    """
    found = mapped(parameters, name)
    return {key: checked_text(value, name) for key, value in found.items()}


def entries(parameters: Parameters) -> list[dict[str, Any]]:
    """Return the entries of a batch.

    Raises:
        ServiceError: they are no dictionaries.
    """
    found = listed(parameters, "Entries")
    for each in found:
        if not isinstance(each, dict):
            raise ServiceError(SERIALIZATION, f"{_kind(each)} can not be converted to a Structure")
    return found


def _is_unicode(value: str) -> bool:
    """Return whether text has no lone surrogate, which JSON can spell and UTF-8 cannot."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    """Return the name that AWS gives a kind of JSON value."""
    match value:
        case bool():
            return f"{str(value).upper()}_VALUE"
        case int() | float():
            return "NUMBER_VALUE"
        case str() | bytes():
            return "STRING_VALUE"
        case list():
            return "START_ARRAY"
        case dict():
            return "START_OBJECT"
    return "NULL_VALUE"
