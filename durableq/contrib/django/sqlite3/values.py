"""Values of Django's fields, as a SQLite library stores and returns them."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from functools import partial
from typing import Any

from django.utils.dateparse import parse_date, parse_datetime, parse_time


def register_values(driver: Any) -> None:
    """Register the values that Django registers with the standard library's SQLite."""
    driver.register_converter("bool", b"1".__eq__)
    for name, read in (
        *(("date", parse_date), ("time", parse_time)),
        *(("datetime", parse_datetime), ("timestamp", parse_datetime)),
    ):
        driver.register_converter(name, partial(_decoded, read))
    driver.register_adapter(decimal.Decimal, str)
    driver.register_adapter(datetime.date, datetime.date.isoformat)
    driver.register_adapter(datetime.datetime, lambda value: value.isoformat(" "))


def _decoded(read: Callable[[str], Any], stored: bytes) -> Any:
    return read(stored.decode())
