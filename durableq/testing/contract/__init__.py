"""The contract as tests: a module or package for each capability, and all of them in one class."""

from __future__ import annotations

from pkgutil import iter_modules

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in iter_modules(__path__)))

from durableq.testing.contract.control import ControlContract
from durableq.testing.contract.dead_letters import DeadLettersContract
from durableq.testing.contract.endpoint import EndpointContract
from durableq.testing.contract.fleet import FleetContract
from durableq.testing.contract.idempotency import IdempotencyContract
from durableq.testing.contract.inspect import InspectContract
from durableq.testing.contract.items import ItemsContract
from durableq.testing.contract.maintenance import MaintenanceContract
from durableq.testing.contract.metadata import MetadataContract
from durableq.testing.contract.once import OnceContract
from durableq.testing.contract.progress import ProgressContract
from durableq.testing.contract.queueing import QueueingContract
from durableq.testing.contract.redrive import RedriveContract
from durableq.testing.contract.schedules import SchedulesContract
from durableq.testing.contract.transactions import TransactionsContract


class StoreContract(
    QueueingContract,
    TransactionsContract,
    IdempotencyContract,
    DeadLettersContract,
    RedriveContract,
    FleetContract,
    InspectContract,
    ControlContract,
    MaintenanceContract,
    MetadataContract,
    OnceContract,
    ProgressContract,
    SchedulesContract,
    ItemsContract,
    EndpointContract,
):
    """The tests of an engine: those of the core, and of the capabilities that it states."""
