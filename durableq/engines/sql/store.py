"""The capabilities that each SQL engine takes as they are."""

from __future__ import annotations

from durableq.engines.sql.breaker_control import SQLBreakers
from durableq.engines.sql.control import SQLControl
from durableq.engines.sql.dead_letters import SQLDeadLetters
from durableq.engines.sql.endpoint import SQLEndpoint
from durableq.engines.sql.events import SQLEvents
from durableq.engines.sql.idempotency import SQLIdempotency
from durableq.engines.sql.items import SQLItems
from durableq.engines.sql.maintenance import SQLMaintenance
from durableq.engines.sql.metadata import SQLMetadata
from durableq.engines.sql.once import SQLOnce
from durableq.engines.sql.progress import SQLProgress
from durableq.engines.sql.queries import SQLMessages
from durableq.engines.sql.queues import SQLQueues
from durableq.engines.sql.redrive import SQLRedrive
from durableq.engines.sql.samples import SQLSamples
from durableq.engines.sql.schedules import SQLSchedules
from durableq.engines.sql.searching import SQLSearch
from durableq.store.capabilities import Inspect, Transactions
from durableq.store.core import Capability, Store


class SharedCapabilities(
    SQLQueues,
    SQLControl,
    SQLBreakers,
    SQLMessages,
    SQLSamples,
    SQLSearch,
    SQLEvents,
    SQLIdempotency,
    SQLDeadLetters,
    SQLRedrive,
    SQLMaintenance,
    SQLMetadata,
    SQLOnce,
    SQLProgress,
    SQLSchedules,
    SQLItems,
    SQLEndpoint,
    Transactions,
    Inspect,
    Store,
):
    """All capabilities but the core and the fleet, of which an engine may have its own."""

    capabilities = frozenset(Capability)
