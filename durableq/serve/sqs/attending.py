"""The work beside the requests of a server: the watch of receives that wait."""

from __future__ import annotations

import asyncio

from durableq.client.app import DurableQ
from durableq.serve.sqs.polling import polls_of


async def attend(app: DurableQ) -> None:
    """Run until it is cancelled, when the last request has been answered.

    Args:
        app: the application whose store is served; open.
    """
    try:
        await asyncio.Event().wait()
    finally:
        await polls_of(app.store).close()
