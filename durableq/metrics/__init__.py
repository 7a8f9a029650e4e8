"""Metrics in the text format of Prometheus, by the library prometheus-client (extra `metrics`)."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from durableq.model.errors import Unsupported

if TYPE_CHECKING:
    from durableq.store.core import Store


def library() -> ModuleType:
    """Import prometheus-client and return it.

    Raises:
        Unsupported: it is not installed.
    """
    try:
        import prometheus_client
    except ImportError as error:
        raise Unsupported(
            "Metrics need the library prometheus-client, which is not installed. "
            "Install it: pip install 'durableq[metrics]'."
        ) from error
    return prometheus_client


def exposition(store: Store) -> bytes:
    """Return the counters and gauges of a database in the text format of Prometheus, as UTF-8.

    The media type is that of `prometheus_client.CONTENT_TYPE_PLAIN_0_0_4`. A call reads the
    database once, as `durableq status` does, and keeps nothing.

    Args:
        store: an open store.

    Raises:
        Unsupported: prometheus-client is not installed.
    """
    client = library()
    from durableq.metrics.database import DatabaseMetrics

    text: bytes = client.generate_latest(DatabaseMetrics(store))
    return text
