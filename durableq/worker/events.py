"""What a worker says of a message."""

from __future__ import annotations

from typing import Any

from durableq import logs
from durableq.delivery import Delivery


def about(delivery: Delivery, event: str, **known: Any) -> dict[str, Any]:
    """Return a log call's `extra` for an event of a message; no payload."""
    return logs.facts(
        event,
        message_id=delivery.id,
        queue=delivery.queue,
        receive_count=delivery.receive_count,
        **known,
    )
