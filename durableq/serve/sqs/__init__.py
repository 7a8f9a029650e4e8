"""The actions of SQS."""

from __future__ import annotations

from durableq.serve.context import Operations

#: By name, as in the service's model.
OPERATIONS: Operations = {}
