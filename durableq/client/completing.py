"""Completions of several deliveries in one commit: `queue.complete_many(messages)`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from durableq.client.delivery import Delivery
from durableq.model.errors import InvalidInput, StaleReceipt
from durableq.model.limits import MAX_SEND_BATCH
from durableq.model.message import Completion, Outcome
from durableq.model.text import shown


class Completing:
    """Deliveries of one queue that are completed together.

    Args:
        queue: the name of the queue.
        deliveries: as for Queue.complete_many; one that is given twice is completed once.
        results: as for Queue.complete_many.

    Raises:
        InvalidInput, InvalidResult: as for Queue.complete_many.
    """

    def __init__(
        self, queue: str, deliveries: Iterable[Delivery], results: Mapping[str, Any] | None
    ) -> None:
        if not isinstance(deliveries, Iterable):
            raise InvalidInput(f"Give deliveries of queue {queue!r}, got {shown(deliveries)}.")
        if not isinstance(results, Mapping | None):
            raise InvalidInput(f"Results are a mapping by message id, got {shown(results)}.")
        some = [*itertools.islice(deliveries, MAX_SEND_BATCH + 1)]
        if len(some) > MAX_SEND_BATCH:
            raise InvalidInput(f"Complete at most {MAX_SEND_BATCH} messages in one commit.")
        encoded = _encoded_results(queue, some, {} if results is None else results)
        self._deliveries = [*dict.fromkeys(some)]
        #: For the store.
        self.completions = [
            Completion(delivery.receipt, encoded.get(delivery.message.id), delivery.message.key)
            for delivery in self._deliveries
        ]

    def judge(self, outcomes: Sequence[Outcome]) -> None:
        """Mark the deliveries that are completed.

        Raises:
            StaleReceipt: others are not.
        """
        stale, done = [], Outcome.DONE
        for delivery, outcome in zip(self._deliveries, outcomes, strict=True):
            if outcome is done:
                delivery.settled = True
            else:
                stale.append((delivery.id, outcome.why))
        if stale:
            (first, why), *others = stale
            raise StaleReceipt(
                first, why, of=len(self._deliveries), others=[one for one, _ in others]
            )


def _encoded_results(
    queue: str, deliveries: Sequence[Delivery], results: Mapping[str, Any]
) -> dict[str, str | None]:
    """Check deliveries and results, and return the results as JSON text by message id."""
    for delivery in deliveries:
        if not isinstance(delivery, Delivery):
            raise InvalidInput(f"Give deliveries of queue {queue!r}, got {shown(delivery)}.")
        if delivery.message.queue != queue:
            raise InvalidInput(
                f"Message {delivery.id} was received from queue {delivery.queue!r}, not from "
                f"{queue!r}: complete it with that queue."
            )
    if not results:
        return {}
    by_id = {delivery.id: delivery for delivery in deliveries}
    for message_id in results:
        if message_id not in by_id:
            raise InvalidInput(f"There is a result for {shown(message_id)}, which is not given.")
    return {one: by_id[one].encoded(result) for one, result in results.items()}
