"""The actions of DynamoDB."""

from __future__ import annotations

from durableq.serve.context import Operations

#: By name, as in the service's model.
OPERATIONS: Operations = {}
