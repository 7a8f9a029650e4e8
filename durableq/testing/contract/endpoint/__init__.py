"""The endpoint: an identity, documents of queues, repeated receives, and leases taken up again."""

from __future__ import annotations

from durableq.testing.contract.endpoint.attempts import AttemptsContract
from durableq.testing.contract.endpoint.documents import DocumentsContract
from durableq.testing.contract.endpoint.leasing_again import LeaseAgainContract


class EndpointContract(DocumentsContract, AttemptsContract, LeaseAgainContract):
    """The tests of the capability Endpoint."""
