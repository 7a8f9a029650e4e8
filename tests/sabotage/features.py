"""The bugs of features that name their own tests."""

from __future__ import annotations

import itertools
from typing import Final

from tests.sabotage import (
    async_bugs,
    backlog_bugs,
    breaker_bugs,
    burying_bugs,
    coalescing_bugs,
    connection_bugs,
    control_bugs,
    counting_bugs,
    dashboard_bugs,
    django_bugs,
    draining_bugs,
    expiry_bugs,
    fifo_bugs,
    hot_bugs,
    kit_bugs,
    lambda_bugs,
    lease_bugs,
    limit_bugs,
    looking_bugs,
    once_bugs,
    postgres_bugs,
    presence_bugs,
    progress_bugs,
    rate_bugs,
    receive_limit_bugs,
    schedule_bugs,
    serve_bugs,
    service_bugs,
    session_joining_bugs,
    terminal_bugs,
    transfer_bugs,
    trap_bugs,
)

_MODULES: Final = (
    async_bugs,
    backlog_bugs,
    breaker_bugs,
    burying_bugs,
    coalescing_bugs,
    connection_bugs,
    control_bugs,
    counting_bugs,
    dashboard_bugs,
    django_bugs,
    draining_bugs,
    expiry_bugs,
    fifo_bugs,
    hot_bugs,
    kit_bugs,
    lambda_bugs,
    lease_bugs,
    limit_bugs,
    looking_bugs,
    once_bugs,
    postgres_bugs,
    presence_bugs,
    progress_bugs,
    rate_bugs,
    receive_limit_bugs,
    schedule_bugs,
    serve_bugs,
    service_bugs,
    session_joining_bugs,
    terminal_bugs,
    transfer_bugs,
    trap_bugs,
)
BUGS: Final = tuple(itertools.chain.from_iterable(module.BUGS for module in _MODULES))
#: Pairs of a bug and a test that sees it.
SEEN_BY: Final = tuple(itertools.chain.from_iterable(module.SEEN_BY for module in _MODULES))
