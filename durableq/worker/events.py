"""What a worker says of a message."""

from __future__ import annotations

from typing import Any

from durableq.client.delivery import Delivery
from durableq.runtime import logs


def about(delivery: Delivery, event: str, **known: Any) -> dict[str, Any]:
    """Return a log call's `extra` for an event of a message; no payload."""
    return logs.facts(
        event,
        message_id=delivery.id,
        queue=delivery.queue,
        receive_count=delivery.receive_count,
        **known,
    )
